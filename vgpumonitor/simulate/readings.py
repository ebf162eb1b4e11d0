"""What NVML reads on the simulated GPUs under their load."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vgpumonitor.simulate.container import CardUse
from vgpumonitor.simulate.nvml.state import Memory, ProcessSample, SimulatedDevice, SimulatedMig
from vgpumonitor.simulate.plan import MIB, Card, MigPart

#: What the driver keeps of each GPU's memory for itself, in bytes.
_RESERVED = 610 * MIB
#: Watts at rest, and degrees Celsius at rest and under full load.
_IDLE_WATTS = 36
_IDLE_CELSIUS, _FULL_CELSIUS = 33, 74
#: Degrees by which a GPU warms up or cools down in a second.
_WARMING = 2
#: nvmlClocksEventReasonSwPowerCap (nvml.h), and the utilization from which it applies.
_POWER_CAP, _CAPPED = 0x04, 95


def figures(
    cards: Sequence[Card], uses: Sequence[CardUse], before: Sequence[SimulatedDevice], now: float
) -> tuple[SimulatedDevice, ...]:
    """The GPUs at ``now`` (Unix seconds), one second after ``before``, which is empty at first."""
    on = {card: [use for use in uses if use.card is card] for card in cards}
    found = []
    for card, here in on.items():
        core = min(100, sum(use.sm for use in here))
        final = _IDLE_CELSIUS + (_FULL_CELSIUS - _IDLE_CELSIUS) * core // 100
        last = before[card.index].temperature if before else None
        change = 0 if last is None else final - last
        found.append(
            SimulatedDevice(
                uuid=card.uuid,
                name=card.name,
                minor=card.minor,
                memory=Memory(card.memory_total, sum(use.memory for use in here), _RESERVED),
                # NVML has no utilization for a GPU in MIG mode.
                utilization=None if card.mig else (core, core * 6 // 10),
                power_milliwatts=10 * (100 * _IDLE_WATTS + (card.full_watts - _IDLE_WATTS) * core),
                temperature=(last or final) + max(-_WARMING, min(_WARMING, change)),
                # GPUs that have been in use for years have some corrected errors.
                ecc=(card.minor, 0),
                throttle=_POWER_CAP if core >= _CAPPED else 0,
                compute=_processes(here),
                # Nor has it samples of the processes on one.
                process_samples=None if card.mig else _samples(here, now),
                mig_devices=tuple(_mig(part, here) for part in card.mig),
            )
        )
    return tuple(found)


def _mig(part: MigPart, uses: Iterable[CardUse]) -> SimulatedMig:
    here = [use for use in uses if use.mig == part]
    return SimulatedMig(
        uuid=part.uuid,
        profile=part.profile,
        gpu_instance_id=part.gpu_instance_id,
        compute_instance_id=part.compute_instance_id,
        memory=Memory(part.memory_total, sum(use.memory for use in here)),
        compute=_processes(here),
    )


def _samples(uses: Iterable[CardUse], now: float) -> tuple[ProcessSample, ...]:
    """Of the processes that did anything."""
    return tuple(
        ProcessSample(
            pid=use.hostpid, timestamp=int(now * 1_000_000), sm=use.sm, memory=use.sm * 6 // 10
        )
        for use in uses
        if use.sm
    )


def _processes(uses: Iterable[CardUse]) -> dict[int, int | None]:
    return {use.hostpid: use.memory for use in uses}
