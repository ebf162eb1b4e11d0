"""The set ``hami``: the names of HAMi 2.10, and of its master after it. Ratios run from 0 to 100:

hami_host_gpu_memory_used_bytes{zone="vGPU",node="node-1",device_index="0",
    device_uuid="GPU-…",device_type="NVIDIA-A100"} 22548578304
hami_vgpu_memory_used_bytes{zone="vGPU",namespace="team-a",pod="train-0",container="train",
    vdevice_index="0",device_uuid="GPU-…"} 1395654657
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vgpumonitor import __version__
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
    memory_context,
    memory_data,
    memory_limit,
    memory_module,
    memory_total,
    memory_with_reserve,
    vdevice_labels,
)
from vgpumonitor.snapshot import NodeSnapshot
from vgpumonitor.sources.devices import Device

_ZONE = (("zone", "vGPU"),)
_HOST = ("node", "device_index", "device_uuid", "device_type")
_DEVICE = ("namespace", "pod", "container", "vdevice_index", "device_uuid")


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


_ECC = {
    "corrected": host_device(lambda device: device.ecc_errors.get("corrected")),
    "uncorrected": host_device(lambda device: device.ecc_errors.get("uncorrected")),
}


def _ecc_errors(snapshot: NodeSnapshot) -> Iterable[Sample]:
    for kind, samples in _ECC.items():
        for labels, count in samples(snapshot):
            yield (*labels, kind), count


def _host(name: str, text: str, value: Callable[[Device], float | None]) -> Family:
    return NodeFamily(name, text, _HOST, constant=_ZONE, samples=host_device(value))


def _device(name: str, text: str, value: DeviceValue) -> Family:
    return DeviceFamily(
        name, text, _DEVICE, constant=_ZONE, subject=vdevice_labels, values={(): value}
    )


FAMILIES: tuple[Family, ...] = (
    _host(
        "hami_host_gpu_memory_used_bytes",
        "Memory in use on the GPU, the driver's reserve included, in bytes",
        memory_with_reserve,
    ),
    _host(
        "hami_host_gpu_utilization_ratio",
        "Core utilization of the GPU (0-100)",
        lambda device: device.core_utilization,
    ),
    _host(
        "hami_host_gpu_memory_controller_utilization_ratio",
        "Memory controller utilization of the GPU (0-100)",
        lambda device: device.memory_utilization,
    ),
    _host(
        "hami_host_gpu_temperature_celsius",
        "Temperature of the GPU, in degrees Celsius",
        lambda device: device.temperature_celsius,
    ),
    _host(
        "hami_host_gpu_power_usage_watts",
        "Power draw of the GPU, in watts",
        lambda device: device.power_watts,
    ),
    NodeFamily(
        "hami_host_gpu_ecc_errors_total",
        "Memory errors that ECC found on the GPU, by kind",
        (*_HOST, "error_type"),
        "counter",
        constant=_ZONE,
        samples=_ecc_errors,
    ),
    _device(
        "hami_vgpu_memory_used_bytes",
        "Device memory that the container uses, in bytes",
        memory_total,
    ),
    _device(
        "hami_vgpu_memory_limit_bytes",
        "Device memory limit of the container, in bytes",
        memory_limit,
    ),
    _device(
        "hami_container_device_memory_bytes",
        "Device memory that the container uses, in bytes",
        memory_total,
    ),
    _device(
        "hami_container_device_utilization_ratio",
        "SM utilization of the container on the device (0-100)",
        core_utilization,
    ),
    AgeFamily(
        "hami_container_last_kernel_elapsed_seconds",
        "Seconds since the container's last kernel launch",
        _DEVICE,
        constant=_ZONE,
        subject=vdevice_labels,
        values={(): last_kernel},
    ),
    _device(
        "hami_vgpu_memory_context_bytes",
        "Device memory of the container's contexts, in bytes",
        memory_context,
    ),
    _device(
        "hami_vgpu_memory_module_bytes",
        "Device memory of the container's modules, in bytes",
        memory_module,
    ),
    _device(
        "hami_vgpu_memory_buffer_bytes",
        "Device memory of the container's buffers, in bytes",
        memory_data,
    ),
    NodeFamily(
        "hami_mig_device_info",
        "MIG device of the container",
        (
            *_DEVICE,
            "mig_uuid",
            "profile",
            "gpu_instance_id",
            "compute_instance_id",
        ),
        constant=_ZONE,
        samples=_mig_devices,
    ),
    NodeFamily(
        "hami_build_info",
        "Version of the exporter, under the name that HAMi's dashboards look for",
        ("version", "revision", "build_date"),
        constant=_ZONE,
        samples=lambda _: [((__version__, "", ""), 1)],
    ),
)
