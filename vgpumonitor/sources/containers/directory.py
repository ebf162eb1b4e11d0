"""The containers directory: which containers have a directory in it.

The truth is what ``stat`` says at each read, of the directory itself, which is listed only
where that changed, and of each container's directory. Events are only the alarm clock of a
thread that opens and closes region files between reads; a slow look is all it has without.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from watchdog.events import DirCreatedEvent, DirDeletedEvent, DirMovedEvent, FileSystemEvent

from vgpumonitor.region.reader import RegionFile
from vgpumonitor.sources.containers.container import (
    ContainerDirectory,
    ContainerReading,
    Stamp,
    parse_name,
    raise_descriptor_limit,
    stamp_of,
)
from vgpumonitor.sources.events import DirectoryEvents

log = logging.getLogger(__name__)

#: Seconds between two looks where no event asks for one.
LOOK_INTERVAL = 5.0
#: Seconds in which events gather before they are looked at: a storm costs few looks.
GATHER = 0.05
#: Idle directories of which each has a look at each read: the newest ones. The rest, which only a
#: node has that nobody cleans up, takes turns of as many.
MAX_IDLE = 256


#: What happened to the containers directory: it does not exist; it was removed under the mount
#: that still shows it; it is there and can't be read.
Loss = Literal["missing", "removed", "unreadable"]


@dataclass(frozen=True, slots=True)
class ContainersView:
    """All containers at one moment, and the state of the containers directory.

    ``up`` says that the containers directory could be looked at; ``error`` why not, and
    ``loss`` what happened to it. The counts are totals since the start, ``errors`` by reason.
    """

    containers: tuple[ContainerReading, ...] = ()
    up: bool = False
    error: str | None = None
    loss: Loss | None = None
    errors: Mapping[str, int] = field(default_factory=dict)
    torn_reads: int = 0
    watch_events: int = 0


class _RemovedError(FileNotFoundError):
    """The directory has no name any more."""


def _loss(error: OSError) -> Loss:
    if isinstance(error, _RemovedError):
        return "removed"
    return "missing" if isinstance(error, FileNotFoundError) else "unreadable"


class ContainersDirectory:
    """Keeps the containers of ``directory`` known. ``read`` gives everything as it is now,
    also without ``start``, which begins to watch between reads. Safe from any thread; both
    touch the disk, and hang with it."""

    def __init__(self, directory: Path, look_interval: float = LOOK_INTERVAL) -> None:
        self.directory = directory
        self._look_interval = look_interval
        self._lock = threading.Lock()
        self._containers: dict[str, ContainerDirectory] = {}
        self._ignored: set[str] = set()
        self._errors: Counter[str] = Counter()
        self._torn = 0
        self._turn = 0
        self._identity: tuple[int, int] | None = None
        self._stamp: Stamp | None = None
        self._error: str | None = None
        self._loss: Loss | None = None
        self._unlinked_since: float | None = None
        self._events = 0
        self._alarm = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        raise_descriptor_limit()
        self._thread = threading.Thread(target=self._watch, name="containers", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is None:
            return
        self._stopping.set()
        self._alarm.set()
        self._thread.join(timeout=1)
        if self._thread.is_alive():
            return  # A disk hangs; the process ends without it.
        self._thread = None
        for container in self._containers.values():
            container.close()
        self._containers.clear()

    @property
    def synced(self) -> bool:
        """Whether the containers directory has been looked at."""
        return self._identity is not None

    @property
    def error(self) -> str | None:
        """Why the containers directory can't be looked at; None where it can."""
        return self._error

    @property
    def unlinked_for(self) -> float | None:
        """For how many seconds the directory has been seen to have no name any more, as a mount
        shows it after it was removed (and perhaps made again) where it came from: only a new
        mount, and so a new container, shows what is there now. None where it has one."""
        since = self._unlinked_since
        return None if since is None else time.monotonic() - since

    def read(self) -> ContainersView:
        """Every container's region as it is now; one that can't be read is counted in the
        view's ``errors`` and hides no other. Never raises."""
        with self._lock:
            now = time.time()
            self._list(now)
            resting = self._resting()
            readings = []
            for name, container in list(self._containers.items()):
                reading = container.reading if name in resting else container.read(now)
                if reading is None:
                    self._forget(name)
                    continue
                readings.append(reading)
                if reading.region is not None:
                    self._torn += reading.region.torn
            if self._error is not None:
                self._errors["no_directory"] += 1
            return ContainersView(
                tuple(readings),
                self._error is None,
                self._error,
                self._loss,
                dict(self._errors),
                self._torn,
                self._events,
            )

    @contextmanager
    def open_regions(self) -> Iterator[list[tuple[ContainerReading, RegionFile]]]:
        """The open files of the containers that the last read decoded, held still
        meanwhile: what writes into them uses this."""
        with self._lock:
            yield [
                (container.reading, container.file)
                for container in self._containers.values()
                if container.file is not None
                and container.reading is not None
                and container.reading.region is not None
            ]

    # The watching thread.

    def _watch(self) -> None:
        kinds: list[type[FileSystemEvent]] = [DirCreatedEvent, DirDeletedEvent, DirMovedEvent]
        events = DirectoryEvents(self.directory, kinds, self._on_event)
        while not self._stopping.is_set():
            self._alarm.clear()
            events.follow()
            with self._lock:
                self._look()
            if self._alarm.wait(self._look_interval):
                self._stopping.wait(GATHER)
        events.stop()

    def _on_event(self, _: FileSystemEvent) -> None:
        self._events += 1
        self._alarm.set()

    def _look(self) -> None:
        now = time.time()
        self._list(now)
        resting = self._resting()
        for name, container in list(self._containers.items()):
            if name not in resting and not container.look(now):
                self._forget(name)

    # Looking.

    def _list(self, now: float) -> None:
        """Takes in which directories there are, where that changed."""
        try:
            status = os.stat(self.directory)
            if status.st_nlink == 0:
                self._unlinked_since = self._unlinked_since or time.monotonic()
                raise _RemovedError(errno.ENOENT, "it was removed under its mount")
            stamp = stamp_of(status, now)
            if stamp is not None and stamp == self._stamp:
                return
            with os.scandir(self.directory) as listing:
                found = {entry.name: entry.is_dir(follow_symlinks=False) for entry in listing}
        except OSError as error:
            self._lose_directory(error)
            return
        self._stamp = stamp
        self._unlinked_since = None
        identity = status.st_dev, status.st_ino
        if identity != self._identity:
            self._identity = identity
            self._alarm.set()  # Another directory to watch.
        if self._error is not None:
            log.info("containers directory is there", extra={"path": str(self.directory)})
            self._error = self._loss = None
        for name in [name for name in self._containers if not found.get(name)]:
            self._forget(name)
        self._ignored &= found.keys()
        for name, is_directory in found.items():
            if name not in self._containers:
                self._take_in(name, is_directory)

    def _take_in(self, name: str, is_directory: bool) -> None:
        parsed = parse_name(name)
        if parsed is None:
            self._ignore(name, "bad_name", "not <pod UID>_<container name>")
        elif not is_directory:
            self._ignore(name, "not_directory", "not a directory")
        else:
            self._ignored.discard(name)
            self._containers[name] = ContainerDirectory(self.directory, name, *parsed, self._errors)

    def _resting(self) -> set[str]:
        """The names of the idle directories that have no look this time."""
        idle = [name for name, container in self._containers.items() if container.is_idle]
        if len(idle) <= 2 * MAX_IDLE:
            return set()
        idle.sort(key=lambda name: self._containers[name].changed, reverse=True)
        others = idle[MAX_IDLE:]
        self._turn %= len(others)
        in_turn = others[self._turn : self._turn + MAX_IDLE]
        self._turn += MAX_IDLE
        return set(others).difference(in_turn)

    def _lose_directory(self, error: OSError) -> None:
        message = f"can't look at the containers directory {self.directory}: {error.strerror}"
        if message != self._error:
            log.warning(message)
            self._error = message
        self._loss = _loss(error)
        self._identity = self._stamp = None
        for name in list(self._containers):
            self._forget(name)

    def _ignore(self, name: str, reason: str, message: str) -> None:
        if name not in self._ignored:
            self._ignored.add(name)
            self._errors[reason] += 1
            log.warning(
                "entry of the containers directory ignored",
                extra={"entry": name, "reason": reason, "error": message},
            )

    def _forget(self, name: str) -> None:
        self._containers.pop(name).close()
