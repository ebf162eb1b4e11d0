"""``vgpumonitor demo``: serves a simulated node."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import click

from vgpumonitor import logs
from vgpumonitor.options import flags
from vgpumonitor.region.layouts import Layout
from vgpumonitor.serve import serve
from vgpumonitor.settings import Settings
from vgpumonitor.simulate.command import node_options, simulated_node
from vgpumonitor.simulate.nvml.python_library import SimulatedLibrary


@click.command()
@flags(
    Settings,
    "listen_address",
    "metrics",
    "process_metrics",
    "feedback",
    "log_level",
    "log_format",
)
@node_options
def command(
    settings: Settings, gpus: int, containers: int, layouts: tuple[Layout, ...], seed: int
) -> None:
    """Serve a simulated node: no GPU, cluster or privilege needed."""
    logs.configure(settings.log_level, settings.log_format)
    stop = threading.Event()
    with (
        tempfile.TemporaryDirectory(prefix="vgpumonitor-demo-") as directory,
        simulated_node(Path(directory), gpus, containers, layouts, seed) as node,
    ):
        simulating = threading.Thread(target=node.run, args=(stop,), name="simulate")
        simulating.start()
        try:
            serve(
                replace(
                    settings,
                    containers_dir=node.containers_dir,
                    node_name=node.node_name,
                    pods=f"file:{node.pods_file}",
                    procfs=node.procfs_dir,
                ),
                SimulatedLibrary(node.nvml_state),
            )
        finally:
            stop.set()
            simulating.join()
