"""A simulated NVML in Python: the functions of pynvml that the exporter calls."""

# The functions have pynvml's names.
# ruff: noqa: N802, N815

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pynvml

from vgpumonitor.simulate.nvml.state import SimulatedDevice, SimulatedMig, SimulatedNvml, read

T = TypeVar("T")

#: Seconds between two looks at the state by who waits for it to change.
_STEP = 0.02
#: What NVML gives for the instances of what is not of a MIG device.
_NO_INSTANCE = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class _Handle:
    """A device, or a MIG device of it, by their places in the state."""

    index: int
    place: int | None = None

    def __bytes__(self) -> bytes:
        """As a pointer of ctypes has them: what tells handles apart."""
        return self.target.encode()

    @property
    def target(self) -> str:
        return str(self.index) if self.place is None else f"{self.index}.{self.place}"


@dataclass(slots=True)
class _EventSet:
    """``seen`` is how many of the state's events it has been through, ``types`` the mask of
    those that are wanted, by the device's index."""

    seen: int
    types: dict[int, int] = field(default_factory=dict)


class _Reading:
    """A function of NVML that gives one attribute of a device, or what ``selectors``
    arguments after the handle select from it; arguments after those make no difference."""

    def __init__(self, attribute: str, selectors: int = 0) -> None:
        self._attribute = attribute
        self._selectors = selectors

    def __set_name__(self, owner: type[SimulatedLibrary], name: str) -> None:
        self._call = name

    def __get__(
        self, library: SimulatedLibrary, owner: type[SimulatedLibrary]
    ) -> Callable[..., Any]:
        return partial(self._read, library)

    def _read(self, library: SimulatedLibrary, handle: _Handle, *arguments: int) -> Any:
        value = library.value(self._call, handle, self._attribute)
        for selector in arguments[: self._selectors]:
            value = _selected(value, selector)
        return value


class _Running(_Reading):
    """The processes of a device, with those of its MIG devices, or of a MIG device."""

    def __set_name__(self, owner: type[SimulatedLibrary], name: str) -> None:
        self._newest = not name.endswith("_v2")
        self._call = f"{name}_v3" if self._newest else name

    def _read(
        self, library: SimulatedLibrary, handle: _Handle, *_arguments: int
    ) -> list[SimpleNamespace]:
        try:
            device, mig = library.parts(self._call, handle)
        except pynvml.NVMLError_FunctionNotFound:
            if self._newest:
                raise pynvml.NVMLLibraryMismatchError from None
            raise
        return [
            SimpleNamespace(
                pid=pid,
                usedGpuMemory=held,
                gpuInstanceId=getattr(part, "gpu_instance_id", _NO_INSTANCE),
                computeInstanceId=getattr(part, "compute_instance_id", _NO_INSTANCE),
            )
            for part in ((device, *device.mig_devices) if mig is None else (mig,))
            for pid, held in getattr(part, self._attribute).items()
        ]


class SimulatedLibrary:
    """Stands in for the module ``pynvml``, and tells what the file ``state`` says now; its
    constants and errors are pynvml's own. The same as testing/nvml.c under the real pynvml."""

    def __init__(self, state: Path) -> None:
        self._path = state
        #: How often it was initialised more than it was shut down.
        self._holds = 0
        self._seen: tuple[int, int, int] | None = None
        self._state = SimulatedNvml()

    def __getattr__(self, name: str) -> Any:
        value = getattr(pynvml, name)
        if name.startswith("nvml") and callable(value):
            # The real function would ask the machine's own GPUs.
            raise AttributeError(f"the simulated NVML has no {name}")
        return value

    nvmlDeviceGetUUID = _Reading("uuid")
    nvmlDeviceGetSerial = _Reading("serial")
    nvmlDeviceGetVbiosVersion = _Reading("vbios_version")
    nvmlDeviceGetMinorNumber = _Reading("minor")
    nvmlDeviceGetGpuInstanceId = _Reading("gpu_instance_id")
    nvmlDeviceGetComputeInstanceId = _Reading("compute_instance_id")
    nvmlDeviceGetEncoderUtilization = _Reading("encoder")
    nvmlDeviceGetDecoderUtilization = _Reading("decoder")
    nvmlDeviceGetPowerUsage = _Reading("power_milliwatts")
    nvmlDeviceGetEnforcedPowerLimit = _Reading("enforced_power_limit_milliwatts")
    nvmlDeviceGetTemperature = _Reading("temperature")
    nvmlDeviceGetTemperatureV = _Reading("temperature")
    nvmlDeviceGetTemperatureThreshold = _Reading("temperature_thresholds", selectors=1)
    nvmlDeviceGetClockInfo = _Reading("clocks", selectors=1)
    nvmlDeviceGetMaxClockInfo = _Reading("max_clocks", selectors=1)
    nvmlDeviceGetFanSpeed_v2 = _Reading("fan_speeds", selectors=1)
    nvmlDeviceGetPerformanceState = _Reading("performance_state")
    nvmlDeviceGetCurrentClocksEventReasons = _Reading("throttle")
    nvmlDeviceGetCurrentClocksThrottleReasons = _Reading("throttle")
    nvmlDeviceGetTotalEccErrors = _Reading("ecc", selectors=1)
    nvmlDeviceGetCurrPcieLinkGeneration = _Reading("pcie_generation")
    nvmlDeviceGetCurrPcieLinkWidth = _Reading("pcie_width")
    nvmlDeviceGetMaxPcieLinkGeneration = _Reading("max_pcie_generation")
    nvmlDeviceGetMaxPcieLinkWidth = _Reading("max_pcie_width")
    nvmlDeviceGetSupportedEventTypes = _Reading("event_types")

    nvmlDeviceGetComputeRunningProcesses = _Running("compute")
    nvmlDeviceGetComputeRunningProcesses_v2 = _Running("compute")
    nvmlDeviceGetGraphicsRunningProcesses = _Running("graphics")
    nvmlDeviceGetGraphicsRunningProcesses_v2 = _Running("graphics")
    nvmlDeviceGetMPSComputeRunningProcesses = _Running("mps")
    nvmlDeviceGetMPSComputeRunningProcesses_v2 = _Running("mps")

    def nvmlInit(self) -> None:
        state = self._wait("nvmlInitWithFlags", "-")
        if state is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
        _raise_error(state, "nvmlInitWithFlags", "-")
        self._holds += 1

    def nvmlShutdown(self) -> None:
        self._enter("nvmlShutdown")
        self._holds -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return self._enter("nvmlSystemGetDriverVersion").driver_version

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return self._enter("nvmlSystemGetCudaDriverVersion").cuda_version

    def nvmlDeviceGetCount(self) -> int:
        return len(self._enter("nvmlDeviceGetCount_v2").devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> _Handle:
        handle = _Handle(index)
        _selected(self._enter("nvmlDeviceGetHandleByIndex_v2", handle.target).devices, index)
        return handle

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> _Handle:
        devices = self._enter("nvmlDeviceGetHandleByUUID").devices
        for index, device in enumerate(devices):
            if device.uuid == uuid:
                return _Handle(index)
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: _Handle, place: int) -> _Handle:
        mig = _Handle(handle.index, place)
        state = self._enter("nvmlDeviceGetMigDeviceHandleByIndex", mig.target)
        if place >= len(_selected(state.devices, handle.index).mig_devices):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return mig

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: _Handle) -> _Handle:
        self.parts("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle)
        if handle.place is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return _Handle(handle.index)

    def nvmlDeviceGetMigMode(self, handle: _Handle) -> list[int]:
        _supported(self.value("nvmlDeviceGetMigMode", handle, "mig_devices") or None)
        return [pynvml.NVML_DEVICE_MIG_ENABLE, pynvml.NVML_DEVICE_MIG_ENABLE]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: _Handle) -> int:
        self.value("nvmlDeviceGetMaxMigDeviceCount", handle, "mig_devices")
        return 7

    def nvmlDeviceGetName(self, handle: _Handle) -> str:
        device, mig = self.parts("nvmlDeviceGetName", handle)
        name: str = _supported(device.name)
        return name if mig is None else f"{name} MIG {mig.profile}"

    def nvmlDeviceGetPciInfo(self, handle: _Handle) -> Any:
        bus_id = self.value("nvmlDeviceGetPciInfo_v3", handle, "pci_bus_id")
        domain, bus, device = (int(part, 16) for part in re.split("[:.]", bus_id)[:3])
        return SimpleNamespace(busId=bus_id, domain=domain, bus=bus, device=device)

    def nvmlDeviceGetMemoryInfo(self, handle: _Handle, version: int | None = None) -> Any:
        suffix = "_v2" if version else ""
        memory = self.value(f"nvmlDeviceGetMemoryInfo{suffix}", handle, "memory")
        used, reserved = memory.used, memory.reserved
        return SimpleNamespace(
            total=memory.total,
            free=memory.total - used - reserved,
            used=used if version else used + reserved,
            **({"reserved": reserved} if version else {}),
        )

    def nvmlDeviceGetUtilizationRates(self, handle: _Handle) -> Any:
        core, memory = self.value("nvmlDeviceGetUtilizationRates", handle, "utilization")
        return SimpleNamespace(gpu=core, memory=memory)

    def nvmlDeviceGetProcessUtilization(self, handle: _Handle, since: int) -> Any:
        return self._samples("nvmlDeviceGetProcessUtilization", handle, since)

    def nvmlDeviceGetProcessesUtilizationInfo(self, handle: _Handle, since: int) -> Any:
        return self._samples("nvmlDeviceGetProcessesUtilizationInfo", handle, since)

    def nvmlDeviceGetNumFans(self, handle: _Handle) -> int:
        return len(self.value("nvmlDeviceGetNumFans", handle, "fan_speeds"))

    def nvmlDeviceGetFieldValues(self, handle: _Handle, fields: list[Any]) -> Any:
        device, mig = self.parts("nvmlDeviceGetFieldValues", handle)
        return [_field_value(device if mig is None else None, wanted) for wanted in fields]

    def nvmlEventSetCreate(self) -> _EventSet:
        return _EventSet(len(self._enter("nvmlEventSetCreate").events))

    def nvmlEventSetFree(self, _events: _EventSet) -> None:
        self._enter("nvmlEventSetFree")

    def nvmlDeviceRegisterEvents(self, handle: _Handle, types: int, events: _EventSet) -> None:
        if types & ~self.value("nvmlDeviceRegisterEvents", handle, "event_types"):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        events.types[handle.index] = events.types.get(handle.index, 0) | types

    def nvmlEventSetWait_v2(self, events: _EventSet, milliseconds: int) -> Any:
        end = time.monotonic() + milliseconds / 1000
        while True:
            state = self._enter("nvmlEventSetWait_v2")
            events.seen = min(events.seen, len(state.events))
            for event in state.events[events.seen :]:
                events.seen += 1
                if events.types.get(event.device, 0) & event.type:
                    return SimpleNamespace(
                        device=_Handle(event.device),
                        eventType=event.type,
                        eventData=event.data,
                        gpuInstanceId=_instance(event.gpu_instance_id),
                        computeInstanceId=_instance(event.compute_instance_id),
                    )
            if time.monotonic() >= end:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT)
            time.sleep(_STEP)

    nvmlEventSetWait = nvmlEventSetWait_v2

    def parts(self, call: str, handle: _Handle) -> tuple[SimulatedDevice, SimulatedMig | None]:
        """The device and, for the handle of one, the MIG device, for ``call`` of NVML. Raises
        NVMLError where the state has one for it."""
        device = _selected(self._enter(call, handle.target).devices, handle.index)
        mig = None if handle.place is None else _selected(device.mig_devices, handle.place)
        return device, mig

    def value(self, call: str, handle: _Handle, attribute: str) -> Any:
        """The attribute of a device or MIG device, as ``call`` of NVML gives it. Raises
        NVMLError, Not Supported where it is None or only the other kind has it."""
        device, mig = self.parts(call, handle)
        return _supported(getattr(device if mig is None else mig, attribute, None))

    def _samples(self, call: str, handle: _Handle, since: int) -> list[SimpleNamespace]:
        samples = self.value(call, handle, "process_samples")
        found = [
            SimpleNamespace(
                pid=sample.pid,
                timeStamp=sample.timestamp,
                smUtil=sample.sm,
                memUtil=sample.memory,
                encUtil=sample.encoder,
                decUtil=sample.decoder,
            )
            for sample in samples
            if sample.timestamp > since
        ]
        if not found:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return found

    def _enter(self, call: str, target: str = "-") -> SimulatedNvml:
        """The state for a call that needs an initialised library."""
        state = self._wait(call, target)
        if state is None:
            self._holds = 0
        elif call in state.missing:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        if state is None or not self._holds:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
        _raise_error(state, call, target)
        return state

    def _wait(self, call: str, target: str) -> SimulatedNvml | None:
        """The state, once ``call`` hangs no more; None without a file."""
        while True:
            state = self._read()
            if state is None or target not in _of_call(state.hangs, call, ()):
                return state
            time.sleep(_STEP)

    def _read(self) -> SimulatedNvml | None:
        """The state now; None without a file."""
        try:
            found = self._path.stat()
            seen = found.st_ino, found.st_mtime_ns, found.st_size
            if seen != self._seen:
                self._state = read(self._path)
                self._seen = seen
        except FileNotFoundError:
            return None
        return self._state


def _of_call(faults: Mapping[str, T], call: str, otherwise: T) -> T:
    """What the state has for ``call``, under its name or under that without its version."""
    return faults.get(call, faults.get(re.sub(r"_v\d+$", "", call), otherwise))


def _raise_error(state: SimulatedNvml, call: str, target: str) -> None:
    code = _of_call(state.errors, call, {}).get(target)
    if code is not None:
        raise pynvml.NVMLError(code)


def _instance(number: int | None) -> int:
    return _NO_INSTANCE if number is None else number


def _supported(value: Any) -> Any:
    if value is None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    return value


def _selected(values: Any, selector: int) -> Any:
    """What a tuple has in that place, or a mapping under that number."""
    if isinstance(values, Mapping):
        return _supported(values.get(selector))
    if selector >= len(values):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
    return _supported(values[selector])


def _field_value(device: SimulatedDevice | None, wanted: int | tuple[int, int]) -> Any:
    """The answer for a field ID, or for one and its scope; None has no fields."""
    field, scope = wanted if isinstance(wanted, tuple) else (wanted, 0)
    answer = pynvml.c_nvmlFieldValue_t(fieldId=field, scopeId=scope)
    value: Any = None if device is None else (device.field_values or {}).get(field)
    if isinstance(value, Mapping):
        value = value.get(scope)
    if device is not None and field in device.field_errors:
        answer.nvmlReturn = device.field_errors[field]
    elif value is None:
        answer.nvmlReturn = pynvml.NVML_ERROR_NOT_SUPPORTED
    elif isinstance(value, float):
        answer.valueType, answer.value.dVal = pynvml.NVML_VALUE_TYPE_DOUBLE, value
    elif value < 0:
        answer.valueType, answer.value.sllVal = pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG, value
    else:
        answer.valueType, answer.value.ullVal = pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG, value
    return answer
