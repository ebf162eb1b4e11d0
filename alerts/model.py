"""What a rule is, and the words and labels that rules share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from alerts.config import THRESHOLDS


@dataclass(frozen=True)
class Recording:
    """``record`` is level:metric:operation."""

    record: str
    expr: str


@dataclass(frozen=True)
class Alert:
    """``wait`` is how long the expression must hold. ``audience`` is who can act on it: the
    platform's operators, or the tenant whose pod it is."""

    name: str
    expr: str
    wait: str
    severity: Literal["critical", "warning", "info"]
    audience: Literal["platform", "tenant"]
    summary: str
    description: str


@dataclass(frozen=True)
class Group:
    name: str
    interval: str
    rules: tuple[Recording | Alert, ...]


NODE = "cluster, node"
CARD = f"{NODE}, device_index, device_uuid"
#: A GPU, whatever its index is after one was lost.
UUID = f"{NODE}, device_uuid"

GPU_TEXT = "GPU {{ $labels.device_index }} of {{ $labels.node }} ({{ $labels.device_uuid }})"
PERCENT = "{{ $value | humanizePercentage }}"
#: increase() gives fractions: it extrapolates to the ends of its window.
TIMES = '{{ $value | printf "%.0f" }}'
AGO = "{{ $value | humanizeDuration }}"


def once(labels: str, series: str) -> str:
    """Without the job and the address by which an exporter was scraped."""
    return f"max by ({labels}) ({series})"


def at(name: str) -> str:
    """A threshold; what follows it in the expression must begin on a line of its own."""
    return f"{THRESHOLDS[name]} # {name}"


def once_above(labels: str, series: str, threshold: str) -> str:
    """``once`` of those above a threshold: what isn't is not even grouped."""
    return f"max by ({labels}) (\n  {series} > {at(threshold)}\n)"
