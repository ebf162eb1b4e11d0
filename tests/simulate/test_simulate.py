"""The simulated node, read back with what the exporter reads a real one with."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from testing.polling import eventually
from vgpumonitor.region.layouts import LAYOUTS, V1_1, V1_2, Layout
from vgpumonitor.region.model import GONE, Region
from vgpumonitor.simulate.container import GpuUse
from vgpumonitor.simulate.node import SimulatedNode, SimulationError
from vgpumonitor.simulate.nvml.python_library import SimulatedLibrary
from vgpumonitor.simulate.nvml.state import Memory, read
from vgpumonitor.simulate.plan import MIB, PodPlan, make_gpus
from vgpumonitor.simulate.readings import figures
from vgpumonitor.sources.containers import ContainerReading, ContainersDirectory
from vgpumonitor.sources.devices.nvml import NvmlSource
from vgpumonitor.sources.pods.model import Allocation, MigAllocation, Pod
from vgpumonitor.sources.pods.objects import decode, pod_from_object, split_list
from vgpumonitor.sources.processes import ContainerRef, HostProcesses

NOW = 1_800_000_000


class Clock:
    """One second a call, which is what each step takes of it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        self.now += 1
        return float(self.now)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SimulatedNode]:
    with SimulatedNode(tmp_path / "node", containers=12, node_name="gpu-1", clock=Clock()) as made:
        yield made


@contextmanager
def inventory(node: SimulatedNode) -> Iterator[Callable[[], dict[str, ContainerReading]]]:
    """The containers by their pod's app, those of the second one apart from the first's
    by the container's name."""
    source = ContainersDirectory(node.containers_dir)
    apps = {
        (pod.uid, plan.name): pod.app if not plan.init else plan.name
        for pod in node.pods
        for plan in pod.containers
    }

    def read() -> dict[str, ContainerReading]:
        view = source.read()
        assert view.up
        assert view.errors == {}
        return {apps[entry.pod_uid, entry.container]: entry for entry in view.containers}

    source.start()
    try:
        yield read
    finally:
        source.stop()


def app(node: SimulatedNode, name: str) -> PodPlan:
    return next(pod for pod in node.pods if pod.app == name)


def pods(node: SimulatedNode) -> dict[str, Pod]:
    """By app, as the file source reads them."""
    apps = {pod.uid: pod.app for pod in node.pods}
    found = {}
    for item in split_list(node.pods_file.read_bytes()).items:
        pod, errors = pod_from_object(decode(item))
        assert errors == ()
        found[apps[pod.uid]] = pod
    return found


def region_of(entry: ContainerReading) -> Region:
    assert entry.region is not None, entry
    return entry.region


def totals(region: Region, device: int = 0) -> int:
    return sum(p.devices[device].total for p in region.processes if p.status != GONE)


def live_pids(node: SimulatedNode) -> set[int]:
    """Without zombies."""
    return {
        int(path.parent.name)
        for path in node.procfs_dir.glob("*/stat")
        if not path.read_text().rpartition(") ")[2].startswith("Z")
    }


def digest(directory: Path) -> str:
    state = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        state.update(f"{path.relative_to(directory)}\n".encode())
        if path.is_file():
            state.update(path.read_bytes())
    return state.hexdigest()


def test_a_seed_repeats_the_node_and_its_life(tmp_path: Path) -> None:
    digests = {}
    for name, seed in (("one", 7), ("again", 7), ("other", 8)):
        with SimulatedNode(
            tmp_path / name, gpus=2, containers=8, seed=seed, node_name="gpu-1", clock=Clock()
        ) as node:
            states = [digest(node.directory)]
            for _ in range(3):
                for _ in range(40):
                    node.step()
                states.append(digest(node.directory))
        assert len(set(states)) == 4
        digests[name] = states
    assert digests["one"] == digests["again"]
    assert digests["one"][0] != digests["other"][0]


def test_what_is_there_at_once(node: SimulatedNode) -> None:
    node.step()
    with inventory(node) as read:
        found = read()
    waiting = {name for name, entry in found.items() if entry.state == "waiting"}
    assert len(found) == 12
    assert waiting == {"labelling-ui", "custom-cuda"}
    regions = {name: region_of(entry) for name, entry in found.items() if name not in waiting}
    assert {region.layout for region in regions.values()} == {layout.name for layout in LAYOUTS}
    live = {name for name, region in regions.items() if totals(region) > 0}
    assert live == regions.keys() - {"eval-nightly", "fetch-weights"}
    assert len(regions["reranker"].processes) == 3
    notebook = regions["notebook-anna"]
    assert notebook.last_kernel_time is not None
    assert node_time(node) - notebook.last_kernel_time >= 3600
    assert notebook.processes[0].devices[0].sm_util == 0
    assert (regions["chat-api"].priority, regions["batch-embedding"].priority) == (0, 1)
    assert app(node, "chat-api").gpus == app(node, "batch-embedding").gpus
    [first, second] = regions["wav2vec-train"].processes
    assert [d.total > 0 for d in first.devices] == [True, False]
    assert [d.total > 0 for d in second.devices] == [False, True]
    assert [path.name for path in (node.containers_dir / found["labelling-ui"].path).glob("*")] == [
        "libvgpu.so"
    ]


def node_time(node: SimulatedNode) -> int:
    assert isinstance(node._clock, Clock)
    return node._clock.now


def test_each_pod_has_the_workload_that_made_it(node: SimulatedNode) -> None:
    items = split_list(node.pods_file.read_bytes()).items
    pods = [pod_from_object(decode(item))[0] for item in items]
    assert {pod.workload: pod.workload_kind for pod in pods} == {
        pod.app: pod.workload for pod in node.pods
    }
    assert {pod.workload_kind for pod in pods} == {"Deployment", "StatefulSet", "Job"}


def test_the_list_of_pods_does_not_grow_old(tmp_path: Path) -> None:
    now = NOW
    with SimulatedNode(tmp_path / "node", containers=0, clock=lambda: now) as node:
        written = node.pods_file.stat().st_ino
        now += 599
        node.step()
        assert node.pods_file.stat().st_ino == written
        now += 1
        node.step()
        assert node.pods_file.stat().st_ino != written


def test_the_gpus(node: SimulatedNode) -> None:
    assert [(gpu.index, gpu.minor) for gpu in node.gpus] == [
        (0, 1),
        (1, 0),
        (2, 2),
        (3, 3),
        (4, 4),
    ]
    assert len({gpu.uuid for gpu in node.gpus}) == 5
    assert [(gpu.name, gpu.memory_total) for gpu in node.gpus] == [
        *4 * [("NVIDIA L40S", 46068 * MIB)],
        ("NVIDIA A100-SXM4-40GB", 40960 * MIB),
    ]
    parts = [(part.profile, part.gpu_instance_id) for part in node.gpus[4].mig]
    assert parts == [("3g.20gb", 1), ("3g.20gb", 2)]
    assert [pod.app for pod in node.pods if node.gpus[4] in pod.gpus] == ["segment-api"]
    assert [pod.app for pod in node.pods if node.gpus[3] in pod.gpus] == ["llm-finetune"]


def test_nvml_and_the_host_tell_of_the_same_processes(node: SimulatedNode) -> None:
    """Each GPU's processes are those of the regions, and the one that got round them."""
    for _ in range(3):
        node.step()
    source = NvmlSource(SimulatedLibrary(node.nvml_state))
    source.start()
    try:
        devices = asyncio.run(source.sample(timeout=20))
    finally:
        source.stop()
    assert devices is not None
    # Utilization is Not Supported on a GPU in MIG mode, and nothing else is.
    assert set(source.health().errors) <= {("nvmlDeviceGetUtilizationRates", node.gpus[4].uuid)}
    assert [(d.uuid, d.minor, d.memory_total) for d in devices] == [
        (gpu.uuid, gpu.minor, gpu.memory_total) for gpu in node.gpus
    ]
    held = {d.uuid: {p.pid: p.memory for p in d.processes or ()} for d in devices}
    for device in devices:
        assert device.memory_used == sum(memory or 0 for memory in held[device.uuid].values())
    expected: dict[str, dict[int, int]] = {gpu.uuid: {} for gpu in node.gpus}
    containers = [container for pod in node.containers for container in pod]
    owner = {}
    for container in containers:
        for use in container.uses():
            expected[use.gpu.uuid][use.hostpid] = use.memory
            owner[use.hostpid] = ContainerRef(container.pod.uid, container.state.container_id)
    assert held == expected
    host = HostProcesses(node.procfs_dir)
    assert host.visible()
    found = host.look(owner)
    assert {pid: process.container for pid, process in found.items()} == owner
    with inventory(node) as read:
        for entry in read().values():
            for process in entry.region.processes if entry.region else ():
                if process.status != GONE and process.hostpid in found:
                    assert found[process.hostpid].inner_pid == process.pid
    assert live_pids(node) == owner.keys() | {1, 2}


def test_no_container_and_no_gpu_is_given_more_than_there_is(node: SimulatedNode) -> None:
    for gpu in node.gpus:
        on_gpu = [pod for pod in node.pods if gpu in pod.gpus]
        assert sum(pod.memory for pod in on_gpu) <= gpu.memory_total
        assert sum(pod.core for pod in on_gpu) <= 100
    highest = 0.0
    with inventory(node) as read:
        for _ in range(100):
            node.step()
            for entry in read().values():
                if entry.region is None:
                    continue
                for place, device in enumerate(entry.region.devices):
                    used = totals(entry.region, place)
                    assert used <= device.memory_limit_bytes
                    highest = max(highest, used / device.memory_limit_bytes)
    assert highest > 0.95


def test_processes_have_no_more_of_a_gpu_than_there_is(node: SimulatedNode) -> None:
    full = 0
    for _ in range(40):
        node.step()
        used: dict[str, int] = {}
        for pod in node.containers:
            for container in pod:
                for use in container.uses():
                    used[use.gpu.uuid] = used.get(use.gpu.uuid, 0) + use.sm
        assert max(used.values()) <= 100
        full += max(used.values()) > 90
    assert full


def test_memory_is_the_sum_of_its_parts_and_what_nvml_says(node: SimulatedNode) -> None:
    for _ in range(15):  # The leak still lives.
        node.step()
    nvml = {
        (use.hostpid, use.mig.uuid if use.mig else use.gpu.uuid): use.memory
        for pod in node.containers
        for container in pod
        for use in container.uses()
    }
    checked = 0
    with inventory(node) as read:
        for entry in read().values():
            for process in entry.region.processes if entry.region else ():
                for place, use in enumerate(process.devices):
                    assert use.total == use.context + use.module + use.data
                    uuid = region_of(entry).devices[place].uuid
                    if uuid is not None and (process.hostpid, uuid) in nvml and use.total:
                        assert use.monitor_used == nvml[process.hostpid, uuid]
                        assert 0 <= use.monitor_used - use.total < 2 * MIB
                        checked += 1
    assert checked == 8


def test_a_pod_on_a_mig_device(node: SimulatedNode) -> None:
    """HAMi makes no directory for it, and HAMi-core is not in it."""
    node.step()
    plan = app(node, "segment-api")
    gpu, part = node.gpus[4], node.gpus[4].mig[0]
    [mig] = pods(node)["segment-api"].mig_allocations
    assert mig == MigAllocation("segment-api", 0, gpu.uuid, part.uuid, "3g.20gb", 1, 0)
    assert list(node.containers_dir.glob(f"{plan.uid}_*")) == []
    [container] = next(pod for pod in node.containers if pod[0].pod is plan)
    [use] = container.uses()
    reading = figures(node.gpus, [use], (), NOW, 0)[4]
    held = {use.hostpid: use.memory}
    assert (reading.utilization, reading.process_samples, reading.compute) == (None, None, held)
    assert [mig.compute for mig in reading.mig_devices] == [held, {}]
    assert reading.mig_devices[0].memory == Memory(19968 * MIB, use.memory)


@pytest.mark.parametrize(
    ("name", "limited", "allocated"),
    [("llm-finetune", False, 1.0), ("thumbnailer", False, None), ("custom-cuda", True, 0.06)],
)
def test_a_pod_that_hami_core_is_not_in(
    node: SimulatedNode, name: str, limited: bool, allocated: float | None
) -> None:
    """With a whole GPU, with time-slicing, and with an image that it can't be preloaded into."""
    node.step()
    plan, pod = app(node, name), pods(node)[name]
    assert pod.limited is limited
    assert [each.core_ratio for each in pod.allocations] == ([allocated] if allocated else [])
    assert len(list(node.containers_dir.glob(f"{plan.uid}_*"))) == int(limited)
    assert list(node.containers_dir.glob(f"{plan.uid}_*/*.cache")) == []
    [[container]] = [pod for pod in node.containers if pod[0].pod is plan]
    [use] = container.uses()
    assert use.memory > 300 * MIB


def test_what_hami_core_knows_of_its_processes(node: SimulatedNode) -> None:
    for _ in range(4):
        node.step()
    with inventory(node) as read:
        found = read()
    never, inner, right = (
        region_of(found[name]).processes for name in ("wav2vec-train", "resnet50-train", "chat-api")
    )
    assert [each.hostpid for each in never] == [0, 0]
    assert [each.hostpid == each.pid for each in inner] == [True]
    assert [each.hostpid in live_pids(node) for each in right] == [True]
    # The watcher measures nothing without a host PID.
    assert {use.sm_util for each in never for use in each.devices} == {0}
    assert {use.monitor_used for each in never for use in each.devices} == {0}


def test_one_process_goes_round_hami_core(node: SimulatedNode) -> None:
    node.step()
    plan = app(node, "feature-cache")
    [[container]] = [pod for pod in node.containers if pod[0].pod is plan]
    with inventory(node) as read:
        slots = {each.hostpid for each in region_of(read()["feature-cache"]).processes}
    uses = {use.hostpid for use in container.uses()}
    assert (len(slots), len(uses), len(uses - slots)) == (1, 2, 1)


def test_a_killed_worker_is_a_zombie_for_a_while(node: SimulatedNode) -> None:
    def zombies() -> set[str]:
        return {
            path.parent.name
            for path in node.procfs_dir.glob("*/stat")
            if path.read_text().rpartition(") ")[2].startswith("Z")
        }

    for _ in range(600):
        node.step()
        if zombies():
            break
    [zombie] = zombies()
    with inventory(node) as read:
        slots = {each.hostpid for each in region_of(read()["reranker"]).processes}
    assert int(zombie) in slots
    for _ in range(60):
        node.step()
    assert zombie not in zombies()


def test_the_file_comes_with_the_first_cuda_call(tmp_path: Path) -> None:
    with (
        SimulatedNode(tmp_path / "node", containers=14, clock=Clock()) as node,
        inventory(node) as read,
    ):
        for _ in range(7):
            node.step()
            entry = read()["asr-api"]
            assert (entry.state, entry.region) == ("waiting", None)
        node.step()
        assert region_of(read()["asr-api"]).proc_num == 1
        assert pods(node)["asr-api"].containers["asr-api"].finished is False


def test_the_leak_nears_its_limit_dies_and_comes_again(node: SimulatedNode) -> None:
    plan = app(node, "feature-cache")
    shares: list[float] = []
    with inventory(node) as read:
        while True:
            node.step()
            assert len(shares) < 200
            [process] = region_of(read()["feature-cache"]).processes
            if process.hostpid not in live_pids(node):
                break
            shares.append(process.devices[0].total / plan.memory)
        assert shares == sorted(shares)
        assert shares[-1] > 0.95
        # SIGKILL left the slot as it was, and kubelet has seen nothing yet.
        assert process.status == 1
        assert process.devices[0].total / plan.memory == shares[-1]
        assert not pods(node)["feature-cache"].containers["feature-cache"].finished

        directory = node.containers_dir / f"{plan.uid}_feature-cache"
        # Held open, so that its inode number can't go to the directory that takes its place.
        held = os.open(directory, os.O_RDONLY)
        for _ in range(20):
            node.step()
        ended = pods(node)["feature-cache"].containers["feature-cache"]
        assert ended.finished
        assert ended.finished_at == node_time(node)
        for _ in range(10):
            node.step()
        assert directory.stat().st_ino != os.fstat(held).st_ino
        os.close(held)
        assert read()["feature-cache"].state == "waiting"
        assert not pods(node)["feature-cache"].containers["feature-cache"].finished
        assert sorted(path.name for path in log_directory(node, plan).iterdir()) == [
            "0.log",
            "1.log",
        ]
        for _ in range(4):
            node.step()
        [again] = region_of(read()["feature-cache"]).processes
        assert again.hostpid in {0} | live_pids(node)
        assert 0 < again.devices[0].total / plan.memory < 0.95


def log_directory(node: SimulatedNode, plan: PodPlan) -> Path:
    name = f"{plan.namespace}_{plan.name}_{plan.uid}"
    return node.pod_logs_dir / name / plan.containers[-1].name


@pytest.mark.parametrize("layout", [V1_1, V1_2], ids=lambda layout: layout.name)
def test_workers_leave_are_killed_and_replaced(tmp_path: Path, layout: Layout) -> None:
    ended = killed = 0
    before: set[int] = set()
    with (
        SimulatedNode(tmp_path / "node", containers=2, layouts=[layout], clock=Clock()) as node,
        inventory(node) as read,
    ):
        for _ in range(1500):
            node.step()
            region = region_of(read()["reranker"])
            slots = {p.hostpid for p in region.processes if p.status != GONE and p.hostpid}
            live = slots & live_pids(node)
            killed += len((before - live) & slots)
            ended += len(before - live - slots)
            before = live
            assert len(live) <= 3
            assert region.proc_num <= 6
    assert ended > 5
    assert killed > 2


def test_a_process_in_no_region_is_on_the_gpu(node: SimulatedNode) -> None:
    plan = app(node, "custom-cuda")
    [[container]] = [pod for pod in node.containers if pod[0].pod is plan]
    [use] = container.uses()
    node.step()
    assert use.gpu == plan.gpus[0]
    assert use.memory > 300 * MIB
    with inventory(node) as read:
        known = {p.hostpid for e in read().values() if e.region for p in e.region.processes}
    assert use.hostpid not in known
    assert use.hostpid in live_pids(node)
    cgroup = (node.procfs_dir / str(use.hostpid) / "cgroup").read_text()
    assert f"-pod{plan.uid.replace('-', '_')}.slice/cri-containerd-" in cgroup
    assert (node.procfs_dir / "2" / "comm").read_text() == "kthreadd\n"


def test_containers_obey_the_monitor(node: SimulatedNode) -> None:
    """Blocked, no kernel starts; with the switch at 0 the core limit doesn't hold."""
    plan = app(node, "batch-embedding")
    [file] = (node.containers_dir / f"{plan.uid}_batch-embedding").glob("*.cache")
    region = next(x for x in LAYOUTS if x.name == layout_name(node, "batch-embedding")).region
    with inventory(node) as read:
        node.step()
        before = region_of(read()["batch-embedding"])
        assert 0 < before.processes[0].devices[0].sm_util <= plan.core
        store(file, region.recent_kernel.offset, -1)
        node.step()
        waiting = region_of(read()["batch-embedding"])
        for _ in range(2):
            node.step()
        blocked = region_of(read()["batch-embedding"])
        assert blocked.recent_kernel == -1
        # It left its time once, before it began to wait.
        assert blocked.last_kernel_time == waiting.last_kernel_time
        assert blocked.processes[0].devices[0].sm_util == 0
        assert totals(blocked) == totals(before)
        store(file, region.recent_kernel.offset, 0)
        store(file, region.utilization_switch.offset, 0)
        node.step()  # The watcher sees the switch after this step's launches.
        node.step()
        free = region_of(read()["batch-embedding"])
        assert free.recent_kernel == 2
        # Nearly all of the GPU, as far as the others leave it.
        assert free.processes[0].devices[0].sm_util >= 3 * plan.core


def layout_name(node: SimulatedNode, name: str) -> str:
    return app(node, name).containers[-1].layout.name


def store(path: Path, offset: int, value: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(value.to_bytes(4, "little", signed=True))


def test_the_pods_file_names_what_the_regions_have(node: SimulatedNode) -> None:
    found = pods(node)
    assert found["resnet50-train"].namespace == "team-vision"
    assert found["resnet50-train"].name.startswith("resnet50-train-")
    for name, pod in found.items():
        plan = app(node, name)
        if plan.scheduler == "none":
            assert pod.allocations == ()
            continue
        assert len(pod.allocations) == len(plan.gpus)
        for gpu in plan.gpus:
            koordinator = plan.scheduler == "koordinator"
            expected = Allocation(
                gpu.uuid,
                gpu.minor if koordinator else None,
                plan.memory,
                plan.core / 100,
            )
            assert expected in pod.allocations
    assert {app(node, name).scheduler for name in found} == {"koordinator", "hami", "none"}
    assert len(found["wav2vec-train"].allocations) == 2
    ended = found["eval-nightly"]
    assert ended.finished
    finished_at = ended.containers["eval-nightly"].finished_at
    directory = node.containers_dir / f"{ended.uid}_eval-nightly"
    assert finished_at is not None
    assert finished_at == directory.stat().st_mtime < NOW - 1000
    chat = found["chat-api"].containers
    assert (chat["fetch-weights"].finished, chat["chat-api"].finished) == (True, False)
    logs = {path.name for path in node.pod_logs_dir.iterdir()}
    assert logs == {f"{pod.namespace}_{pod.name}_{pod.uid}" for pod in found.values()}


@pytest.mark.parametrize("gpus", [1, 2, 8])
@pytest.mark.parametrize("containers", [0, 1, 5, 6, 7, 30])
def test_any_number_of_gpus_and_containers(tmp_path: Path, gpus: int, containers: int) -> None:
    with SimulatedNode(tmp_path / "node", gpus, containers, clock=Clock()) as node:
        for _ in range(3):
            node.step()
        with inventory(node) as read:
            read()
        assert len(node.gpus) == gpus
        assert len(list(node.containers_dir.iterdir())) == containers
        assert len({(pod.namespace, pod.name) for pod in node.pods}) == len(node.pods)
        for gpu in node.gpus:
            on_gpu = [pod for pod in node.pods if gpu in pod.gpus]
            assert sum(pod.memory for pod in on_gpu) <= gpu.memory_total


def test_a_thousand_plain_containers(tmp_path: Path) -> None:
    with SimulatedNode(tmp_path / "node", 8, 1000, plain=True, clock=Clock()) as node:
        node.step()
        view = ContainersDirectory(node.containers_dir).read()
        assert view.errors == {}
        assert len(view.containers) == 1000
        for entry in view.containers:
            region = region_of(entry)
            assert region.device_num == 2
            assert (
                0 < totals(region, 0) == totals(region, 1) <= region.devices[0].memory_limit_bytes
            )


def test_nobodys_files_are_overwritten(tmp_path: Path) -> None:
    (tmp_path / "containers").mkdir()
    (tmp_path / "containers" / "mine").write_text("data")
    with pytest.raises(SimulationError, match=f"^{tmp_path} is not empty and holds no earlier"):
        SimulatedNode(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["containers", "mine"]
    with pytest.raises(
        SimulationError, match=r"can't use .*mine for a simulation: not a directory$"
    ):
        SimulatedNode(tmp_path / "containers" / "mine")
    with pytest.raises(SimulationError, match=r"can't use /proc/x for a simulation: No such file"):
        SimulatedNode(Path("/proc/x"))
    assert (tmp_path / "containers" / "mine").read_text() == "data"


def test_a_former_simulation_makes_room(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "node"
    with SimulatedNode(directory, containers=12):
        with pytest.raises(SimulationError, match="another simulation is running in "):
            SimulatedNode(directory)
        assert len(list((directory / "containers").iterdir())) == 12
    assert len(list((directory / "containers").iterdir())) == 12
    with SimulatedNode(directory, containers=3):
        assert len(list((directory / "containers").iterdir())) == 3


def test_a_node_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 GPUs"):
        SimulatedNode(tmp_path / "node", gpus=0)
    assert not (tmp_path / "node").exists()


def test_it_lives_until_stopped(tmp_path: Path) -> None:
    clock, stop = Clock(), threading.Event()
    with SimulatedNode(tmp_path / "node", containers=3, clock=clock) as node:
        thread = threading.Thread(target=node.run, args=(stop, 0.001))
        thread.start()
        try:
            eventually(lambda: clock.now > NOW + 20)
        finally:
            stop.set()
            thread.join(10)
        assert not thread.is_alive()
        assert len(list(node.containers_dir.iterdir())) == 3


def test_more_containers_than_descriptors_are_usual(tmp_path: Path) -> None:
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))\n"
        "from vgpumonitor.simulate.node import SimulatedNode\n"
        "SimulatedNode(Path(sys.argv[1]), 2, 100, plain=True).close()\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "node")], check=True, timeout=60)
    assert len(list((tmp_path / "node" / "containers").glob("*/*.cache"))) == 100


def test_links_in_a_former_simulation_are_not_followed(tmp_path: Path) -> None:
    directory, other = tmp_path / "node", tmp_path / "other"
    SimulatedNode(directory, containers=0).close()
    other.mkdir()
    (other / "mine").write_text("data")
    (directory / "containers").rmdir()
    (directory / "containers").symlink_to(other)
    with pytest.raises(SimulationError, match=r"can't write a simulation to .*/node: "):
        SimulatedNode(directory)
    assert (other / "mine").read_text() == "data"


def test_the_gpus_figures_follow_their_load() -> None:
    [gpu, idle] = make_gpus(2, Random(0), mig=False)
    uses = [GpuUse(gpu, 11, 4 * MIB, 70), GpuUse(gpu, 12, 6 * MIB, 80)]
    busy, rest = first = figures([gpu, idle], uses, (), NOW, 0)
    assert (busy.uuid, busy.name, busy.minor) == (gpu.uuid, "NVIDIA L40S", 1)
    assert busy.memory == Memory(46068 * MIB, 10 * MIB, 610 * MIB)
    assert busy.compute == {11: 4 * MIB, 12: 6 * MIB}
    assert busy.process_samples is not None
    assert [(each.pid, each.sm) for each in busy.process_samples] == [(11, 70), (12, 80)]
    assert (busy.utilization, busy.power_milliwatts, busy.temperature) == ((100, 60), 350_000, 74)
    assert busy.throttle == 0x04
    assert rest.memory == Memory(46068 * MIB, 0, 610 * MIB)
    assert (rest.utilization, rest.power_milliwatts, rest.temperature) == ((0, 0), 36_000, 33)
    now_idle = [GpuUse(idle, 11, MIB, 50)]
    cooling, warming = figures([gpu, idle], now_idle, first, NOW + 1, 1)
    assert (cooling.utilization, cooling.power_milliwatts, cooling.throttle) == ((0, 0), 36_000, 0)
    assert (cooling.temperature, warming.temperature) == (72, 35)
    assert warming.power_milliwatts == 193_000
    cool, warm = figures([gpu, idle], now_idle, first, NOW + 60, 60)
    assert (cool.temperature, warm.temperature) == (33, 53)


@pytest.mark.parametrize("seconds", [1, 60, 240])
def test_counters_go_by_the_clock(tmp_path: Path, seconds: int) -> None:
    """Their rate is one that a GPU can have, however long a step is."""
    now = NOW
    with SimulatedNode(tmp_path / "node", 1, 3, plain=True, clock=lambda: now) as node:
        energy = []
        for _ in range(2):
            now += seconds
            node.step()
            [gpu] = read(node.nvml_state).devices
            energy.append((gpu.field_values or {})[83])
    assert gpu.power_milliwatts is not None
    assert gpu.power_milliwatts > 36_000
    assert energy[1] - energy[0] == gpu.power_milliwatts * seconds  # type: ignore[operator]


@pytest.mark.parametrize(
    ("number", "name", "clock"),
    [(1, "NVIDIA A100-SXM4-80GB", 1410), (2, "NVIDIA H100 80GB HBM3", 1980)],
)
def test_gpus_with_hbm_and_nvlink(number: int, name: str, clock: int) -> None:
    busy, idle = make_gpus(2, Random(0), number=number)
    uses = [GpuUse(busy, 11, MIB, 50)]
    at_first = figures([busy, idle], uses, (), NOW, 0)
    for before, seconds, links in (
        ((), 0, 0),
        (at_first, 1, 15_000_000),
        (at_first, 60, 900_000_000),
    ):
        first, second = figures([busy, idle], uses, before, NOW + seconds, seconds)
        values = first.field_values or {}
        assert (first.name, first.clocks and first.clocks[0]) == (name, clock)
        assert (values[82], values[138], values[38]) == (53 + 7, {0xFFFFFFFF: links}, 0)
        # A link of these does not go to sleep.
        assert second.pcie_generation == second.max_pcie_generation
        assert second.performance_state == 0


def test_the_gpus_counters_grow_and_their_links_sleep() -> None:
    gpus = make_gpus(3, Random(0), mig=False)
    uses = [GpuUse(gpus[0], 11, MIB, 100), GpuUse(gpus[2], 12, MIB, 50)]
    first = figures(gpus, uses, (), NOW, 0)
    energy, power, received = 83, 74, 198
    # What Prometheus takes for growth where a demo begins again.
    assert [(each.field_values or {})[energy] for each in first] == [0, 0, 0]
    for seconds in (1, 60):
        second = figures(gpus, uses, first, NOW + seconds, seconds)
        grown = [
            [
                (after.field_values or {})[number] - (before.field_values or {})[number]  # type: ignore[operator]
                for number in (energy, power, received)
            ]
            for before, after in zip(first, second, strict=True)
        ]
        a_second = [
            [350_000, 1_000_000_000, 900_000_000],
            [36_000, 0, 0],
            [193_000, 0, 450_000_000],
        ]
        assert grown == [[seconds * rate for rate in rates] for rates in a_second]
    assert [(each.pcie_generation, each.pcie_width) for each in second] == [
        (4, 16),
        (1, 16),
        (4, 8),
    ]
    assert [each.performance_state for each in second] == [0, 8, 0]
    assert [each.clocks for each in second] == [
        (2520, 2520, 9001, 1965),
        (210, 210, 405, 1185),
        (2520, 2520, 9001, 1965),
    ]
    assert [each.vbios_version for each in second] == ["95.02.66.00.02"] * 3
    assert [each.pci_bus_id for each in second] == [
        "00000000:17:00.0",
        "00000000:37:00.0",
        "00000000:57:00.0",
    ]
