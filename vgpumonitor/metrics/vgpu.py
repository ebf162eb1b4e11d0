"""The set ``vgpu``: what nobody else exports. Base units; ratios run from 0 to 1:

vgpu_allocated_memory_bytes{namespace="team-a",pod="train-0",device_uuid="GPU-…",
    device_minor="3"} 12079595520
vgpu_memory_used_bytes{namespace="team-a",pod="train-0",container="train",
    device_uuid="GPU-…",kind="context"} 314572800
vgpu_processes{namespace="team-a",pod="train-0",container="train",state="running"} 1
vgpu_device_memory_total_bytes{node="node-1",device_uuid="GPU-…",device_index="0"} 42949672960
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from vgpumonitor.metrics.family import (
    ContainerFamily,
    ContainerValue,
    DeviceFamily,
    DeviceValue,
    Family,
    NodeFamily,
    ProcessFamily,
    Sample,
)
from vgpumonitor.metrics.values import container_labels, last_kernel, memory, of_region
from vgpumonitor.snapshot import (
    Container,
    ContainerDevice,
    ContainerProcess,
    NodeSnapshot,
    PodAllocation,
)
from vgpumonitor.sources.devices import Device, MigDevice

_CONTAINER = ("namespace", "pod", "container")
_CONTAINER_DEVICE = (*_CONTAINER, "device_uuid")
_DEVICE = ("node", "device_uuid", "device_index")
_ALLOCATION = ("namespace", "pod", "device_uuid", "device_minor")


def _labels(container: Container, device: ContainerDevice) -> tuple[str, ...]:
    return container.namespace, container.pod, container.container, device.uuid


def _per_device(name: str, text: str, value: DeviceValue) -> Family:
    return DeviceFamily(name, text, _CONTAINER_DEVICE, subject=_labels, values={(): value})


def _per_gpu(
    value: Callable[[Device], float | None],
) -> Callable[[NodeSnapshot], Iterable[Sample]]:
    def samples(snapshot: NodeSnapshot) -> Iterable[Sample]:
        for device in snapshot.devices:
            found = value(device)
            if found is not None:
                yield _gpu(snapshot, device), found

    return samples


def _gpu(snapshot: NodeSnapshot, device: Device) -> tuple[str, str, str]:
    return snapshot.node, device.uuid, str(device.index)


def _allocations(
    value: Callable[[PodAllocation], float | None],
) -> Callable[[NodeSnapshot], Iterable[Sample]]:
    def samples(snapshot: NodeSnapshot) -> Iterable[Sample]:
        for allocated in snapshot.allocations:
            found = value(allocated)
            minor = "" if allocated.device_minor is None else str(allocated.device_minor)
            if found is not None:
                yield (allocated.namespace, allocated.pod, allocated.device_uuid, minor), found

    return samples


def _processes(state: str) -> ContainerValue:
    def count(container: Container) -> float | None:
        if container.region is None:
            return None
        return sum(process.state == state for process in container.processes)

    return count


def _per_process(
    values: Callable[[ContainerProcess], Mapping[str, float]],
) -> Callable[[Container], Iterable[Sample]]:
    """One sample per live process and device; ``values`` are by device UUID."""

    def samples(container: Container) -> Iterable[Sample]:
        for process in container.processes:
            if process.state != "dead":
                pids = str(process.pid), str(process.host_pid)
                for uuid, value in values(process).items():
                    yield (*container_labels(container), uuid, *pids), value

    return samples


def _core_ratios(process: ContainerProcess) -> Mapping[str, float]:
    return {uuid: percent / 100 for uuid, percent in process.core_utilization.items()}


def _device_info(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for device in snapshot.devices:
        versions = device.driver_version or "", device.cuda_version or ""
        minor = "" if device.minor is None else str(device.minor)
        yield (*_gpu(snapshot, device), device.name or "", *versions, minor), 1


def _mig_info(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for device in snapshot.devices:
        for mig in device.mig_devices:
            instances = str(mig.gpu_instance_id), str(mig.compute_instance_id)
            yield (*_gpu(snapshot, device), mig.uuid, mig.name or "", *instances), 1


def _per_mig_device(
    value: Callable[[MigDevice], float | None],
) -> Callable[[NodeSnapshot], Iterable[Sample]]:
    def samples(snapshot: NodeSnapshot) -> Iterable[Sample]:
        for device in snapshot.devices:
            for mig in device.mig_devices:
                found = value(mig)
                if found is not None:
                    yield (*_gpu(snapshot, device), mig.uuid), found

    return samples


def _ecc_errors(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for device in snapshot.devices:
        for kind, count in device.ecc_errors.items():
            yield (*_gpu(snapshot, device), kind), count


def _throttled(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for device in snapshot.devices:
        for reason, active in device.throttled.items():
            yield (*_gpu(snapshot, device), reason), int(active)


def _unattributed(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for found in snapshot.unattributed:
        device = snapshot.node, found.device_uuid, str(found.device_index)
        yield (*device, found.namespace, found.pod), found.memory


def _ratio(percent: int | None) -> float | None:
    return None if percent is None else percent / 100


FAMILIES: tuple[Family, ...] = (
    NodeFamily(
        "vgpu_allocated_memory_bytes",
        "Device memory that the scheduler allocated to the pod on the GPU, in bytes",
        _ALLOCATION,
        samples=_allocations(lambda allocated: allocated.memory_bytes),
    ),
    NodeFamily(
        "vgpu_allocated_core_ratio",
        "Share of the GPU's cores that the scheduler allocated to the pod (1 is the whole GPU)",
        _ALLOCATION,
        samples=_allocations(lambda allocated: allocated.core_ratio),
    ),
    DeviceFamily(
        "vgpu_memory_used_bytes",
        "Device memory that the container's live processes use, in bytes, by kind",
        (*_CONTAINER_DEVICE, "kind"),
        subject=_labels,
        values={
            ("context",): memory(lambda use: use.context),
            ("module",): memory(lambda use: use.module),
            ("data",): memory(lambda use: use.data),
            ("other",): memory(lambda use: use.other),
        },
    ),
    _per_device(
        "vgpu_memory_limit_bytes",
        "Device memory limit of the container, in bytes; no series where there is none",
        lambda _, device: device.memory_limit or None,
    ),
    _per_device(
        "vgpu_core_limit_ratio",
        "Core limit of the container (1 is the whole GPU); no series where there is none",
        lambda _, device: _ratio(device.core_limit or None),
    ),
    _per_device(
        "vgpu_core_utilization_ratio",
        "SM utilization of the container's live processes (1 is the whole GPU)",
        lambda _, device: _ratio(device.core_utilization),
    ),
    _per_device(
        "vgpu_memory_nvml_bytes",
        "Device memory that NVML says the container's live processes hold, in bytes",
        memory(lambda use: use.driver),
    ),
    ContainerFamily(
        "vgpu_processes",
        "Processes of the container that use the device, by state",
        (*_CONTAINER, "state"),
        values={(state,): _processes(state) for state in ("running", "suspended", "dead")},
    ),
    _per_device(
        "vgpu_dead_process_memory_bytes",
        "Device memory accounted for processes of the container that no longer exist, in bytes",
        lambda _, device: device.dead_memory,
    ),
    _per_device(
        "vgpu_last_kernel_timestamp_seconds",
        "Unix time of the container's last kernel launch",
        last_kernel,
    ),
    _per_device(
        "vgpu_priority",
        "Task priority of the container; lower numbers go first",
        of_region(lambda region: region.priority),
    ),
    _per_device(
        "vgpu_core_limit_enforced",
        "Whether the core limit holds now (1) or is lifted (0)",
        of_region(lambda region: int(region.utilization_switch == 1)),
    ),
    _per_device(
        "vgpu_launches_blocked",
        "Whether the container's kernel launches wait for a higher priority (1) or not (0)",
        of_region(lambda region: int(region.recent_kernel < 0)),
    ),
    ContainerFamily(
        "vgpu_region_info",
        "Layout of the container's region file",
        (*_CONTAINER, "layout"),
        texts=(
            lambda container: (
                None if container.region is None else container.region.layout.encode()
            ),
        ),
        values={(): lambda container: None if container.region is None else 1},
    ),
    NodeFamily(
        "vgpu_device_info",
        "The GPU: its name, minor number and driver",
        (*_DEVICE, "name", "driver_version", "cuda_version", "minor"),
        samples=_device_info,
    ),
    NodeFamily(
        "vgpu_device_memory_total_bytes",
        "Memory of the GPU, in bytes",
        _DEVICE,
        samples=_per_gpu(lambda device: device.memory_total),
    ),
    NodeFamily(
        "vgpu_device_memory_used_bytes",
        "Memory in use on the GPU, in bytes",
        _DEVICE,
        samples=_per_gpu(lambda device: device.memory_used),
    ),
    NodeFamily(
        "vgpu_device_core_utilization_ratio",
        "Core utilization of the GPU (1 is all of it)",
        _DEVICE,
        samples=_per_gpu(lambda device: _ratio(device.core_utilization)),
    ),
    NodeFamily(
        "vgpu_device_power_watts",
        "Power draw of the GPU, in watts",
        _DEVICE,
        samples=_per_gpu(lambda device: device.power_watts),
    ),
    NodeFamily(
        "vgpu_device_temperature_celsius",
        "Temperature of the GPU, in degrees Celsius",
        _DEVICE,
        samples=_per_gpu(lambda device: device.temperature_celsius),
    ),
    NodeFamily(
        "vgpu_device_ecc_errors_total",
        "Memory errors that ECC found on the GPU, by kind",
        (*_DEVICE, "kind"),
        "counter",
        samples=_ecc_errors,
    ),
    NodeFamily(
        "vgpu_device_throttled",
        "Whether the GPU's clocks are held down for this reason (1) or not (0)",
        (*_DEVICE, "reason"),
        samples=_throttled,
    ),
    NodeFamily(
        "vgpu_device_memory_unattributed_bytes",
        "Memory on the GPU of processes that are in no region, in bytes",
        (*_DEVICE, "namespace", "pod"),
        samples=_unattributed,
    ),
    NodeFamily(
        "vgpu_mig_device_info",
        "MIG device of the GPU",
        (*_DEVICE, "mig_uuid", "profile", "gpu_instance_id", "compute_instance_id"),
        samples=_mig_info,
    ),
    NodeFamily(
        "vgpu_mig_device_memory_total_bytes",
        "Memory of the MIG device, in bytes",
        (*_DEVICE, "mig_uuid"),
        samples=_per_mig_device(lambda mig: mig.memory_total),
    ),
    NodeFamily(
        "vgpu_mig_device_memory_used_bytes",
        "Memory in use on the MIG device, in bytes",
        (*_DEVICE, "mig_uuid"),
        samples=_per_mig_device(lambda mig: mig.memory_used),
    ),
)

_PROCESS = (*_CONTAINER_DEVICE, "pid", "host_pid")

#: With --process-metrics only: a series per process.
PROCESS_FAMILIES: tuple[Family, ...] = (
    ProcessFamily(
        "vgpu_process_memory_used_bytes",
        "Device memory that the process uses, in bytes",
        _PROCESS,
        samples=_per_process(lambda process: process.memory),
    ),
    ProcessFamily(
        "vgpu_process_core_utilization_ratio",
        "SM utilization of the process (1 is the whole GPU)",
        _PROCESS,
        samples=_per_process(_core_ratios),
    ),
)
