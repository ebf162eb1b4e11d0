"""System calls that a scrape makes for each container."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.node import serving, simulated
from benchmarks.table import Row
from testing.tools import require

#: The calls by which a region can be read.
_READING = "newfstatat,fstat,openat,read,pread64,close,statx,lseek"


def rows(containers: int = 100, scrapes: int = 10) -> list[Row]:
    """Calls that name a container's directory or what is in it, or are made on a descriptor of
    one, by strace."""
    strace = require("strace")
    with simulated(containers) as node, serving(node) as exporter:
        exporter.get("/metrics")
        with tempfile.NamedTemporaryFile() as output:
            tracing = subprocess.Popen(
                [
                    strace,
                    "-f",
                    "-y",  # Names the file of each descriptor.
                    "-e",
                    f"trace={_READING}",
                    "-o",
                    output.name,
                    "-p",
                    str(exporter.process.pid),
                ],
                stderr=subprocess.DEVNULL,
            )
            time.sleep(1)
            for _ in range(scrapes):
                exporter.get("/metrics")
            tracing.terminate()
            tracing.wait()
            lines = Path(output.name).read_text(errors="replace").splitlines()
    calls = Counter(
        match[1]
        for line in lines
        if f"{node.containers_dir}/" in line and (match := re.search(r"^\d+ +(\w+)\(", line))
    )
    each = {call: count / scrapes / containers for call, count in calls.items()}
    return [
        Row(
            "system calls per container and scrape",
            f"{sum(each.values()):.2f}",
            ", ".join(f"{call} {count:.2f}" for call, count in sorted(each.items())),
        )
    ]
