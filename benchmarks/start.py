"""How long it takes from the start of the process to its first answered scrape."""

from __future__ import annotations

import time
from statistics import median

from benchmarks.node import serving, simulated
from benchmarks.table import Row


def rows(containers: int = 100, times: int = 5) -> list[Row]:
    took = []
    with simulated(containers) as node:
        for _ in range(times):
            began = time.perf_counter()
            with serving(node) as exporter:
                exporter.get("/metrics")
                took.append(time.perf_counter() - began)
    return [
        Row(
            f"start to first answered scrape, {containers} containers",
            f"{median(took):.2f} s",
            f"median of {times}, {max(took):.2f} s at most",
        )
    ]
