"""The host's processes as a procfs shows them: who lives, in which container, under which PID.

Nothing but a few small files of the processes that are asked about is read, and what can't
change of a process only once. A look over all processes is taken only where somebody needs one,
bounded, and not again for the same need.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Collection, Hashable, Iterable
from pathlib import Path

from msgspec import Struct

_log = logging.getLogger(__name__)

#: Thirteen hierarchies of cgroup v1, with paths of 4096 bytes each, are less.
_CGROUP_BYTES = 1 << 16
#: /proc/<pid>/status and stat have some 1,500 and 400 bytes.
_FILE_BYTES = 4096
_COMM_BYTES = 64

#: Processes that one look over all of them reads; the others' turn is the next look.
MAX_READ = 4096
#: Seconds until all processes are looked over again for a need that the last look did not
#: meet: from the first to the longest, doubled each time.
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0

#: The pod's directory, and in it the container's, in a path of /proc/<pid>/cgroup.
#: Static pods have a hash of 32 digits for a UID; systemd's slices have "_" for its "-".
#: ":" separates them where containerd's driver is cgroupfs and kubelet's is systemd. What is
#: above the pod may be cut off: a cgroup namespace shows paths from its own root.
_POD = re.compile(
    r"/(?:[\w.-]*kubepods[\w.-]*-)?"
    r"pod(?P<uid>[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?"
    r"(?:[/:](?:[a-z][a-z-]*[-:])?(?P<id>[0-9a-f]{64})(?:\.scope)?(?=[/ ]|$)|(?=[/ ]|$))"
)
_NSPID = re.compile(rb"^NSpid:\t(?:\d+\t)*(\d+)$", re.MULTILINE)


class ContainerRef(Struct, frozen=True, gc=False):
    """A pod's UID as kubelet has it (with dashes, or a static pod's hash), and the container's
    ID of 64 hexadecimal digits, without the runtime's name; empty where the cgroup has none."""

    pod_uid: str
    container_id: str


class HostProcess(Struct, frozen=True, gc=False):
    """A process that lives. ``inner_pid`` is its PID in its own PID namespace, the innermost
    one (the last number of NSpid); ``container`` is None where its cgroup is in no pod's."""

    pid: int
    inner_pid: int
    container: ContainerRef | None


class _Known(Struct, gc=False):
    """A process that was read before; ``started`` is in clock ticks since the system's boot,
    which tells it from another process with its PID."""

    started: bytes
    process: HostProcess


class _Seen(Struct, gc=False):
    """A process that a look over all of them met. ``inode`` is its directory's: another
    process with the same PID has another one. A process that is in no pod is read once more
    at the next look, since a runtime moves a new one into its container's cgroup late."""

    inode: int
    in_pod: bool
    settled: bool


class HostProcesses:
    """Looks at ``procfs``. Safe from one thread at a time."""

    def __init__(self, procfs: str | Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        """``monotonic`` is for tests."""
        self._procfs = str(procfs)
        self._monotonic = monotonic
        self._known: dict[int, _Known] = {}
        self._seen: dict[int, _Seen] = {}
        self._need: Hashable = None
        self._pause = FIRST_PAUSE
        self._next_look = 0.0
        self._unread = 0
        self._listed = True

    def visible(self) -> bool:
        """Whether these are the host's PIDs. Process 2 is kthreadd in the initial PID
        namespace only (kernel/fork.c); where hidepid hides it, others are hidden too."""
        return self._read(2, "comm", _COMM_BYTES) == b"kthreadd\n"

    def look(self, pids: Iterable[int]) -> dict[int, HostProcess]:
        """Those of ``pids`` that live. A zombie whose other threads don't live is dead."""
        found = {}
        for pid in pids:
            if pid > 0 and pid not in found:
                process = self._process(pid)
                if process is not None:
                    found[pid] = process
        self._known = {
            pid: known for pid, known in self._known.items() if pid in found or pid in self._seen
        }
        return found

    def look_over(
        self, need: Hashable, wanted: Callable[[HostProcess], bool] = lambda _: True
    ) -> tuple[Collection[HostProcess], bool]:
        """The processes of the host that are in pods' containers, those that are ``wanted``, and
        whether all were read.

        ``need`` stands for what is searched: for a new one all processes are listed now, for
        the same one again after a pause that grows. A slot whose process is gone is searched at
        every scrape, so between two listings nothing of the others is read.
        """
        now = self._monotonic()
        if need != self._need:
            self._need, self._pause, self._next_look = need, FIRST_PAUSE, now
        if now >= self._next_look:
            self._list()
            self._next_look = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        processes = []
        for pid, seen in list(self._seen.items()):
            if not seen.in_pod:
                continue
            known = self._known.get(pid)
            if known is not None and known.process.container and not wanted(known.process):
                continue
            process = self._process(pid)
            if process is None:
                del self._seen[pid]
            elif wanted(process):
                processes.append(process)
        return processes, self._listed and not self._unread

    def rest(self) -> None:
        """Nothing has to be searched any more."""
        self._need = None
        self._seen.clear()

    def _list(self) -> None:
        """Lists the processes, and reads those that were not read before."""
        try:
            with os.scandir(self._procfs) as entries:
                listed = {int(e.name): e.inode() for e in entries if e.name.isdecimal()}
        except OSError as error:
            if self._listed:
                _log.warning(
                    "host processes can't be listed",
                    extra={"procfs": self._procfs, "error": error.strerror},
                )
            self._listed = False
            return
        self._listed = True
        self._seen = {
            pid: seen for pid, seen in self._seen.items() if listed.get(pid) == seen.inode
        }
        unread = [pid for pid in listed if pid not in self._seen or not self._seen[pid].settled]
        for pid in unread[:MAX_READ]:
            known_before = pid in self._seen
            if not known_before:
                self._known.pop(pid, None)  # It may be of another process with this PID.
            container = self._container(pid)
            in_pod = container is not None
            self._seen[pid] = _Seen(listed[pid], in_pod, in_pod or known_before)
        self._unread = max(0, len(unread) - MAX_READ)

    def _process(self, pid: int) -> HostProcess | None:
        started = self._started(pid)
        if started is None:
            self._known.pop(pid, None)
            return None
        known = self._known.get(pid)
        if known is None or known.started != started or known.process.container is None:
            process = self._first_look(pid)
            # Another process may have got the PID between two reads.
            if process is None or self._started(pid) != started:
                self._known.pop(pid, None)
                return None
            if known is not None and known.started == started and known.process == process:
                return known.process
            known = self._known[pid] = _Known(started, process)
        return known.process

    def _started(self, pid: int) -> bytes | None:
        """When the process started; None where it doesn't live (proc_pid_stat(5))."""
        text = self._read(pid, "stat", _FILE_BYTES)
        if text is None:
            return None
        # The command's name, in brackets, may have spaces and brackets of its own.
        fields = text.rpartition(b") ")[2].split(b" ", 20)
        if len(fields) < 20:
            return None
        # Field 3 is the state, 20 the number of threads, 22 the time of the start.
        state, threads, started = fields[0], fields[17], fields[19]
        if state in (b"Z", b"X") and threads in (b"0", b"1"):
            return None
        return started

    def _first_look(self, pid: int) -> HostProcess | None:
        status = self._read(pid, "status", _FILE_BYTES)
        found = None if status is None else _NSPID.search(status)
        if found is None:
            return None
        return HostProcess(pid, int(found[1]), self._container(pid))

    def _container(self, pid: int) -> ContainerRef | None:
        text = self._read(pid, "cgroup", _CGROUP_BYTES)
        return None if text is None else container_of(text.decode("utf-8", "replace"))

    def _read(self, pid: int, name: str, size: int) -> bytes | None:
        try:
            fd = os.open(f"{self._procfs}/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return os.read(fd, size)
        except OSError:
            return None
        finally:
            os.close(fd)


def container_of(cgroup: str) -> ContainerRef | None:
    """The container in the lines ``hierarchy:controllers:path`` of a cgroup file (cgroups(7));
    the pod alone where no line names a container in it.

    Understands cgroup v1 and v2, the systemd and cgroupfs drivers, and the names that
    containerd, CRI-O and Docker give. With containers inside of the container, the outermost
    counts: it is the node's Kubernetes that is asked about.
    """
    pod = None
    for line in cgroup.splitlines():
        found = _POD.search(line)
        if found is not None:
            ref = ContainerRef(found["uid"].replace("_", "-"), found["id"] or "")
            if ref.container_id:
                return ref
            pod = pod or ref
    return pod
