"""A node that isn't there: its containers directory, its pods, its processes, its GPUs.

``DIR/containers`` is what HAMi-core and koordlet would write, ``DIR/pods.json`` what
``kubectl get pods -A -o json`` prints, ``DIR/pod-logs`` kubelet's directories, ``DIR/proc``
the host's procfs, ``DIR/nvml.json`` what the simulated NVML reads.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from vgpumonitor.region.layouts import LAYOUTS, Layout
from vgpumonitor.simulate.container import ContainerState, Host, SimulatedContainer
from vgpumonitor.simulate.nvml.state import SimulatedDevice, SimulatedEvent, SimulatedNvml
from vgpumonitor.simulate.plan import Gpu, make_gpus, place_mixed, place_plain
from vgpumonitor.simulate.pods import pod_list, pod_object
from vgpumonitor.simulate.procfs import SimulatedProcfs
from vgpumonitor.simulate.readings import XID_EVENT, figures
from vgpumonitor.sources.containers import raise_descriptor_limit

#: How large a node is unless asked for another size.
GPUS = 5
CONTAINERS = 16

#: The second in which the programs that have an XID have it.
_XID_AT = 12

#: Seconds after which the list of pods is written again though none changed: it is as old as its
#: file.
_PODS_AGE = 600

_MARKER = ".vgpumonitor-simulation"


class SimulationError(Exception):
    """The directory must not or can't be used for a simulation; the message names it."""


class SimulatedNode:
    """A node in ``directory``, which is created, or empty, or holds an earlier simulation.

    The same ``seed`` and number of steps give the same node, except for times, which come from
    ``clock`` (Unix seconds). ``containers`` is the number of container directories. ``plain``
    makes them all alike, for measurements: one process on two GPUs, with its region there from
    the start. ``node_name`` is the host's name by default, as with ``serve``. ``number`` is which
    of a cluster's nodes it is: they differ in their GPUs, their pods and how full they are, and
    share some workloads.

    ``step`` is one second of the node's life, in which its GPUs' counters and temperatures go as
    far as ``clock`` did. Files stay when the node is closed. Raises SimulationError, and
    ValueError for invalid numbers.
    """

    def __init__(
        self,
        directory: Path,
        gpus: int = GPUS,
        containers: int = CONTAINERS,
        layouts: Sequence[Layout] = LAYOUTS,
        seed: int = 0,
        *,
        plain: bool = False,
        node_name: str | None = None,
        number: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if gpus < 1 or containers < 0 or not layouts:
            raise ValueError(
                f"invalid node with {gpus} GPUs, {len(layouts)} layouts, {containers} containers: "
                "expected a GPU, a layout, and 0 or more containers"
            )
        self.directory = directory
        self.containers_dir = directory / "containers"
        self.pods_file = directory / "pods.json"
        self.pod_logs_dir = directory / "pod-logs"
        self.procfs_dir = directory / "proc"
        self.nvml_state = directory / "nvml.json"
        self.node_name = node_name or socket.gethostname()
        self._clock = clock
        random = Random(seed + number)
        self.gpus = make_gpus(gpus, random, number, mig=not plain)
        self.pods = (
            place_plain(self.gpus, containers, layouts, random)
            if plain
            else place_mixed(self.gpus, containers, layouts, random, number)
        )
        #: The containers of each pod, in the order of their plans.
        self.containers: list[list[SimulatedContainer]] = []
        self._figures: tuple[SimulatedDevice, ...] = ()
        self._figures_at = 0
        self._seconds = 0
        self._events: tuple[SimulatedEvent, ...] = ()
        self._states: list[ContainerState] | None = None
        self._pods_written = 0
        self._lock_fd = _claim(directory)
        try:
            self._populate(random)
        except OSError as error:
            self.close()
            raise SimulationError(f"can't write a simulation to {directory}: {error}") from error

    def _populate(self, random: Random) -> None:
        self._clear()
        self.containers_dir.mkdir()
        self.pod_logs_dir.mkdir()
        host = Host(self.containers_dir, self.pod_logs_dir, SimulatedProcfs(self.procfs_dir))
        now = int(self._clock())
        raise_descriptor_limit()
        for pod in self.pods:
            self.containers.append([])
            for plan in pod.containers:
                own = Random(random.getrandbits(64))
                self.containers[-1].append(SimulatedContainer(pod, plan, host, own, now))
        self._write(now)

    def _clear(self) -> None:
        for path in (self.containers_dir, self.pod_logs_dir, self.procfs_dir):
            if path.exists():
                shutil.rmtree(path)
        for path in (self.pods_file, self.nvml_state):
            path.unlink(missing_ok=True)

    def step(self) -> None:
        now = int(self._clock())
        for pod in self.containers:
            for container in pod:
                container.step(now)
        self._share_cores()
        self._seconds += 1
        if self._seconds == _XID_AT:
            self._events = tuple(
                SimulatedEvent(device=pod.gpus[0].index, type=XID_EVENT, data=plan.xid)
                for pod in self.pods
                for plan in pod.containers
                if plan.xid is not None
            )
        self._write(now)

    def _share_cores(self) -> None:
        """A GPU gives no more than it has: those that run on it take turns."""
        containers = [container for pod in self.containers for container in pod]
        wanted: Counter[Gpu] = Counter()
        for container in containers:
            for use in container.uses():
                wanted[use.gpu] += use.sm
        shares = {gpu: min(1.0, 100 / sm) for gpu, sm in wanted.items() if sm}
        for container in containers:
            container.take_turns(shares)

    def run(self, stop: threading.Event, interval: float = 1.0) -> None:
        """Steps every ``interval`` seconds until ``stop`` is set."""
        while not stop.wait(interval):
            self.step()

    def close(self) -> None:
        for pod in self.containers:
            for container in pod:
                container.close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, now: int) -> None:
        uses = [use for pod in self.containers for container in pod for use in container.uses()]
        seconds = max(0, now - self._figures_at) if self._figures else 0
        self._figures = figures(self.gpus, uses, self._figures, now, seconds)
        self._figures_at = now
        SimulatedNvml(devices=self._figures, events=self._events).write(self.nvml_state)
        states = [container.state for pod in self.containers for container in pod]
        if states != self._states or now - self._pods_written >= _PODS_AGE:
            pods = zip(self.pods, self.containers, strict=True)
            objects = pod_list(pod_object(*pod, self.node_name) for pod in pods)
            _replace(self.pods_file, json.dumps(objects))
            self._states = states
            self._pods_written = now


def _claim(directory: Path) -> int:
    """Claims ``directory`` for this process until the returned descriptor is closed."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        marker = directory / _MARKER
        if not marker.exists() and any(directory.iterdir()):
            raise SimulationError(
                f"{directory} is not empty and holds no earlier simulation; "
                "its files would be overwritten, so choose another directory"
            )
        fd = os.open(marker, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except FileExistsError as error:
        raise SimulationError(f"can't use {directory} for a simulation: not a directory") from error
    except OSError as error:
        raise SimulationError(
            f"can't use {directory} for a simulation: {error.strerror}"
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise SimulationError(f"another simulation is running in {directory}") from error
    return fd


def _replace(path: Path, text: str) -> None:
    """Writes ``text`` so that a reader sees either all of it or what was there before."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.replace(path)
