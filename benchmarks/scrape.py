"""What a scrape of a live node costs, and how much memory the exporter takes meanwhile."""

from __future__ import annotations

import time
from statistics import median

from benchmarks.node import cpu_seconds, serving, simulated
from benchmarks.table import Row
from testing.resources import Held
from testing.values import MIB

SIZES = (16, 100, 1000)


def rows(sizes: tuple[int, ...] = SIZES, times: int = 40) -> list[Row]:
    found = []
    cpu_of: dict[tuple[int, str], float] = {}
    for containers in sizes:
        with simulated(containers) as node, serving(node) as exporter:
            exporter.get("/metrics")
            for what, changing in (("unchanged", False), ("all changed", True)):
                took, used = [], []
                for _ in range(times):
                    if changing:
                        node.step()
                    cpu, began = cpu_seconds(exporter.process.pid), time.perf_counter()
                    size = len(exporter.get("/metrics"))
                    took.append(time.perf_counter() - began)
                    used.append(cpu_seconds(exporter.process.pid) - cpu)
                cpu_of[containers, what] = sum(used) / times
                found.append(
                    Row(
                        f"scrape of {containers} containers × 2 GPUs, all sets, {what}",
                        f"{median(took) * 1000:.1f} ms",
                        f"median of {times}; CPU {cpu_of[containers, what] * 1000:.1f} ms; "
                        f"{size / 1e6:.1f} MB of text; resident "
                        f"{Held.by(exporter.process.pid).memory / MIB:.0f} MiB",
                    )
                )
    small, large = sizes[-2:]
    for what in ("unchanged", "all changed"):
        few, many = cpu_of[small, what], cpu_of[large, what]
        found.append(
            Row(
                f"scrape of {large} containers against {small}, {what}",
                f"{many / few:.1f} times",
                f"CPU {few * 1000:.1f} and {many * 1000:.1f} ms, each a process of its own",
            )
        )
    return found
