"""Real processes in PID namespaces and cgroups of their own, as a container runtime makes them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from testing.exporter import Exporter, running
from testing.nvml import simulated_nvml
from testing.polling import eventually
from testing.tools import MissingToolError
from testing.values import GIB, GPU, MIB, OTHER, UID
from tests.hostile.sandbox import unshare
from vgpumonitor.region.layouts import V1_2
from vgpumonitor.region.model import RegionDevice
from vgpumonitor.region.writer import RegionWriter
from vgpumonitor.simulate.nvml.state import Memory, SimulatedDevice, SimulatedNvml
from vgpumonitor.sources.processes import HostProcesses

#: A hierarchy of cgroup v2, alone or beside those of v1, and one of v1.
HIERARCHIES = [
    path
    for path in (
        Path("/sys/fs/cgroup"),
        Path("/sys/fs/cgroup/unified"),
        Path("/sys/fs/cgroup/pids"),
    )
    if (path / "cgroup.procs").exists()
]


@dataclass
class Container:
    """Its init, a shell, is process 1 in it, and has two children, 2 and 3."""

    uid: str
    init: int
    children: tuple[int, int]


@pytest.fixture(params=HIERARCHIES, ids=str)
def hierarchy(request: pytest.FixtureRequest) -> Path:
    if not HostProcesses("/proc").visible():
        raise MissingToolError("the host's processes are not visible")
    found: Path = request.param
    if not os.access(found, os.W_OK):
        raise MissingToolError(f"no cgroup can be made in {found}")
    return found


@pytest.fixture
def containers(hierarchy: Path) -> Iterator[tuple[Container, Container]]:
    with ExitStack() as stack:
        stack.callback(_remove, hierarchy / "kubepods")
        first, second = (
            _container(stack, hierarchy, uid, place) for place, uid in enumerate((UID, OTHER))
        )
        yield first, second


def _container(stack: ExitStack, hierarchy: Path, uid: str, place: int) -> Container:
    pod = hierarchy / "kubepods" / f"pod{uid}"
    cgroup = pod / f"{place + 1:064x}"
    cgroup.mkdir(parents=True)
    for directory in (pod, cgroup):
        stack.callback(_remove, directory)
    process = subprocess.Popen(
        [*unshare("--pid", "--fork", "--kill-child"), "sh", "-c", "sleep 600 & sleep 600 & wait"]
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    (init,) = eventually(lambda: _children(process.pid))
    eventually(lambda: len(_children(init)) == 2)
    first, second = sorted(_children(init))
    for pid in (init, first, second):
        (cgroup / "cgroup.procs").write_text(str(pid))
    return Container(uid, init, (first, second))


def _children(pid: int) -> tuple[int, ...]:
    return tuple(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def _remove(cgroup: Path) -> None:
    def gone() -> bool:
        with suppress(FileNotFoundError):
            cgroup.rmdir()
        return True

    eventually(gone)


def test_whose_a_process_is_and_whether_it_lives(
    containers: tuple[Container, Container], tmp_path: Path
) -> None:
    """HAMi-core has not found one process, and took another container's for the second: the
    drivers' processes and all that live are told apart by cgroup and NSpid all the same."""
    first, second = containers
    directory = tmp_path / "containers"
    hostpids = {first.uid: (0, second.children[1]), second.uid: (os.getpid(), first.children[1])}
    for container in containers:
        path = directory / f"{container.uid}_main" / "main.cache"
        path.parent.mkdir(parents=True)
        with RegionWriter(path, V1_2, [RegionDevice(GPU, 10 * GIB, 50)], 1000) as region:
            for pid, hostpid in zip((2, 3), hostpids[container.uid], strict=True):
                region.register(pid)
                if hostpid:
                    region.set_hostpid(pid, hostpid)
    nvml = SimulatedNvml(
        devices=(
            SimulatedDevice(
                uuid=GPU,
                memory=Memory(40 * GIB, 8 * GIB, GIB),
                compute={
                    first.children[0]: 2 * GIB,
                    first.children[1]: GIB,
                    first.init: 512 * MIB,
                    second.children[1]: 3 * GIB,
                    os.getpid(): 256 * MIB,
                },
            ),
        )
    )
    with running(
        "serve",
        f"--containers-dir={directory}",
        "--pods=none",
        env=simulated_nvml(nvml, tmp_path),
    ) as exporter:
        eventually(lambda: exporter.value("vgpumonitor_nvml_up") == 1)
        assert processes(exporter, first) == (2, 0)
        assert processes(exporter, second) == (2, 0)
        assert of(exporter, "vgpu_nvml_memory_used_bytes", first) == 3 * GIB + 512 * MIB
        assert of(exporter, "vgpu_memory_bypassed_bytes", first) == 512 * MIB
        assert of(exporter, "vgpu_nvml_memory_used_bytes", second) == 3 * GIB
        assert of(exporter, "vgpu_memory_bypassed_bytes", second) == 0
        assert exporter.value("vgpu_device_memory_unattributed_bytes") == 256 * MIB

        # A zombie: its parent can't reap it.
        os.kill(first.init, signal.SIGSTOP)
        os.kill(first.children[0], signal.SIGKILL)
        eventually(lambda: _state(first.children[0]) == "Z")
        assert processes(exporter, first) == (1, 1)
        # One that is gone, whose host PID in the region is another container's process.
        os.kill(second.children[1], signal.SIGKILL)
        eventually(lambda: not Path(f"/proc/{second.children[1]}").exists())
        assert processes(exporter, second) == (1, 1)
        os.kill(first.init, signal.SIGCONT)


def of(exporter: Exporter, name: str, container: Container, **labels: str) -> float | None:
    return exporter.value(name, pod=container.uid, container="main", **labels)


def processes(exporter: Exporter, container: Container) -> tuple[float | None, float | None]:
    """How many live, and how many are dead."""
    return (
        of(exporter, "vgpu_processes", container, state="running"),
        of(exporter, "vgpu_processes", container, state="dead"),
    )


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
