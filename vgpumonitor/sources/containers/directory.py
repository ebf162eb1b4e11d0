"""The containers directory: which containers have one, and the region file of each.

``<containers directory>/<pod UID>_<container name>/<anything>.cache``. Events tell what
changed; a slow full look catches what they missed, and is all there is where inotify has
no watches left. One inotify descriptor serves all directories and is drained at each read
too, so that whatever happened before a read is in it.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import re
import resource
import select
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from inotify_simple import INotify, flags
from msgspec import Struct

from vgpumonitor.region.model import Region, RegionError
from vgpumonitor.region.reader import RegionFile, io_error, open_regular

log = logging.getLogger(__name__)

#: Seconds between two full looks.
LOOK_INTERVAL = 30.0
#: Seconds in which events gather before they are looked at: a storm costs few looks.
GATHER = 0.05
#: A directory with more events than this in a second is not watched for a look's interval.
STORM = 256
#: Entries of one container's directory that are looked at, and region files tried in it.
MAX_ENTRIES = 1024
MAX_FILES = 32

#: Descriptors that region files leave, or a quarter of a limit that is lower still.
RESERVED = 64

_NAME = re.compile(
    r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32})"
    r"_([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)"
)
_ENTRIES = flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO
_DIRECTORY = _ENTRIES | flags.ONLYDIR | flags.DONT_FOLLOW | flags.EXCL_UNLINK
_TOP = _ENTRIES | flags.ONLYDIR | flags.DELETE_SELF | flags.MOVE_SELF


def parse_name(name: str) -> tuple[str, str] | None:
    """The pod UID (a UUID, or 32 hex digits of a static pod) and the container's name
    in the name of a container's directory; None where it is none."""
    match = _NAME.fullmatch(name)
    return (match[1], match[2]) if match else None


def _last_descriptor() -> int:
    """The first number that no region file may have: the kernel gives the lowest free one, so
    that the rest stays for those who ask for metrics."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit - min(RESERVED, limit // 4)


def _readable(descriptors: Iterable[int], timeout: float) -> set[int]:
    """Those that have something to read within ``timeout`` seconds; poll, since select takes no
    descriptor above 1023."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(math.ceil(timeout * 1000))}


class ContainerReading(Struct, frozen=True, gc=False):
    """One container's directory and what is in it.

    ``state`` is ok, waiting (no region file yet) or unreadable (``error`` says why).
    ``path`` is the region file's, relative to the containers directory. ``changed`` is
    the directory's mtime, Unix seconds.
    """

    pod_uid: str
    container: str
    state: str
    region: Region | None
    error: str | None
    path: str
    changed: float


@dataclass(frozen=True, slots=True)
class ContainersView:
    """All containers at one moment, and how the inventory fares.

    ``up`` says that the containers directory could be looked at; ``error`` why not.
    The counts are totals since the start, ``errors`` by reason.
    """

    containers: tuple[ContainerReading, ...] = ()
    up: bool = False
    error: str | None = None
    errors: Mapping[str, int] = field(default_factory=dict)
    torn_reads: int = 0
    watch_events: int = 0


class _Entry:
    """What is known of one container's directory."""

    __slots__ = (
        "changed",
        "container",
        "error",
        "events",
        "events_since",
        "file",
        "file_name",
        "identity",
        "last",
        "logged",
        "no_watch_before",
        "uid",
        "wd",
    )

    def __init__(self, uid: str, container: str) -> None:
        self.uid = uid
        self.container = container
        self.changed = 0.0
        self.identity: tuple[int, int] | None = None
        self.wd: int | None = None
        self.events = 0
        self.events_since = 0.0
        self.no_watch_before = 0.0
        self.file: RegionFile | None = None
        self.file_name = ""
        self.error: RegionError | None = None
        self.logged: frozenset[str] = frozenset()
        self.last: ContainerReading | None = None

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


class ContainersDirectory:
    """Keeps the containers of ``directory`` known. ``start`` begins watching, ``read``
    gives everything as it is now; both are safe from any thread, and only they touch
    the disk."""

    def __init__(self, directory: Path, look_interval: float = LOOK_INTERVAL) -> None:
        self.directory = directory
        self._look_interval = look_interval
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._ignored: set[str] = set()
        self._errors: Counter[str] = Counter()
        self._torn = 0
        self._events = 0
        self._top: tuple[int, int] | None = None
        self._error: str | None = None
        self._inotify: INotify | None = None
        self._top_wd: int | None = None
        self._names: dict[int, str] = {}
        self._dirty: set[str] = set()
        self._looked: set[str] = set()
        self._look_all = True
        self._no_watches = False
        self._stop_r, self._stop_w = os.pipe()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._watch, name="inventory", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is None:
            return
        os.write(self._stop_w, b"x")
        self._thread.join(timeout=1)
        if self._thread.is_alive():
            return  # A disk hangs; the process ends without it.
        self._thread = None
        for entry in self._entries.values():
            entry.close()
        self._entries.clear()
        if self._inotify is not None:
            self._inotify.close()
        os.close(self._stop_r)
        os.close(self._stop_w)

    @property
    def synced(self) -> bool:
        """Whether the containers directory has been looked at."""
        return self._top is not None

    @property
    def error(self) -> str | None:
        """Why the containers directory can't be looked at; None where it can."""
        return self._error

    def read(self) -> ContainersView:
        with self._lock:
            self._catch_up(reading=True)
            # A copy: a directory that went meanwhile is forgotten where its read finds out.
            read = [
                (name, self._read_entry(name, entry)) for name, entry in [*self._entries.items()]
            ]
            containers = tuple(found for name, found in read if name in self._entries)
            if self._error is not None:
                self._errors["no_directory"] += 1
            return ContainersView(
                containers,
                self._error is None,
                self._error,
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
                (entry.last, entry.file)
                for entry in self._entries.values()
                if entry.file is not None and entry.last is not None and entry.last.region
            ]

    # The watching thread.

    def _watch(self) -> None:
        next_look = 0.0
        while True:
            now = time.monotonic()
            with self._lock:
                if now >= next_look:
                    self._look_all = True
                    next_look = now + self._look_interval
                self._catch_up(reading=False)
                waiting = [self._stop_r]
                if self._inotify is not None:
                    waiting.append(self._inotify.fileno())
            ready = _readable(waiting, max(0.0, next_look - time.monotonic()))
            if self._stop_r in ready or (ready and _readable([self._stop_r], GATHER)):
                return

    def _catch_up(self, reading: bool) -> None:
        """Everything that happened up to now is taken in; where no watch could have told,
        a read looks for itself."""
        self._looked.clear()
        self._drain()
        if reading and not self._look_all:
            # A mount over the directory, or its end, is no event.
            self._look_all = self._top_wd is None or self._top_identity() != self._top
        if self._look_all or self._top is None:
            self._look_at_all()
        for name in sorted(self._dirty):
            self._look_at(name, renewed=True)
        self._dirty.clear()
        if reading:
            for name, entry in list(self._entries.items()):
                blind = entry.wd is None or entry.error is not None
                if entry.file is None and blind and name not in self._looked:
                    self._look_at(name)

    def _drain(self) -> None:
        if self._inotify is None:
            return
        batch = self._inotify.read(timeout=0)
        self._events += len(batch)
        per_watch: Counter[str] = Counter()
        for event in batch:
            if event.mask & (flags.Q_OVERFLOW | flags.UNMOUNT):
                self._look_all = True
            if event.wd == self._top_wd:
                if event.mask & (flags.IGNORED | flags.DELETE_SELF | flags.MOVE_SELF):
                    self._top_wd = None
                    self._look_all = True
                elif event.name:
                    self._dirty.add(event.name)
                continue
            name = self._names.get(event.wd)
            if name is None:
                continue
            if event.mask & flags.IGNORED:
                del self._names[event.wd]
                if name in self._entries and self._entries[name].wd == event.wd:
                    self._entries[name].wd = None
            else:
                per_watch[name] += 1
                if event.name.endswith(".cache"):
                    self._dirty.add(name)
        now = time.monotonic()
        for name, events in per_watch.items():
            entry = self._entries[name]
            if now - entry.events_since > 1:
                entry.events_since, entry.events = now, 0
            entry.events += events
            if entry.events > STORM:
                self._unwatch(entry)
                entry.no_watch_before = now + self._look_interval

    # Looking.

    def _look_at_all(self) -> None:
        self._look_all = False
        try:
            top = self._top_identity()
            if self._top_wd is None or self._top != top:
                self._watch_top()
                self._top = top
            with os.scandir(self.directory) as listing:
                names = {entry.name for entry in listing}
        except OSError as error:
            self._lose_directory(error)
            return
        if self._error is not None:
            log.info("containers directory is there", extra={"path": str(self.directory)})
            self._error = None
        for name in [name for name in self._entries if name not in names]:
            self._forget(name)
        self._ignored &= names
        for name in names:
            self._look_at(name)

    def _top_identity(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self.directory)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _lose_directory(self, error: OSError) -> None:
        message = f"can't look at the containers directory {self.directory}: {error.strerror}"
        if message != self._error:
            log.warning(message)
            self._error = message
        self._top = None
        self._unwatch_top()
        for name in list(self._entries):
            self._forget(name)

    def _look_at(self, name: str, renewed: bool = False) -> None:
        """Brings the entry of one directory up to date. ``renewed`` where an event said that
        something about it changed."""
        self._looked.add(name)
        parsed = parse_name(name)
        try:
            status = os.stat(self.directory / name, follow_symlinks=False)
        except FileNotFoundError:
            self._ignored.discard(name)
            self._forget(name)
            return
        except OSError as error:
            self._ignore(name, io_error(error).reason, str(error.strerror))
            return
        if parsed is None:
            self._ignore(name, "bad_name", "not <pod UID>_<container name>")
            return
        if not stat.S_ISDIR(status.st_mode):
            self._ignore(name, "not_directory", "not a directory")
            return
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = _Entry(*parsed)
        entry.changed = status.st_mtime
        identity = (status.st_dev, status.st_ino)
        renewed = renewed or identity != entry.identity
        entry.identity = identity
        if (entry.wd is None or renewed) and time.monotonic() >= entry.no_watch_before:
            self._watch_entry(name, entry)
        if entry.file is None or renewed:
            self._find_file(name, entry)

    def _ignore(self, name: str, reason: str, message: str) -> None:
        self._forget(name)
        if name not in self._ignored:
            self._ignored.add(name)
            self._errors[reason] += 1
            log.warning(
                "ignored in the containers directory",
                extra={"entry": name, "reason": reason, "error": message},
            )

    def _forget(self, name: str) -> None:
        entry = self._entries.pop(name, None)
        if entry is not None:
            self._unwatch(entry)
            entry.close()

    def _find_file(self, name: str, entry: _Entry) -> None:
        """The directory's region file: koordlet's name for it, else the newest that can be
        decoded."""
        previous = entry.file
        entry.file, entry.error = None, None
        try:
            directory = os.open(
                self.directory / name,
                os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
            )
        except OSError as error:
            self._failed(name, entry, io_error(error))
        else:
            try:
                candidates = self._candidates(name, entry, directory)
                for candidate in candidates:
                    if self._try_file(name, entry, directory, candidate):
                        break
                if len(candidates) > 1:
                    self._note(
                        name, entry, "several_files", f"{len(candidates)} region files in it"
                    )
            finally:
                os.close(directory)
        if previous is not None:
            previous.close()

    def _candidates(self, name: str, entry: _Entry, directory: int) -> list[str]:
        found: list[tuple[float, str]] = []
        count = 0
        try:
            with os.scandir(directory) as listing:
                for item in listing:
                    count += 1
                    if count > MAX_ENTRIES or len(found) >= MAX_FILES:
                        self._note(
                            name, entry, "too_many_entries", f"more than {count - 1} entries in it"
                        )
                        break
                    if item.name.endswith(".cache"):
                        with suppress(OSError):
                            found.append((-item.stat(follow_symlinks=False).st_mtime, item.name))
        except OSError as error:
            self._failed(name, entry, io_error(error))
        usual = f"{name}.cache"
        others = [file for _, file in sorted(found) if file != usual]
        with suppress(OSError):
            os.stat(usual, dir_fd=directory, follow_symlinks=False)
            return [usual, *others]
        return others

    def _try_file(self, name: str, entry: _Entry, directory: int, file_name: str) -> bool:
        try:
            fd = open_regular(directory, file_name)
            if fd >= _last_descriptor():
                os.close(fd)
                raise RegionError("descriptors", "the last descriptors are for connections")
            entry.file = RegionFile(fd)
        except RegionError as error:
            self._failed(name, entry, error, file_name)
            return False
        entry.file_name = file_name
        entry.error = None
        return True

    # Reading.

    def _read_entry(self, name: str, entry: _Entry) -> ContainerReading:
        region = self._read_region(name, entry)
        if region is None and entry.file is not None and entry.error is None:
            # Another file took its place, or it went.
            self._look_at(name, renewed=True)
            if name in self._entries:
                region = self._read_region(name, entry)
        if region is None:
            entry.close()
        else:
            for reason, message in region.problems:
                self._note(name, entry, reason, message)
            if region.torn:
                self._torn += region.torn
                self._note(name, entry, "torn", f"{region.torn} half-written slots", counted=False)
        last = entry.last
        if last is not None and last.region is region and last.changed == entry.changed:
            error = None if entry.error is None else str(entry.error)
            if last.error == error:
                return last
        state = "ok" if region is not None else "unreadable" if entry.error else "waiting"
        entry.last = ContainerReading(
            entry.uid,
            entry.container,
            state,
            region,
            None if entry.error is None else str(entry.error),
            f"{name}/{entry.file_name}" if region is not None else name,
            entry.changed,
        )
        return entry.last

    def _read_region(self, name: str, entry: _Entry) -> Region | None:
        if entry.file is None:
            return None
        try:
            status = os.stat(f"{self.directory}/{name}/{entry.file_name}", follow_symlinks=False)
            if not entry.file.is_at(status):
                return None
            return entry.file.read(status.st_size)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._failed(name, entry, io_error(error), entry.file_name)
        except RegionError as error:
            self._failed(name, entry, error, entry.file_name)
        return None

    def _failed(self, name: str, entry: _Entry, error: RegionError, file_name: str = "") -> None:
        entry.error = error
        self._note(name, entry, error.reason, str(error), file_name)

    def _note(
        self,
        name: str,
        entry: _Entry,
        reason: str,
        message: str,
        file_name: str = "",
        counted: bool = True,
    ) -> None:
        """Counts what is wrong with a container's directory, and logs it the first time."""
        if counted:
            self._errors[reason] += 1
        if reason not in entry.logged:
            entry.logged |= {reason}
            log.warning(
                "region file",
                extra={"entry": name, "file": file_name, "reason": reason, "error": message},
            )

    # Watches.

    def _watch_top(self) -> None:
        if self._inotify is None:
            try:
                self._inotify = INotify(nonblocking=True)
            except OSError as error:
                self._without_watches(error)
                return
        self._unwatch_top()
        try:
            self._top_wd = self._inotify.add_watch(self.directory, _TOP)
        except OSError as error:
            self._without_watches(error)

    def _unwatch_top(self) -> None:
        if self._top_wd is not None and self._inotify is not None:
            with suppress(OSError):  # The kernel drops the watch of a removed directory itself.
                self._inotify.rm_watch(self._top_wd)
        self._top_wd = None

    def _watch_entry(self, name: str, entry: _Entry) -> None:
        if self._inotify is None:
            return
        try:
            wd = self._inotify.add_watch(self.directory / name, _DIRECTORY)
        except OSError as error:
            self._without_watches(error)
            return
        if entry.wd is not None and entry.wd != wd:
            self._unwatch(entry)
        entry.wd = wd
        self._names[wd] = name

    def _unwatch(self, entry: _Entry) -> None:
        if entry.wd is not None and self._inotify is not None:
            self._names.pop(entry.wd, None)
            with suppress(OSError):  # The kernel drops the watch of a removed directory itself.
                self._inotify.rm_watch(entry.wd)
        entry.wd = None

    def _without_watches(self, error: OSError) -> None:
        # Other errors are of the directory itself, and its look tells them.
        out_of_watches = error.errno in (errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
        if out_of_watches and not self._no_watches:
            self._no_watches = True
            log.warning(
                "no inotify watch to be had: looking instead; raise fs.inotify.max_user_watches "
                "or max_user_instances",
                extra={"error": error.strerror},
            )
