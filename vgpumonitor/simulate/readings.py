"""What NVML reads on the simulated GPUs under their load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pynvml

from vgpumonitor.simulate.container import GpuUse
from vgpumonitor.simulate.nvml.state import Memory, ProcessSample, SimulatedDevice, SimulatedMig
from vgpumonitor.simulate.plan import MIB, Gpu, MigPart

#: What the driver keeps of each GPU's memory for itself, in bytes.
_RESERVED = 610 * MIB
#: Watts at rest, and degrees Celsius at rest and under full load.
_IDLE_WATTS = 36
_IDLE_CELSIUS, _FULL_CELSIUS = 33, 74


class _Model(NamedTuple):
    """What GPUs of one name have alike. Clocks are in MHz, in the order of nvmlClockType_t. With
    ``sxm`` it has HBM, whose temperature it tells, and NVLink, and does not go to sleep."""

    vbios_version: str
    idle_clocks: tuple[int, int, int, int]
    max_clocks: tuple[int, int, int, int]
    pcie_generation: int
    sxm: bool = True


_MODELS = {
    "NVIDIA L40S": _Model(
        "95.02.66.00.02", (210, 210, 405, 1185), (2520, 2520, 9001, 1965), 4, sxm=False
    ),
    "NVIDIA A100-SXM4-40GB": _Model(
        "92.00.19.00.01", (210, 210, 1215, 585), (1410, 1410, 1215, 1290), 4
    ),
    "NVIDIA A100-SXM4-80GB": _Model(
        "92.00.45.00.03", (210, 210, 1593, 585), (1410, 1410, 1593, 1290), 4
    ),
    "NVIDIA H100 80GB HBM3": _Model(
        "96.00.74.00.01", (345, 345, 2619, 765), (1980, 1980, 2619, 1545), 5
    ),
}
#: Degrees Celsius, in the order of nvmlTemperatureThresholds_t: shutdown, slowdown.
_THRESHOLDS = (95, 92)
#: Lanes, and the GPU whose slot gives it half of them.
_LANES, _NARROW = 16, 2
#: By how much warmer its memory is than the GPU.
_HBM_CELSIUS = 7
#: What goes over its links in a second under full load.
_PCIE_RECEIVED, _PCIE_TRANSMITTED, _NVLINK_KIB = 900_000_000, 220_000_000, 30_000_000
#: nvml.h: the sum over all links.
_ALL_LINKS = 0xFFFFFFFF
#: Degrees by which a GPU warms up or cools down in a second.
_WARMING = 2
#: nvmlEventTypeXidCriticalError (nvml.h).
XID_EVENT = 0x08
#: nvmlClocksEventReasonSwPowerCap (nvml.h), and the utilization from which it applies.
_POWER_CAP, _CAPPED = 0x04, 95

#: What stays at 0 on GPUs that are well, and on their NVLinks.
_QUIET = (
    pynvml.NVML_FI_DEV_PERF_POLICY_THERMAL,
    pynvml.NVML_FI_DEV_PERF_POLICY_SYNC_BOOST,
    pynvml.NVML_FI_DEV_PERF_POLICY_BOARD_LIMIT,
    pynvml.NVML_FI_DEV_PERF_POLICY_LOW_UTILIZATION,
    pynvml.NVML_FI_DEV_PERF_POLICY_RELIABILITY,
    pynvml.NVML_FI_DEV_PCIE_REPLAY_COUNTER,
    pynvml.NVML_FI_DEV_REMAPPED_COR,
    pynvml.NVML_FI_DEV_REMAPPED_PENDING,
    pynvml.NVML_FI_DEV_REMAPPED_FAILURE,
)
_QUIET_LINKS = (
    pynvml.NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL,
    pynvml.NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL,
    pynvml.NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL,
    pynvml.NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL,
)


def figures(
    gpus: Sequence[Gpu],
    uses: Sequence[GpuUse],
    before: Sequence[SimulatedDevice],
    now: float,
    seconds: int,
) -> tuple[SimulatedDevice, ...]:
    """The GPUs at ``now`` (Unix seconds), ``seconds`` after ``before``, which is empty at first."""
    on = {gpu: [use for use in uses if use.gpu is gpu] for gpu in gpus}
    found = []
    for gpu, here in on.items():
        core = min(100, sum(use.sm for use in here))
        final = _IDLE_CELSIUS + (_FULL_CELSIUS - _IDLE_CELSIUS) * core // 100
        last = before[gpu.index].temperature if before else None
        change = 0 if last is None else final - last
        most = _WARMING * seconds
        celsius = (last or final) + max(-most, min(most, change))
        milliwatts = 10 * (100 * _IDLE_WATTS + (gpu.full_watts - _IDLE_WATTS) * core)
        model = _MODELS[gpu.name]
        asleep = not core and not model.sxm
        narrow = gpu.index == _NARROW and not model.sxm
        found.append(
            SimulatedDevice(
                uuid=gpu.uuid,
                name=gpu.name,
                minor=gpu.minor,
                serial=f"1652{gpu.minor:09}",
                vbios_version=model.vbios_version,
                pci_bus_id=f"{gpu.index // 8:08X}:{0x17 + 0x20 * (gpu.index % 8):02X}:00.0",
                memory=Memory(gpu.memory_total, sum(use.memory for use in here), _RESERVED),
                # NVML has no utilization for a GPU in MIG mode.
                utilization=None if gpu.mig else (core, core * 6 // 10),
                # Nobody here encodes or decodes.
                encoder=None if gpu.mig else (0, 1_000_000),
                decoder=None if gpu.mig else (0, 1_000_000),
                power_milliwatts=milliwatts,
                enforced_power_limit_milliwatts=gpu.full_watts * 1000,
                temperature=celsius,
                # GPUs that have been in use for years have some corrected errors.
                ecc=(gpu.minor, 0),
                temperature_thresholds=_THRESHOLDS,
                clocks=model.max_clocks if core else model.idle_clocks,
                max_clocks=model.max_clocks,
                performance_state=8 if asleep else 0,
                throttle=_POWER_CAP if core >= _CAPPED else 0,
                pcie_generation=1 if asleep else model.pcie_generation,
                pcie_width=_LANES // 2 if narrow else _LANES,
                max_pcie_generation=model.pcie_generation,
                max_pcie_width=_LANES,
                field_values=_fields(
                    gpu,
                    before[gpu.index].field_values or {} if before else {},
                    seconds,
                    milliwatts,
                    core,
                    celsius + _HBM_CELSIUS if model.sxm else None,
                ),
                event_types=XID_EVENT,
                compute=_processes(here),
                # Nor has it samples of the processes on one.
                process_samples=None if gpu.mig else _samples(here, now),
                mig_devices=tuple(_mig(part, here) for part in gpu.mig),
            )
        )
    return tuple(found)


def _fields(
    gpu: Gpu,
    before: Mapping[int, Any],
    seconds: int,
    milliwatts: int,
    core: int,
    memory_celsius: int | None,
) -> dict[int, int | dict[int, int]]:
    """By number (nvml.h, NVML_FI_*), ``seconds`` after ``before``, which is empty at first. A
    ``memory_celsius`` is that of a GPU with NVLink."""
    # By how much they grow in a second. They begin at 0, as if the driver had just been loaded: to
    # Prometheus, which may have more of the same GPUs from before, all else would be growth.
    rates = {
        pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION: milliwatts,
        pynvml.NVML_FI_DEV_PERF_POLICY_POWER: 1_000_000_000 * (core >= _CAPPED),
        pynvml.NVML_FI_DEV_PCIE_COUNT_RX_BYTES: _PCIE_RECEIVED * core // 100,
        pynvml.NVML_FI_DEV_PCIE_COUNT_TX_BYTES: _PCIE_TRANSMITTED * core // 100,
    }
    found: dict[int, int | dict[int, int]] = {
        number: before.get(number, 0) + seconds * rate for number, rate in rates.items()
    }
    found |= dict.fromkeys(_QUIET, 0)
    # GPUs that have been in use for years have had a row remapped.
    found[pynvml.NVML_FI_DEV_REMAPPED_UNC] = int(gpu.index == _NARROW)
    if memory_celsius is not None:
        found[pynvml.NVML_FI_DEV_MEMORY_TEMP] = memory_celsius
        if not gpu.mig:
            found |= dict.fromkeys(_QUIET_LINKS, 0)
            for number in (
                pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX,
                pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX,
            ):
                last = before.get(number, {}).get(_ALL_LINKS, 0)
                found[number] = {_ALL_LINKS: last + seconds * (_NVLINK_KIB * core // 100)}
    return found


def _mig(part: MigPart, uses: Iterable[GpuUse]) -> SimulatedMig:
    here = [use for use in uses if use.mig == part]
    return SimulatedMig(
        uuid=part.uuid,
        profile=part.profile,
        gpu_instance_id=part.gpu_instance_id,
        compute_instance_id=part.compute_instance_id,
        memory=Memory(part.memory_total, sum(use.memory for use in here)),
        compute=_processes(here),
    )


def _samples(uses: Iterable[GpuUse], now: float) -> tuple[ProcessSample, ...]:
    """Of the processes that did anything."""
    return tuple(
        ProcessSample(
            pid=use.hostpid, timestamp=int(now * 1_000_000), sm=use.sm, memory=use.sm * 6 // 10
        )
        for use in uses
        if use.sm
    )


def _processes(uses: Iterable[GpuUse]) -> dict[int, int | None]:
    return {use.hostpid: use.memory for use in uses}
