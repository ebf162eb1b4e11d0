"""A container on this machine: a cgroup as kubelet makes it, a PID namespace, and a region."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest

from testing import pods
from testing.exporter import Exporter, running
from testing.polling import eventually
from testing.tools import MissingToolError, require
from testing.values import GIB, UID
from vgpumonitor.region.layouts import V1_2
from vgpumonitor.region.model import RegionDevice
from vgpumonitor.region.writer import RegionWriter
from vgpumonitor.simulate.procfs import pod_cgroup

CONTAINER_ID = "c0ffee" + "0" * 58
LIMIT = 4 * GIB


def smi(query: str, of: str = "gpu") -> list[list[str]]:
    """What nvidia-smi, the other reader of NVML, answers; sizes are in MiB."""
    done = subprocess.run(
        [require("nvidia-smi"), f"--query-{of}={query}", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]


def smi_report() -> dict[str, str]:
    """What it says of the driver and of GPU 0 beside that, by its own words."""
    done = subprocess.run(
        [require("nvidia-smi"), "-q", "-i", "0"], capture_output=True, text=True, check=True
    )
    lines = (line.partition(" : ") for line in done.stdout.splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}


def memory_of(host_pid: int) -> int:
    """Bytes that nvidia-smi gives for the process."""
    sizes = dict(smi("pid,used_memory", "compute-apps"))
    return int(sizes[str(host_pid)]) << 20


@dataclass
class GpuNode:
    """``cgroups`` is a mounted unified hierarchy."""

    directory: Path
    cgroups: Path
    exporter: Exporter
    uuid: str
    stack: ExitStack = field(default_factory=ExitStack)

    def start(
        self, *arguments: str, contained: bool = True
    ) -> tuple[subprocess.Popen[bytes], int, int]:
        """A process of the container, or of the host, that holds memory; with its host PID and
        its PID in its own namespace."""
        command = [sys.executable, "-m", "tests.gpu.cuda", *arguments]
        if contained:
            namespaces = (f"--target={self._first_process}", "--pid", "--mount")
            command = [*self._in_cgroup, require("nsenter"), *namespaces, *command]
        process = self._popen(command)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        host_pid = _child(process.pid) if contained else process.pid
        status = Path(f"/proc/{host_pid}/status").read_text()
        (pids,) = [line for line in status.splitlines() if line.startswith("NSpid:")]
        return process, host_pid, int(pids.split()[-1])

    @cached_property
    def _first_process(self) -> int:
        """The one whose end would end the container."""
        # CUDA looks for itself in /proc.
        namespaces = ("--pid", "--fork", "--kill-child", "--mount-proc")
        process = self._popen(
            [*self._in_cgroup, require("unshare"), *namespaces, "sh", "-c", "echo; read line"]
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        return _child(process.pid)

    @cached_property
    def _in_cgroup(self) -> tuple[str, ...]:
        """Begins a command that runs in the container's cgroup, which ends with the node."""
        cgroup = self.cgroups / pod_cgroup(UID, CONTAINER_ID)[1:]
        cgroup.mkdir(parents=True)
        self.stack.callback(_remove, cgroup, self.cgroups)
        return ("sh", "-ec", f'echo $$ > {cgroup}/cgroup.procs; exec "$@"', "sh")

    def _popen(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.stack.enter_context(process)
        self.stack.callback(process.kill)
        return process


def _remove(cgroup: Path, hierarchy: Path) -> None:
    """With those above it that nothing else is in. Its last processes may still be ending."""

    def removed() -> bool:
        cgroup.rmdir()
        return True

    eventually(removed)
    for above in cgroup.parents:
        if above == hierarchy:
            break
        with suppress(OSError):
            above.rmdir()


def _child(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


@pytest.fixture(scope="session")
def cgroups(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    there = Path("/sys/fs/cgroup")
    if (there / "cgroup.procs").exists() and os.access(there, os.W_OK):
        yield there
        return
    own = tmp_path_factory.mktemp("cgroup")
    done = subprocess.run(
        [require("mount"), "-t", "cgroup2", "none", own], capture_output=True, check=False
    )
    if done.returncode:
        raise MissingToolError(f"no unified cgroup hierarchy: {done.stderr.decode().strip()}")
    yield own
    subprocess.run([require("umount"), own], check=True)


@pytest.fixture
def node(tmp_path: Path, cgroups: Path) -> Iterator[GpuNode]:
    """A node with one pod that has half of GPU 0 and has not made a CUDA call yet."""
    uuid, minor = smi("uuid")[0][0], int(smi_report()["Minor Number"])
    status = {**pods.running("train"), "containerID": f"containerd://{CONTAINER_ID}"}
    allocated = pods.koordinator(minor, "4Gi", 50)
    pods.write(
        tmp_path / "pods.json",
        pods.pod("train-0", UID, annotations=allocated, statuses=[status]),
    )
    (tmp_path / "containers" / f"{UID}_train").mkdir(parents=True)
    with (
        ExitStack() as stack,
        running(
            "serve",
            f"--containers-dir={tmp_path / 'containers'}",
            f"--pods=file:{tmp_path / 'pods.json'}",
            "--node-name=node-1",
            "--metrics=all",
        ) as exporter,
    ):
        eventually(lambda: exporter.value("vgpumonitor_nvml_up") == 1)
        yield GpuNode(tmp_path, cgroups, exporter, uuid, stack)


@pytest.fixture
def region(node: GpuNode) -> Iterator[RegionWriter]:
    """The container's region, without a process yet."""
    path = node.directory / "containers" / f"{UID}_train" / f"{UID}_train.cache"
    with RegionWriter(path, V1_2, [RegionDevice(node.uuid, LIMIT, 50)], 1_800_000_000) as writer:
        yield writer
