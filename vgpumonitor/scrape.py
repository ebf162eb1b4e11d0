"""One scrape: ask every source, join, render. Those who come while one runs share it."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from vgpumonitor.diagnosis import Finding, findings
from vgpumonitor.hang import HangTolerantThread
from vgpumonitor.metrics.exposition import Exposition
from vgpumonitor.metrics.family import Family
from vgpumonitor.snapshot import (
    Identities,
    NodeSnapshot,
    ProcessIdentification,
    SnapshotBuilder,
    SourceViews,
)
from vgpumonitor.sources.containers import ContainersDirectory, ContainersView
from vgpumonitor.sources.devices import Device, DeviceSource, parts_of
from vgpumonitor.sources.pods import PodSource

if TYPE_CHECKING:
    from vgpumonitor.controllers import CleanupHealth, FeedbackHealth

#: Seconds for which what was found counts, for those who ask of nothing else.
FRESH = 60.0
#: Seconds that a scrape waits for the disk and for the driver, side by side.
DISK_TIMEOUT = 2.0
DEVICES_TIMEOUT = 1.0

T = TypeVar("T")


class Scrape:
    """A snapshot and the texts that were asked of it so far."""

    def __init__(
        self, snapshot: NodeSnapshot, exposition: Exposition, renderer: HangTolerantThread
    ) -> None:
        self.snapshot = snapshot
        self._exposition = exposition
        self._renderer = renderer
        self._texts: dict[tuple[bool, frozenset[str], bool], Future[list[bytes]]] = {}

    async def text(self, openmetrics: bool, names: frozenset[str], gzipped: bool) -> list[bytes]:
        """The metrics in one of the two formats, compressed or not, in pieces; made once."""
        key = openmetrics, names, gzipped
        if key not in self._texts:
            self._texts[key] = self._renderer.submit(lambda: self._made(*key))
        # One who gives up must not take the text away from the others.
        return await asyncio.shield(asyncio.wrap_future(self._texts[key]))

    def _made(self, openmetrics: bool, names: frozenset[str], gzipped: bool) -> list[bytes]:
        text = self._exposition.render(self.snapshot, openmetrics, names)
        return _gzipped(text) if gzipped else text


class Scraper:
    """Scrapes the sources. ``devices`` and the controllers' health are None where they are
    off."""

    def __init__(
        self,
        node: str,
        families: tuple[Family, ...],
        containers: ContainersDirectory,
        pods: PodSource,
        devices: DeviceSource | None,
        identification: ProcessIdentification,
        feedback: Callable[[], FeedbackHealth] | None = None,
        cleanup: Callable[[], CleanupHealth] | None = None,
    ) -> None:
        self._containers = containers
        self._pods = pods
        self._devices = devices
        self._identification = identification
        self._feedback = feedback
        self._cleanup = cleanup
        self._builder = SnapshotBuilder(node)
        self._exposition = Exposition(families)
        self._disk = HangTolerantThread("disk")
        self._renderer = HangTolerantThread("render")
        self._last_containers = ContainersView()
        self._disk_timeouts = 0
        self._running: asyncio.Task[Scrape] | None = None
        self._found: tuple[Finding, ...] = ()
        self._found_at: float | None = None
        self._count = self._highest_count = 0

    async def collect(self) -> Scrape:
        """The scrape that runs, or a new one. Raises nothing of the sources: one that fails or
        hangs is missing in it, and its health says so."""
        if self._running is None:
            self._running = asyncio.create_task(self._collect())
            self._running.add_done_callback(self._let_go)
        # One who gives up must not take the scrape away from the others.
        return await asyncio.shield(self._running)

    async def findings(self) -> tuple[Finding, ...]:
        """What the last scrape found to be wrong; a new one's where there was none lately, so
        that a probe costs a scrape a minute at most."""
        if self._found_at is None or time.perf_counter() - self._found_at > FRESH:
            await self.collect()
        return self._found

    def _let_go(self, _done: asyncio.Task[Scrape]) -> None:
        """Its texts go with the last who reads them, not with the next scrape."""
        self._running = None

    async def _collect(self) -> Scrape:
        now = time.time()
        seconds: dict[str, float] = {}
        containers, devices = await asyncio.gather(
            _timed(seconds, "regions", self._read_containers()),
            _timed(seconds, "devices", self._sample_devices()),
        )
        snapshot, self._found = await asyncio.wrap_future(
            self._renderer.submit(lambda: self._diagnosed(now, containers, devices, seconds))
        )
        self._found_at = time.perf_counter()
        return Scrape(snapshot, self._exposition, self._renderer)

    async def _read_containers(self) -> ContainersView:
        """The containers, or what is left without them while the disk hangs."""
        try:
            view = await self._disk.within(self._containers.read, DISK_TIMEOUT)
            self._last_containers = view
        except TimeoutError:
            self._disk_timeouts += 1
            view = replace(
                self._last_containers,
                containers=(),
                up=False,
                error=f"the disk of {self._containers.directory} does not answer",
                loss="unreadable",
            )
        if self._disk_timeouts:
            view = replace(view, errors={**view.errors, "timeout": self._disk_timeouts})
        return view

    async def _sample_devices(self) -> tuple[Device, ...]:
        if self._devices is None:
            return ()
        return await self._devices.sample(DEVICES_TIMEOUT) or ()

    def _diagnosed(
        self,
        now: float,
        containers: ContainersView,
        devices: tuple[Device, ...],
        seconds: dict[str, float],
    ) -> tuple[NodeSnapshot, tuple[Finding, ...]]:
        snapshot = self._snapshot(now, containers, devices, seconds)
        return snapshot, findings(snapshot)

    def _snapshot(
        self,
        now: float,
        containers: ContainersView,
        devices: tuple[Device, ...],
        seconds: dict[str, float],
    ) -> NodeSnapshot:
        if self._count < self._highest_count / 2:
            # The last scrape let their texts go.
            _release_memory()
            self._highest_count = self._count
        self._count = len(containers.containers)
        self._highest_count = max(self._highest_count, self._count)
        began = time.perf_counter()
        identities = self._look_at_processes(containers, devices)
        seconds["processes"] = time.perf_counter() - began
        source = self._devices
        return self._builder.build(
            SourceViews(
                time=now,
                containers=containers,
                pod_source=self._pods.name,
                pods=self._pods.view,
                devices=devices,
                known_devices=() if source is None else source.known,
                device_health=None if source is None else source.health(),
                xids=() if source is None else source.xids,
                identities=identities,
                feedback=None if self._feedback is None else self._feedback(),
                cleanup=None if self._cleanup is None else self._cleanup(),
                seconds=seconds,
            )
        )

    def _look_at_processes(
        self, containers: ContainersView, devices: tuple[Device, ...]
    ) -> Identities:
        return self._identification.look(
            containers.containers,
            self._pods.view,
            {process.pid for part in parts_of(devices) for process in part.processes or ()},
        )


def _gzipped(text: Iterable[bytes]) -> list[bytes]:
    # Level 1: the text repeats itself so much that more effort saves little.
    compressor = zlib.compressobj(1, wbits=16 + zlib.MAX_WBITS)
    return [*filter(None, map(compressor.compress, text)), compressor.flush()]


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
