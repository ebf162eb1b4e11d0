"""What a simulated NVML tells: values, and the JSON file that holds them.

The file is read by ``SimulatedLibrary`` and, in tests, by a C library under the real pynvml.
It may be replaced at any time; no file is no driver. Numbers and units are those of NVIDIA's
nvml.h. A value that is None is Not Supported.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

#: Bytes by PID; None where NVML can't tell.
Processes = Mapping[int, int | None]


class _Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A misspelt field is an error, also in a file that was written by hand."""


class Memory(_Value, frozen=True):
    """Bytes; ``used`` does not count ``reserved``, which the driver keeps for itself."""

    total: int
    used: int
    reserved: int = 0


class ProcessSample(_Value, frozen=True, kw_only=True):
    """How much of a device a process used: percent of the SMs, the memory controller, the
    encoder and the decoder. ``timestamp`` is the sample's, in microseconds of the Unix epoch."""

    pid: int
    timestamp: int
    sm: int = 0
    memory: int = 0
    encoder: int = 0
    decoder: int = 0


class _Part(_Value, frozen=True, kw_only=True):
    """What a device and a MIG device have alike."""

    uuid: str
    memory: Memory | None = None
    compute: Processes = {}
    graphics: Processes = {}
    mps: Processes = {}


class SimulatedMig(_Part, frozen=True, kw_only=True):
    profile: str
    gpu_instance_id: int
    compute_instance_id: int = 0


class SimulatedDevice(_Part, frozen=True, kw_only=True):
    """A GPU. With ``mig_devices`` MIG is enabled; their processes are the GPU's as well.

    A tuple is in the order of the NVML enumeration that selects from it, and a mapping is by
    its numbers: ``ecc`` (corrected, uncorrected) by nvmlMemoryErrorType_t,
    ``temperature_thresholds`` by nvmlTemperatureThresholds_t, ``clocks`` and ``max_clocks``
    by nvmlClockType_t. ``field_values`` are by field ID, or by field ID and scope, and
    ``field_errors`` (codes) by field ID. ``utilization`` is core and memory in percent,
    ``encoder`` and ``decoder`` are percent and sampling period in microseconds, ``throttle`` is
    a mask of clock event reasons.
    """

    name: str | None = None
    minor: int | None = None
    serial: str | None = None
    vbios_version: str | None = None
    #: As ``00000000:3B:00.0``.
    pci_bus_id: str | None = None
    utilization: tuple[int, int] | None = None
    encoder: tuple[int, int] | None = None
    decoder: tuple[int, int] | None = None
    process_samples: tuple[ProcessSample, ...] | None = None
    power_milliwatts: int | None = None
    enforced_power_limit_milliwatts: int | None = None
    temperature: int | None = None
    temperature_thresholds: tuple[int | None, ...] | None = None
    clocks: tuple[int | None, ...] | None = None
    max_clocks: tuple[int | None, ...] | None = None
    fan_speeds: tuple[int, ...] | None = None
    performance_state: int | None = None
    throttle: int | None = None
    ecc: tuple[int, int] | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    max_pcie_generation: int | None = None
    max_pcie_width: int | None = None
    field_values: Mapping[int, int | float | Mapping[int, int | float]] | None = None
    field_errors: Mapping[int, int] = {}
    #: A mask of the events that the device can tell of.
    event_types: int | None = None
    mig_devices: tuple[SimulatedMig, ...] = ()


class SimulatedEvent(_Value, frozen=True, kw_only=True):
    """Something that happened on the device of that index, as an event set gives it once to
    who waits: ``type`` is nvmlEventTypeXidCriticalError, say, and ``data`` the XID. The instances
    are those of the MIG device that it is of, None where it is of the whole GPU."""

    device: int
    type: int
    data: int
    gpu_instance_id: int | None = None
    compute_instance_id: int | None = None


class SimulatedNvml(_Value, frozen=True, kw_only=True):
    """``cuda_version`` is NVML's number (12040 is 12.4). An event set gives the ``events``
    that are written after it was made.

    What is broken is by NVML's function. ``errors`` are codes, and ``hangs`` the calls that
    don't return as long as the file says so, by target: the device's index, ``INDEX.PLACE``
    for a MIG device, ``-`` where the call is about neither. A name without its version means
    all versions; with one it goes first. ``missing`` are the functions, with their versions,
    that the driver is too old for.
    """

    driver_version: str = "570.124.06"
    cuda_version: int = 12080
    devices: tuple[SimulatedDevice, ...] = ()
    events: tuple[SimulatedEvent, ...] = ()
    errors: Mapping[str, Mapping[str, int]] = {}
    hangs: Mapping[str, tuple[str, ...]] = {}
    missing: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        """Replaces the file as a whole."""
        new = path.with_name(f".{path.name}.new")
        new.write_bytes(msgspec.json.encode(self))
        new.replace(path)


def read(path: Path) -> SimulatedNvml:
    """Raises OSError, and msgspec.DecodeError where the file does not hold a state."""
    return msgspec.json.decode(path.read_bytes(), type=SimulatedNvml)
