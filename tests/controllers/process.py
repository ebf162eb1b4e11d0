"""Feedback or clean-up as a process of its own.

``python -m tests.controllers.process feedback DIR INTERVAL`` runs until SIGTERM; ``… gc DIR``
does two rounds with one other pod and no grace, and prints its health as JSON.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from vgpumonitor import logs
from vgpumonitor.controllers import Cleanup, Feedback
from vgpumonitor.snapshot import ProcessIdentification
from vgpumonitor.sources.containers.directory import ContainersDirectory
from vgpumonitor.sources.pods.model import Pod, PodsView
from vgpumonitor.sources.processes import HostProcesses


class OtherPods:
    """A source that knows for sure that there is one pod, which has no directory."""

    name = "test"

    @property
    def view(self) -> PodsView:
        return PodsView({"u": Pod("u", "default", "proxy")}, up=True, synced=time.time() + 1)

    async def run(self) -> None: ...


async def run_feedback(containers_dir: Path, interval: float) -> None:
    inventory = ContainersDirectory(containers_dir)
    inventory.start()
    task = asyncio.ensure_future(Feedback(inventory, release_after=60, interval=interval).run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        inventory.stop()


def run_gc(containers_dir: Path) -> None:
    inventory = ContainersDirectory(containers_dir)
    with tempfile.TemporaryDirectory() as procfs:
        gc = Cleanup(inventory, OtherPods(), ProcessIdentification(HostProcesses(procfs)), grace=0)
        gc.round()
        gc.round()
    print(json.dumps(asdict(gc.health)))


if __name__ == "__main__":
    logs.configure("info", "json")
    if sys.argv[1] == "feedback":
        asyncio.run(run_feedback(Path(sys.argv[2]), float(sys.argv[3])))
    else:
        run_gc(Path(sys.argv[2]))
