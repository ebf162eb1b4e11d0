"""The set ``documented``: what Koordinator's guide lists, by the names of HAMi up to 2.8:

HostGPUMemoryUsage{zone="vGPU",nodeid="node-1",deviceidx="0",deviceuuid="GPU-…",
    devicetype="NVIDIA-A100"} 22548578304
vGPU_device_memory_usage_in_bytes{zone="vGPU",podnamespace="team-a",podname="train-0",
    ctrname="train",vdeviceid="0",deviceuuid="GPU-…"} 1395654657
Device_last_kernel_of_container{zone="vGPU",podnamespace="team-a",podname="train-0",
    ctrname="train",vdeviceid="0",deviceuuid="GPU-…"} 60.000
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vgpumonitor.metrics.family import (
    AgeFamily,
    DeviceFamily,
    DeviceValue,
    Family,
    NodeFamily,
    Sample,
)
from vgpumonitor.metrics.values import (
    core_utilization,
    host_device,
    last_kernel,
    memory_limit,
    memory_total,
    memory_with_reserve,
    vdevice_labels,
)
from vgpumonitor.snapshot import Container, ContainerDevice, MemoryUse, NodeSnapshot

_ZONE = (("zone", "vGPU"),)
_HOST = ("nodeid", "deviceidx", "deviceuuid", "devicetype")
_CONTAINER = ("podnamespace", "podname", "ctrname", "vdeviceid", "deviceuuid")


def _mig_devices(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for mig in snapshot.mig_devices:
        names = mig.namespace, mig.pod, mig.container
        yield (*names, str(mig.index), mig.device_uuid, str(mig.gpu_instance_id)), 1


def _described(size: Callable[[MemoryUse], int | None]) -> DeviceValue:
    """A figure of the memory description, which has all of them in one series, or no series."""

    def value(_: Container, device: ContainerDevice) -> float | None:
        if device.memory is None or "memory" in device.implausible:
            return None
        return size(device.memory)

    return value


#: Its byte counts are labels, so that each allocation makes a new series: it can be left out.
MEMORY_DESCRIPTION = DeviceFamily(
    "Device_memory_desc_of_container",
    "Container device memory description",
    (*_CONTAINER, "context", "module", "data", "offset"),
    constant=_ZONE,
    subject=vdevice_labels,
    numbers=(
        _described(lambda use: use.context),
        _described(lambda use: use.module),
        _described(lambda use: use.data),
        _described(lambda use: use.other),
    ),
    values={(): _described(lambda use: use.total)},
)

FAMILIES: tuple[Family, ...] = (
    NodeFamily(
        "HostGPUMemoryUsage",
        "GPU device memory usage",
        _HOST,
        constant=_ZONE,
        samples=host_device(memory_with_reserve),
    ),
    NodeFamily(
        "HostCoreUtilization",
        "GPU core utilization",
        _HOST,
        constant=_ZONE,
        samples=host_device(lambda device: device.core_utilization),
    ),
    DeviceFamily(
        "vGPU_device_memory_usage_in_bytes",
        "vGPU device usage",
        _CONTAINER,
        constant=_ZONE,
        subject=vdevice_labels,
        values={(): memory_total},
    ),
    DeviceFamily(
        "vGPU_device_memory_limit_in_bytes",
        "vGPU device limit",
        _CONTAINER,
        constant=_ZONE,
        subject=vdevice_labels,
        values={(): memory_limit},
    ),
    MEMORY_DESCRIPTION,
    DeviceFamily(
        "Device_utilization_desc_of_container",
        "Container device utilization description",
        _CONTAINER,
        constant=_ZONE,
        subject=vdevice_labels,
        values={(): core_utilization},
    ),
    AgeFamily(
        "Device_last_kernel_of_container",
        "Container device last kernel description",
        _CONTAINER,
        constant=_ZONE,
        subject=vdevice_labels,
        values={(): last_kernel},
    ),
    NodeFamily(
        "MigInfo",
        "Mig device information for container",
        (*_CONTAINER, "instanceid"),
        constant=_ZONE,
        samples=_mig_devices,
    ),
)
