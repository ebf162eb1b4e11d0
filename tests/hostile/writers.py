"""``python -m tests.hostile.writers DIR LAYOUT…``: one live container per layout, written to
without a pause, with the seqlock discipline where the layout has one, until it is ended."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from testing.polling import eventually
from testing.values import GIB, GPU, GPU_2
from vgpumonitor.region.layouts import LAYOUTS
from vgpumonitor.region.model import RegionDevice
from vgpumonitor.region.writer import MemoryKind, RegionWriter

UID = "11111111-2222-4333-8444-555555555555"
DEVICES = (RegionDevice(GPU, 10 * GIB, 50), RegionDevice(GPU_2, 10 * GIB, 50))
PIDS = (7, 8)
KINDS: tuple[MemoryKind, ...] = ("context", "module", "data")


def name_of(layout: str) -> str:
    """The directory of the container that has ``layout``."""
    return f"{UID}_{layout.replace('.', '-')}"


@contextmanager
def writing(containers: Path, layouts: Sequence[str]) -> Iterator[None]:
    """The writers as a process, from when they write until they are killed."""
    process = subprocess.Popen([sys.executable, "-m", __name__, str(containers), *layouts])

    def written() -> bool:
        assert process.poll() is None
        return all((containers / name_of(layout) / "ready").exists() for layout in layouts)

    try:
        eventually(written)
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def _write(containers: Path, layouts: Sequence[str]) -> None:
    writers = []
    for layout in LAYOUTS:
        if layout.name in layouts:
            directory = containers / name_of(layout.name)
            directory.mkdir(parents=True)
            writer = RegionWriter(directory / "x.cache", layout, DEVICES, int(time.time()))
            for pid in PIDS:
                writer.register(pid)
            writers.append((writer, directory))
    for turn in count():
        for writer, directory in writers:
            for number, kind in enumerate(KINDS):
                pid, device = PIDS[turn % 2], turn // 2 % 2
                writer.allocate(pid, device, kind, 1000 + 7 * number + turn % 97)
            for number, kind in enumerate(KINDS):
                writer.free(pid, device, kind, 1000 + 7 * number + turn % 97)
            if turn == 0:
                (directory / "ready").touch()


if __name__ == "__main__":
    _write(Path(sys.argv[1]), sys.argv[2:])
