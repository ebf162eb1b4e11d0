"""``vgpumonitor demo``: serves simulated nodes."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import click

from vgpumonitor import logs
from vgpumonitor.options import flags
from vgpumonitor.region.layouts import Layout
from vgpumonitor.serve import serving, stopped
from vgpumonitor.settings import Address, Settings
from vgpumonitor.simulate.command import node_options, simulated_node
from vgpumonitor.simulate.node import SimulatedNode
from vgpumonitor.simulate.nvml.python_library import SimulatedLibrary
from vgpumonitor.web.server import ListenError

log = logging.getLogger(__name__)


@click.command()
@flags(
    Settings,
    "listen_address",
    "node_name",
    "metrics",
    "process_metrics",
    "feedback",
    "log_level",
    "log_format",
)
@node_options
@click.option(
    "--nodes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of nodes, each on the port after the one before; they differ in GPUs and load.",
)
@click.option("--open", "opens", is_flag=True, help="Open the page in a browser.")
def command(
    settings: Settings,
    gpus: int,
    containers: int,
    layouts: tuple[Layout, ...],
    seed: int,
    nodes: int,
    opens: bool,
) -> None:
    """Serve simulated nodes: no GPU, cluster or privilege needed."""
    logs.configure(settings.log_level, settings.log_format)
    each = list(_each(settings, nodes))
    stop = threading.Event()
    with tempfile.TemporaryDirectory(prefix="vgpumonitor-demo-") as name, ExitStack() as stack:
        simulated = [
            (
                of_node,
                stack.enter_context(
                    simulated_node(
                        *(Path(name, of_node.node_name), gpus, containers, layouts, seed),
                        node_name=of_node.node_name,
                        number=number,
                    )
                ),
            )
            for number, of_node in enumerate(each)
        ]
        for _, node in simulated:
            stack.enter_context(_living(node, stop))
        stack.callback(stop.set)
        try:
            asyncio.run(_serve(simulated, opens))
        except ListenError as error:
            raise click.ClickException(str(error)) from error


def _each(settings: Settings, nodes: int) -> Iterator[Settings]:
    """The settings of each node."""
    if nodes == 1:
        yield settings
        return
    for number in range(nodes):
        addresses = tuple(
            replace(address, port=address.port and address.port + number)
            for address in settings.listen_address
        )
        if any(address.port > 65535 for address in addresses):
            raise click.UsageError(f"{nodes} nodes need as many ports, up to 65535")
        yield replace(
            settings, listen_address=addresses, node_name=f"{settings.node_name}-{number + 1}"
        )


@contextmanager
def _living(node: SimulatedNode, stop: threading.Event) -> Iterator[None]:
    """The node lives, in a thread, until ``stop`` is set."""
    thread = threading.Thread(target=node.run, args=(stop,), name="simulate")
    thread.start()
    try:
        yield
    finally:
        thread.join()


async def _serve(nodes: Sequence[tuple[Settings, SimulatedNode]], opens: bool) -> None:
    stop = stopped()
    async with AsyncExitStack() as stack:
        pages = []
        for settings, node in nodes:
            served = await stack.enter_async_context(
                serving(
                    replace(
                        settings,
                        containers_dir=node.containers_dir,
                        pods=f"file:{node.pods_file}",
                        procfs=node.procfs_dir,
                    ),
                    nvml_library=SimulatedLibrary(node.nvml_state),
                )
            )
            pages.append(_url(served[0]))
        others = "the other node" if len(pages) == 2 else "the other nodes"
        also = "" if len(pages) == 1 else f" ({others}: {', '.join(pages[1:])})"
        click.echo(f"Open {pages[0]} in a browser{also}.")
        click.echo("Press Ctrl+C to stop; the demo leaves nothing behind.")
        if opens:
            # A browser in the terminal would not let go.
            threading.Thread(target=_open, args=(pages[0],), daemon=True).start()
        await stop.wait()


def _url(address: Address) -> str:
    every = address.host in ("0.0.0.0", "::")
    return f"http://{replace(address, host='localhost') if every else address}/"


def _open(page: str) -> None:
    if not webbrowser.open(page):
        log.warning("no browser could be opened", extra={"url": page})
