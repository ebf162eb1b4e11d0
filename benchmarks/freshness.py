"""How long it takes from a region file's creation to its series."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from statistics import median

from benchmarks.node import serving, simulated
from benchmarks.table import Row
from vgpumonitor.simulate.node import SimulatedNode


def rows(containers: int = 100, times: int = 20) -> list[Row]:
    """Measures from the rename that creates a file to the answer of a scrape that has it, which
    includes the time of the scrape itself."""
    with simulated(containers) as node, serving(node, "--metrics=vgpu") as exporter:
        source = next(node.containers_dir.glob("*/*.cache"))
        exporter.get("/metrics")
        took = [_once(node, exporter.port, source, number) for number in range(times)]
    return [
        Row(
            f"file created to series served, {containers} containers",
            f"{median(took) * 1000:.1f} ms",
            f"median of {times}; {min(took) * 1000:.1f} to {max(took) * 1000:.1f} ms",
        )
    ]


def _once(node: SimulatedNode, port: int, source: Path, number: int) -> float:
    from testing.exporter import Exporter

    exporter = Exporter(None, port, Path())  # type: ignore[arg-type]
    name = f"0c9a5f0e-52ad-4a8e-9b86-{number:012x}_new"
    directory = node.containers_dir / name
    directory.mkdir()
    prepared = node.directory / "prepared"
    shutil.copyfile(source, prepared)
    wanted = b'container="new",layout='
    pod = name.partition("_")[0].encode()
    began = time.perf_counter()
    prepared.rename(directory / f"{name}.cache")
    while True:
        text = exporter.get("/metrics?name[]=vgpu_region_info")
        if any(wanted in line and pod in line for line in text.splitlines()):
            return time.perf_counter() - began
