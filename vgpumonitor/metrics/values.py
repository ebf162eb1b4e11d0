"""The labels and values that families share, whatever their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vgpumonitor.metrics.family import DeviceValue, Sample
from vgpumonitor.region.model import Region
from vgpumonitor.snapshot import Container, ContainerDevice, MemoryUse, NodeSnapshot
from vgpumonitor.sources.devices import Device


def container_labels(container: Container) -> tuple[str, ...]:
    return container.namespace, container.pod, container.container


def vdevice_labels(container: Container, device: ContainerDevice) -> tuple[str, ...]:
    """The container's names, the device's index in the region, its UUID."""
    return (
        container.namespace,
        container.pod,
        container.container,
        str(device.index),
        device.uuid,
    )


def memory(size: Callable[[MemoryUse], int]) -> DeviceValue:
    return lambda _, device: None if device.memory is None else size(device.memory)


def memory_limit(_: Container, device: ContainerDevice) -> float | None:
    return device.memory_limit


def core_utilization(_: Container, device: ContainerDevice) -> float | None:
    return device.core_utilization


def of_region(value: Callable[[Region], float | None]) -> DeviceValue:
    """A value of the region as a whole, for each of its devices."""

    def of_device(container: Container, _: ContainerDevice) -> float | None:
        region = container.reading.region
        return None if region is None else value(region)

    return of_device


#: The moment of the last kernel; none for layout 0, or before the first.
last_kernel = of_region(lambda region: region.last_kernel_time or None)


def host_device(
    value: Callable[[Device], float | None],
) -> Callable[[NodeSnapshot], Iterable[Sample]]:
    """One sample per device, labelled as HAMi does: node, index, UUID, type."""

    def samples(snapshot: NodeSnapshot) -> Iterable[Sample]:
        for device in snapshot.devices:
            found = value(device)
            if found is not None:
                type_ = f"{device.vendor}-{device.name or ''}"
                yield (snapshot.node, str(device.index), device.uuid, type_), found

    return samples
