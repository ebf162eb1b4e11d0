"""A procfs that shows the simulated host's processes: which are alive, and in which pod."""

from __future__ import annotations

import shutil
from pathlib import Path


class SimulatedProcfs:
    """Directories ``<pid>`` with ``comm`` and ``cgroup``, each of which appears all at once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.add(1, "systemd", "/init.scope")
        # Kernel threads exist in the initial PID namespace only, so this is the host.
        self.add(2, "kthreadd", "/")

    def add(self, pid: int, comm: str, cgroup: str) -> None:
        """Adds a process in ``cgroup``, a path of the unified hierarchy."""
        new = self.directory / f".{pid}"
        new.mkdir()
        (new / "comm").write_text(f"{comm}\n")
        (new / "cgroup").write_text(f"0::{cgroup}\n")
        new.rename(self.directory / str(pid))

    def remove(self, pid: int) -> None:
        gone = (self.directory / str(pid)).rename(self.directory / f".{pid}")
        shutil.rmtree(gone)


def pod_cgroup(pod_uid: str, container_id: str) -> str:
    """The cgroup of a container in a burstable pod, with containerd and the systemd driver."""
    pod = f"kubepods-burstable-pod{pod_uid.replace('-', '_')}.slice"
    return f"/kubepods.slice/kubepods-burstable.slice/{pod}/cri-containerd-{container_id}.scope"
