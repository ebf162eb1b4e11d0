"""A procfs that shows the simulated host's processes: which are alive, and in which pod."""

from __future__ import annotations

import shutil
from pathlib import Path


class SimulatedProcfs:
    """Directories ``<pid>`` with ``comm``, ``cgroup``, ``stat`` and ``status``, each of which
    appears all at once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.add(1, "systemd", "/init.scope")
        # Kernel threads exist in the initial PID namespace only, so this is the host.
        self.add(2, "kthreadd", "/")

    def add(
        self,
        pid: int,
        comm: str,
        cgroup: str,
        inner_pids: tuple[int, ...] = (),
        state: str = "S",
        threads: int = 1,
        started: int = 100,
    ) -> None:
        """A process in ``cgroup``, a path of the unified hierarchy. ``inner_pids`` are its PIDs
        in the PID namespaces below the host's, the innermost last; ``started`` is in clock
        ticks since the boot."""
        new = self.directory / f".{pid}"
        new.mkdir()
        (new / "comm").write_text(f"{comm}\n")
        (new / "cgroup").write_text(f"0::{cgroup}\n")
        self._write(new, pid, comm, inner_pids, state, threads, started)
        new.rename(self.directory / str(pid))

    def become_zombie(self, pid: int, inner_pids: tuple[int, ...] = (), started: int = 100) -> None:
        """The process was killed, and its parent has not reaped it."""
        directory = self.directory / str(pid)
        comm = (directory / "comm").read_text().strip()
        self._write(directory, pid, comm, inner_pids, "Z", 1, started)

    def remove(self, pid: int) -> None:
        gone = (self.directory / str(pid)).rename(self.directory / f".{pid}")
        shutil.rmtree(gone)

    @staticmethod
    def _write(
        directory: Path,
        pid: int,
        comm: str,
        inner_pids: tuple[int, ...],
        state: str,
        threads: int,
        started: int,
    ) -> None:
        # proc_pid_stat(5), up to the 22nd of its fields, and the lines of proc_pid_status(5).
        for name, text in (
            ("stat", f"{pid} ({comm}) {state} 1{' 0' * 15} {threads} 0 {started} 0 0\n"),
            (
                "status",
                f"Name:\t{comm}\nState:\t{state}\nTgid:\t{pid}\nPid:\t{pid}\n"
                + "NSpid:\t"
                + "\t".join(map(str, (pid, *inner_pids)))
                + f"\nThreads:\t{threads}\n",
            ),
        ):
            new = directory / f".{name}"
            new.write_text(text)
            new.replace(directory / name)


def pod_cgroup(pod_uid: str, container_id: str) -> str:
    """The cgroup of a container of a burstable pod: containerd with the systemd driver."""
    pod = f"kubepods-burstable-pod{pod_uid.replace('-', '_')}.slice"
    return f"/kubepods.slice/kubepods-burstable.slice/{pod}/cri-containerd-{container_id}.scope"
