"""A simulated NVML in Python: the functions of pynvml that the exporter calls."""

# The functions have pynvml's names.
# ruff: noqa: N802

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml

from vgpumonitor.simulate.nvml.state import SimulatedCard, SimulatedMig, SimulatedNvml, parse

_HANG_STEP = 0.02


@dataclass(frozen=True, slots=True)
class _Handle:
    """A card, or a MIG device of it, by their places in the state."""

    index: int
    place: int | None = None

    @property
    def target(self) -> str:
        return str(self.index) if self.place is None else f"{self.index}.{self.place}"


class SimulatedLibrary:
    """Stands in for the module ``pynvml``, and tells what the file ``state`` says now; its
    constants and errors are pynvml's own. The same as ``nvml.c`` under the real pynvml."""

    def __init__(self, state: Path) -> None:
        self._path = state
        self._initialised = False
        self._seen: tuple[int, int, int] | None = None
        self._state = SimulatedNvml()

    def __getattr__(self, name: str) -> Any:
        value = getattr(pynvml, name)
        if name.startswith("nvml") and callable(value):
            # The real function would ask the machine's own cards.
            raise AttributeError(f"the simulated NVML has no {name}")
        return value

    def nvmlInit(self) -> None:
        state = self._wait("nvmlInitWithFlags", "-")
        if state is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
        _without_error(state, "nvmlInitWithFlags", "-")
        self._initialised = True

    def nvmlShutdown(self) -> None:
        self._enter("nvmlShutdown")
        self._initialised = False

    def nvmlSystemGetDriverVersion(self) -> str:
        return self._enter("nvmlSystemGetDriverVersion").driver_version

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return self._enter("nvmlSystemGetCudaDriverVersion").cuda_version

    def nvmlDeviceGetCount(self) -> int:
        return len(self._enter("nvmlDeviceGetCount_v2").cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> _Handle:
        handle = _Handle(index)
        if index >= len(self._enter("nvmlDeviceGetHandleByIndex_v2", handle.target).cards):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return handle

    def nvmlDeviceGetUUID(self, handle: _Handle) -> str:
        return self._part("nvmlDeviceGetUUID", handle).uuid

    def nvmlDeviceGetName(self, handle: _Handle) -> str:
        card, mig = self._both("nvmlDeviceGetName", handle)
        name: str = _supported(card.name)
        return name if mig is None else f"{name} MIG {mig.profile}"

    def nvmlDeviceGetMinorNumber(self, handle: _Handle) -> Any:
        return _supported(self._card("nvmlDeviceGetMinorNumber", handle).minor)

    def nvmlDeviceGetMemoryInfo(self, handle: _Handle, version: int | None = None) -> Any:
        suffix = "_v2" if version else ""
        memory = _supported(self._part(f"nvmlDeviceGetMemoryInfo{suffix}", handle).memory)
        used, reserved = memory.used, memory.reserved
        return SimpleNamespace(
            total=memory.total,
            free=memory.total - used - reserved,
            used=used if version else used + reserved,
            reserved=reserved,
        )

    def nvmlDeviceGetUtilizationRates(self, handle: _Handle) -> Any:
        card = self._card("nvmlDeviceGetUtilizationRates", handle)
        core, memory = _supported(card.utilization)
        return SimpleNamespace(gpu=core, memory=memory)

    def nvmlDeviceGetPowerUsage(self, handle: _Handle) -> Any:
        return _supported(self._card("nvmlDeviceGetPowerUsage", handle).power_milliwatts)

    def nvmlDeviceGetTemperature(self, handle: _Handle, _sensor: int) -> Any:
        return _supported(self._card("nvmlDeviceGetTemperature", handle).temperature)

    def nvmlDeviceGetTotalEccErrors(self, handle: _Handle, kind: int, _counter: int) -> Any:
        return _supported(self._card("nvmlDeviceGetTotalEccErrors", handle).ecc)[kind]

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: _Handle) -> Any:
        return _supported(self._card("nvmlDeviceGetCurrentClocksEventReasons", handle).throttle)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: _Handle) -> Any:
        return _supported(self._card("nvmlDeviceGetCurrentClocksThrottleReasons", handle).throttle)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: _Handle) -> Any:
        return self._processes("nvmlDeviceGetComputeRunningProcesses_v3", handle)

    def nvmlDeviceGetComputeRunningProcesses_v2(self, handle: _Handle) -> Any:
        return self._processes("nvmlDeviceGetComputeRunningProcesses_v2", handle)

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: _Handle) -> Any:
        return self._processes("nvmlDeviceGetGraphicsRunningProcesses_v3", handle)

    def nvmlDeviceGetGraphicsRunningProcesses_v2(self, handle: _Handle) -> Any:
        return self._processes("nvmlDeviceGetGraphicsRunningProcesses_v2", handle)

    def nvmlDeviceGetMigMode(self, handle: _Handle) -> list[int]:
        _supported(self._card("nvmlDeviceGetMigMode", handle).mig_devices or None)
        return [pynvml.NVML_DEVICE_MIG_ENABLE, pynvml.NVML_DEVICE_MIG_ENABLE]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: _Handle) -> int:
        self._card("nvmlDeviceGetMaxMigDeviceCount", handle)
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: _Handle, place: int) -> _Handle:
        mig = _Handle(handle.index, place)
        state = self._enter("nvmlDeviceGetMigDeviceHandleByIndex", mig.target)
        if place >= len(state.cards[handle.index].mig_devices):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return mig

    def nvmlDeviceGetGpuInstanceId(self, handle: _Handle) -> int:
        return self._mig("nvmlDeviceGetGpuInstanceId", handle).gpu_instance_id

    def nvmlDeviceGetComputeInstanceId(self, handle: _Handle) -> int:
        return self._mig("nvmlDeviceGetComputeInstanceId", handle).compute_instance_id

    def _processes(self, call: str, handle: _Handle) -> list[SimpleNamespace]:
        card, mig = self._both(call, handle)
        parts: list[SimulatedCard | SimulatedMig] = [card, *card.mig_devices]
        return [
            SimpleNamespace(pid=pid, usedGpuMemory=held)
            for part in (parts if mig is None else [mig])
            for pid, held in (part.compute if "Compute" in call else part.graphics).items()
        ]

    def _part(self, call: str, handle: _Handle) -> SimulatedCard | SimulatedMig:
        card, mig = self._both(call, handle)
        return card if mig is None else mig

    def _card(self, call: str, handle: _Handle) -> SimulatedCard:
        card, mig = self._both(call, handle)
        if mig is not None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return card

    def _mig(self, call: str, handle: _Handle) -> SimulatedMig:
        mig: SimulatedMig = _supported(self._both(call, handle)[1])
        return mig

    def _both(self, call: str, handle: _Handle) -> tuple[SimulatedCard, SimulatedMig | None]:
        state = self._enter(call, handle.target)
        try:
            card = state.cards[handle.index]
            return card, None if handle.place is None else card.mig_devices[handle.place]
        except IndexError:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT) from None

    def _enter(self, call: str, target: str = "-") -> SimulatedNvml:
        """The state for a call that needs an initialised library."""
        state = self._wait(call, target)
        if state is None:
            self._initialised = False
        if state is None or not self._initialised:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
        return _without_error(state, call, target)

    def _wait(self, call: str, target: str) -> SimulatedNvml | None:
        """The state, once ``call`` hangs no more; None without a file."""
        while True:
            state = self._read()
            if state is None or not any((name, target) in state.hangs for name in _names(call)):
                return state
            time.sleep(_HANG_STEP)

    def _read(self) -> SimulatedNvml | None:
        """The state now; None without a file."""
        try:
            found = self._path.stat()
            seen = found.st_ino, found.st_mtime_ns, found.st_size
            if seen != self._seen:
                self._state = parse(self._path.read_text())
                self._seen = seen
        except FileNotFoundError:
            return None
        return self._state


def _names(call: str) -> tuple[str, str]:
    """The names by which the state may mean ``call``: with its version, or without."""
    return call, re.sub(r"_v\d+$", "", call)


def _without_error(state: SimulatedNvml, call: str, target: str) -> SimulatedNvml:
    """``state``, unless it has an error for ``call``: that is raised."""
    names = _names(call)
    for (name, where), code in state.errors.items():
        if where == target and name in names:
            raise pynvml.NVMLError(code)
    return state


def _supported(value: Any) -> Any:
    if value is None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    return value
