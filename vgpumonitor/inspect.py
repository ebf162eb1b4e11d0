"""``vgpumonitor inspect``: what is in region files, or why they can't be decoded."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from vgpumonitor.formatting import NONE, ago, percent, plain, size
from vgpumonitor.region.launches import measures
from vgpumonitor.region.model import (
    GONE,
    RUNNING,
    SUSPENDED,
    Region,
    RegionError,
    RegionProcess,
    wrapped,
)
from vgpumonitor.region.reader import RegionFile, io_error, open_regular
from vgpumonitor.sources.containers import parse_name

#: What NVML gives for bytes that it can't tell.
_NOT_AVAILABLE = (1 << 64) - 1

_STATES = {GONE: "gone", RUNNING: "running", SUSPENDED: "suspended"}

#: Columns of a pipe or a file: as many as the widest table needs.
_UNBOUND = 400


@dataclass(frozen=True, slots=True)
class Inspection:
    """One region file: its ``region``, or the ``error`` that kept it from being decoded. With
    neither it is a container's directory that has no region file before the first CUDA call."""

    path: Path
    region: Region | None = None
    error: RegionError | None = None


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(readable=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print everything, as JSON.")
def command(paths: Sequence[Path], as_json: bool) -> None:
    """Decode region files, or all those in directories.

    The exit status is 1 if a file can't be decoded.
    """
    inspections = inspect_paths(paths)
    if as_json:
        json.dump(to_json(inspections), sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = _UNBOUND
        console.print(render(inspections, time.time()))
    sys.exit(1 if any(inspection.error is not None for inspection in inspections) else 0)


def inspect_paths(paths: Iterable[Path]) -> list[Inspection]:
    """Every region file that ``paths`` name: files, directories of ``.cache`` files, and
    containers directories. Symbolic links among the paths are followed, those inside are not."""
    return [found for path in paths for found in _inspect_path(path)]


def _inspect_path(path: Path) -> list[Inspection]:
    if not os.path.isdir(path):
        return [_inspect_file(path, Path(os.path.realpath(path)))]
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        return [Inspection(path, error=io_error(error))]
    containers = [name for name in names if parse_name(name) and os.path.isdir(path / name)]
    if containers:
        return [found for name in containers for found in _inspect_directory(path / name)]
    is_container = parse_name(Path(os.path.realpath(path)).name) is not None
    if not is_container and not any(name.endswith(".cache") for name in names):
        message = "it has no *.cache files and no <pod UID>_<container> directories"
        if "containers" in names:
            message += f"; did you mean {path / 'containers'}?"
        return [Inspection(path, error=RegionError("empty", message))]
    return _inspect_directory(path)


def _inspect_directory(directory: Path) -> list[Inspection]:
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".cache"))
    except OSError as error:
        return [Inspection(directory, error=io_error(error))]
    found = [_inspect_file(directory / name, directory / name) for name in names]
    return found or [Inspection(directory)]


def _inspect_file(path: Path, target: Path) -> Inspection:
    """``target`` is the file to open, ``path`` its name to show."""
    try:
        search_only = getattr(os, "O_PATH", os.O_RDONLY)  # Linux has it.
        directory = os.open(target.parent, search_only | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            file = RegionFile(open_regular(directory, target.name))
        finally:
            os.close(directory)
        try:
            return Inspection(path, file.read(os.fstat(file.fileno()).st_size))
        finally:
            file.close()
    except RegionError as error:
        return Inspection(path, error=error)
    except OSError as error:
        return Inspection(path, error=io_error(error))


def to_json(inspections: Iterable[Inspection]) -> list[dict[str, Any]]:
    """Everything that is known, with the same keys for each; without a region, its keys are
    null."""
    documents = []
    for inspection in inspections:
        region, error = inspection.region, inspection.error
        document: dict[str, Any] = (
            dict.fromkeys(Region.__struct_fields__)
            if region is None
            else msgspec.to_builtins(region)
        )
        document["problems"] = [
            {"reason": reason, "message": message}
            for reason, message in (() if region is None else region.problems)
        ]
        documents.append(
            {
                "path": os.fsencode(inspection.path).decode("utf-8", "backslashreplace"),
                "error": None if error is None else {"reason": error.reason, "message": str(error)},
                **document,
            }
        )
    return documents


def render(inspections: Iterable[Inspection], now: float) -> RenderableType:
    """The inspections as tables; ``now`` is the Unix time that ages count from."""
    return Group(*(_render(inspection, now) for inspection in inspections))


def _render(inspection: Inspection, now: float) -> RenderableType:
    title = Text(plain(str(inspection.path)), style="bold")
    if inspection.error is not None:
        reason = inspection.error.reason
        # To a scrape it has vanished; whoever named it here may have misspelt it.
        text = "is not there" if reason == "vanished" else f"can't be decoded ({reason})"
        error = Text(f"  {text}: ", style="red") + Text(plain(str(inspection.error)))
        return Group(title, error, Text())
    if inspection.region is None:
        return Group(title, Text("  no region file yet: no CUDA call was made so far"), Text())
    region = inspection.region
    parts: list[RenderableType] = [title, Text(f"  {_summary(region, now)}")]
    parts += [
        Text(f"  {reason}: ", style="yellow") + Text(plain(message))
        for reason, message in region.problems
    ]
    if region.torn:
        parts.append(Text(f"  torn: {region.torn} half-written slots left out", "yellow"))
    if region.devices:
        parts.append(_devices(region))
    if region.processes:
        parts.append(_processes(region))
    return Group(*parts, Text())


def _summary(region: Region, now: float) -> str:
    last = region.last_kernel_time
    texts = [
        f"layout {region.layout}",
        size(region.size),
        f"devices {len(region.devices)}",
        f"process slots {len(region.processes)}",
        f"last kernel {ago(now - last) if last else NONE}",
        f"priority {region.priority}",
        f"core limit {'holds' if region.utilization_switch == 1 else 'lifted'}"
        f" (utilization_switch {region.utilization_switch})",
        f"launches {'blocked' if region.recent_kernel < 0 else 'free'}"
        f" (recent_kernel {region.recent_kernel})",
    ]
    return " · ".join(texts)


def _devices(region: Region) -> Table:
    table = _table(["device", "UUID"], ["memory", "limit", "cores", "core limit"])
    for index, device in enumerate(region.devices):
        uses = [process.devices[index] for process in _in_use(region)]
        cores = [
            process.devices[index].sm_util
            for process in _in_use(region)
            if _measured(process, device.sm_limit_percent, index)
        ]
        table.add_row(
            str(index),
            device.uuid or NONE,
            _bytes(wrapped(sum(use.total for use in uses))),
            size(device.memory_limit_bytes) if device.memory_limit_bytes else "none",
            percent(sum(cores) if cores or not uses else None),
            "none" if device.sm_limit_percent in (0, 100) else percent(device.sm_limit_percent),
        )
    return table


def _in_use(region: Region) -> list[RegionProcess]:
    return [process for process in region.processes if process.status != GONE]


def _processes(region: Region) -> Table:
    table = _table(
        ["PID", "host PID", "state", "device"],
        ["memory", "context", "module", "data", "other", "as NVML says", "cores"],
    )
    for process in region.processes:
        for index, use in enumerate(process.devices):
            other = max(0, use.total - use.context - use.module - use.data)
            told = use.monitor_used != _NOT_AVAILABLE
            measured = _measured(process, region.devices[index].sm_limit_percent, index)
            names = (
                str(process.pid),
                str(process.hostpid or NONE),
                _STATES.get(process.status, f"status {process.status}"),
            )
            table.add_row(
                *(names if index == 0 else ("", "", "")),
                str(index),
                *map(_bytes, (use.total, use.context, use.module, use.data, other)),
                size(use.monitor_used if told else None),
                percent(use.sm_util if measured else None),
            )
    return table


def _measured(process: RegionProcess, core_limit: int, index: int) -> bool:
    """Whether the cores of the process on a device are known. Where HAMi-core doesn't measure, a
    0 says nothing; another value is shown, since it is in the file."""
    return measures(process, core_limit) or process.devices[index].sm_util > 0


def _bytes(count: int) -> str:
    """HAMi-core up to 2.8.0 counts without a lock, and below zero."""
    return size(count) if count < 1 << 63 else f"-{size((1 << 64) - count)}"


def _table(names: Iterable[str], numbers: Iterable[str]) -> Table:
    """An empty table: columns of text for ``names``, then columns of figures for ``numbers``."""
    table = Table(box=box.SIMPLE, show_edge=False)
    for name in names:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table
