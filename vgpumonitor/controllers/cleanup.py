"""Clean-up: removes the containers' directories of pods that are gone.

Nothing else does. The directories are writable by their containers, and the list of pods can
be wrong, so that whatever is in doubt stays.
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
from vgpumonitor.sources.containers import ContainerReading, ContainersDirectory
from vgpumonitor.sources.pods.model import PodSource, PodsView

if TYPE_CHECKING:
    from vgpumonitor.sources.processes import HostProcesses

log = logging.getLogger(__name__)

#: Seconds between two rounds; less where the grace is shorter than ten of them.
INTERVAL = 30.0
#: Seconds that a directory's pod must have been gone, and nothing in it have changed.
GRACE = 300.0
#: Directories that one round tries: with a wrong list of pods someone has time to notice.
MAX_TRIED = 100
#: A container can nest directories without end, and each level costs a descriptor.
MAX_DEPTH = 64

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class RefusalError(Exception):
    """A directory that must stay; the message says why."""


@dataclass(frozen=True, slots=True)
class CleanupHealth:
    """Totals since the start. ``removed`` are directories that were removed, or with
    ``dry_run`` would have been; ``failures`` those that could not be. ``last_round`` is the
    Unix time of the last round that could rely on the list of pods."""

    removed: int = 0
    last_round: float | None = None
    failures: int = 0
    dry_run: bool = False


class Cleanup:
    """Rounds over the directories of an inventory. ``health`` may be read from any thread."""

    def __init__(
        self,
        inventory: ContainersDirectory,
        pods: PodSource,
        processes: HostProcesses,
        grace: float = GRACE,
        dry_run: bool = False,
        max_tried: int = MAX_TRIED,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``grace`` is in seconds. The two clocks are for tests."""
        self._inventory = inventory
        self._pods = pods
        self._processes = processes
        self._grace = grace
        self._dry_run = dry_run
        self._max_tried = max_tried
        self._wall_clock = wall_clock
        self._monotonic = monotonic
        self._stopping = threading.Event()
        #: Since when, on the monotonic clock, each directory has had no pod.
        self._without_pod: dict[str, float] = {}
        self._logged: dict[str, str] = {}
        self._would: set[str] = set()
        self._waits_for: str | None = None
        self._read_only = False
        self.health = CleanupHealth(dry_run=dry_run)

    async def run(self) -> None:
        """Rounds until cancelled; what is being removed then stays in part."""
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
            # Whatever it is, it must not end the exporter.
            log.exception("a round of clean-up failed")

    def round(self) -> None:
        """One round. A directory is tried when its pod has been unknown in every round for
        the grace, by a source that was up in all of them."""
        view, pods = self._inventory.read(), self._pods.view
        waits_for = _unreliable(view.error if not view.up else None, pods)
        if waits_for != self._waits_for:
            self._waits_for = waits_for
            if waits_for is not None:
                log.warning("clean-up waits", extra={"error": waits_for})
        if waits_for is not None:
            self._without_pod.clear()
            return
        now = self._monotonic()
        entries = {f"{entry.pod_uid}_{entry.container}": entry for entry in view.containers}
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
            self._try(due[: self._max_tried], entries, now)
        self.health = replace(self.health, last_round=time.time())

    def _try(self, names: list[str], entries: dict[str, ContainerReading], now: float) -> None:
        live = (self._processes.live_pids() if self._processes.visible() else None) or frozenset()
        top = os.open(self._inventory.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in names:
                if self._stopping.is_set():
                    return
                # The others' turn comes before this one's again.
                self._without_pod[name] = now
                try:
                    self._check_processes(entries[name], live)
                    self._remove(top, name, entries[name])
                except RefusalError as refusal:
                    self._note(name, f"it stays: {refusal}")
                except FileNotFoundError:
                    pass  # Somebody else removed it, or something in it.
                except OSError as error:
                    self.health = replace(self.health, failures=self.health.failures + 1)
                    if error.errno == errno.EROFS:
                        if not self._read_only:
                            log.warning(
                                "clean-up can't remove anything: the file system is read-only",
                                extra={"path": str(self._inventory.directory)},
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
            if (reason := _unreliable(None, pods)) is not None:
                raise RefusalError(reason)
            if entry.pod_uid in pods.pods:
                raise RefusalError("its pod is listed again")
            assert pods.synced is not None
            # The list must be as much younger than the directory as the grace says: one that
            # is older does not know its pod. A clock that was set makes neither look old.
            if min(pods.synced, self._wall_clock()) - newest < self._grace:
                raise RefusalError("something in it changed within the grace")
            about = {
                "entry": name,
                "pod_uid": entry.pod_uid,
                "container": entry.container,
                "unchanged_seconds": round(self._wall_clock() - newest),
            }
            if self._dry_run:
                self._would.add(name)
                log.info("would be removed", extra=about)
            else:
                self._empty(directory)
                _remove_empty(top, name, directory)
                self._read_only = False
                log.info("removed", extra=about)
            self.health = replace(self.health, removed=self.health.removed + 1)

    def _check_processes(self, entry: ContainerReading, live: frozenset[int]) -> None:
        for process in entry.region.processes if entry.region is not None else ():
            if process.hostpid in live:
                of = self._processes.pod_of(process.hostpid)
                # The PID may be another pod's process by now.
                if of is None or of.pod_uid == entry.pod_uid:
                    raise RefusalError(f"process {process.hostpid} of its region lives")

    def _empty(self, directory: int) -> None:
        mount = _mount(directory)
        for name, status in _entries(directory):
            if self._stopping.is_set():
                raise RefusalError("the exporter stops")
            if stat.S_ISDIR(status.st_mode):
                with _opened(directory, name) as inner:
                    if _mount(inner) != mount:
                        raise RefusalError(f"{name!r} in it became a mount point")
                    self._empty(inner)
                    _remove_empty(directory, name, inner)
            else:
                os.unlink(name, dir_fd=directory)

    def _note(self, name: str, text: str) -> None:
        if self._logged.get(name) != text:
            self._logged[name] = text
            log.warning("directory of a pod that is gone", extra={"entry": name, "error": text})


def _unreliable(error: str | None, pods: PodsView) -> str | None:
    """Why nothing may be removed now: ``error`` itself, or what the list of pods lacks."""
    if error is None and pods.synced is None:
        return "the pods are not known yet"
    if error is None and not pods.up:
        return "the pods can't be read"
    if error is None and not pods.pods and not pods.deleted:
        # With another node's name a list is empty, complete and up to date.
        return "no pod of this node has been seen yet; is its name right?"
    return error


@contextmanager
def _opened(parent: int, name: str) -> Iterator[int]:
    """The directory ``name`` in a directory. Raises RefusalError where it is something else."""
    try:
        directory = os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise RefusalError(f"{name!r} is a link or a file, and was a directory") from error
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
    """The newest change (Unix seconds) of the directory and of all that is in it. Raises
    RefusalError for what must not be removed."""
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
                raise RefusalError(f"a process has {name!r} in it open")
        finally:
            os.close(handle)
        if stat.S_ISDIR(mode):
            if depth == 1:
                raise RefusalError(f"directories in it are nested more than {MAX_DEPTH} deep")
            with _opened(directory, name) as inner:
                newest = max(newest, _examine(inner, mount, depth - 1))
    return newest


def _changed(status: os.stat_result) -> float:
    # The ctime too: an old directory that was moved here, or restored, is new here.
    return max(status.st_mtime, status.st_ctime)


def _mount(fd: int) -> str:
    """The mount that a descriptor's file is on. The device would not do: a bind mount may be
    of the same one (proc_pid_fdinfo(5))."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as info:
        return next(line for line in info if line.startswith("mnt_id:"))


def _is_in_use(handle: int) -> bool:
    """Whether any process has the file open, or mapped, for writing: as HAMi-core has.

    A read lease is granted only where none has, in whatever namespace, and needs no look into
    other processes (fcntl(2)). False where it can't be told: a file of another user without
    CAP_LEASE, a file system without leases.
    """
    try:
        fd = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except BlockingIOError:
        return True  # Someone has a lease on it.
    except PermissionError:
        return False
    try:
        # Who opens it meanwhile waits for a moment, and we get a signal: not SIGIO, which
        # would end this process.
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
    """Removes ``name``, which ``directory`` was opened by and which is empty now."""
    if not os.path.samestat(
        os.fstat(directory), os.stat(name, dir_fd=parent, follow_symlinks=False)
    ):
        raise RefusalError(f"something else is called {name!r} now")
    os.rmdir(name, dir_fd=parent)
