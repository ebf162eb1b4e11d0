"""A procfs that shows the simulated host's processes: who lives, and in which pod."""

from __future__ import annotations

import shutil
from pathlib import Path


class SimulatedProcfs:
    """Directories ``<pid>`` with ``comm`` and ``cgroup``, each there as a whole or not."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.add(1, "systemd", "/init.scope")
        # Kernel threads exist in the initial PID namespace only: this is a host.
        self.add(2, "kthreadd", "/")

    def add(self, pid: int, comm: str, cgroup: str) -> None:
        """A process in ``cgroup``, a path of the unified hierarchy."""
        new = self.directory / f".{pid}"
        new.mkdir()
        (new / "comm").write_text(f"{comm}\n")
        (new / "cgroup").write_text(f"0::{cgroup}\n")
        new.rename(self.directory / str(pid))

    def remove(self, pid: int) -> None:
        gone = (self.directory / str(pid)).rename(self.directory / f".{pid}")
        shutil.rmtree(gone)


def pod_cgroup(pod_uid: str, container_id: str) -> str:
    """The cgroup of a container of a burstable pod: containerd with the systemd driver."""
    pod = f"kubepods-burstable-pod{pod_uid.replace('-', '_')}.slice"
    return f"/kubepods.slice/kubepods-burstable.slice/{pod}/cri-containerd-{container_id}.scope"
