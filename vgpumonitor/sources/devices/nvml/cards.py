"""What is asked of each GPU, and which call answers it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vgpumonitor.sources.devices.model import Device, MigDevice
from vgpumonitor.sources.devices.nvml.client import DriverGoneError, NvmlClient
from vgpumonitor.sources.devices.nvml.processes import UtilizationWindow, read_processes
from vgpumonitor.vendors import NVIDIA

#: Bits of nvmlDeviceGetCurrentClocksEventReasons (nvml.h, nvmlClocksEventReason*) that hold
#: the clocks down. Idleness and clocks that somebody chose are no trouble of the device.
_THROTTLE_REASONS = {
    "sw_power_cap": 0x04,
    "hw_slowdown": 0x08,
    "sync_boost": 0x10,
    "sw_thermal_slowdown": 0x20,
    "hw_thermal_slowdown": 0x40,
    "hw_power_brake_slowdown": 0x80,
}


def read_devices(client: NvmlClient, window: UtilizationWindow) -> Iterator[Device | None]:
    """Each GPU of the node as it is read; None for one that can't be named. Raises
    DriverGoneError, also once all GPUs turned out to be lost."""
    driver_version = client.call("", ("nvmlSystemGetDriverVersion",))
    # Not its second version, which fails where the container lacks libcuda.
    cuda = client.call("", ("nvmlSystemGetCudaDriverVersion",))
    cuda_version = None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}"
    count = client.call("", ("nvmlDeviceGetCount",)) or 0
    lost = 0
    window.move()
    for index in range(count):
        client.gpu_is_lost = False
        yield _read_device(client, index, driver_version, cuda_version, window)
        lost += client.gpu_is_lost
    if lost == count > 0:
        raise DriverGoneError("all GPUs are lost")


def _read_device(
    client: NvmlClient,
    index: int,
    driver_version: str | None,
    cuda_version: str | None,
    window: UtilizationWindow,
) -> Device | None:
    unnamed = f"index {index}"
    handle = client.call("", ("nvmlDeviceGetHandleByIndex", index), detail=unnamed)
    if handle is None:
        return None
    uuid = client.call("", ("nvmlDeviceGetUUID", handle), detail=unnamed)
    if uuid is None:
        return None
    memory = _memory(client, uuid, handle)
    utilization = client.call(uuid, ("nvmlDeviceGetUtilizationRates", handle))
    milliwatts = client.call(uuid, ("nvmlDeviceGetPowerUsage", handle))
    reasons = client.call(
        uuid,
        ("nvmlDeviceGetCurrentClocksEventReasons", handle),
        ("nvmlDeviceGetCurrentClocksThrottleReasons", handle),
    )
    mig_devices = _mig_devices(client, uuid, handle)
    sensor = client.library.NVML_TEMPERATURE_GPU
    return Device(
        vendor=NVIDIA.name,
        index=index,
        uuid=uuid,
        minor=client.call(uuid, ("nvmlDeviceGetMinorNumber", handle)),
        name=client.call(uuid, ("nvmlDeviceGetName", handle)),
        driver_version=driver_version,
        cuda_version=cuda_version,
        memory_total=None if memory is None else int(memory.total),
        memory_used=None if memory is None else int(memory.used),
        memory_reserved=None if memory is None else getattr(memory, "reserved", None),
        core_utilization=None if utilization is None else int(utilization.gpu),
        memory_utilization=None if utilization is None else int(utilization.memory),
        power_watts=None if milliwatts is None else milliwatts / 1000,
        # Its successor, nvmlDeviceGetTemperatureV, is not in drivers before 570.
        temperature_celsius=client.call(uuid, ("nvmlDeviceGetTemperature", handle, sensor)),
        ecc_errors=_ecc_errors(client, uuid, handle),
        throttled={}
        if reasons is None
        else {reason: bool(reasons & bit) for reason, bit in _THROTTLE_REASONS.items()},
        processes=read_processes(client, uuid, handle, None if mig_devices else window),
        mig_devices=mig_devices,
    )


def _memory(client: NvmlClient, uuid: str, handle: Any) -> Any:
    # The first version counts what the driver reserves as used.
    return client.call(
        uuid,
        ("nvmlDeviceGetMemoryInfo", handle, client.library.nvmlMemory_v2),
        ("nvmlDeviceGetMemoryInfo", handle),
    )


def _ecc_errors(client: NvmlClient, uuid: str, handle: Any) -> dict[str, int]:
    """Over the device's life: the volatile counts begin anew with the driver, and what came
    between the last scrape and that would be lost to a counter."""
    library = client.library
    found = {}
    for kind, error_type in (
        ("corrected", library.NVML_MEMORY_ERROR_TYPE_CORRECTED),
        ("uncorrected", library.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
    ):
        count = client.call(
            uuid,
            ("nvmlDeviceGetTotalEccErrors", handle, error_type, library.NVML_AGGREGATE_ECC),
            detail=kind,
        )
        if count is not None:
            found[kind] = count
    return found


def _mig_devices(client: NvmlClient, uuid: str, handle: Any) -> tuple[MigDevice, ...]:
    library = client.library
    mode = client.call(
        uuid,
        ("nvmlDeviceGetMigMode", handle),
        expected_errors={library.NVML_ERROR_NOT_SUPPORTED: None},
    )
    if mode is None or mode[0] != library.NVML_DEVICE_MIG_ENABLE:
        return ()
    count = client.call(uuid, ("nvmlDeviceGetMaxMigDeviceCount", handle)) or 0
    found = []
    for place in range(count):
        mig = client.call(
            uuid,
            ("nvmlDeviceGetMigDeviceHandleByIndex", handle, place),
            detail=f"MIG device {place}",
            expected_errors={library.NVML_ERROR_NOT_FOUND: None},
        )
        device = None if mig is None else _mig_device(client, uuid, mig, place)
        if device is not None:
            found.append(device)
    return tuple(found)


def _mig_device(client: NvmlClient, parent: str, handle: Any, place: int) -> MigDevice | None:
    """None without UUID or instances: there is no other way to name one."""
    uuid = client.call(parent, ("nvmlDeviceGetUUID", handle), detail=f"MIG device {place}")
    if uuid is None:
        return None
    gpu_instance = client.call(uuid, ("nvmlDeviceGetGpuInstanceId", handle))
    compute_instance = client.call(uuid, ("nvmlDeviceGetComputeInstanceId", handle))
    if gpu_instance is None or compute_instance is None:
        return None
    memory = _memory(client, uuid, handle)
    name = client.call(uuid, ("nvmlDeviceGetName", handle))
    return MigDevice(
        uuid=uuid,
        # "NVIDIA A100-SXM4-80GB MIG 1g.10gb"
        name=None if name is None else name.rpartition(" MIG ")[2],
        gpu_instance_id=gpu_instance,
        compute_instance_id=compute_instance,
        memory_total=None if memory is None else int(memory.total),
        memory_used=None if memory is None else int(memory.used),
        processes=read_processes(client, uuid, handle, None),
    )
