"""Feedback: which containers may launch kernels, and for whom the core limit holds.

What HAMi's vGPUmonitor does beside exporting. ``decide`` says what the words of the regions
are to be; ``Feedback`` writes them, and sees to it that nobody waits for a monitor that is
gone or blind.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from vgpumonitor.controllers.ticker import ticks
from vgpumonitor.hang import HangTolerantThread
from vgpumonitor.region.control import ControlWord, ControlWords
from vgpumonitor.region.model import Region, RegionError
from vgpumonitor.region.reader import RegionFile
from vgpumonitor.sources.containers import (
    ContainerReading,
    ContainersDirectory,
    ContainersView,
)

log = logging.getLogger(__name__)

#: Seconds between two rounds: HAMi-core's words are made for this pace.
INTERVAL = 5.0
#: Seconds without a whole view after which blocked containers are released.
RELEASE_AFTER = 60.0
#: Seconds that a stop waits for the release of blocked containers.
STOP_TIMEOUT = 1.0

_Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a container's words are to be after a round."""

    recent_kernel: int
    utilization_switch: int

    @property
    def blocked(self) -> bool:
        """Whether launches wait."""
        return self.recent_kernel < 0


def decide(regions: Sequence[Region]) -> list[Decision]:
    """One round over all regions of a node: a decision for each, in their order.

    ``recent_kernel`` counts down to 0; a container with more left is active. One is blocked
    while on any of its cards a higher priority (a lower number, not below 0) is active, and
    its core limit holds while it is blocked or any of its cards has more than one active
    container of its own priority.
    """
    left = [r.recent_kernel - 1 if r.recent_kernel > 0 else r.recent_kernel for r in regions]
    active: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for region, recent in zip(regions, left, strict=True):
        if recent > 0 and region.priority >= 0:
            for uuid in _cards(region):
                active[uuid][region.priority] += 1
    highest = {uuid: min(priorities) for uuid, priorities in active.items()}
    decisions = []
    for region, recent in zip(regions, left, strict=True):
        busy = [uuid for uuid in _cards(region) if uuid in active]
        blocked = any(highest[uuid] < region.priority for uuid in busy)
        contended = blocked or any(active[uuid][region.priority] > 1 for uuid in busy)
        recent = min(recent, -1) if blocked else max(recent, 0)
        decisions.append(Decision(recent, int(contended)))
    return decisions


def _cards(region: Region) -> Iterable[str]:
    return (device.uuid for device in region.devices if device.uuid is not None)


@dataclass(frozen=True, slots=True)
class FeedbackHealth:
    """Totals since the start. ``rounds`` are those that had a whole view, ``last_round`` is
    the Unix time of the last one. ``writes`` is by word: stores that were done, or with
    ``dry_run`` would have been. ``failures`` are stores that were not possible."""

    rounds: int = 0
    writes: Mapping[str, int] = field(default_factory=dict)
    last_round: float | None = None
    failures: int = 0
    dry_run: bool = False


class Feedback:
    """Rounds over the regions of an inventory. ``health`` may be read from any thread.

    Each container that a round blocks is held open until it is released, so that its release
    needs nothing but its file.
    """

    def __init__(
        self,
        inventory: ContainersDirectory,
        release_after: float = RELEASE_AFTER,
        dry_run: bool = False,
        interval: float = INTERVAL,
    ) -> None:
        """Times are in seconds."""
        self._inventory = inventory
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
        self.health = FeedbackHealth(writes=dict(self._writes), dry_run=dry_run)

    async def run(self) -> None:
        """Rounds until cancelled, and then the release of whoever is blocked."""
        # A disk that hangs holds the one thread, and not the other.
        rounds, releases = HangTolerantThread("feedback"), HangTolerantThread("feedback-release")
        whole = time.monotonic()
        running: Future[bool] | None = None
        try:
            async for _ in ticks(self._interval):
                running = running or rounds.submit(self._try_round)
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

    def _try_round(self) -> bool:
        try:
            return self.round()
        except Exception:
            # Whatever it is, it must not end the exporter, and those who wait are released.
            log.exception("a round of feedback failed")
            return False

    def round(self) -> bool:
        """One round; false where the view was not whole, and all words stayed as they were.

        A region that can't be decoded makes the view no less whole: its container could do
        that to it, and would switch feedback off for everybody.
        """
        began = time.monotonic()
        view = self._inventory.read()
        blind = self._what_is_missing(view, time.monotonic() - began)
        if blind != self._blind:
            self._blind = blind
            if blind is None:
                log.info("feedback goes on")
            else:
                log.warning("feedback waits: words stay as they are", extra={"error": blind})
        if blind is not None:
            return False
        with self._inventory.open_regions() as found, self._lock:
            if self._stopped:
                return False
            self._apply(found)
            self.health = FeedbackHealth(
                self.health.rounds + 1,
                dict(self._writes),
                time.time(),
                self._failures,
                self._dry_run,
            )
        return True

    def _what_is_missing(self, view: ContainersView, seconds: float) -> str | None:
        before, self._descriptor_errors = self._descriptor_errors, view.errors.get("descriptors", 0)
        if not view.up:
            return view.error or "the containers directory can't be looked at"
        if self._descriptor_errors > before:
            return "no file descriptors left to open region files"
        if seconds > INTERVAL:
            return "the disk took longer than a round to read the regions"
        return None

    def release(self) -> None:
        """Releases every container that was blocked by a round."""
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

    def _apply(self, found: Sequence[tuple[ContainerReading, RegionFile]]) -> None:
        regions = [entry.region for entry, _ in found if entry.region is not None]
        there: set[_Identity] = set()
        for (entry, file), region, decision in zip(found, regions, decide(regions), strict=True):
            identity = file.identity
            there.add(identity)
            if self._dry_run:
                self._say(identity, entry, region, decision)
            else:
                try:
                    self._write(file, region, decision)
                except RegionError as error:
                    self._fail(identity, entry.path, error)
                else:
                    self._logged.pop(identity, None)
                    _log_change("", entry, region, decision)
            if not decision.blocked and identity in self._held:
                self._release(identity)
        for identity in self._held.keys() - there:
            self._release(identity)
        for kept in (self._logged, self._would):
            for identity in kept.keys() - there:
                del kept[identity]

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
                    words.add(word, -1)  # A launch since the look is not lost.
                else:
                    words.store(word, value)
                self._writes[word] += 1
        finally:
            if file.identity not in self._held:
                words.close()

    def _release(self, identity: _Identity) -> None:
        with self._held.pop(identity) as words:
            try:
                if words.read("recent_kernel") < 0:
                    words.store("recent_kernel", 0)
                    self._writes["recent_kernel"] += 1
            except RegionError as error:
                # With the file gone nobody waits for it any more.
                if error.reason != "vanished":
                    self._fail(identity, "", error)

    def _fail(self, identity: _Identity, path: str, error: RegionError) -> None:
        self._failures += 1
        if self._logged.get(identity) != str(error):
            self._logged[identity] = str(error)
            log.warning(
                "feedback can't write into a region file",
                extra={"path": path, "reason": error.reason, "error": str(error)},
            )

    def _say(
        self, identity: _Identity, entry: ContainerReading, region: Region, decision: Decision
    ) -> None:
        """What would be written; once, for as long as it stays the same."""
        changes = _changes(region, decision)
        if not changes:
            self._would.pop(identity, None)
        elif self._would.get(identity) != decision:
            self._would[identity] = decision
            self._writes.update(word for word, _ in changes)
            _log_change("would be: ", entry, region, decision)


def _changes(region: Region, decision: Decision) -> list[tuple[ControlWord, int]]:
    changes: list[tuple[ControlWord, int]] = []
    if decision.recent_kernel != region.recent_kernel:
        changes.append(("recent_kernel", decision.recent_kernel))
    if decision.utilization_switch != region.utilization_switch:
        changes.append(("utilization_switch", decision.utilization_switch))
    return changes


def _log_change(prefix: str, entry: ContainerReading, region: Region, decision: Decision) -> None:
    about = {
        "pod_uid": entry.pod_uid,
        "container": entry.container,
        "priority": region.priority,
    }
    if decision.blocked != (region.recent_kernel < 0):
        launches = "blocked" if decision.blocked else "released"
        log.info(f"{prefix}launches {launches}", extra=about)
    if decision.utilization_switch != region.utilization_switch:
        limit = "holds" if decision.utilization_switch else "lifted"
        log.info(f"{prefix}core limit {limit}", extra=about)
