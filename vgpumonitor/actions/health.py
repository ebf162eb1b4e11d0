"""How the actions fare, for the snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FeedbackHealth:
    """Totals since the start: ``writes`` by word. ``last_round`` is Unix seconds, None before
    the first."""

    rounds: int = 0
    writes: Mapping[str, int] = field(default_factory=dict)
    last_round: float | None = None


@dataclass(frozen=True, slots=True)
class GcHealth:
    """``removed`` is the total since the start; ``last_round`` as above."""

    removed: int = 0
    last_round: float | None = None
