"""``python -m testing.in_cluster DIRECTORY ARGUMENT…``: vgpumonitor as in a pod whose service
account's files are in ``DIRECTORY``, and not where kubelet puts them."""

from __future__ import annotations

import sys
from pathlib import Path

from vgpumonitor.cli import main
from vgpumonitor.sources.pods import cluster

if __name__ == "__main__":
    cluster.SERVICE_ACCOUNT = Path(sys.argv.pop(1))
    main()
