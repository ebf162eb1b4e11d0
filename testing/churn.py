"""Containers that come and go beside those that stay."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from testing.exporter import Exporter
from testing.resources import Held

_BLOCK = 4096


def pass_by(
    exporter: Exporter, containers: Path, source: Path, numbers: Iterable[int], at_once: int
) -> Held:
    """A copy of the region file ``source`` for each number, ``at_once`` of them together and
    scraped, then removed. Returns the most that was held of each."""
    data = source.read_bytes()
    rest = iter(numbers)
    most = Held.by(exporter.process.pid)
    while batch := list(islice(rest, at_once)):
        for number in batch:
            directory = containers / f"0c9a5f0e-52ad-4a8e-9b86-{number:012x}_passes"
            directory.mkdir()
            write_sparse(directory / f"{directory.name}.cache", data)
        exporter.get("/metrics")
        most = most.most(Held.by(exporter.process.pid))
        for directory in containers.glob("*_passes"):
            shutil.rmtree(directory)
    for _ in range(10):
        exporter.get("/metrics")
    return most


def write_sparse(path: Path, data: bytes) -> None:
    """``data`` without its blocks of zeros, which take no room."""
    with path.open("wb") as file:
        for at in range(0, len(data), _BLOCK):
            block = data[at : at + _BLOCK]
            if block.strip(b"\0"):
                file.seek(at)
                file.write(block)
        file.truncate(len(data))
