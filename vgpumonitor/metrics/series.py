"""The samples that the sets ``documented`` and ``hami`` share under different names."""

from __future__ import annotations

from collections.abc import Iterable

from vgpumonitor.metrics.family import Sample
from vgpumonitor.snapshot import Container, NodeSnapshot
from vgpumonitor.sources.nvml import Device


def memory_used(container: Container) -> Iterable[Sample]:
    for device in container.devices:
        if device.memory is not None:
            yield device.vdevice_labels, device.memory.total


def memory_limits(container: Container) -> Iterable[Sample]:
    for device in container.devices:
        if device.memory_limit is not None:
            yield device.vdevice_labels, device.memory_limit


def core_utilizations(container: Container) -> Iterable[Sample]:
    for device in container.devices:
        if device.core_utilization is not None:
            yield device.vdevice_labels, device.core_utilization


def last_kernels(container: Container) -> Iterable[Sample]:
    """The moment of the last kernel; none for layout 0, or before the first."""
    region = container.region
    if region is not None and region.last_kernel_time:
        for device in container.devices:
            yield device.vdevice_labels, region.last_kernel_time


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
