"""What benchmarks run on: a simulated node, and the exporter over it as a process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testing.exporter import Exporter, image_variables, running
from vgpumonitor.simulate.node import SimulatedNode


@contextmanager
def simulated(containers: int, gpus: int = 8) -> Iterator[SimulatedNode]:
    """A node whose containers are all alike: one process on two GPUs, whose host PID HAMi-core
    has found."""
    with (
        tempfile.TemporaryDirectory(prefix="vgpumonitor-bench-") as directory,
        SimulatedNode(Path(directory), gpus, containers, plain=True) as node,
    ):
        # The watcher finds a new process's host PID at its first round.
        node.step()
        yield node


@contextmanager
def serving(node: SimulatedNode, *arguments: str) -> Iterator[Exporter]:
    """``serve`` over the node with all metric sets, without NVML, with the image's variables."""
    with running(
        "serve",
        f"--containers-dir={node.containers_dir}",
        f"--pods=file:{node.pods_file}",
        f"--procfs={node.procfs_dir}",
        f"--node-name={node.node_name}",
        "--metrics=all",
        "--nvml=off",
        *arguments,
        env=image_variables(),
    ) as exporter:
        yield exporter


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, user and system, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
