"""What users of the existing monitors report: each a test named after its report, on the real
exporter as a process, over files of the real HAMi-core."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testing import pods
from testing.exporter import Exporter, running
from testing.nvml import simulated_nvml
from testing.polling import eventually
from testing.region_files import put, recorded_bytes
from testing.tools import require
from testing.values import GIB, GPU, GPU_2, MIB, OTHER, UID
from vgpumonitor.region.layouts import V1_1, V1_2
from vgpumonitor.simulate.nvml.state import (
    Memory,
    ProcessSample,
    SimulatedDevice,
    SimulatedNvml,
)
from vgpumonitor.simulate.procfs import SimulatedProcfs


class Node:
    """A node's directories, and what the exporter needs to know of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.containers = directory / "containers"
        self.containers.mkdir()
        self.procfs = SimulatedProcfs(directory / "proc")
        self.pods_file = pods.write(directory / "pods.json")

    def container(self, release: str, uid: str = UID, name: str = "train") -> Path:
        """A container with a region of the recorded scenario ``release``."""
        entry = f"{uid}_{name}"
        return put(f"hami-{release}", self.containers / entry / f"{entry}.cache")

    def process(self, pid: int, inner_pid: int = 0, pod_uid: str = UID) -> None:
        """A live process, which is ``inner_pid`` in its container, in the pod's cgroup; the
        host's own where ``pod_uid`` is empty."""
        slice_name = f"kubepods-burstable-pod{pod_uid.replace('-', '_')}.slice"
        path = (
            f"/kubepods.slice/kubepods-burstable.slice/{slice_name}/cri-containerd-{pid:064x}.scope"
            if pod_uid
            else "/system.slice/ssh.service"
        )
        self.procfs.add(pid, "python3", path, (inner_pid,) if inner_pid else ())

    @contextmanager
    def exporter(self, *arguments: str, nvml: SimulatedNvml | None = None) -> Iterator[Exporter]:
        with running(
            "serve",
            f"--containers-dir={self.containers}",
            f"--procfs={self.procfs.directory}",
            f"--pods=file:{self.pods_file}",
            "--node-name=node-1",
            f"--nvml={'off' if nvml is None else 'auto'}",
            *arguments,
            env=simulated_nvml(nvml, self.directory),
        ) as made:
            eventually(lambda: made.status("/readyz")[0] == 200)
            if nvml is not None:
                eventually(lambda: made.value("vgpumonitor_nvml_up") == 1)
            yield made


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def gpus(**more: object) -> SimulatedNvml:
    """Two GPUs; the first has minor 3."""
    return SimulatedNvml(
        devices=(
            SimulatedDevice(
                uuid=GPU,
                name="NVIDIA L40S",
                minor=3,
                memory=Memory(46 * GIB, 20 * GIB, GIB),
                utilization=(75, 30),
                compute={100000: 3 * GIB, 100001: 4 * GIB, 100002: 5 * GIB},
            ),
            SimulatedDevice(
                uuid=GPU_2,
                name="NVIDIA L40S",
                minor=0,
                memory=Memory(46 * GIB, 2 * GIB, GIB),
                utilization=(10, 5),
            ),
        ),
        **more,  # type: ignore[arg-type]
    )


def test_hami_1814_1794_metrics_from_the_moment_of_placement_and_layout_1_1_postinit(
    node: Node,
) -> None:
    """There: container metrics missing for hours, and wrong with 2.8.1."""
    with node.exporter(nvml=gpus()) as exporter:
        pods.write(
            node.pods_file,
            pods.pod("train-0", UID, phase="Pending", annotations=pods.koordinator(3, "11Gi", 50)),
        )
        eventually(
            lambda: (
                exporter.value(
                    "vgpu_allocated_memory_bytes",
                    namespace="team-a",
                    pod="train-0",
                    device_uuid=GPU,
                    device_minor="3",
                )
                == 11 * GIB
            )
        )
        node.container("2.8.1-three-processes")
        for k in range(3):
            node.process(100000 + k, 7415 + k)
        assert exporter.value("vgpu_region_info", layout="1.1-postinit") == 1
        used = (300 + 7 + 1024 + 310 + 8 + 2048 + 320 + 9 + 3072) * MIB + 3 * 4096
        assert exporter.value("vGPU_device_memory_usage_in_bytes", vdeviceid="0") == used
        assert exporter.value("vGPU_device_memory_limit_in_bytes", vdeviceid="0") == 11520 * MIB


def test_hami_281_a_pod_that_holds_a_vgpu_and_never_uses_it(node: Node) -> None:
    """There: no series at all for it."""
    (node.containers / f"{UID}_idle").mkdir()
    (node.containers / f"{UID}_idle" / "libvgpu.so").touch()
    pods.write(
        node.pods_file,
        pods.pod(
            "idle-0",
            UID,
            annotations={pods.HAMI: f"{GPU},NVIDIA,500,5:;"},
            statuses=[pods.running("idle")],
        ),
    )
    with node.exporter() as exporter:
        labels = {"pod": "idle-0", "device_uuid": GPU, "device_minor": ""}
        assert exporter.value("vgpu_allocated_memory_bytes", **labels) == 500 * MIB
        assert exporter.value("vgpu_allocated_core_ratio", **labels) == 0.05
        assert exporter.value("vgpumonitor_regions", state="waiting") == 1


def test_hami_863_three_files_in_one_directory(node: Node) -> None:
    """There: "cache num not matched" hides both containers of the pod."""
    for name in ("one", "two"):
        path = node.container("2.9.0-three-processes", name=name)
        (path.parent / "libvgpu.so").touch()
        (path.parent / "vgpu.log").write_text("anything")
    with node.exporter("--process-liveness=off") as exporter:
        usage = exporter.samples()["vGPU_device_memory_usage_in_bytes"]
        assert sorted(dict(labels)["ctrname"] for labels in usage) == ["one", "one", "two", "two"]
        assert exporter.value("vgpumonitor_regions", state="ok") == 2


def test_hami_128_usage_of_killed_processes(node: Node) -> None:
    """There: usage stays at its last value after the process was killed."""
    node.container("2.9.0-mixed-exits")
    node.process(100002, 7620)
    with node.exporter() as exporter:
        alive, dead = 3221229568 + 335544320 + 9437184, 2480934912
        assert exporter.value("vGPU_device_memory_usage_in_bytes") == alive
        assert exporter.value("vgpu_dead_process_memory_bytes") == dead
        assert exporter.value("vgpu_processes", state="running") == 1
        assert exporter.value("vgpu_processes", state="dead") == 1
        node.procfs.remove(100002)
        assert exporter.value("vGPU_device_memory_usage_in_bytes") == 0
        assert exporter.value("vgpu_dead_process_memory_bytes") == dead + alive


def test_hami_555_2281_stale_slots(node: Node) -> None:
    """There: utilisation above 100 and memory above the GPU's, from slots out of use."""
    path = node.container("2.6.0-mixed-exits")
    stale = bytearray(recorded_bytes("hami-2.6.0-mixed-exits")[V1_1.procs_offset :][: 1960 * 2])
    with path.open("r+b") as file:
        file.seek(V1_1.procs_offset + 2 * V1_1.slot_size)
        file.write(stale * 40)
    with node.exporter("--process-liveness=off") as exporter:
        assert exporter.value("Device_utilization_desc_of_container") == 35
        assert exporter.value("vGPU_device_memory_usage_in_bytes") == 3566211072 + 2480934912


@pytest.mark.parametrize("code", [999, 3], ids=["Unknown Error", "Not Supported"])
@pytest.mark.parametrize(
    ("call", "lost"),
    [
        ("nvmlDeviceGetMemoryInfo", "HostGPUMemoryUsage"),
        ("nvmlDeviceGetUtilizationRates", "HostCoreUtilization"),
    ],
)
def test_hami_1089_1637_one_nvml_call_that_fails(
    node: Node, call: str, lost: str, code: int
) -> None:
    """There: the scrape is empty."""
    node.container("2.9.0-three-processes")
    nvml = gpus(errors={call: {"0": code}})
    with node.exporter("--process-liveness=off", nvml=nvml) as exporter:
        assert exporter.value(lost, deviceuuid=GPU) is None
        for family in ("HostGPUMemoryUsage", "HostCoreUtilization"):
            assert exporter.value(family, deviceuuid=GPU_2) is not None
            if family != lost:
                assert exporter.value(family, deviceuuid=GPU) is not None
        assert exporter.value("vgpu_device_info", device_uuid=GPU, minor="3") == 1
        assert len(exporter.samples()["vGPU_device_memory_usage_in_bytes"]) == 2
        counted = exporter.value("vgpumonitor_nvml_errors_total", call=call, device_uuid=GPU)
        if code == 3:
            # What a GPU lacks is no failure.
            assert counted is None
        else:
            assert counted is not None
            assert counted >= 1


def test_hami_1628_byte_counts_as_label_values(node: Node) -> None:
    """There: a new series at each allocation. Here the plain families beside it keep theirs,
    and a switch leaves it out."""
    path = node.container("2.9.0-three-processes")
    arguments = ("--process-liveness=off", "--metrics=documented,vgpu,-memory-desc")
    with node.exporter(*arguments) as exporter:
        before = exporter.samples()
        assert "Device_memory_desc_of_container" not in before
        data = V1_2.procs_offset + V1_2.slot.used.offset + 16
        with path.open("r+b") as file:
            file.seek(data)
            file.write((1 << 20).to_bytes(8, "little"))
        after = exporter.samples()
        for family in ("vGPU_device_memory_usage_in_bytes", "vgpu_memory_used_bytes"):
            assert set(before[family]) == set(after[family])
        kind = {"kind": "data", "device_uuid": GPU}
        assert exporter.value("vgpu_memory_used_bytes", **kind) == (2048 + 3072 + 1) * MIB + 8192


def test_hami_849_another_hook_path(node: Node) -> None:
    """There: nothing is found, and nothing says why."""
    put(
        "hami-2.9.0-three-processes",
        node.directory / "hook" / "containers" / f"{UID}_train" / "x.cache",
    )
    arguments = ("serve", "--nvml=off", "--pods=none", "--process-liveness=off")
    with running(*arguments, f"--hook-path={node.directory / 'hook'}") as exporter:
        assert len(exporter.samples()["vGPU_device_memory_usage_in_bytes"]) == 2
    with running(*arguments, f"--hook-path={node.directory / 'nothing'}") as exporter:
        assert f"{node.directory / 'nothing' / 'containers'}" in exporter.log
        assert f"{node.directory / 'nothing' / 'containers'}" in exporter.status("/readyz")[1]


@pytest.mark.parametrize("uuid", [b"", b"GPU-8664316c-68"], ids=["empty", "half"])
def test_hami_1703_2364_a_half_initialised_uuid(node: Node, uuid: bytes) -> None:
    """There: the whole collection is aborted."""
    path = node.container("2.9.0-three-processes")
    node.container("2.4.0-three-processes", uid=OTHER)
    with path.open("r+b") as file:
        file.seek(V1_2.region.uuids.offset)
        file.write(uuid.ljust(96, b"\0"))
    with node.exporter("--process-liveness=off") as exporter:
        usage = exporter.samples()["vGPU_device_memory_usage_in_bytes"]
        assert sorted((dict(s)["podname"], dict(s)["vdeviceid"]) for s in usage) == sorted(
            [(UID, "1"), (OTHER, "0"), (OTHER, "1")]
        )


def test_hami_2_8_too_slow_no_listing_per_scrape(node: Node, tmp_path: Path) -> None:
    """There: each scrape lists every directory. Here none does: strace sees none."""
    strace = require("strace")
    for number in range(5):
        node.container("2.9.0-three-processes", uid=f"{OTHER[:-1]}{number}")
    with node.exporter("--process-liveness=off") as exporter:
        exporter.get("/metrics")
        output = tmp_path / "strace"
        tracing = subprocess.Popen(
            [
                strace,
                *("-f", "-y", "-e", "trace=getdents64,openat,pread64"),
                *("-o", str(output), "-p", str(exporter.process.pid)),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert tracing.stderr is not None
        assert "attached" in tracing.stderr.readline()
        time.sleep(0.5)
        for _ in range(3):
            exporter.get("/metrics")
        tracing.terminate()
        tracing.wait()
    traced = output.read_text()
    assert len(re.findall(r"pread64\([^)]*\.cache", traced)) >= 3 * 5 * 2
    assert not re.findall(rf"getdents64\([^)]*{re.escape(str(node.containers))}", traced)
    assert not re.findall(rf"openat\(.*{re.escape(str(node.containers))}", traced)


def test_volcano_130_completed_pods(node: Node) -> None:
    """There: series of completed pods go on."""
    node.container("2.9.0-three-processes")
    node.container("2.9.0-three-processes", uid=OTHER, name="main")
    node.container("2.9.0-three-processes", uid=OTHER, name="init")
    pods.write(
        node.pods_file,
        pods.pod("done-0", UID, phase="Succeeded", statuses=[pods.terminated("train")]),
        pods.pod(
            "serve-0",
            OTHER,
            statuses=[pods.running("main")],
            init_statuses=[pods.terminated("init")],
        ),
    )
    with node.exporter("--process-liveness=off") as exporter:
        usage = exporter.samples()["vGPU_device_memory_usage_in_bytes"]
        assert {(dict(s)["podname"], dict(s)["ctrname"]) for s in usage} == {("serve-0", "main")}


def test_koordinator_2560_2171_the_allocation_families(node: Node) -> None:
    """There: the allocation is in an annotation that nobody exports."""
    pods.write(
        node.pods_file,
        pods.pod("a", UID, annotations=pods.koordinator(3, "11520Mi", 50)),
        pods.pod("b", OTHER, annotations=pods.koordinator(7, "1.5G", 100)),
    )
    with node.exporter(nvml=gpus()) as exporter:
        found = {
            (dict(s)["pod"], dict(s)["device_uuid"], dict(s)["device_minor"]): value
            for s, value in exporter.samples()["vgpu_allocated_memory_bytes"].items()
        }
        # No GPU of this node has minor 7.
        assert found == {("a", GPU, "3"): 11520 * MIB, ("b", "", "7"): 1.5e9}
        assert exporter.value("vgpu_allocated_core_ratio", pod="b") == 1


def test_dcgm_exporter_151_307_587_725_figures_of_a_shared_gpu(node: Node) -> None:
    """There: no figures per container of a shared GPU. Here per container, per process, and
    of what is in no region: a container's by its cgroup, and the host's own."""
    node.container("2.9.0-three-processes")
    for k in range(3):
        node.process(100000 + k, 7567 + k)
    node.process(777, 7, OTHER)
    node.process(888, pod_uid="")
    pods.write(
        node.pods_file,
        pods.pod("train-0", UID, statuses=[pods.running("train")]),
        pods.pod("fugitive-0", OTHER, namespace="team-b"),
    )
    first = gpus().devices[0]
    now = int(time.time() * 1e6)
    nvml = SimulatedNvml(
        devices=(
            SimulatedDevice(
                uuid=GPU,
                memory=first.memory,
                compute={**first.compute, 777: 6 * GIB, 888: GIB},
                process_samples=(
                    ProcessSample(pid=100001, timestamp=now, sm=40),
                    ProcessSample(pid=777, timestamp=now, sm=30, memory=20),
                ),
            ),
        )
    )
    with node.exporter("--process-metrics", nvml=nvml) as exporter:
        assert exporter.value("vgpu_core_utilization_ratio", pod="train-0", device_uuid=GPU) == (
            0.45
        )
        process = {"host_pid": "100001", "device_uuid": GPU, "pod": "train-0"}
        assert exporter.value("vgpu_process_memory_used_bytes", **process) == 2480934912
        fugitive = {"pod": "fugitive-0", "namespace": "team-b", "device_uuid": GPU}
        assert exporter.value("vgpu_nvml_memory_used_bytes", **fugitive) == 6 * GIB
        assert exporter.value("vgpu_nvml_core_utilization_ratio", **fugitive) == 0.3
        own = {"pod": "train-0", "device_uuid": GPU}
        assert exporter.value("vgpu_nvml_core_utilization_ratio", **own) == 0.4
        assert exporter.value("vgpu_device_memory_unattributed_bytes", device_uuid=GPU) == GIB


def test_kai_scheduler_1821_any_scheduler_with_the_files_in_a_tree(node: Node) -> None:
    """A tree elsewhere, files named otherwise, no annotation that we know."""
    tree = node.directory / "kai" / "vgpu"
    put("hami-2.9.0-three-processes", tree / f"{UID}_train" / "anything.cache")
    arguments = ("serve", "--nvml=off", "--pods=none", "--process-liveness=off")
    with running(*arguments, f"--containers-dir={tree}") as exporter:
        assert len(exporter.samples()["vGPU_device_memory_usage_in_bytes"]) == 2


def test_koordlet_recreates_the_directory_at_each_restart(node: Node) -> None:
    """There: the dead container's numbers for ever."""
    path = node.container("2.9.0-three-processes")
    pods.write(node.pods_file, pods.pod("train-0", UID, statuses=[pods.running("train")]))
    with node.exporter("--process-liveness=off") as exporter:
        assert len(exporter.samples()["vGPU_device_memory_usage_in_bytes"]) == 2
        shutil.rmtree(path.parent)
        path.parent.mkdir()
        assert "vGPU_device_memory_usage_in_bytes" not in exporter.samples()
        node.container("2.9.0-mixed-exits")
        usage = exporter.samples()["vGPU_device_memory_usage_in_bytes"]
        assert list(usage.values()) == [3566211072 + 2480934912]
