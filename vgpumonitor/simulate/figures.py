"""What the simulated cards show of the load that is on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vgpumonitor.simulate.container import CardUse
from vgpumonitor.simulate.plan import MIB, Card

#: What the driver keeps of each card for itself, in bytes.
RESERVED = 610 * MIB
#: An L40S: watts at rest and at most, and degrees Celsius at rest and under full load.
_IDLE_WATTS, _FULL_WATTS = 36, 350
_IDLE_CELSIUS, _FULL_CELSIUS = 33.0, 74.0
#: The share of the way to its final temperature that a card makes in a second.
_WARMING = 0.08


@dataclass(frozen=True, slots=True)
class Figures:
    """A card now: ``processes`` are bytes by host PID, ``memory_used`` their sum (bytes,
    without what is reserved), ``core`` and ``memory`` utilisation in percent."""

    processes: Mapping[int, int]
    memory_used: int
    core: int
    memory: int
    power_watts: int
    temperature_celsius: float

    @property
    def power_capped(self) -> bool:
        return self.core >= 95


def figures(
    cards: Iterable[Card], uses: Iterable[CardUse], before: Mapping[str, Figures]
) -> dict[str, Figures]:
    """The figures of each card by UUID, one second after ``before`` (empty at first)."""
    held: dict[str, dict[int, int]] = {card.uuid: {} for card in cards}
    busy = dict.fromkeys(held, 0)
    for use in uses:
        held[use.card.uuid][use.hostpid] = use.memory
        busy[use.card.uuid] += use.sm
    found = {}
    for uuid, processes in held.items():
        core = min(100, busy[uuid])
        final = _IDLE_CELSIUS + (_FULL_CELSIUS - _IDLE_CELSIUS) * core / 100
        last = before.get(uuid)
        warmth = final if last is None else last.temperature_celsius
        found[uuid] = Figures(
            processes,
            sum(processes.values()),
            core,
            core * 6 // 10,
            _IDLE_WATTS + (_FULL_WATTS - _IDLE_WATTS) * core // 100,
            warmth + _WARMING * (final - warmth),
        )
    return found
