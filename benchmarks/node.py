"""What benchmarks run on: a simulated node, and the exporter over it as a process."""

from __future__ import annotations

import ctypes
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
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
def serving(
    node: SimulatedNode, *arguments: str, env: Mapping[str, str] | None = None
) -> Iterator[Exporter]:
    """``serve`` over the node with all metric sets, without NVML unless ``arguments`` say so,
    with the image's variables and ``env``."""
    with running(
        "serve",
        f"--containers-dir={node.containers_dir}",
        f"--pods=file:{node.pods_file}",
        f"--procfs={node.procfs_dir}",
        f"--node-name={node.node_name}",
        "--metrics=all",
        "--nvml=off",
        *arguments,
        env={**image_variables(), **(env or {})},
    ) as exporter:
        yield exporter


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, user and system, in seconds: by its clock, which is finer than the
    ticks of /proc."""
    clock = ctypes.c_int()
    error = ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise OSError(error, os.strerror(error), f"process {pid}")
    return time.clock_gettime(clock.value)
