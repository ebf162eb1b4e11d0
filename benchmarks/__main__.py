"""``python -m benchmarks [PART…]``: measures the exporter on this machine and prints a table."""

from __future__ import annotations

import compileall
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    concurrent,
    devices,
    exposition,
    footprint,
    freshness,
    idle,
    pods,
    scrape,
    start,
    syscalls,
    witnesses,
)
from benchmarks.table import Row, markdown
from testing.tools import MissingToolError

PARTS: dict[str, Callable[[], list[Row]]] = {
    "freshness": freshness.rows,
    "scrape": scrape.rows,
    "concurrent": concurrent.rows,
    "devices": devices.rows,
    "exposition": exposition.rows,
    "syscalls": syscalls.rows,
    "witnesses": witnesses.rows,
    "start": start.rows,
    "idle": idle.rows,
    "footprint": footprint.rows,
    "pods": pods.rows,
}


def rows_of(name: str) -> list[Row]:
    try:
        return PARTS[name]()
    except MissingToolError as error:
        return [Row(name, "not measured", str(error))]


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        sys.exit(f"unknown benchmark: {', '.join(unknown)}; expected some of {', '.join(PARTS)}")
    # As pip and the image do: what is compiled at each start instead stays in memory for a while.
    compileall.compile_dir(Path(__file__).parent.parent / "vgpumonitor", quiet=1)
    rows = [row for name in PARTS if not names or name in names for row in rows_of(name)]
    print(f"Python {platform.python_version()}, {platform.machine()}\n")
    print(markdown(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
