"""The node's cards, as NVML tells of them.

NVML may hang for ever, in the driver, where no signal helps. So one thread alone calls it,
and those who want a sample wait for that thread no longer than they choose.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

_log = logging.getLogger(__name__)

#: Bits of nvmlDeviceGetCurrentClocksEventReasons (nvml.h, nvmlClocksEventReason*) that hold
#: the clocks down. Idleness and clocks that somebody chose are no trouble of the card.
_THROTTLE_REASONS = {
    "sw_power_cap": 0x04,
    "hw_slowdown": 0x08,
    "sync_boost": 0x10,
    "sw_thermal_slowdown": 0x20,
    "hw_thermal_slowdown": 0x40,
    "hw_power_brake_slowdown": 0x80,
}

#: Under which a sample that was waited for in vain is counted.
_TIMEOUT = ("timeout", "")


@dataclass(frozen=True, slots=True)
class DeviceProcess:
    """A process on a card: its PID as this process's PID namespace sees it, and the bytes
    that it holds, None where NVML can't tell."""

    pid: int
    memory: int | None


@dataclass(frozen=True, slots=True)
class MigDevice:
    """A MIG device. ``name`` is its profile, as ``1g.10gb``; memory is in bytes. What NVML
    does not tell is None; without UUID or instances it is no MIG device that one could name.
    MIG devices have no utilisation."""

    uuid: str
    name: str | None
    gpu_instance_id: int
    compute_instance_id: int
    memory_total: int | None
    memory_used: int | None
    processes: tuple[DeviceProcess, ...] | None


@dataclass(frozen=True, slots=True)
class Device:
    """A card. ``index`` is NVML's. What NVML does not tell is None, or has no entry.

    Memory is in bytes; ``memory_used`` is what nvidia-smi shows, without what the driver
    reserves (drivers before 510 can't part the two). Utilisations are in percent.
    ``ecc_errors`` are by kind, corrected and uncorrected, over the card's life; ``throttled``
    says by reason whether it holds the clocks down now. ``processes`` are those that compute
    and those that draw; on a card with MIG, those of its MIG devices.
    """

    index: int
    uuid: str
    minor: int | None
    name: str | None
    memory_total: int | None
    memory_used: int | None
    core_utilization: int | None
    memory_utilization: int | None
    power_watts: float | None
    temperature_celsius: int | None
    ecc_errors: Mapping[str, int]
    throttled: Mapping[str, bool]
    processes: tuple[DeviceProcess, ...] | None
    mig_devices: tuple[MigDevice, ...]


@dataclass(frozen=True, slots=True)
class NvmlSample:
    """All cards at one time. ``cuda_version`` is the newest that the driver supports, as
    ``12.4``."""

    driver_version: str | None
    cuda_version: str | None
    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True)
class NvmlHealth:
    """``up`` is whether NVML answers. ``errors`` counts failures by NVML function (nvml.h's
    name, without its version) and UUID, which is empty where the call is about no card or
    one whose UUID is not known; ``("timeout", "")`` are samples that were not there in time.
    """

    up: bool
    errors: Mapping[tuple[str, str], int]


class NvmlSource:
    """Samples NVML in a daemon thread of its own, which sleeps between samples.

    ``library`` has the functions of pynvml (package nvidia-ml-py), which is imported in the
    thread where none is given. Without a driver, or after it went away, NVML is initialised
    again when a sample is asked for, but ``retry_seconds`` after the last attempt at most.
    Each device and each call fails alone. Every failure is counted; one that stays the same
    is logged once. That driver or card do not support something is counted once, too: they
    never will, and a counter that always rises would hide what matters.
    """

    def __init__(self, library: Any = None, retry_seconds: float = 10.0) -> None:
        self._nvml = _Nvml(library, retry_seconds)
        self._rounds: queue.SimpleQueue[_Round | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._round = _Round()
        self._timeouts = 0
        self._thread = threading.Thread(target=self._run, name="nvml", daemon=True)

    def start(self) -> None:
        """Starts the thread, with a first sample so that the cards are known early."""
        self._rounds.put(self._round)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, unless it hangs: then it ends with the process."""
        self._rounds.put(None)
        self._thread.join(timeout=1.0)

    def sample(self, timeout: float) -> NvmlSample | None:
        """A fresh sample, or one that was begun and is not ready; from any thread.

        None where NVML is not there. Where it hangs for ``timeout`` seconds: the cards that
        came before the one that hangs, if any; then None at once, while it still hangs.
        """
        with self._lock:
            current = self._round
            if current.late and not current.done.is_set():
                self._timeouts += 1
                return None
            if current.done.is_set():
                current = self._round = _Round()
                self._rounds.put(current)
        if not current.done.wait(timeout):
            self._give_up(current, timeout)
        return current.sample()

    def health(self) -> NvmlHealth:
        errors = self._nvml.errors
        with self._lock:
            hangs = self._round.late and not self._round.done.is_set()
            if self._timeouts:
                errors[_TIMEOUT] = self._timeouts
        return NvmlHealth(self._nvml.up and not hangs, errors)

    @property
    def known(self) -> tuple[Device, ...]:
        """The cards as last seen, also while NVML or one of them is away: for names (UUID,
        minor, memory_total), which stay; the other values are old."""
        return tuple(self._nvml.known.values())

    def _give_up(self, current: _Round, timeout: float) -> None:
        with self._lock:
            self._timeouts += 1
            first, current.late = not current.late, True
        if first:
            call, uuid = current.asking
            _log.warning("NVML does not answer within %g s: %s%s", timeout, call, _of(uuid))

    def _run(self) -> None:
        while (current := self._rounds.get()) is not None:
            try:
                self._nvml.look(current)
            except Exception:
                # A mistake of ours must not end the thread, and with it all later samples.
                _log.exception("can't sample NVML")
            current.done.set()
            if current.late:
                _log.info("NVML answers again")
        self._nvml.shut_down()


class _Round:
    """One look at all cards: filled by the thread, read by others also before it is done."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.late = False
        self.asking = ("", "")
        self.driver_version: str | None = None
        self.cuda_version: str | None = None
        self.devices: list[Device] = []
        self.whole = False

    def sample(self) -> NvmlSample | None:
        devices = tuple(self.devices)
        if self.whole or (devices and not self.done.is_set()):
            return NvmlSample(self.driver_version, self.cuda_version, devices)
        return None


class _DriverGoneError(Exception):
    """NVML has to be initialised again."""


class _Nvml:
    """The library, whether it is initialised, and what failed. Only the thread's, but for
    ``up``, ``known`` and ``errors``."""

    def __init__(self, library: Any, retry_seconds: float) -> None:
        self._library = library
        self._retry_seconds = retry_seconds
        self._next_attempt = 0.0
        self._lock = threading.Lock()
        self._errors: Counter[tuple[str, str]] = Counter()
        #: The errors that the calls gave last, of those that fail.
        self._failing: dict[tuple[str, str], object] = {}
        self._round = _Round()
        self._index = 0
        self._lost: set[int] = set()
        self.up = False
        self.known: Mapping[str, Device] = {}

    @property
    def errors(self) -> dict[tuple[str, str], int]:
        with self._lock:
            return dict(self._errors)

    def look(self, current: _Round) -> None:
        """Fills ``current``; it stays without a sample where there is no driver."""
        self._round = current
        if not self.up and not self._initialise():
            return
        try:
            self._look_at_all(current)
            current.whole = True
        except _DriverGoneError as error:
            self.shut_down()
            _log.warning("NVML has to be initialised again: %s", error)

    def shut_down(self) -> None:
        if self.up:
            try:
                self._library.nvmlShutdown()
            except Exception as error:
                _log.debug("nvmlShutdown: %s", error)
            self.up = False

    def _initialise(self) -> bool:
        now = time.monotonic()
        if now < self._next_attempt:
            return False
        self._next_attempt = now + self._retry_seconds
        self._round.asking = "nvmlInit", ""
        if self._library is None:
            # Here, since it takes 20 ms and 4 MB, and where NVML is off nobody needs it.
            import pynvml

            self._library = pynvml
        try:
            self._library.nvmlInit()
        except Exception as error:
            self._failed("nvmlInit", "", error)
            return False
        self._failing.pop(("nvmlInit", ""), None)
        self.up = True
        _log.info("NVML is initialised")
        return True

    def _look_at_all(self, current: _Round) -> None:
        self._lost.clear()
        current.driver_version = self._ask("", ("nvmlSystemGetDriverVersion",))
        # Not its second version, which fails where the container lacks libcuda.
        cuda = self._ask("", ("nvmlSystemGetCudaDriverVersion",))
        if cuda is not None:
            current.cuda_version = f"{cuda // 1000}.{cuda % 1000 // 10}"
        count = self._ask("", ("nvmlDeviceGetCount",)) or 0
        for index in range(count):
            self._index = index
            device = self._device(index)
            if device is not None:
                current.devices.append(device)
                self.known = {
                    **self.known,
                    device.uuid: _with_names(device, self.known.get(device.uuid)),
                }
        if len(self._lost) == count > 0:
            raise _DriverGoneError("all GPUs are lost")
        if len(current.devices) == count > 0:
            self.known = {device.uuid: self.known[device.uuid] for device in current.devices}

    def _device(self, index: int) -> Device | None:
        unnamed = f"index {index}"
        handle = self._ask("", ("nvmlDeviceGetHandleByIndex", index), what=unnamed)
        if handle is None:
            return None
        uuid = self._ask("", ("nvmlDeviceGetUUID", handle), what=unnamed)
        if uuid is None:
            return None
        memory = self._memory(uuid, handle)
        utilization = self._ask(uuid, ("nvmlDeviceGetUtilizationRates", handle))
        milliwatts = self._ask(uuid, ("nvmlDeviceGetPowerUsage", handle))
        reasons = self._ask(
            uuid,
            ("nvmlDeviceGetCurrentClocksEventReasons", handle),
            ("nvmlDeviceGetCurrentClocksThrottleReasons", handle),
        )
        sensor = self._library.NVML_TEMPERATURE_GPU
        return Device(
            index=index,
            uuid=uuid,
            minor=self._ask(uuid, ("nvmlDeviceGetMinorNumber", handle)),
            name=self._ask(uuid, ("nvmlDeviceGetName", handle)),
            memory_total=None if memory is None else int(memory.total),
            memory_used=None if memory is None else int(memory.used),
            core_utilization=None if utilization is None else int(utilization.gpu),
            memory_utilization=None if utilization is None else int(utilization.memory),
            power_watts=None if milliwatts is None else milliwatts / 1000,
            # Its successor, nvmlDeviceGetTemperatureV, is not in drivers before 570.
            temperature_celsius=self._ask(uuid, ("nvmlDeviceGetTemperature", handle, sensor)),
            ecc_errors=self._ecc_errors(uuid, handle),
            throttled={}
            if reasons is None
            else {reason: bool(reasons & bit) for reason, bit in _THROTTLE_REASONS.items()},
            processes=self._processes(uuid, handle),
            mig_devices=self._mig_devices(uuid, handle),
        )

    def _memory(self, uuid: str, handle: Any) -> Any:
        # The first version counts what the driver reserves as used.
        return self._ask(
            uuid,
            ("nvmlDeviceGetMemoryInfo", handle, self._library.nvmlMemory_v2),
            ("nvmlDeviceGetMemoryInfo", handle),
        )

    def _ecc_errors(self, uuid: str, handle: Any) -> dict[str, int]:
        """Over the card's life: the volatile counts begin anew with the driver, and what
        came between the last scrape and that would be lost to a counter."""
        library = self._library
        found = {}
        for kind, error_type in (
            ("corrected", library.NVML_MEMORY_ERROR_TYPE_CORRECTED),
            ("uncorrected", library.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
        ):
            count = self._ask(
                uuid,
                ("nvmlDeviceGetTotalEccErrors", handle, error_type, library.NVML_AGGREGATE_ECC),
                what=kind,
            )
            if count is not None:
                found[kind] = count
        return found

    def _processes(self, uuid: str, handle: Any) -> tuple[DeviceProcess, ...] | None:
        """None where those that compute are not known; one that does both is in both lists,
        each time with all its memory."""
        computing = self._ask(
            uuid,
            ("nvmlDeviceGetComputeRunningProcesses", handle),
            ("nvmlDeviceGetComputeRunningProcesses_v2", handle),
        )
        drawing = self._ask(
            uuid,
            ("nvmlDeviceGetGraphicsRunningProcesses", handle),
            ("nvmlDeviceGetGraphicsRunningProcesses_v2", handle),
        )
        if computing is None:
            return None
        memory: dict[int, int | None] = {}
        for process in (*computing, *(drawing or ())):
            if memory.get(process.pid) is None:
                memory[process.pid] = process.usedGpuMemory
        return tuple(DeviceProcess(pid, held) for pid, held in memory.items())

    def _mig_devices(self, uuid: str, handle: Any) -> tuple[MigDevice, ...]:
        library = self._library
        no_mig, no_device = library.NVML_ERROR_NOT_SUPPORTED, library.NVML_ERROR_NOT_FOUND
        mode = self._ask(uuid, ("nvmlDeviceGetMigMode", handle), answer=no_mig)
        if mode is None or mode[0] != library.NVML_DEVICE_MIG_ENABLE:
            return ()
        count = self._ask(uuid, ("nvmlDeviceGetMaxMigDeviceCount", handle)) or 0
        found = []
        for place in range(count):
            mig = self._ask(
                uuid,
                ("nvmlDeviceGetMigDeviceHandleByIndex", handle, place),
                what=f"MIG device {place}",
                answer=no_device,
            )
            device = None if mig is None else self._mig_device(uuid, mig, place)
            if device is not None:
                found.append(device)
        return tuple(found)

    def _mig_device(self, card: str, handle: Any, place: int) -> MigDevice | None:
        uuid = self._ask(card, ("nvmlDeviceGetUUID", handle), what=f"MIG device {place}")
        if uuid is None:
            return None
        gpu_instance = self._ask(uuid, ("nvmlDeviceGetGpuInstanceId", handle))
        compute_instance = self._ask(uuid, ("nvmlDeviceGetComputeInstanceId", handle))
        if gpu_instance is None or compute_instance is None:
            return None
        memory = self._memory(uuid, handle)
        name = self._ask(uuid, ("nvmlDeviceGetName", handle))
        return MigDevice(
            uuid=uuid,
            # "NVIDIA A100-SXM4-80GB MIG 1g.10gb"
            name=None if name is None else name.rpartition(" MIG ")[2],
            gpu_instance_id=gpu_instance,
            compute_instance_id=compute_instance,
            memory_total=None if memory is None else int(memory.total),
            memory_used=None if memory is None else int(memory.used),
            processes=self._processes(uuid, handle),
        )

    def _ask(
        self, uuid: str, *variants: tuple[Any, ...], what: str = "", answer: int | None = None
    ) -> Any:
        """The value that the first of ``variants`` gives that the driver knows, each a
        function's name and its arguments; None where it fails.

        A failure is counted under the first variant's name and ``uuid``; ``what`` parts calls
        that are alike in both. The error ``answer`` is no failure but a way to say no.
        Raises _DriverGoneError.
        """
        call = variants[0][0]
        self._round.asking = call, uuid
        failure: Exception | None = None
        for function, *arguments in variants:
            try:
                value = getattr(self._library, function)(*arguments)
            except Exception as error:
                failure = error
                if not self._is_unsupported(error):
                    break
            else:
                failure = None
                break
        if failure is None or (answer is not None and _code(failure) == answer):
            self._failing.pop((call, uuid + what), None)
            return None if failure is not None else value
        self._failed(call, uuid, failure, what)
        library = self._library
        if _code(failure) == library.NVML_ERROR_GPU_IS_LOST:
            self._lost.add(self._index)
        elif _code(failure) in (
            library.NVML_ERROR_UNINITIALIZED,
            library.NVML_ERROR_DRIVER_NOT_LOADED,
            library.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
        ):
            raise _DriverGoneError(f"{call}: {failure}") from failure
        return None

    def _is_unsupported(self, error: Exception) -> bool:
        """Whether driver or card will never do it; an older function may. pynvml has an error
        of its own, outside NVMLError, for functions that the driver's library lacks."""
        library = self._library
        return isinstance(error, library.NVMLLibraryMismatchError) or _code(error) in (
            library.NVML_ERROR_FUNCTION_NOT_FOUND,
            library.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
            library.NVML_ERROR_NOT_SUPPORTED,
        )

    def _failed(self, call: str, uuid: str, error: Exception, what: str = "") -> None:
        library = self._library
        code = _code(error) or str(error)
        key = call, uuid + what
        changed = self._failing.get(key) != code
        self._failing[key] = code
        unsupported = self._is_unsupported(error)
        if changed or not unsupported:
            with self._lock:
                self._errors[call, uuid] += 1
        if changed:
            no_driver = (
                library.NVML_ERROR_LIBRARY_NOT_FOUND,
                library.NVML_ERROR_DRIVER_NOT_LOADED,
            )
            level = logging.INFO if unsupported or code in no_driver else logging.WARNING
            _log.log(level, "%s%s: %s", call, _of(uuid, what), error)


def _code(error: Exception) -> int | None:
    """NVML's number for the error; None where it is none of NVML's."""
    return getattr(error, "value", None)


def _of(*names: str) -> str:
    return f" of {' '.join(filter(None, names))}" if any(names) else ""


def _with_names(device: Device, before: Device | None) -> Device:
    """``device``, with what it could not tell of itself this time but did ``before``."""
    if before is None:
        return device
    return replace(
        device,
        minor=before.minor if device.minor is None else device.minor,
        memory_total=before.memory_total if device.memory_total is None else device.memory_total,
    )
