"""``vgpumonitor simulate``, and what it shares with ``demo``."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from vgpumonitor.options import Parsed, duration
from vgpumonitor.region.layouts import LAYOUTS, Layout
from vgpumonitor.simulate.node import CONTAINERS, GPUS, SimulatedNode, SimulationError

F = TypeVar("F", bound=Callable[..., Any])

_LAYOUTS = {layout.name: layout for layout in LAYOUTS}


def parse_layouts(text: str) -> tuple[Layout, ...]:
    """Names of layouts, separated by commas, or ``all``. Raises ValueError."""
    if text == "all":
        return LAYOUTS
    names = text.split(",")
    for name in names:
        if name not in _LAYOUTS:
            raise ValueError(f"unknown layout {name!r}: expected {', '.join(_LAYOUTS)} or all")
    return tuple(_LAYOUTS[name] for name in names)


def node_options(command: F) -> F:
    """Adds the options that are parameters of ``simulated_node``."""
    for decorate in (
        click.option(
            "--seed", default=0, show_default=True, help="The same seed gives the same node."
        ),
        click.option(
            "--layouts",
            type=Parsed("LAYOUTS", parse_layouts),
            default="all",
            show_default=True,
            help=f"Layouts of the region files, separated by commas: {', '.join(_LAYOUTS)}.",
        ),
        click.option(
            "--containers",
            type=click.IntRange(min=0),
            default=CONTAINERS,
            show_default=True,
            help="Number of containers that have a directory.",
        ),
        click.option(
            "--gpus",
            type=click.IntRange(min=1),
            default=GPUS,
            show_default=True,
            help="Number of GPUs.",
        ),
    ):
        command = decorate(command)
    return command


def simulated_node(
    directory: Path,
    gpus: int,
    containers: int,
    layouts: tuple[Layout, ...],
    seed: int,
    node_name: str | None = None,
    number: int = 0,
) -> SimulatedNode:
    """The node in ``directory``. Raises click's exception where there can't be one."""
    try:
        return SimulatedNode(
            directory, gpus, containers, layouts, seed, node_name=node_name, number=number
        )
    except SimulationError as error:
        raise click.ClickException(str(error)) from error


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@node_options
@click.option(
    "--interval",
    type=duration(0.01),
    default="1",
    show_default=True,
    help="How long one second of the node's life takes.",
)
def command(
    directory: Path,
    gpus: int,
    containers: int,
    layouts: tuple[Layout, ...],
    seed: int,
    interval: float,
) -> None:
    """Write a simulated node's files into DIRECTORY, live until stopped.

    They are region files as HAMi-core writes them, pods, pod logs, processes and GPUs; the
    command that serves them is printed.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with simulated_node(directory, gpus, containers, layouts, seed) as node:
        click.echo(
            f"vgpumonitor serve --containers-dir {node.containers_dir}"
            f" --pods file:{node.pods_file} --procfs {node.procfs_dir}"
            f" --node-name {node.node_name}"
        )
        node.run(stop, interval)
