"""Of the set ``vgpu``: the GPUs and their MIG devices, as the driver tells of them:

vgpu_device_memory_total_bytes{node="node-1",device_index="0",device_uuid="GPU-…"} 42949672960
vgpu_device_throttled{node="node-1",device_index="0",device_uuid="GPU-…",
    reason="sw_power_cap"} 1
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vgpumonitor.metrics.family import Family, NodeFamily, Sample
from vgpumonitor.metrics.values import ratio
from vgpumonitor.snapshot import DeviceXid, NodeSnapshot
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


def _per_part(
    values: Callable[[Device], Mapping[Any, float]],
) -> Callable[[NodeSnapshot], Iterable[Sample]]:
    """Of a value by one more label."""

    def samples(snapshot: NodeSnapshot) -> Iterable[Sample]:
        for device in snapshot.devices:
            for part, found in values(device).items():
                yield (*_labels(snapshot, device), str(part)), found

    return samples


def _flag(value: bool | None) -> float | None:
    return None if value is None else int(value)


def _device_info(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for device in snapshot.devices:
        facts = (
            device.name,
            device.driver_version,
            device.cuda_version,
            None if device.minor is None else str(device.minor),
            device.serial,
            device.vbios_version,
            device.pci_bus_id,
        )
        yield (*_labels(snapshot, device), *(fact or "" for fact in facts)), 1


def _throttled(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for device in snapshot.devices:
        for reason, active in device.throttled.items():
            yield (*_labels(snapshot, device), reason), int(active)


def _fan_speeds(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for device in snapshot.devices:
        for fan, percent in device.fan_speeds.items():
            yield (*_labels(snapshot, device), str(fan)), percent / 100


def _mig_info(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for device in snapshot.devices:
        for mig in device.mig_devices:
            instances = str(mig.gpu_instance_id), str(mig.compute_instance_id)
            yield (*_labels(snapshot, device), mig.uuid, mig.name or "", *instances), 1


def _unattributed(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for device in snapshot.devices:
        if device.uuid in snapshot.unattributed:
            yield _labels(snapshot, device), snapshot.unattributed[device.uuid]


def _xids(
    value: Callable[[DeviceXid], float],
) -> Callable[[NodeSnapshot], Iterable[Sample]]:
    """Also of GPUs that are gone. The index is today's, where there is one."""

    def samples(snapshot: NodeSnapshot) -> Iterable[Sample]:
        today = {device.uuid: device.index for device in snapshot.devices}
        for xid in snapshot.xids:
            index = today.get(xid.device_uuid, xid.device_index)
            yield (snapshot.node, str(index), xid.device_uuid, str(xid.xid)), value(xid)

    return samples


def _processes(device: Device) -> float | None:
    return None if device.processes is None else len(device.processes)


FAMILIES: tuple[Family, ...] = (
    NodeFamily(
        "vgpu_device_info",
        "The GPU: its name, numbers, place and driver",
        (
            *DEVICE,
            "name",
            "driver_version",
            "cuda_version",
            "minor",
            "serial",
            "vbios_version",
            "pci_bus_id",
        ),
        samples=_device_info,
    ),
    NodeFamily(
        "vgpu_device_up",
        "Whether the GPU is there (1), or was seen since the exporter's start and is lost (0)",
        DEVICE,
        samples=_per_device(lambda device: int(device.up)),
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
        "vgpu_device_encoder_utilization_ratio",
        "Encoder utilization of the GPU (1 is all of it)",
        DEVICE,
        samples=_per_device(lambda device: ratio(device.encoder_utilization)),
    ),
    NodeFamily(
        "vgpu_device_decoder_utilization_ratio",
        "Decoder utilization of the GPU (1 is all of it)",
        DEVICE,
        samples=_per_device(lambda device: ratio(device.decoder_utilization)),
    ),
    NodeFamily(
        "vgpu_device_power_watts",
        "Power draw of the GPU, in watts",
        DEVICE,
        samples=_per_device(lambda device: device.power_watts),
    ),
    NodeFamily(
        "vgpu_device_power_limit_watts",
        "Power limit that is enforced on the GPU, in watts",
        DEVICE,
        samples=_per_device(lambda device: device.power_limit_watts),
    ),
    NodeFamily(
        "vgpu_device_energy_joules_total",
        "Energy that the GPU used since the driver was loaded, in joules",
        DEVICE,
        "counter",
        samples=_per_device(lambda device: device.energy_joules),
    ),
    NodeFamily(
        "vgpu_device_temperature_celsius",
        "Temperature of the GPU, in degrees Celsius",
        DEVICE,
        samples=_per_device(lambda device: device.temperature_celsius),
    ),
    NodeFamily(
        "vgpu_device_memory_temperature_celsius",
        "Temperature of the GPU's memory, in degrees Celsius",
        DEVICE,
        samples=_per_device(lambda device: device.memory_temperature_celsius),
    ),
    NodeFamily(
        "vgpu_device_temperature_threshold_celsius",
        "Temperature at which the GPU slows down or shuts down, in degrees Celsius",
        (*DEVICE, "threshold"),
        samples=_per_part(lambda device: device.temperature_thresholds),
    ),
    NodeFamily(
        "vgpu_device_clock_hertz",
        "Clock of the GPU, in hertz",
        (*DEVICE, "clock"),
        samples=_per_part(lambda device: device.clocks),
    ),
    NodeFamily(
        "vgpu_device_clock_max_hertz",
        "Highest clock of the GPU, in hertz",
        (*DEVICE, "clock"),
        samples=_per_part(lambda device: device.max_clocks),
    ),
    NodeFamily(
        "vgpu_device_fan_speed_ratio",
        "Speed of the GPU's fan (1 is its full speed)",
        (*DEVICE, "fan"),
        samples=_fan_speeds,
    ),
    NodeFamily(
        "vgpu_device_performance_state",
        "Performance state of the GPU, from 0 (fastest) to 15",
        DEVICE,
        samples=_per_device(lambda device: device.performance_state),
    ),
    NodeFamily(
        "vgpu_device_throttled",
        "Whether the GPU's clocks are held down for this reason (1) or not (0)",
        (*DEVICE, "reason"),
        samples=_throttled,
    ),
    NodeFamily(
        "vgpu_device_throttled_seconds_total",
        "Time for which the GPU's clocks were held down for this reason, in seconds",
        (*DEVICE, "reason"),
        "counter",
        samples=_per_part(lambda device: device.throttled_seconds),
    ),
    NodeFamily(
        "vgpu_device_ecc_errors_total",
        "Memory errors that ECC found on the GPU, by kind",
        (*DEVICE, "kind"),
        "counter",
        samples=_per_part(lambda device: device.ecc_errors),
    ),
    NodeFamily(
        "vgpu_device_remapped_rows_total",
        "Memory rows of the GPU that were remapped, by the kind of error",
        (*DEVICE, "kind"),
        "counter",
        samples=_per_part(lambda device: device.remapped_rows),
    ),
    NodeFamily(
        "vgpu_device_row_remap_pending",
        "Whether a memory row waits for the GPU's reset to be remapped (1) or none does (0)",
        DEVICE,
        samples=_per_device(lambda device: _flag(device.row_remap_pending)),
    ),
    NodeFamily(
        "vgpu_device_row_remap_failed",
        "Whether remapping a memory row of the GPU failed (1) or not (0)",
        DEVICE,
        samples=_per_device(lambda device: _flag(device.row_remap_failed)),
    ),
    NodeFamily(
        "vgpu_device_retired_pages_total",
        "Memory pages of the GPU that were retired, by cause",
        (*DEVICE, "cause"),
        "counter",
        samples=_per_part(lambda device: device.retired_pages),
    ),
    NodeFamily(
        "vgpu_device_page_retirement_pending",
        "Whether a memory page waits for the GPU's reset to be retired (1) or none does (0)",
        DEVICE,
        samples=_per_device(lambda device: _flag(device.page_retirement_pending)),
    ),
    NodeFamily(
        "vgpu_device_pcie_replays_total",
        "Packets that were sent again over the GPU's PCIe link",
        DEVICE,
        "counter",
        samples=_per_device(lambda device: device.pcie_replays),
    ),
    NodeFamily(
        "vgpu_device_pcie_bytes_total",
        "Bytes over the GPU's PCIe link, by direction",
        (*DEVICE, "direction"),
        "counter",
        samples=_per_part(lambda device: device.pcie_bytes),
    ),
    NodeFamily(
        "vgpu_device_pcie_link_generation",
        "Generation of the GPU's PCIe link now; an idle link slows down",
        DEVICE,
        samples=_per_device(lambda device: device.pcie_generation),
    ),
    NodeFamily(
        "vgpu_device_pcie_link_generation_max",
        "Highest generation that the GPU and its slot have",
        DEVICE,
        samples=_per_device(lambda device: device.max_pcie_generation),
    ),
    NodeFamily(
        "vgpu_device_pcie_link_width",
        "Lanes of the GPU's PCIe link now",
        DEVICE,
        samples=_per_device(lambda device: device.pcie_width),
    ),
    NodeFamily(
        "vgpu_device_pcie_link_width_max",
        "Most lanes that the GPU and its slot have",
        DEVICE,
        samples=_per_device(lambda device: device.max_pcie_width),
    ),
    NodeFamily(
        "vgpu_device_nvlink_bytes_total",
        "Bytes of payload over all NVLinks of the GPU, by direction",
        (*DEVICE, "direction"),
        "counter",
        samples=_per_part(lambda device: device.nvlink_bytes),
    ),
    NodeFamily(
        "vgpu_device_nvlink_errors_total",
        "Errors of all NVLinks of the GPU, by kind",
        (*DEVICE, "kind"),
        "counter",
        samples=_per_part(lambda device: device.nvlink_errors),
    ),
    NodeFamily(
        "vgpu_device_xid_errors_total",
        "XID errors that the driver reported for the GPU since the exporter's start, by code",
        (*DEVICE, "xid"),
        "counter",
        samples=_xids(lambda xid: xid.count),
    ),
    NodeFamily(
        "vgpu_device_last_xid_timestamp_seconds",
        "When the driver last reported this XID error for the GPU, in Unix seconds",
        (*DEVICE, "xid"),
        samples=_xids(lambda xid: xid.last_time),
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
