"""The labels and values that families share, whatever their names. A container is asked for a
value once, however many families have it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vgpumonitor.metrics.family import DeviceValue, Sample
from vgpumonitor.region.model import Region
from vgpumonitor.snapshot import Container, ContainerDevice, NodeSnapshot
from vgpumonitor.sources.devices import Device


def container_labels(container: Container) -> tuple[str, ...]:
    """Its node and its names."""
    return container.node, container.namespace, container.pod, container.container


def vdevice_labels(container: Container, device: ContainerDevice) -> tuple[str, ...]:
    """The container's names, the device's index in the region, its UUID."""
    return (
        container.namespace,
        container.pod,
        container.container,
        str(device.index),
        device.uuid,
    )


def memory_total(_: Container, device: ContainerDevice) -> float | None:
    return None if device.memory is None else device.memory.total


def memory_context(_: Container, device: ContainerDevice) -> float | None:
    return None if device.memory is None else device.memory.context


def memory_module(_: Container, device: ContainerDevice) -> float | None:
    return None if device.memory is None else device.memory.module


def memory_data(_: Container, device: ContainerDevice) -> float | None:
    return None if device.memory is None else device.memory.data


def memory_other(_: Container, device: ContainerDevice) -> float | None:
    return None if device.memory is None else device.memory.other


def memory_limit(_: Container, device: ContainerDevice) -> float | None:
    return device.memory_limit


def core_utilization(container: Container, device: ContainerDevice) -> float | None:
    """Percent: HAMi-core's sum where it measures each process, otherwise the driver's, otherwise
    the sum of what HAMi-core measures, be it nothing, since those who use these families have no
    other."""
    if device.index is None:
        return None
    if device.core_utilization is not None:
        return device.core_utilization
    if device.driver is not None and device.driver.utilization is not None:
        return device.driver.utilization.core
    if "core_utilization" in device.implausible:
        return None
    place = container.devices.index(device)
    return sum(
        use.core_utilization or 0
        for process in container.processes
        if process.state != "dead"
        for use in process.uses
        if use.place == place
    )


def of_region(value: Callable[[Region], float | None]) -> DeviceValue:
    """A value of the region as a whole, for each of its devices."""

    def of_device(container: Container, device: ContainerDevice) -> float | None:
        region = container.region
        return None if region is None or device.index is None else value(region)

    return of_device


#: The moment of the last kernel; none for layout 0, or before the first.
last_kernel = of_region(lambda region: region.last_kernel_time or None)


def memory_with_reserve(device: Device) -> int | None:
    """Bytes in use on a device with what the driver reserves, as NVML's first version of the
    call has it, and HAMi's monitor."""
    if device.memory_used is None:
        return None
    return device.memory_used + (device.memory_reserved or 0)


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


def ratio(percent: int | None) -> float | None:
    return None if percent is None else percent / 100
