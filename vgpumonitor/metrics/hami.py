"""The set ``hami``: the names of HAMi 2.9 and later. Its ratios run from 0 to 100."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vgpumonitor.metrics.family import AgeFamily, ContainerFamily, Family, NodeFamily, Sample
from vgpumonitor.metrics.series import (
    core_utilizations,
    host_core_utilizations,
    host_memory_used,
    host_memory_utilizations,
    last_kernels,
    memory_limits,
    memory_used,
)
from vgpumonitor.snapshot import Container, MemoryUse, NodeSnapshot

_ZONE = (("zone", "vGPU"),)
_HOST = ("node", "device_index", "device_uuid", "device_type")
_CONTAINER = ("namespace", "pod", "container", "vdevice_index", "device_uuid")


def _part(size: Callable[[MemoryUse], int]) -> Callable[[Container], Iterable[Sample]]:
    def samples(container: Container) -> Iterable[Sample]:
        for device in container.devices:
            if device.memory is not None:
                yield device.vdevice_labels, size(device.memory)

    return samples


def _mig_devices(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for mig in snapshot.mig_devices:
        yield (
            (
                mig.namespace,
                mig.pod,
                mig.container,
                str(mig.index),
                mig.device_uuid,
                mig.mig_uuid,
                mig.profile,
                str(mig.gpu_instance_id),
                str(mig.compute_instance_id),
            ),
            1,
        )


def _host(name: str, text: str, samples: Callable[[NodeSnapshot], Iterable[Sample]]) -> Family:
    return NodeFamily(name, text, _HOST, constant=_ZONE, samples=samples)


def _container(name: str, text: str, samples: Callable[[Container], Iterable[Sample]]) -> Family:
    return ContainerFamily(name, text, _CONTAINER, constant=_ZONE, samples=samples)


FAMILIES: tuple[Family, ...] = (
    _host(
        "hami_host_gpu_memory_used_bytes",
        "Memory in use on the card, in bytes",
        host_memory_used,
    ),
    _host(
        "hami_host_gpu_utilization_ratio",
        "Core utilization of the card (0-100)",
        host_core_utilizations,
    ),
    _host(
        "hami_host_gpu_memory_controller_utilization_ratio",
        "Memory controller utilization of the card (0-100)",
        host_memory_utilizations,
    ),
    _container(
        "hami_vgpu_memory_used_bytes",
        "Device memory that the container uses, in bytes",
        memory_used,
    ),
    _container(
        "hami_vgpu_memory_limit_bytes",
        "Device memory limit of the container, in bytes",
        memory_limits,
    ),
    _container(
        "hami_container_device_memory_bytes",
        "Device memory that the container uses, in bytes",
        memory_used,
    ),
    _container(
        "hami_container_device_utilization_ratio",
        "SM utilization of the container on the device (0-100)",
        core_utilizations,
    ),
    AgeFamily(
        "hami_container_last_kernel_elapsed_seconds",
        "Seconds since the container's last kernel launch",
        _CONTAINER,
        constant=_ZONE,
        samples=last_kernels,
    ),
    _container(
        "hami_vgpu_memory_context_bytes",
        "Device memory of the container's contexts, in bytes",
        _part(lambda use: use.context),
    ),
    _container(
        "hami_vgpu_memory_module_bytes",
        "Device memory of the container's modules, in bytes",
        _part(lambda use: use.module),
    ),
    _container(
        "hami_vgpu_memory_buffer_bytes",
        "Device memory of the container's buffers, in bytes",
        _part(lambda use: use.data),
    ),
    NodeFamily(
        "hami_mig_device_info",
        "MIG device of the container",
        (
            *_CONTAINER,
            "mig_uuid",
            "profile",
            "gpu_instance_id",
            "compute_instance_id",
        ),
        constant=_ZONE,
        samples=_mig_devices,
    ),
)
