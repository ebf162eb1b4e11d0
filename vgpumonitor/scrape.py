"""One collection: ask every source, join, render. Those who come while one runs share it."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import gzip
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from vgpumonitor.hang import HangTolerantThread
from vgpumonitor.metrics.exposition import Exposition
from vgpumonitor.metrics.family import Family
from vgpumonitor.snapshot import HostProcessesView, NodeSnapshot, SnapshotBuilder
from vgpumonitor.sources.containers.directory import ContainersDirectory, ContainersView
from vgpumonitor.sources.devices.nvml.source import NvmlSample, NvmlSource
from vgpumonitor.sources.pods import PodSource
from vgpumonitor.sources.processes import HostProcesses

if TYPE_CHECKING:
    from vgpumonitor.controllers import CleanupHealth, FeedbackHealth

#: Seconds that a scrape waits for the disk and for NVML, side by side.
DISK_TIMEOUT = 2.0
NVML_TIMEOUT = 1.0

T = TypeVar("T")


class Scrape:
    """A snapshot and the texts that were asked of it so far."""

    def __init__(
        self, snapshot: NodeSnapshot, exposition: Exposition, renderer: HangTolerantThread
    ) -> None:
        self.snapshot = snapshot
        self._exposition = exposition
        self._renderer = renderer
        self._texts: dict[tuple[bool, frozenset[str], bool], Future[bytes]] = {}

    async def text(self, openmetrics: bool, names: frozenset[str], gzipped: bool) -> bytes:
        """The metrics in one of the two formats, compressed or not; made once."""
        key = openmetrics, names, gzipped
        if key not in self._texts:
            self._texts[key] = self._renderer.submit(lambda: self._made(*key))
        return await asyncio.wrap_future(self._texts[key])

    def _made(self, openmetrics: bool, names: frozenset[str], gzipped: bool) -> bytes:
        text = self._exposition.render(self.snapshot, openmetrics, names)
        # Level 1: the text repeats itself so much that more effort saves little.
        return gzip.compress(text, compresslevel=1, mtime=0) if gzipped else text


class Scraper:
    """Makes collections from the sources; ``nvml`` and the actions' health are None where off."""

    def __init__(
        self,
        node: str,
        families: tuple[Family, ...],
        inventory: ContainersDirectory,
        pods: PodSource,
        nvml: NvmlSource | None,
        processes: HostProcesses,
        liveness: str,
        feedback: Callable[[], FeedbackHealth] | None = None,
        gc: Callable[[], CleanupHealth] | None = None,
    ) -> None:
        self._inventory = inventory
        self._pods = pods
        self._nvml = nvml
        self._processes = processes
        self._liveness = liveness
        self._feedback = feedback
        self._gc = gc
        self._join = SnapshotBuilder(node)
        self._exposition = Exposition(families)
        self._disk = HangTolerantThread("disk")
        self._nvml_caller = HangTolerantThread("nvml-caller")
        self._renderer = HangTolerantThread("render")
        self._reading: Future[ContainersView] | None = None
        self._last_inventory = ContainersView()
        self._disk_timeouts = 0
        self._running: asyncio.Task[Scrape] | None = None
        self._containers = self._most_containers = 0

    async def collect(self) -> Scrape:
        if self._running is None:
            self._running = asyncio.create_task(self._collect())
            self._running.add_done_callback(self._let_go)
        # One who gives up must not take the collection away from the others.
        return await asyncio.shield(self._running)

    def _let_go(self, _done: asyncio.Task[Scrape]) -> None:
        """Its texts go with the last who reads them, not with the next collection."""
        self._running = None

    async def _collect(self) -> Scrape:
        now = time.time()
        seconds: dict[str, float] = {}
        inventory, nvml = await asyncio.gather(
            _timed(seconds, "regions", self._read_inventory()),
            _timed(seconds, "nvml", self._sample_nvml()),
        )
        snapshot = await asyncio.wrap_future(
            self._renderer.submit(lambda: self._snapshot(now, inventory, nvml, seconds))
        )
        return Scrape(snapshot, self._exposition, self._renderer)

    async def _read_inventory(self) -> ContainersView:
        """The containers, or what is left without them where the disk hangs: a read that
        still runs is not waited for again."""
        if self._reading is None or self._reading.done():
            self._reading = self._disk.submit(self._inventory.read)
            timeout = DISK_TIMEOUT
        else:
            timeout = 0.0
        reading = asyncio.wrap_future(self._reading)
        done, _ = await asyncio.wait([reading], timeout=timeout)
        if done:
            self._last_inventory = reading.result()
            view = self._last_inventory
        else:
            self._disk_timeouts += 1
            view = ContainersView(
                error=f"the disk of {self._inventory.directory} does not answer",
                errors=self._last_inventory.errors,
                torn_reads=self._last_inventory.torn_reads,
                watch_events=self._last_inventory.watch_events,
            )
        return view

    async def _sample_nvml(self) -> NvmlSample | None:
        nvml = self._nvml
        if nvml is None:
            return None
        return await asyncio.wrap_future(
            self._nvml_caller.submit(lambda: nvml.sample(NVML_TIMEOUT))
        )

    def _snapshot(
        self,
        now: float,
        inventory: ContainersView,
        nvml: NvmlSample | None,
        seconds: dict[str, float],
    ) -> NodeSnapshot:
        if self._containers < self._most_containers / 2:
            # The last collection let their texts go.
            _release_memory()
            self._most_containers = self._containers
        self._containers = len(inventory.containers)
        self._most_containers = max(self._most_containers, self._containers)
        began = time.perf_counter()
        host = self._host(inventory, nvml)
        seconds["processes"] = time.perf_counter() - began
        return self._join.snapshot(
            time=now,
            inventory=inventory,
            pod_source=self._pods.name,
            pods=self._pods.view,
            nvml=nvml,
            known_devices=() if self._nvml is None else self._nvml.known,
            nvml_health=None if self._nvml is None else self._nvml.health(),
            host=host,
            disk_timeouts=self._disk_timeouts,
            feedback=None if self._feedback is None else self._feedback(),
            gc=None if self._gc is None else self._gc(),
            seconds=seconds,
        )

    def _host(self, inventory: ContainersView, nvml: NvmlSample | None) -> HostProcessesView:
        visible = self._processes.visible()
        live = None
        if self._liveness == "on" or (self._liveness == "auto" and visible):
            live = self._processes.live_pids()
        if nvml is None or not visible:
            return HostProcessesView(live)
        accounted = {
            process.hostpid
            for entry in inventory.containers
            if entry.region is not None
            for process in entry.region.processes
        }
        pods = {}
        for device in nvml.devices:
            for process in device.processes or ():
                if process.pid not in accounted and process.pid not in pods:
                    ref = self._processes.pod_of(process.pid)
                    if ref is not None:
                        pods[process.pid] = ref
        return HostProcessesView(live, pods)


def _release_memory() -> None:
    """Gives what was freed back to the system, where that is glibc: a few milliseconds. Without
    this, 14 MiB stay after 250 containers came and went at once, whatever malloc's variables
    say, since what is still used lies above what is free."""
    gc.collect()  # Empties Python's free lists too.
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


async def _timed(seconds: dict[str, float], part: str, work: Awaitable[T]) -> T:
    began = time.perf_counter()
    try:
        return await work
    finally:
        seconds[part] = time.perf_counter() - began
