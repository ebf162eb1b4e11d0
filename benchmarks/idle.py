"""How often the exporter wakes up between scrapes."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.node import cpu_seconds, serving, simulated
from benchmarks.table import Row


def rows(containers: int = 100, seconds: float = 30.0) -> list[Row]:
    with simulated(containers) as node, serving(node) as exporter:
        exporter.get("/metrics")
        time.sleep(1)
        pid = exporter.process.pid
        woken, cpu = _voluntary_switches(pid), cpu_seconds(pid)
        time.sleep(seconds)
        woken, cpu = _voluntary_switches(pid) - woken, cpu_seconds(pid) - cpu
    return [
        Row(
            f"wake-ups while idle, {containers} containers",
            f"{woken / seconds:.2f} a second",
            f"voluntary context switches of all threads over {seconds:.0f} s; CPU {cpu:.2f} s",
        )
    ]


def _voluntary_switches(pid: int) -> int:
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total
