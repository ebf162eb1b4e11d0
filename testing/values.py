"""Values for tests of what is right of the sources: regions, pods and GPUs by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vgpumonitor.region.model import ProcessDevice, Region, RegionDevice, RegionProcess
from vgpumonitor.snapshot import (
    Identities,
    NodeSnapshot,
    SnapshotBuilder,
    SourceViews,
)
from vgpumonitor.snapshot.identity import Unfound, identify, slot_owners
from vgpumonitor.sources.containers import ContainerReading, ContainersView
from vgpumonitor.sources.devices import Device
from vgpumonitor.sources.pods import Pod, PodsView
from vgpumonitor.sources.processes import ContainerRef, HostProcess

UID = "9d3f1c6e-6f55-4c5e-8a43-0f2c9b1f3a11"
OTHER = "0c9a5f0e-52ad-4a8e-9b86-3a4b9b0a7e22"
GPU = "GPU-8664316c-6888-5063-1e4d-f2a09cfbf100"
GPU_2 = "GPU-8664316c-6888-5063-1e4d-f2a09cfbf101"
MIB = 1 << 20
GIB = 1 << 30
NOW = 1_800_000_000.0


def use(
    context: int = 0, module: int = 0, data: int = 0, sm: int = 0, other: int = 0, nvml: int = 0
) -> ProcessDevice:
    total = context + module + data + other
    return ProcessDevice(context, module, data, 0, total, nvml, 0, 0, sm)


def process(
    *uses: ProcessDevice, hostpid: int = 100, pid: int = 7, status: int = 1
) -> RegionProcess:
    return RegionProcess(pid, hostpid, status, 2, uses)


def region(
    *processes: RegionProcess,
    uuids: Iterable[str | None] = (GPU,),
    limit: int = 10 * GIB,
    sm_limit: int = 50,
    recent_kernel: int = 2,
    utilization_switch: int = 1,
    priority: int = 1,
    last_kernel_time: int | None = int(NOW) - 60,
    layout: str = "1.2",
) -> Region:
    devices = tuple(RegionDevice(uuid, limit, sm_limit) for uuid in uuids)
    return Region(
        layout=layout,
        version=(1, 2),
        size=2008953,
        device_num=len(devices),
        proc_num=len(processes),
        devices=devices,
        processes=processes,
        torn=0,
        missing=0,
        utilization_switch=utilization_switch,
        recent_kernel=recent_kernel,
        priority=priority,
        last_kernel_time=last_kernel_time,
    )


def entry(
    found: Region | None,
    uid: str = UID,
    container: str = "train",
    changed: float = NOW - 3600,
    error: str | None = None,
) -> ContainerReading:
    state = "ok" if found is not None else "waiting" if error is None else "unreadable"
    return ContainerReading(uid, container, state, found, error, f"{uid}_{container}", changed)


def gpu(
    uuid: str = GPU,
    index: int = 0,
    minor: int | None = 3,
    memory_total: int | None = 40 * GIB,
    **more: object,
) -> Device:
    values: dict[str, object] = {
        "vendor": "NVIDIA",
        "name": "A100",
        "driver_version": "570.1",
        "cuda_version": "12.8",
        "memory_used": 20 * GIB,
        "memory_reserved": None,
        "core_utilization": 75,
        "memory_utilization": 30,
        "power_watts": 250.5,
        "temperature_celsius": 61,
        "ecc_errors": {},
        "throttled": {},
        "processes": (),
        "mig_devices": (),
        **more,
    }
    return Device(index=index, uuid=uuid, minor=minor, memory_total=memory_total, **values)  # type: ignore[arg-type]


def pods_view(*pods: Pod, deleted: Mapping[str, Pod] | None = None, up: bool = True) -> PodsView:
    return PodsView(
        pods={pod.uid: pod for pod in pods}, up=up, synced=NOW - 5, deleted=deleted or {}
    )


def snapshot(
    *entries: ContainerReading,
    pods: PodsView | None = None,
    gpus: Iterable[Device] = (),
    live: Iterable[int] | None = None,
    unfound: Unfound = "believed",
    on_devices: Mapping[int, ContainerRef | None] | None = None,
    builder: SnapshotBuilder | None = None,
    time: float = NOW,
    directory_up: bool = True,
) -> NodeSnapshot:
    """``live`` are the host PIDs of the regions' processes that live; None where nobody looks,
    and each process is ``unfound``. ``on_devices`` are containers of other host processes."""
    gpus = tuple(gpus)
    pods = pods or pods_view()
    return (builder or SnapshotBuilder("node-1")).build(
        SourceViews(
            time,
            containers=ContainersView(entries, up=directory_up),
            pod_source="file",
            pods=pods,
            devices=gpus,
            known_devices=gpus,
            identities=Identities(unfound=unfound)
            if live is None
            else identities(entries, pods, live, on_devices or {}),
        )
    )


def identities(
    entries: Iterable[ContainerReading],
    pods: PodsView,
    live: Iterable[int],
    on_devices: Mapping[int, ContainerRef | None],
) -> Identities:
    live = set(live)
    owners = slot_owners(entries, pods)
    host = {
        slot.hostpid: HostProcess(slot.hostpid, slot.pid, ContainerRef(owner.key[0], ""))
        for owner in owners
        for slot in owner.slots
        if slot.hostpid in live
    } | {pid: HostProcess(pid, pid % 100, container) for pid, container in on_devices.items()}
    return Identities(identify(owners, host, on_devices), host, True, "dead")
