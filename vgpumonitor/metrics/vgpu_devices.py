"""Of the set ``vgpu``: the GPUs and their MIG devices, as the driver tells of them:

vgpu_device_memory_total_bytes{node="node-1",device_index="0",device_uuid="GPU-…"} 42949672960
vgpu_device_throttled{node="node-1",device_index="0",device_uuid="GPU-…",
    reason="sw_power_cap"} 1
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vgpumonitor.metrics.family import Family, NodeFamily, Sample
from vgpumonitor.metrics.values import ratio
from vgpumonitor.snapshot import NodeSnapshot
from vgpumonitor.sources.devices import Device, MigDevice

DEVICE = ("node", "device_index", "device_uuid")


def _labels(snapshot: NodeSnapshot, device: Device) -> tuple[str, str, str]:
    return snapshot.node, str(device.index), device.uuid


def _per_device(
    value: Callable[[Device], float | None],
) -> Callable[[NodeSnapshot], Iterable[Sample]]:
    def samples(snapshot: NodeSnapshot) -> Iterable[Sample]:
        for device in snapshot.devices:
            found = value(device)
            if found is not None:
                yield _labels(snapshot, device), found

    return samples


def _per_mig_device(
    value: Callable[[MigDevice], float | None],
) -> Callable[[NodeSnapshot], Iterable[Sample]]:
    def samples(snapshot: NodeSnapshot) -> Iterable[Sample]:
        for device in snapshot.devices:
            for mig in device.mig_devices:
                found = value(mig)
                if found is not None:
                    yield (*_labels(snapshot, device), mig.uuid), found

    return samples


def _device_info(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for device in snapshot.devices:
        versions = device.driver_version or "", device.cuda_version or ""
        minor = "" if device.minor is None else str(device.minor)
        yield (*_labels(snapshot, device), device.name or "", *versions, minor), 1


def _mig_info(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for device in snapshot.devices:
        for mig in device.mig_devices:
            instances = str(mig.gpu_instance_id), str(mig.compute_instance_id)
            yield (*_labels(snapshot, device), mig.uuid, mig.name or "", *instances), 1


def _ecc_errors(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for device in snapshot.devices:
        for kind, count in device.ecc_errors.items():
            yield (*_labels(snapshot, device), kind), count


def _throttled(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for device in snapshot.devices:
        for reason, active in device.throttled.items():
            yield (*_labels(snapshot, device), reason), int(active)


def _unattributed(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for device in snapshot.devices:
        if device.uuid in snapshot.unattributed:
            yield _labels(snapshot, device), snapshot.unattributed[device.uuid]


def _processes(device: Device) -> float | None:
    return None if device.processes is None else len(device.processes)


FAMILIES: tuple[Family, ...] = (
    NodeFamily(
        "vgpu_device_info",
        "The GPU: its name, minor number and driver",
        (*DEVICE, "name", "driver_version", "cuda_version", "minor"),
        samples=_device_info,
    ),
    NodeFamily(
        "vgpu_device_memory_total_bytes",
        "Memory of the GPU, in bytes",
        DEVICE,
        samples=_per_device(lambda device: device.memory_total),
    ),
    NodeFamily(
        "vgpu_device_memory_used_bytes",
        "Memory in use on the GPU, in bytes, without what the driver reserves",
        DEVICE,
        samples=_per_device(lambda device: device.memory_used),
    ),
    NodeFamily(
        "vgpu_device_memory_reserved_bytes",
        "Memory of the GPU that the driver reserves for itself, in bytes",
        DEVICE,
        samples=_per_device(lambda device: device.memory_reserved),
    ),
    NodeFamily(
        "vgpu_device_core_utilization_ratio",
        "Core utilization of the GPU (1 is all of it)",
        DEVICE,
        samples=_per_device(lambda device: ratio(device.core_utilization)),
    ),
    NodeFamily(
        "vgpu_device_memory_controller_utilization_ratio",
        "Memory controller utilization of the GPU (1 is all of it)",
        DEVICE,
        samples=_per_device(lambda device: ratio(device.memory_utilization)),
    ),
    NodeFamily(
        "vgpu_device_power_watts",
        "Power draw of the GPU, in watts",
        DEVICE,
        samples=_per_device(lambda device: device.power_watts),
    ),
    NodeFamily(
        "vgpu_device_temperature_celsius",
        "Temperature of the GPU, in degrees Celsius",
        DEVICE,
        samples=_per_device(lambda device: device.temperature_celsius),
    ),
    NodeFamily(
        "vgpu_device_ecc_errors_total",
        "Memory errors that ECC found on the GPU, by kind",
        (*DEVICE, "kind"),
        "counter",
        samples=_ecc_errors,
    ),
    NodeFamily(
        "vgpu_device_throttled",
        "Whether the GPU's clocks are held down for this reason (1) or not (0)",
        (*DEVICE, "reason"),
        samples=_throttled,
    ),
    NodeFamily(
        "vgpu_device_processes",
        "Processes on the GPU",
        DEVICE,
        samples=_per_device(_processes),
    ),
    NodeFamily(
        "vgpu_device_memory_unattributed_bytes",
        "Memory on the GPU of processes in no container of the node's Kubernetes, in bytes",
        DEVICE,
        samples=_unattributed,
    ),
    NodeFamily(
        "vgpu_mig_device_info",
        "MIG device of the GPU",
        (*DEVICE, "mig_uuid", "profile", "gpu_instance_id", "compute_instance_id"),
        samples=_mig_info,
    ),
    NodeFamily(
        "vgpu_mig_device_memory_total_bytes",
        "Memory of the MIG device, in bytes",
        (*DEVICE, "mig_uuid"),
        samples=_per_mig_device(lambda mig: mig.memory_total),
    ),
    NodeFamily(
        "vgpu_mig_device_memory_used_bytes",
        "Memory in use on the MIG device, in bytes",
        (*DEVICE, "mig_uuid"),
        samples=_per_mig_device(lambda mig: mig.memory_used),
    ),
)
