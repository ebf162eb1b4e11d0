"""The host's processes as a procfs shows them: who lives, and in which pod's container."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger(__name__)

#: Thirteen hierarchies of cgroup v1, with paths of 4096 bytes each, are less.
_CGROUP_BYTES = 1 << 16
_COMM_BYTES = 64

#: The pod's directory, and in it the container's, in a path of /proc/<pid>/cgroup.
#: Static pods have a hash of 32 digits for a UID; systemd's slices have "_" for its "-".
#: ":" parts them where containerd's driver is cgroupfs and kubelet's is systemd. What is
#: above the pod may be cut off: a cgroup namespace shows paths from its own root.
_CONTAINER = re.compile(
    r"/(?:[\w.-]*kubepods[\w.-]*-)?"
    r"pod(?P<uid>[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?"
    r"[/:](?:[a-z][a-z-]*[-:])?(?P<id>[0-9a-f]{64})(?:\.scope)?(?=[/ ]|$)"
)


@dataclass(frozen=True, slots=True)
class ContainerRef:
    """A pod's UID as kubelet has it (with dashes, or a static pod's hash), and the
    container's ID of 64 hexadecimal digits, without the runtime's name."""

    pod_uid: str
    container_id: str


class HostProcesses:
    """Looks at ``procfs``. Nothing is kept: every call reads what is there now."""

    def __init__(self, procfs: str | Path) -> None:
        self._procfs = Path(procfs)
        self._listed = True

    def visible(self) -> bool:
        """Whether these are the host's PIDs. Process 2 is kthreadd in the initial PID
        namespace only (kernel/fork.c); where hidepid hides it, others are hidden too."""
        return _read(self._procfs / "2" / "comm", _COMM_BYTES) == b"kthreadd\n"

    def live_pids(self) -> frozenset[int] | None:
        """The PIDs that exist; None where the directory can't be listed, which is logged
        once: nobody is dead because nobody could be seen."""
        try:
            names = os.listdir(self._procfs)
        except OSError as error:
            if self._listed:
                _log.warning("can't list the host's processes in %s: %s", self._procfs, error)
            self._listed = False
            return None
        self._listed = True
        return frozenset(int(name) for name in names if name.isdecimal())

    def pod_of(self, pid: int) -> ContainerRef | None:
        """The container that ``pid`` is in by its cgroup; None where it is in no pod's, is
        gone, or can't be read."""
        text = _read(self._procfs / str(pid) / "cgroup", _CGROUP_BYTES)
        return None if text is None else container_of(text.decode("utf-8", "replace"))


def container_of(cgroup: str) -> ContainerRef | None:
    """The container in the lines ``hierarchy:controllers:path`` of a cgroup file (cgroups(7)).

    Understands cgroup v1 and v2, the systemd and cgroupfs drivers, and the names that
    containerd, CRI-O and Docker give. With containers inside of the container, the outermost
    counts: it is the node's Kubernetes that is asked about.
    """
    for line in cgroup.splitlines():
        found = _CONTAINER.search(line)
        if found is not None:
            return ContainerRef(found["uid"].replace("_", "-"), found["id"])
    return None


def _read(path: Path, size: int) -> bytes | None:
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(size)
    except OSError:
        return None
