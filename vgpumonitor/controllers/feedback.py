"""Feedback: which containers may launch kernels, and whose core limit is enforced.

HAMi's vGPUmonitor does this besides exporting. ``decide`` says what the regions' control words
should be; ``Feedback`` writes them, and sees to it that no container stays blocked by a monitor
that is gone or can't see the node.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from msgspec import structs

from vgpumonitor.controllers.ticker import ticks
from vgpumonitor.hang import HangTolerantThread
from vgpumonitor.region.control import ControlWord, ControlWords
from vgpumonitor.region.launches import late_order, limit_holds, waits
from vgpumonitor.region.model import Region, RegionError
from vgpumonitor.region.reader import RegionFile
from vgpumonitor.snapshot import NodeSnapshot
from vgpumonitor.snapshot.identity import Key, slots_in_use
from vgpumonitor.sources.containers import (
    ContainerReading,
    ContainersDirectory,
    ContainersView,
)

log = logging.getLogger(__name__)

#: Seconds between two rounds: HAMi-core's control words are made for this pace.
INTERVAL = 5.0
#: Seconds that stopping waits for the release of blocked containers.
STOP_TIMEOUT = 1.0

_Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a container's control words should be after a round."""

    recent_kernel: int
    utilization_switch: int

    @property
    def blocked(self) -> bool:
        """Whether launches have to wait."""
        return self.recent_kernel < 0


def decide(regions: Sequence[Region], launched: Sequence[bool] = ()) -> list[Decision]:
    """One round over all regions of a node: a decision for each, in the same order. ``launched``
    says of each whether it launched since the last round, as far as its control words don't tell.

    ``recent_kernel`` is counted down to 0; a container is active while more than 0 is left, or if
    it launched. It is blocked while a container of a higher priority (a lower number, not below
    0) is active on any of its devices. Its core limit is enforced while it is blocked, or while
    any of its devices has more than one active container of its own priority.
    """
    left = [r.recent_kernel - 1 if r.recent_kernel > 0 else r.recent_kernel for r in regions]
    active: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for region, recent, seen in zip(regions, left, launched or [False] * len(left), strict=True):
        if (recent > 0 or seen) and region.priority >= 0:
            for uuid in _device_uuids(region):
                active[uuid][region.priority] += 1
    highest = {uuid: min(priorities) for uuid, priorities in active.items()}
    decisions = []
    for region, recent in zip(regions, left, strict=True):
        busy = [uuid for uuid in _device_uuids(region) if uuid in active]
        blocked = any(highest[uuid] < region.priority for uuid in busy)
        contended = blocked or any(active[uuid][region.priority] > 1 for uuid in busy)
        recent = min(recent, -1) if blocked else max(recent, 0)
        decisions.append(Decision(recent, int(contended)))
    return decisions


def _device_uuids(region: Region) -> Iterable[str]:
    return (device.uuid for device in region.devices if device.uuid is not None)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a snapshot says of containers that their words don't: ``busy`` are those whose
    processes the driver saw at work lately, ``reached`` those of which a process lives that
    HAMi-core knows by its host PID; None where nobody looked. One that is over is in neither."""

    busy: Collection[Key] = frozenset()
    reached: Collection[Key] | None = None

    @classmethod
    def of(cls, snapshot: NodeSnapshot) -> Seen:
        return cls(
            frozenset(
                container.key
                for container in snapshot.containers
                for device in container.devices
                if device.driver is not None
                and device.driver.utilization is not None
                and device.driver.utilization.core > 0
            ),
            frozenset(
                container.key
                for container in snapshot.containers
                if any(
                    slot.hostpid > 0 and process.state != "dead"
                    for slot, process in zip(
                        slots_in_use(container.region), container.processes, strict=False
                    )
                )
            ),
        )


@dataclass(frozen=True, slots=True)
class FeedbackHealth:
    """Totals since the start. ``rounds`` counts rounds with a complete view, ``last_round`` is the
    Unix time of the last one. ``writes`` counts stores by control word, or with ``dry_run`` those
    that would have been made; ``failures`` counts stores that failed. ``others`` counts words
    that something else than HAMi-core changed between two rounds, ``last_other`` is the Unix time
    at which the last was seen."""

    rounds: int = 0
    writes: Mapping[str, int] = field(default_factory=dict)
    last_round: float | None = None
    failures: int = 0
    dry_run: bool = False
    others: int = 0
    last_other: float | None = None


@dataclass(frozen=True, slots=True)
class _Left:
    """What a round made of a region's words, of which it read ``recent_kernel``."""

    recent_kernel: int
    decision: Decision

    def changed_by_another(self, region: Region) -> int:
        """How many words of ``region``, as the next round reads it, neither that round nor
        HAMi-core wrote: its launches set recent_kernel to 2 and nothing else."""
        possible = {self.decision.recent_kernel, 2}
        if 0 <= self.decision.recent_kernel == self.recent_kernel - 1:
            possible.add(1)  # It launched before it was counted down.
        return (region.recent_kernel not in possible) + (
            region.utilization_switch != self.decision.utilization_switch
        )


class Feedback:
    """Rounds over the regions of all containers. ``health`` may be read from any thread.

    The file of each container that a round blocks stays open until the container is released, so
    that the release depends on nothing else.
    """

    def __init__(
        self,
        containers: ContainersDirectory,
        look: Callable[[], Awaitable[Seen]] | None = None,
        *,
        release_after: float,
        dry_run: bool = False,
        interval: float = INTERVAL,
    ) -> None:
        """``look`` asks the node's other witnesses. Blocked containers are released after
        ``release_after`` seconds without a complete view; ``interval`` is in seconds."""
        self._containers = containers
        self._look = look
        self._release_after = release_after
        self._dry_run = dry_run
        self._interval = interval
        self._lock = threading.Lock()
        self._held: dict[_Identity, ControlWords] = {}
        self._stopped = False
        self._writes: Counter[str] = Counter(recent_kernel=0, utilization_switch=0)
        self._failures = 0
        self._descriptor_errors = 0
        self._blind: str | None = None
        self._logged: dict[_Identity, str] = {}
        self._would: dict[_Identity, Decision] = {}
        self._last_kernel: dict[_Identity, int | None] = {}
        self._left: dict[_Identity, _Left] = {}
        self._others = 0
        self._last_other: float | None = None
        self.health = FeedbackHealth(writes=dict(self._writes), dry_run=dry_run)

    async def run(self) -> None:
        """Runs rounds until cancelled, and then releases every blocked container."""
        # If the disk hangs, it holds one thread up and not the other.
        rounds, releases = HangTolerantThread("feedback"), HangTolerantThread("feedback-release")
        whole = time.monotonic()
        running: Future[bool] | None = None
        try:
            async for _ in ticks(self._interval):
                if running is None:
                    seen = Seen() if self._look is None else await self._look()
                    running = rounds.submit(partial(self._try_round, seen))
                await asyncio.wait([asyncio.wrap_future(running)], timeout=self._interval)
                if running.done():
                    if running.result():
                        whole = time.monotonic()
                    running = None
                if time.monotonic() - whole >= self._release_after:
                    releases.submit(self.release)
        finally:
            stopped = asyncio.wrap_future(releases.submit(self._stop))
            await asyncio.wait([stopped], timeout=STOP_TIMEOUT)

    def _try_round(self, seen: Seen) -> bool:
        try:
            return self.round(seen)
        except Exception:
            # Whatever went wrong must not end the exporter; blocked containers are released later.
            log.exception("a round of feedback failed")
            return False

    def round(self, seen: Seen = Seen()) -> bool:
        """Runs one round. False if the view was incomplete and nothing was written.

        A region that can't be decoded doesn't make the view incomplete: otherwise a container
        could switch feedback off for everybody by breaking its own.
        """
        began = time.monotonic()
        view = self._containers.read()
        blind = self._what_is_missing(view, time.monotonic() - began)
        if blind != self._blind:
            self._blind = blind
            if blind is None:
                log.info("feedback continues")
            else:
                log.warning("feedback is paused", extra={"error": blind})
        if blind is not None:
            return False
        with self._containers.open_regions() as found, self._lock:
            if self._stopped:
                return False
            self._apply(found, seen)
            self.health = FeedbackHealth(
                self.health.rounds + 1,
                dict(self._writes),
                time.time(),
                self._failures,
                self._dry_run,
                self._others,
                self._last_other,
            )
        return True

    def _what_is_missing(self, view: ContainersView, seconds: float) -> str | None:
        before, self._descriptor_errors = self._descriptor_errors, view.errors.get("descriptors", 0)
        if not view.up:
            return view.error or "the containers directory can't be read"
        if self._descriptor_errors > before:
            return "no file descriptors are left to open region files"
        if seconds > INTERVAL:
            return "reading the regions took longer than a round"
        return None

    def release(self) -> None:
        """Releases every container that a round has blocked."""
        with self._lock:
            if self._held:
                log.warning("blocked containers are released", extra={"count": len(self._held)})
            for identity in list(self._held):
                self._release(identity)
            self.health = replace(self.health, writes=dict(self._writes), failures=self._failures)

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
        self.release()

    def _apply(self, found: Sequence[tuple[ContainerReading, RegionFile]], seen: Seen) -> None:
        regions = [entry.region for entry, _ in found if entry.region is not None]
        launched = [
            self._launched(file.identity, region, _key(entry) in seen.busy)
            for (entry, file), region in zip(found, regions, strict=True)
        ]
        there: set[_Identity] = set()
        for (entry, file), region, decision in zip(
            found, regions, decide(regions, launched), strict=True
        ):
            identity = file.identity
            there.add(identity)
            reached = seen.reached is None or _key(entry) in seen.reached
            if self._dry_run:
                self._say(identity, entry, region, decision, reached)
            else:
                self._look_for_others(identity, region)
                try:
                    self._write(file, region, decision)
                except RegionError as error:
                    self._fail(identity, entry.path, error)
                else:
                    self._left[identity] = _Left(region.recent_kernel, decision)
                    self._logged.pop(identity, None)
                    _log_change("", entry, region, decision, reached)
            if not decision.blocked and identity in self._held:
                self._release(identity)
        for identity in self._held.keys() - there:
            self._release(identity)
        kept: dict[_Identity, Any]
        for kept in (self._logged, self._would, self._last_kernel, self._left):
            for identity in kept.keys() - there:
                del kept[identity]

    def _look_for_others(self, identity: _Identity, region: Region) -> None:
        """Counts the words that are not as the last round left them, nor as HAMi-core leaves
        them."""
        left = self._left.pop(identity, None)
        if left is None:
            return
        changed = left.changed_by_another(region)
        if changed:
            self._others += changed
            self._last_other = time.time()

    def _launched(self, identity: _Identity, region: Region, busy: bool) -> bool:
        """Whether a container launched since the last round. In the late order, launches while
        the limit is lifted leave only the time of the last one, and that at most once a second;
        of a kernel that still runs, only the driver knows."""
        before = self._last_kernel.get(identity, region.last_kernel_time)
        self._last_kernel[identity] = region.last_kernel_time
        return late_order(region) and (busy or region.last_kernel_time != before)

    def _write(self, file: RegionFile, region: Region, decision: Decision) -> None:
        changes = _changes(region, decision)
        if not changes and (not decision.blocked or file.identity in self._held):
            return
        words = self._held.get(file.identity)
        if words is None:
            words = ControlWords(file, region.size)
            if decision.blocked:
                self._held[file.identity] = words
        try:
            for word, value in changes:
                if word == "recent_kernel" and 0 <= value == region.recent_kernel - 1:
                    words.add(word, -1)  # Doesn't lose a launch since the read.
                else:
                    words.store(word, value)
                self._writes[word] += 1
        finally:
            if file.identity not in self._held:
                words.close()

    def _release(self, identity: _Identity) -> None:
        self._left.pop(identity, None)
        with self._held.pop(identity) as words:
            try:
                if words.read("recent_kernel") < 0:
                    words.store("recent_kernel", 0)
                    self._writes["recent_kernel"] += 1
            except RegionError as error:
                # If the file is gone, nobody waits on it any more.
                if error.reason != "vanished":
                    self._fail(identity, "", error)

    def _fail(self, identity: _Identity, path: str, error: RegionError) -> None:
        self._failures += 1
        if self._logged.get(identity) != str(error):
            self._logged[identity] = str(error)
            log.warning(
                "feedback can't write to a region file",
                extra={"path": path, "reason": error.reason, "error": str(error)},
            )

    def _say(
        self,
        identity: _Identity,
        entry: ContainerReading,
        region: Region,
        decision: Decision,
        reached: bool,
    ) -> None:
        """Logs and counts what would be written, once for as long as it stays the same."""
        changes = _changes(region, decision)
        if not changes:
            self._would.pop(identity, None)
        elif self._would.get(identity) != decision:
            self._would[identity] = decision
            self._writes.update(word for word, _ in changes)
            _log_change("would be ", entry, region, decision, reached)


def _changes(region: Region, decision: Decision) -> list[tuple[ControlWord, int]]:
    changes: list[tuple[ControlWord, int]] = []
    if decision.recent_kernel != region.recent_kernel:
        changes.append(("recent_kernel", decision.recent_kernel))
    if decision.utilization_switch != region.utilization_switch:
        changes.append(("utilization_switch", decision.utilization_switch))
    return changes


def _key(entry: ContainerReading) -> Key:
    return entry.pod_uid, entry.container


def _log_change(
    verb: str, entry: ContainerReading, region: Region, decision: Decision, reached: bool
) -> None:
    """Logs what the decision changes in fact: a container that can't be made to wait, or that no
    limit can hold, is not said to."""
    about = {
        "pod_uid": entry.pod_uid,
        "container": entry.container,
        "priority": region.priority,
    }
    decided = structs.replace(
        region,
        recent_kernel=decision.recent_kernel,
        utilization_switch=decision.utilization_switch,
    )
    known = reached and any(slot.hostpid > 0 for slot in slots_in_use(region))
    for what, holds, yes, no in (
        ("launches", waits, "blocked", "released"),
        ("core limit", limit_holds, "enforced", "lifted"),
    ):
        before, after = (
            any(holds(each, device, known) for device in each.devices) for each in (region, decided)
        )
        if before != after:
            log.info(f"{what} {verb}{yes if after else no}", extra=about)
