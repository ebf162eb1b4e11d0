"""Memory, descriptors and watches, and what is left of them after many containers."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from benchmarks.node import resident_mib, serving, simulated
from benchmarks.table import Row


def rows(containers: int = 100, passing: int = 10_000, batch: int = 250) -> list[Row]:
    """``passing`` containers come and go beside ``containers`` that stay."""
    with simulated(containers) as node, serving(node) as exporter:
        pid = exporter.process.pid
        for _ in range(10):
            exporter.get("/metrics")
        before = resident_mib(pid), _descriptors(pid), _watches(pid)
        source = next(node.containers_dir.glob("*/*.cache"))
        peak = 0.0
        for start in range(0, passing, batch):
            made = []
            for number in range(start, start + batch):
                name = f"0c9a5f0e-52ad-4a8e-9b86-{number:012x}_passes"
                directory = node.containers_dir / name
                directory.mkdir()
                _copy_sparse(source, directory / f"{name}.cache")
                made.append(directory)
            exporter.get("/metrics")
            peak = max(peak, resident_mib(pid))
            for directory in made:
                shutil.rmtree(directory)
        for _ in range(10):
            exporter.get("/metrics")
        after = resident_mib(pid), _descriptors(pid), _watches(pid)
    return [
        Row(f"resident memory, {containers} containers", f"{before[0]:.1f} MiB", "all sets"),
        Row(
            f"the same after {passing} containers came and went",
            f"{after[0]:.1f} MiB",
            f"{after[0] - before[0]:+.1f} MiB; {peak:.1f} at most, with {batch} more at once; "
            f"descriptors {before[1]} and {after[1]}, watches {before[2]} and {after[2]}",
        ),
    ]


def _copy_sparse(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("wb") as write:
        size = os.fstat(read.fileno()).st_size
        write.write(read.read(16 * 1024))
        read.seek(-4096, os.SEEK_END)
        write.seek(size - 4096)
        write.write(read.read())


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _watches(pid: int) -> int:
    count = 0
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(FileNotFoundError):
            count += path.read_text().count("inotify wd:")
    return count
