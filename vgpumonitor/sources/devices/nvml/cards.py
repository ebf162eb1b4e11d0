"""What is asked of each GPU, and which call answers it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vgpumonitor.sources.devices.model import Device, MigDevice
from vgpumonitor.sources.devices.nvml.client import DriverGoneError, NvmlClient
from vgpumonitor.sources.devices.nvml.fields import (
    ENERGY,
    MEMORY_TEMPERATURE,
    NVLINK_BYTES,
    NVLINK_ERRORS,
    NVLINK_KIB,
    PAGE_RETIREMENT_PENDING,
    PCIE_BYTES,
    PCIE_REPLAYS,
    REMAPPED_ROWS,
    RETIRED_PAGES,
    ROW_REMAP_FAILED,
    ROW_REMAP_PENDING,
    VIOLATIONS,
    Field,
    FieldReader,
)
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


#: Numbers of nvmlClockType_t and nvmlTemperatureThresholds_t.
_CLOCKS = {"graphics": 0, "sm": 1, "memory": 2, "video": 3}
_THRESHOLDS = {"slowdown": 1, "shutdown": 0}
#: nvmlPstates_t up to the slowest; above that is "unknown".
_SLOWEST_STATE = 15

#: Seconds after which a look asks again for what changes rarely.
RARE_INTERVAL = 60.0


class DeviceReader:
    """Reads the GPUs, look by look, and asks for each thing as rarely as it changes: for what
    never does once, for what does rarely every ``rare_interval`` seconds. For one thread."""

    def __init__(self, client: NvmlClient, rare_interval: float) -> None:
        self._client = client
        self._rare_interval = rare_interval
        self._window = UtilizationWindow()
        self._generation = 0
        self._slow: dict[str, _SlowReadings] = {}
        #: The GPUs by index, without readings: one that is lost may not tell its UUID any more.
        self._names: dict[int, Device] = {}

    def read(self) -> Iterator[Device | None]:
        """Each GPU of the node as it is read; None for one that can't be named. One that turned
        out to be lost is not up. Raises DriverGoneError, also once all GPUs are lost."""
        client = self._client
        if self._generation != client.generation:
            self._generation = client.generation
            self._slow.clear()
            self._names.clear()
        driver_version = client.once("", ("nvmlSystemGetDriverVersion",))
        # Not its second version, which fails where the container lacks libcuda.
        cuda = client.once("", ("nvmlSystemGetCudaDriverVersion",))
        cuda_version = None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}"
        count = client.call("", ("nvmlDeviceGetCount",))
        if count is None:
            yield None
            return
        lost = 0
        self._window.move()
        for index in range(count):
            client.gpu_is_lost = False
            device = self._read(index, driver_version, cuda_version)
            if client.gpu_is_lost:
                lost += 1
                device = self._names.get(index)
            elif device is not None:
                self._names[index] = device.without_readings()
            yield device
        if lost == count > 0:
            raise DriverGoneError("all GPUs are lost")

    def _read(
        self, index: int, driver_version: str | None, cuda_version: str | None
    ) -> Device | None:
        client = self._client
        unnamed = f"index {index}"
        handle = client.call("", ("nvmlDeviceGetHandleByIndex", index), detail=unnamed)
        if handle is None:
            return None
        uuid = client.call("", ("nvmlDeviceGetUUID", handle), detail=unnamed)
        if uuid is None:
            return None
        memory = _memory(client, uuid, handle)
        if client.gpu_is_lost:
            # All else would fail as well.
            return None
        utilization = client.call(uuid, ("nvmlDeviceGetUtilizationRates", handle))
        milliwatts = client.call(uuid, ("nvmlDeviceGetPowerUsage", handle))
        reasons = client.call(
            uuid,
            ("nvmlDeviceGetCurrentClocksEventReasons", handle),
            ("nvmlDeviceGetCurrentClocksThrottleReasons", handle),
        )
        encoder, decoder = (
            client.call(uuid, (f"nvmlDeviceGet{engine}Utilization", handle))
            for engine in ("Encoder", "Decoder")
        )
        state = client.call(uuid, ("nvmlDeviceGetPerformanceState", handle))
        pci = client.once(uuid, ("nvmlDeviceGetPciInfo", handle))
        mig_devices = _mig_devices(client, uuid, handle)
        sensor = client.nvml.NVML_TEMPERATURE_GPU
        slow = self._slow.setdefault(uuid, _SlowReadings(client, uuid))
        slow.read(handle, self._rare_interval)
        fields = slow.fields
        return Device(
            vendor=NVIDIA.name,
            index=index,
            uuid=uuid,
            minor=client.once(uuid, ("nvmlDeviceGetMinorNumber", handle)),
            name=client.once(uuid, ("nvmlDeviceGetName", handle)),
            driver_version=driver_version,
            cuda_version=cuda_version,
            serial=client.once(uuid, ("nvmlDeviceGetSerial", handle)),
            vbios_version=client.once(uuid, ("nvmlDeviceGetVbiosVersion", handle)),
            pci_bus_id=None if pci is None else pci.busId,
            memory_total=None if memory is None else int(memory.total),
            memory_used=None if memory is None else int(memory.used),
            memory_reserved=None if memory is None else getattr(memory, "reserved", None),
            core_utilization=None if utilization is None else int(utilization.gpu),
            memory_utilization=None if utilization is None else int(utilization.memory),
            encoder_utilization=None if encoder is None else int(encoder[0]),
            decoder_utilization=None if decoder is None else int(decoder[0]),
            power_watts=None if milliwatts is None else milliwatts / 1000,
            power_limit_watts=slow.power_limit_watts,
            energy_joules=None if ENERGY not in fields else fields[ENERGY] / 1000,
            # Its successor, nvmlDeviceGetTemperatureV, is not in drivers before 570.
            temperature_celsius=client.call(uuid, ("nvmlDeviceGetTemperature", handle, sensor)),
            memory_temperature_celsius=fields.get(MEMORY_TEMPERATURE),
            temperature_thresholds=_each(
                client.once, uuid, "nvmlDeviceGetTemperatureThreshold", handle, _THRESHOLDS
            ),
            clocks=_hertz(client.call, uuid, "nvmlDeviceGetClockInfo", handle),
            max_clocks=_hertz(client.once, uuid, "nvmlDeviceGetMaxClockInfo", handle),
            fan_speeds=_fan_speeds(client, uuid, handle),
            performance_state=state if state is not None and state <= _SLOWEST_STATE else None,
            throttled={}
            if reasons is None
            else {reason: bool(reasons & bit) for reason, bit in _THROTTLE_REASONS.items()},
            throttled_seconds={
                reason: nanoseconds / 1e9 for reason, nanoseconds in _of(fields, VIOLATIONS).items()
            },
            ecc_errors=_ecc_errors(client, uuid, handle),
            remapped_rows=_of(fields, REMAPPED_ROWS),
            row_remap_pending=_flag(fields, ROW_REMAP_PENDING),
            row_remap_failed=_flag(fields, ROW_REMAP_FAILED),
            retired_pages=_of(fields, RETIRED_PAGES),
            page_retirement_pending=_flag(fields, PAGE_RETIREMENT_PENDING),
            pcie_generation=client.call(uuid, ("nvmlDeviceGetCurrPcieLinkGeneration", handle)),
            pcie_width=client.call(uuid, ("nvmlDeviceGetCurrPcieLinkWidth", handle)),
            max_pcie_generation=client.once(uuid, ("nvmlDeviceGetMaxPcieLinkGeneration", handle)),
            max_pcie_width=client.once(uuid, ("nvmlDeviceGetMaxPcieLinkWidth", handle)),
            pcie_replays=fields.get(PCIE_REPLAYS),
            pcie_bytes=_of(fields, PCIE_BYTES),
            nvlink_bytes={
                **_of(fields, NVLINK_BYTES),
                **{way: kib * 1024 for way, kib in _of(fields, NVLINK_KIB).items()},
            },
            nvlink_errors=_of(fields, NVLINK_ERRORS),
            processes=read_processes(client, uuid, handle, None if mig_devices else self._window),
            mig_devices=mig_devices,
        )


class _SlowReadings:
    """What one GPU tells that changes rarely, and its fields."""

    def __init__(self, client: NvmlClient, uuid: str) -> None:
        self._client = client
        self._uuid = uuid
        self._fields = FieldReader(client, uuid)
        self._next = 0.0
        self.fields: Mapping[Field, int] = {}
        self.power_limit_watts: float | None = None

    def read(self, handle: Any, interval: float) -> None:
        now = time.monotonic()
        rare = now >= self._next
        self.fields = self._fields.read(handle, rare)
        if rare:
            limit = self._client.call(self._uuid, ("nvmlDeviceGetEnforcedPowerLimit", handle))
            self.power_limit_watts = None if limit is None else limit / 1000
            self._next = now + interval


def _each(
    ask: Callable[..., Any], uuid: str, function: str, handle: Any, selectors: Mapping[str, int]
) -> dict[str, int]:
    """What ``function`` gives for each of ``selectors``, by its name."""
    found = {
        name: ask(uuid, (function, handle, selector), detail=name)
        for name, selector in selectors.items()
    }
    return {name: value for name, value in found.items() if value is not None}


def _hertz(ask: Callable[..., Any], uuid: str, function: str, handle: Any) -> dict[str, int]:
    found = _each(ask, uuid, function, handle, _CLOCKS)
    return {clock: megahertz * 1_000_000 for clock, megahertz in found.items()}


def _fan_speeds(client: NvmlClient, uuid: str, handle: Any) -> dict[int, int]:
    count = client.once(uuid, ("nvmlDeviceGetNumFans", handle))
    if count is None:
        # Drivers before 510 can't count them: the first, if there is one.
        first = ("nvmlDeviceGetFanSpeed_v2", handle, 0)
        count = 0 if client.once(uuid, first, detail="any fan") is None else 1
    found = {
        fan: client.call(uuid, ("nvmlDeviceGetFanSpeed_v2", handle, fan), detail=f"fan {fan}")
        for fan in range(count)
    }
    return {fan: percent for fan, percent in found.items() if percent is not None}


def _of(fields: Mapping[Field, int], wanted: Mapping[str, Field]) -> dict[str, int]:
    return {name: fields[field] for name, field in wanted.items() if field in fields}


def _flag(fields: Mapping[Field, int], field: Field) -> bool | None:
    return bool(fields[field]) if field in fields else None


def _memory(client: NvmlClient, uuid: str, handle: Any) -> Any:
    # The first version counts what the driver reserves as used.
    return client.call(
        uuid,
        ("nvmlDeviceGetMemoryInfo", handle, client.nvml.nvmlMemory_v2),
        ("nvmlDeviceGetMemoryInfo", handle),
    )


def _ecc_errors(client: NvmlClient, uuid: str, handle: Any) -> dict[str, int]:
    """Over the device's life: the volatile counts begin anew with the driver, and what came
    between the last scrape and that would be lost to a counter."""
    nvml = client.nvml
    found = {}
    for kind, error_type in (
        ("corrected", nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
        ("uncorrected", nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
    ):
        count = client.call(
            uuid,
            ("nvmlDeviceGetTotalEccErrors", handle, error_type, nvml.NVML_AGGREGATE_ECC),
            detail=kind,
        )
        if count is not None:
            found[kind] = count
    return found


def _mig_devices(client: NvmlClient, uuid: str, handle: Any) -> tuple[MigDevice, ...]:
    nvml = client.nvml
    mode = client.call(uuid, ("nvmlDeviceGetMigMode", handle))
    if mode is None or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return ()
    count = client.call(uuid, ("nvmlDeviceGetMaxMigDeviceCount", handle)) or 0
    found = []
    for place in range(count):
        mig = client.call(
            uuid,
            ("nvmlDeviceGetMigDeviceHandleByIndex", handle, place),
            detail=f"MIG device {place}",
            expected_errors={nvml.NVML_ERROR_NOT_FOUND: None},
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
