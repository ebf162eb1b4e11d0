"""The set ``vgpu``: both witnesses of each container, and what was allocated. Base units; ratios
run from 0 to 1:

vgpu_allocated_memory_bytes{node="node-1",namespace="team-a",pod="train-0",device_index="0",
    device_uuid="GPU-…",device_minor="3"} 12079595520
vgpu_memory_used_bytes{node="node-1",namespace="team-a",pod="train-0",container="train",
    device_index="0",device_uuid="GPU-…",mig_uuid="",kind="context"} 314572800
vgpu_nvml_memory_used_bytes{node="node-1",namespace="team-a",pod="train-0",container="train",
    device_index="0",device_uuid="GPU-…",mig_uuid=""} 5368709120
vgpu_processes{node="node-1",namespace="team-a",pod="train-0",container="train",
    state="running"} 1
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from vgpumonitor.metrics import vgpu_devices
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
from vgpumonitor.metrics.values import (
    container_labels,
    last_kernel,
    memory_context,
    memory_data,
    memory_module,
    memory_other,
    of_region,
    ratio,
)
from vgpumonitor.region.launches import is_limit
from vgpumonitor.snapshot import (
    Container,
    ContainerDevice,
    DriverUse,
    NodeSnapshot,
    PodAllocation,
    ProcessDeviceUse,
    ProcessState,
)
from vgpumonitor.sources.devices import ProcessUtilization

_CONTAINER = ("node", "namespace", "pod", "container")
_CONTAINER_DEVICE = (*_CONTAINER, "device_index", "device_uuid", "mig_uuid")
_ALLOCATION = ("node", "namespace", "pod", "device_index", "device_uuid", "device_minor")
_STATES: tuple[ProcessState, ...] = ("running", "suspended", "dead", "unidentified")
_POD = ("node", "namespace", "pod", "uid", "workload_kind", "workload", "isolation")


def _labels(container: Container, device: ContainerDevice) -> tuple[str, ...]:
    return (
        *container_labels(container),
        "" if device.device_index is None else str(device.device_index),
        device.device_uuid,
        device.mig_uuid,
    )


def _per_device(name: str, text: str, value: DeviceValue) -> Family:
    return DeviceFamily(name, text, _CONTAINER_DEVICE, subject=_labels, values={(): value})


def _driver(value: Callable[[DriverUse], float | None]) -> DeviceValue:
    return lambda _, device: None if device.driver is None else value(device.driver)


def _driver_ratio(part: Callable[[ProcessUtilization], int]) -> DeviceValue:
    return _driver(
        lambda driver: None if driver.utilization is None else part(driver.utilization) / 100
    )


def _flag(value: bool | None) -> int | None:
    return None if value is None else int(value)


def _core_limit(_: Container, device: ContainerDevice) -> float | None:
    limit = device.core_limit
    return None if limit is None or not is_limit(limit) else limit / 100


def _pod_info(labels: Sequence[str]) -> Callable[[NodeSnapshot], Iterable[Sample]]:
    def samples(snapshot: NodeSnapshot) -> Iterator[Sample]:
        for pod in snapshot.pods:
            workload = pod.workload_kind, pod.workload
            chosen = (pod.labels.get(label, "") for label in labels)
            values = (
                *(snapshot.node, pod.namespace, pod.pod, pod.uid),
                *(*workload, pod.isolation),
                *chosen,
            )
            yield values, 1

    return samples


def _allocations(
    value: Callable[[PodAllocation], float | None],
) -> Callable[[NodeSnapshot], Iterable[Sample]]:
    def samples(snapshot: NodeSnapshot) -> Iterator[Sample]:
        for allocated in snapshot.allocations:
            found = value(allocated)
            index, minor = allocated.device_index, allocated.device_minor
            labels = (
                *(snapshot.node, allocated.namespace, allocated.pod),
                "" if index is None else str(index),
                allocated.device_uuid,
                "" if minor is None else str(minor),
            )
            if found is not None:
                yield labels, found

    return samples


def _processes(state: ProcessState) -> ContainerValue:
    def count(container: Container) -> float | None:
        if container.region is None:
            return None
        return [process.state for process in container.processes].count(state)

    return count


def _per_process(
    value: Callable[[ProcessDeviceUse], float | None],
) -> Callable[[Container], Iterable[Sample]]:
    """One sample per process that is not dead, and device."""

    def samples(container: Container) -> Iterator[Sample]:
        for process in container.processes:
            if process.state == "dead":
                continue
            pids = str(process.pid), str(process.host_pid)
            for use in process.uses:
                found = value(use)
                if found is not None:
                    yield (*_labels(container, container.devices[use.place]), *pids), found

    return samples


def pod_info(labels: Sequence[str] = ()) -> Family:
    """vgpu_pod_info with the pods' ``labels``, each as ``label_`` and its name, in which all
    that no metric label can have is ``_``. Raises ValueError where two become the same."""
    names = [f"label_{re.sub(r'[^a-zA-Z0-9_]', '_', label)}" for label in labels]
    for name in names:
        if names.count(name) > 1:
            same = ", ".join(label for label, own in zip(labels, names, strict=True) if own == name)
            raise ValueError(f"the pod labels {same} would all be {name}: expected one of them")
    return NodeFamily(
        "vgpu_pod_info",
        "The pod: its workload, and what isolates it on its GPUs",
        (*_POD, *names),
        samples=_pod_info(tuple(labels)),
        source=lambda snapshot: snapshot.pods,
    )


FAMILIES: tuple[Family, ...] = (
    pod_info(),
    NodeFamily(
        "vgpu_allocated_memory_bytes",
        "Device memory that the scheduler allocated to the pod on the GPU, in bytes",
        _ALLOCATION,
        samples=_allocations(lambda allocated: allocated.memory_bytes),
        source=lambda snapshot: snapshot.allocations,
    ),
    NodeFamily(
        "vgpu_allocated_core_ratio",
        "Share of the GPU's cores that the scheduler allocated to the pod (1 is the whole GPU)",
        _ALLOCATION,
        samples=_allocations(lambda allocated: allocated.core_ratio),
        source=lambda snapshot: snapshot.allocations,
    ),
    DeviceFamily(
        "vgpu_memory_used_bytes",
        "Device memory of the container's live processes by HAMi-core's account, in bytes, by kind",
        (*_CONTAINER_DEVICE, "kind"),
        subject=_labels,
        values={
            ("context",): memory_context,
            ("module",): memory_module,
            ("data",): memory_data,
            ("other",): memory_other,
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
        _core_limit,
    ),
    _per_device(
        "vgpu_core_utilization_ratio",
        "SM utilization of the container's live processes, as HAMi-core measured it (1 is the "
        "whole GPU); no series where it does not measure each",
        lambda _, device: ratio(device.core_utilization),
    ),
    _per_device(
        "vgpu_nvml_memory_used_bytes",
        "Device memory that the container's processes hold by the driver's account, in bytes",
        _driver(lambda driver: driver.memory),
    ),
    _per_device(
        "vgpu_nvml_core_utilization_ratio",
        "SM utilization of the container's processes by the driver's samples (1 is the whole GPU)",
        _driver_ratio(lambda utilization: utilization.core),
    ),
    _per_device(
        "vgpu_nvml_memory_controller_utilization_ratio",
        "Memory controller utilization of the container's processes by the driver's samples",
        _driver_ratio(lambda utilization: utilization.memory_controller),
    ),
    _per_device(
        "vgpu_nvml_encoder_utilization_ratio",
        "Encoder utilization of the container's processes by the driver's samples",
        _driver_ratio(lambda utilization: utilization.encoder),
    ),
    _per_device(
        "vgpu_nvml_decoder_utilization_ratio",
        "Decoder utilization of the container's processes by the driver's samples",
        _driver_ratio(lambda utilization: utilization.decoder),
    ),
    _per_device(
        "vgpu_memory_bypassed_bytes",
        "Device memory of the container's processes that HAMi-core does not account for, by the "
        "driver's account, in bytes",
        lambda _, device: device.bypassed,
    ),
    ContainerFamily(
        "vgpu_processes",
        "Processes of the container that use the device, by state",
        (*_CONTAINER, "state"),
        values={(state,): _processes(state) for state in _STATES},
    ),
    _per_device(
        "vgpu_dead_process_memory_bytes",
        "Device memory accounted for processes of the container that no longer exist, in bytes",
        lambda _, device: device.dead_memory,
    ),
    _per_device(
        "vgpu_last_kernel_timestamp_seconds",
        "Unix time of the container's last kernel launch, or of a process that attached",
        last_kernel,
    ),
    _per_device(
        "vgpu_priority",
        "Task priority of the container; lower numbers go first",
        of_region(lambda region: region.priority),
    ),
    _per_device(
        "vgpu_core_limit_enforced",
        "Whether there is a core limit and it holds in fact (1) or not (0)",
        lambda _, device: _flag(device.core_limit_enforced),
    ),
    _per_device(
        "vgpu_launches_blocked",
        "Whether the container's kernel launches wait in fact for a higher priority (1) or not (0)",
        lambda _, device: _flag(device.launches_blocked),
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
    *vgpu_devices.FAMILIES,
)

_PROCESS = (*_CONTAINER_DEVICE, "pid", "host_pid")

#: With --process-metrics only: a series per process.
PROCESS_FAMILIES: tuple[Family, ...] = (
    ProcessFamily(
        "vgpu_process_memory_used_bytes",
        "Device memory of the process by HAMi-core's account, in bytes",
        _PROCESS,
        samples=_per_process(lambda use: use.memory),
    ),
    ProcessFamily(
        "vgpu_process_core_utilization_ratio",
        "SM utilization of the process, as HAMi-core measured it (1 is the whole GPU)",
        _PROCESS,
        samples=_per_process(lambda use: ratio(use.core_utilization)),
    ),
    ProcessFamily(
        "vgpu_process_nvml_memory_used_bytes",
        "Device memory that the process holds by the driver's account, in bytes",
        _PROCESS,
        samples=_per_process(lambda use: use.driver_memory),
    ),
    ProcessFamily(
        "vgpu_process_nvml_core_utilization_ratio",
        "SM utilization of the process by the driver's samples (1 is the whole GPU)",
        _PROCESS,
        samples=_per_process(lambda use: ratio(use.driver_core_utilization)),
    ),
)
