"""Clean-up: removes the container directories of pods that are gone.

Containers can write to their directories, and the list of pods can be wrong: whatever is in doubt
stays.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vgpumonitor.controllers.ticker import ticks
from vgpumonitor.hang import HangTolerantThread
from vgpumonitor.snapshot.identity import slots_in_use
from vgpumonitor.snapshot.over import unreliable
from vgpumonitor.sources.containers import ContainerReading, ContainersDirectory
from vgpumonitor.sources.pods.model import PodSource, PodsView

if TYPE_CHECKING:
    from vgpumonitor.snapshot import Identities, ProcessIdentification

log = logging.getLogger(__name__)

#: Seconds between two rounds; fewer if the grace is shorter than ten rounds.
INTERVAL = 30.0
#: Directories that one round tries to remove: if the list of pods is wrong, someone has time to
#: notice.
MAX_TRIED = 100
#: A container can nest directories without limit, and each level takes a descriptor.
MAX_DEPTH = 64

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class RefusalError(Exception):
    """The directory must stay; the message says why."""


@dataclass(frozen=True, slots=True)
class CleanupHealth:
    """Totals since the start. ``removed`` counts directories that were removed, or would have been
    with ``dry_run``; ``failures`` those that could not be removed; ``by_others`` those that were to
    be removed and that something else removed, last at ``last_by_others``. ``last_round`` is the
    last round that could rely on the list of pods. Times are Unix seconds."""

    removed: int = 0
    last_round: float | None = None
    failures: int = 0
    dry_run: bool = False
    by_others: int = 0
    last_by_others: float | None = None


class Cleanup:
    """Rounds over the container directories. ``health`` may be read from any thread."""

    def __init__(
        self,
        containers: ContainersDirectory,
        pods: PodSource,
        identification: ProcessIdentification,
        grace: float,
        dry_run: bool = False,
        max_tried: int = MAX_TRIED,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``grace``: seconds for which a directory's pod must have been gone and nothing in it
        have changed. Tests pass clocks of their own."""
        self._containers = containers
        self._pods = pods
        self._identification = identification
        self._grace = grace
        self._dry_run = dry_run
        self._max_tried = max_tried
        self._wall_clock = wall_clock
        self._monotonic = monotonic
        self._stopping = threading.Event()
        #: When, on the monotonic clock, each directory was first seen without a pod.
        self._without_pod: dict[str, float] = {}
        self._logged: dict[str, str] = {}
        self._would: set[str] = set()
        self._removed: set[str] = set()
        self._waits_for: str | None = None
        self._read_only = False
        self.health = CleanupHealth(dry_run=dry_run)

    async def run(self) -> None:
        """Runs rounds until cancelled, which may leave a directory removed in part."""
        worker = HangTolerantThread("gc")
        try:
            async for _ in ticks(min(INTERVAL, max(1.0, self._grace / 10))):
                await asyncio.wrap_future(worker.submit(self._try_round))
        finally:
            self._stopping.set()

    def _try_round(self) -> None:
        try:
            self.round()
        except Exception:
            # Whatever went wrong must not end the exporter.
            log.exception("a round of clean-up failed")

    def round(self) -> None:
        """Runs one round. It tries the directories whose pod was unknown in every round of the
        whole grace, to a source that was up in all of them."""
        view, pods = self._containers.read(), self._pods.view
        waits_for = view.error if not view.up else unreliable(pods)
        if waits_for != self._waits_for:
            self._waits_for = waits_for
            if waits_for is not None:
                # So it is at each start; a source that fails warns of that itself.
                expected = view.up and pods.synced is None
                level = logging.INFO if expected else logging.WARNING
                log.log(level, "clean-up is paused", extra={"error": waits_for})
        if waits_for is not None:
            self._without_pod.clear()
            return
        now = self._monotonic()
        entries = {f"{entry.pod_uid}_{entry.container}": entry for entry in view.containers}
        by_others = len(self._without_pod.keys() - entries.keys() - self._removed)
        self._removed.clear()
        self._without_pod = {
            name: self._without_pod.get(name, now)
            for name, entry in entries.items()
            if entry.pod_uid not in pods.pods
        }
        self._logged = {n: text for n, text in self._logged.items() if n in self._without_pod}
        self._would &= self._without_pod.keys()
        due = [name for name, since in self._without_pod.items() if now - since >= self._grace]
        due = [name for name in due if name not in self._would]
        due.sort(key=self._without_pod.__getitem__)
        if due:
            self._try(due[: self._max_tried], entries, pods, now)
        self.health = replace(self.health, last_round=time.time())
        if by_others:
            self.health = replace(
                self.health,
                by_others=self.health.by_others + by_others,
                last_by_others=self.health.last_round,
            )

    def _try(
        self, names: list[str], entries: dict[str, ContainerReading], pods: PodsView, now: float
    ) -> None:
        identities = self._identification.look([entries[name] for name in names], pods)
        top = os.open(self._containers.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in names:
                if self._stopping.is_set():
                    return
                # Puts it behind the others, whose turn comes first.
                self._without_pod[name] = now
                try:
                    _check_processes(entries[name], identities)
                    self._remove(top, name, entries[name])
                except RefusalError as refusal:
                    self._note(name, f"it stays: {refusal}")
                except FileNotFoundError:
                    pass  # Someone else removed it, or something in it.
                except OSError as error:
                    self.health = replace(self.health, failures=self.health.failures + 1)
                    if error.errno == errno.EROFS:
                        if not self._read_only:
                            log.warning(
                                "clean-up can't remove anything from a read-only file system",
                                extra={"path": str(self._containers.directory)},
                            )
                        self._read_only = True
                        return
                    self._note(name, f"can't remove it: {error}")
        finally:
            os.close(top)

    def _remove(self, top: int, name: str, entry: ContainerReading) -> None:
        with _opened(top, name) as directory:
            newest = _examine(directory, _mount(top), MAX_DEPTH)
            pods = self._pods.view
            if (reason := unreliable(pods)) is not None:
                raise RefusalError(reason)
            if entry.pod_uid in pods.pods:
                raise RefusalError("its pod is listed again")
            assert pods.synced is not None
            # The list must be younger than the directory by the grace: an older one can't know
            # its pod. The minimum keeps a clock that was changed from making either look old.
            if min(pods.synced, self._wall_clock()) - newest < self._grace:
                raise RefusalError("something in it has changed within the grace period")
            about = {
                "entry": name,
                "pod_uid": entry.pod_uid,
                "container": entry.container,
                "unchanged_seconds": round(self._wall_clock() - newest),
            }
            if self._dry_run:
                self._would.add(name)
                log.info("directory would be removed", extra=about)
            else:
                self._empty(directory)
                _remove_empty(top, name, directory)
                self._removed.add(name)
                self._read_only = False
                log.info("directory removed", extra=about)
            self.health = replace(self.health, removed=self.health.removed + 1)

    def _empty(self, directory: int) -> None:
        mount = _mount(directory)
        for name, status in _entries(directory):
            if self._stopping.is_set():
                raise RefusalError("the exporter is stopping")
            if stat.S_ISDIR(status.st_mode):
                with _opened(directory, name) as inner:
                    if _mount(inner) != mount:
                        raise RefusalError(f"{name!r} in it has become a mount point")
                    self._empty(inner)
                    _remove_empty(directory, name, inner)
            else:
                os.unlink(name, dir_fd=directory)

    def _note(self, name: str, text: str) -> None:
        if self._logged.get(name) != text:
            self._logged[name] = text
            log.warning("directory not removed", extra={"entry": name, "error": text})


def _check_processes(entry: ContainerReading, identities: Identities) -> None:
    slots = slots_in_use(entry.region)
    found = identities.slots.get((entry.pod_uid, entry.container), (None,) * len(slots))
    for slot, process in zip(slots, found, strict=True):
        if process is None:
            # A cgroup that names no pod proves nothing, and leaves a doubt.
            at_pid = identities.processes.get(slot.hostpid)
            process = at_pid if at_pid is not None and at_pid.container is None else None
        if process is not None:
            raise RefusalError(f"process {process.pid} in its region is still alive")
        if identities.visible and identities.unfound == "unidentified":
            raise RefusalError(
                f"process {slot.pid} in its region may be one of those on this node that were not "
                "looked at yet"
            )


@contextmanager
def _opened(parent: int, name: str) -> Iterator[int]:
    """Opens the directory ``name`` in ``parent``. Raises RefusalError if it is something else."""
    try:
        directory = os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise RefusalError(f"{name!r} was a directory, and is now a link or a file") from error
        raise
    try:
        yield directory
    finally:
        os.close(directory)


def _entries(directory: int) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(directory) as listing:
        for entry in listing:
            yield entry.name, entry.stat(follow_symlinks=False)


def _examine(directory: int, mount: str, depth: int) -> float:
    """The time (Unix seconds) of the newest change to the directory or anything in it. Raises
    RefusalError if any of it must not be removed."""
    if _mount(directory) != mount:
        raise RefusalError("it is a mount point")
    newest = _changed(os.fstat(directory))
    for name, status in _entries(directory):
        newest = max(newest, _changed(status))
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            if _mount(handle) != mount:
                raise RefusalError(f"{name!r} in it is a mount point")
            mode = os.fstat(handle).st_mode
            if stat.S_ISREG(mode) and _is_in_use(handle):
                raise RefusalError(f"{name!r} in it is open in a process")
        finally:
            os.close(handle)
        if stat.S_ISDIR(mode):
            if depth == 1:
                raise RefusalError(f"directories in it are nested more than {MAX_DEPTH} deep")
            with _opened(directory, name) as inner:
                newest = max(newest, _examine(inner, mount, depth - 1))
    return newest


def _changed(status: os.stat_result) -> float:
    # The ctime too: an old directory that was moved here or restored is new here.
    return max(status.st_mtime, status.st_ctime)


def _mount(fd: int) -> str:
    """The mount that a descriptor's file is on. Its device would not tell, since a bind mount may
    be of the same device (proc_pid_fdinfo(5))."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as info:
        return next(line for line in info if line.startswith("mnt_id:"))


def _is_in_use(handle: int) -> bool:
    """Whether any process has the file open or mapped for writing, as HAMi-core has.

    The kernel grants a read lease only if no process has, in whatever namespace, and without
    access to other processes (fcntl(2)). False if the kernel can't tell: another user's file
    without CAP_LEASE, or a file system without leases.
    """
    try:
        fd = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except BlockingIOError:
        return True  # Another process has a lease on it.
    except PermissionError:
        return False
    try:
        # A process that opens it meanwhile waits for a moment, and the kernel signals us. SIGIO,
        # the default, would end this process.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


def _remove_empty(parent: int, name: str, directory: int) -> None:
    """Removes the empty directory ``name``, which is open as ``directory``."""
    if not os.path.samestat(
        os.fstat(directory), os.stat(name, dir_fd=parent, follow_symlinks=False)
    ):
        raise RefusalError(f"{name!r} is now the name of something else")
    os.rmdir(name, dir_fd=parent)
