"""One container's directory, and the region file in it.

``<pod UID>_<container name>/<anything>.cache``. The container owns its directory: nothing in
it is believed, and nothing that it does there costs more than a bounded look.
"""

from __future__ import annotations

import logging
import os
import re
import resource
import stat
from collections import Counter
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from vgpumonitor.region.model import Region, RegionError
from vgpumonitor.region.reader import RegionFile, io_error, open_regular

log = logging.getLogger(__name__)

#: Entries of one container's directory that are looked at, and region files tried in it.
MAX_ENTRIES = 1024
MAX_FILES = 32

#: Descriptors that region files leave, or a quarter of a limit that is lower still.
RESERVED = 64

#: Seconds within which a second change may leave the same ctime: some of the kernel's ticks, and
#: the whole second of file systems that keep no parts of it.
_TICK, _WHOLE_SECOND = 0.05, 1.0

_NAME = re.compile(
    r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32})"
    r"_([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)"
)

#: Tells whether a directory's entries changed: device, inode, and ctime in ns, since its owner
#: can set the mtime.
Stamp = tuple[int, int, int]


def parse_name(name: str) -> tuple[str, str] | None:
    """The pod UID (a UUID, or 32 hex digits of a static pod) and the container's name
    in the name of a container's directory; None where it is of another form."""
    match = _NAME.fullmatch(name)
    return (match[1], match[2]) if match else None


def stamp_of(status: os.stat_result, now: float) -> Stamp | None:
    """A directory's stamp; None where it is so young at ``now`` (Unix seconds, from before the
    look) that a later change may not show in it."""
    tick = _TICK if status.st_ctime_ns % 1_000_000_000 else _WHOLE_SECOND
    if now - status.st_ctime < tick:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns


def raise_descriptor_limit() -> None:
    """Raises the soft limit to the hard one: each region file stays open, and Python keeps a
    descriptor with each mapping, so that the usual 1024 are soon too few."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _last_descriptor() -> int:
    """The first number that no region file may have: the kernel gives the lowest free one, so
    that the rest stays for those who ask for metrics."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit - min(RESERVED, limit // 4)


class ContainerReading(Struct, frozen=True, gc=False):
    """One container's directory and what is in it.

    ``state`` is ok, waiting (no region file yet) or unreadable (``error`` says why, and
    ``reason`` is its key in ``region.model.REASONS``).
    ``path`` is the region file's, relative to the containers directory. ``changed`` is
    the directory's mtime, Unix seconds. ``region`` stays the same object while the bytes in
    use stay the same.
    """

    pod_uid: str
    container: str
    state: str
    region: Region | None
    error: str | None
    path: str
    changed: float
    reason: str | None = None


class ContainerDirectory:
    """The directory ``name`` of a container in the containers directory ``top``.

    ``file`` is the region file, open as long as there is one that can be read, ``changed``
    the directory's mtime at the last look (Unix seconds), and ``reading`` what the last
    ``read`` returned. Errors are counted by reason in ``errors``, and each reason is logged
    once. Not safe from several threads.
    """

    __slots__ = (
        "_container",
        "_error",
        "_errors",
        "_file_name",
        "_logged",
        "_name",
        "_path",
        "_pod_uid",
        "_stamp",
        "changed",
        "file",
        "reading",
    )

    def __init__(
        self, top: Path, name: str, pod_uid: str, container: str, errors: Counter[str]
    ) -> None:
        self._path = f"{top}/{name}"
        self._name = name
        self._pod_uid = pod_uid
        self._container = container
        self._errors = errors
        self.changed = 0.0
        self._stamp: Stamp | None = None
        self._file_name = ""
        self._error: RegionError | None = None
        # Shared as long as it is empty, which it is for most.
        self._logged: frozenset[str] = frozenset()
        self.file: RegionFile | None = None
        self.reading: ContainerReading | None = None

    @property
    def is_idle(self) -> bool:
        """Whether there was nothing to read, and can't be before the directory changes."""
        return (
            self.file is None
            and self._error is None
            and self._stamp is not None
            and self.reading is not None
            and self.reading.state == "waiting"
        )

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None

    def look(self, now: float) -> bool:
        """Finds the region file again where the directory changed since the last look, or
        where something was wrong; false where there is no directory any more. ``now`` is Unix
        seconds, from before."""
        try:
            status = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError as error:
            self.close()
            self._fail(io_error(error))
            return True
        if not stat.S_ISDIR(status.st_mode):
            return False
        self.changed = status.st_mtime
        stamp = stamp_of(status, now)
        if stamp is None or stamp != self._stamp or self._error is not None:
            self._stamp = stamp
            return self._find_file()
        return True

    def read(self, now: float) -> ContainerReading | None:
        """What is in the directory now; None where there is none any more. ``now`` is as in
        ``look``."""
        if not self.look(now):
            return None
        region = self._read_region()
        if region is None and self.file is not None and self._error is None:
            # Cut off, and maybe written anew: in another layout, or whole by now.
            if not self._find_file():
                return None
            region = self._read_region()
        if region is None and self.file is not None:
            self.close()
            self._stamp = None
        if region is not None:
            for reason, message in region.problems:
                self._note(reason, message)
            if region.torn:
                self._note("torn", f"{region.torn} half-written slots", counted=False)
        last = self.reading
        error_text = None if self._error is None else str(self._error)
        if (
            last is None
            or last.region is not region
            or last.error != error_text
            or last.changed != self.changed
        ):
            self.reading = ContainerReading(
                self._pod_uid,
                self._container,
                "ok" if region is not None else "unreadable" if self._error else "waiting",
                region,
                error_text,
                f"{self._name}/{self._file_name}" if region is not None else self._name,
                self.changed,
                None if self._error is None else self._error.reason,
            )
        return self.reading

    def _read_region(self) -> Region | None:
        """The region in the open file, which is the one at its path: the look saw that no entry
        changed. None where there is none, where it can't be read, and, which is no error yet,
        where it was cut off."""
        if self.file is None:
            return None
        try:
            size = os.fstat(self.file.fileno()).st_size
            return self.file.read(size) if size >= self.file.layout.size else None
        except OSError as error:
            self._fail(io_error(error), self._file_name)
        except RegionError as error:
            self._fail(error, self._file_name)
        return None

    def _find_file(self) -> bool:
        """The directory's region file: koordlet's name for it, or the newest that can be
        decoded. False where the directory went meanwhile."""
        self.close()
        self._error = None
        try:
            directory = os.open(
                self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            )
        except FileNotFoundError:
            return False
        except OSError as error:
            self._fail(io_error(error))
            return True
        try:
            candidates = self._candidates(directory)
            for candidate in candidates:
                if self._open(directory, candidate):
                    break
            if len(candidates) > 1:
                self._note("several_files", f"{len(candidates)} region files in it")
        except OSError as error:
            self._fail(io_error(error))
        finally:
            os.close(directory)
        return True

    def _candidates(self, directory: int) -> list[str]:
        found: list[tuple[float, str]] = []
        count = 0
        with os.scandir(directory) as listing:
            for item in listing:
                count += 1
                if count > MAX_ENTRIES or len(found) >= MAX_FILES:
                    self._note("too_many_entries", f"more than {count - 1} entries in it")
                    break
                if item.name.endswith(".cache"):
                    with suppress(OSError):
                        found.append((-item.stat(follow_symlinks=False).st_mtime, item.name))
        usual = f"{self._name}.cache"
        others = [file for _, file in sorted(found) if file != usual]
        with suppress(OSError):
            os.stat(usual, dir_fd=directory, follow_symlinks=False)
            return [usual, *others]
        return others

    def _open(self, directory: int, file_name: str) -> bool:
        try:
            fd = open_regular(directory, file_name)
            if fd >= _last_descriptor():
                os.close(fd)
                raise RegionError("descriptors", "the last descriptors are for connections")
            self.file = RegionFile(fd)
        except RegionError as error:
            self._fail(error, file_name)
            return False
        self._file_name = file_name
        self._error = None
        return True

    def _fail(self, error: RegionError, file_name: str = "") -> None:
        self._error = error
        self._note(error.reason, str(error), file_name, "region file rejected")

    def _note(
        self,
        reason: str,
        message: str,
        file_name: str = "",
        headline: str = "problem found in a container's directory",
        counted: bool = True,
    ) -> None:
        """Counts what is wrong with the directory, and logs it the first time."""
        if counted:
            self._errors[reason] += 1
        if reason not in self._logged:
            self._logged |= {reason}
            log.warning(
                headline,
                extra={
                    "entry": self._name,
                    "file": file_name,
                    "reason": reason,
                    "error": message,
                },
            )
