"""The samples that the sets ``documented`` and ``hami`` share under different names."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vgpumonitor.metrics.family import DeviceValue, Sample
from vgpumonitor.region.model import Region
from vgpumonitor.snapshot import ContainerDevice, MemoryUse, NodeSnapshot
from vgpumonitor.sources.devices.nvml.source import Device


def memory(size: Callable[[MemoryUse], int]) -> DeviceValue:
    return lambda _, device: None if device.memory is None else size(device.memory)


def memory_limit(_: Region, device: ContainerDevice) -> float | None:
    return device.memory_limit


def core_utilization(_: Region, device: ContainerDevice) -> float | None:
    return device.core_utilization


def last_kernel(region: Region, _: ContainerDevice) -> float | None:
    """The moment of the last kernel; none for layout 0, or before the first."""
    return region.last_kernel_time or None


def host_device(snapshot: NodeSnapshot, device: Device) -> tuple[str, ...]:
    """Labels of a card: node, index, UUID, type."""
    return snapshot.node, str(device.index), device.uuid, f"NVIDIA-{device.name or ''}"


def host_memory_used(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for device in snapshot.devices:
        if device.memory_used is not None:
            yield host_device(snapshot, device), device.memory_used


def host_core_utilizations(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for device in snapshot.devices:
        if device.core_utilization is not None:
            yield host_device(snapshot, device), device.core_utilization


def host_memory_utilizations(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for device in snapshot.devices:
        if device.memory_utilization is not None:
            yield host_device(snapshot, device), device.memory_utilization
