"""How far apart two values of a kind may be: bytes and counts not at all, readings of sensors as
far as two looks at one sensor are."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from vgpumonitor.compare.exposition import Readings

#: Scrapes that have to show two moving values before these may count as the same.
LOOKS = 3


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Values agree within ``absolute``, or within ``relative`` of the larger."""

    absolute: float = 0.0
    relative: float = 0.0

    def agree(self, a: float, b: float) -> bool:
        if math.isnan(a) or math.isnan(b):
            return math.isnan(a) and math.isnan(b)
        # 0.55 is a little more than 0.05 above 0.5.
        return math.isclose(a, b, rel_tol=self.relative, abs_tol=self.absolute * (1 + 1e-9))

    def __str__(self) -> str:
        return f"{self.relative * 100:g}%" if self.relative else f"{self.absolute:g}"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value, and the ends of the names of its families, as patterns, with what a
    tolerance of 1 means in such a family. ``unit`` is for people."""

    name: str
    default: Tolerance
    units: Mapping[str, float]
    unit: str = ""


#: Stands for the name of a family that is a counter here and a rate of DCGM's.
RATE = "rate"

KINDS = (
    Kind(
        "bytes",
        Tolerance(),
        {"_bytes": 1, "HostGPUMemoryUsage": 1, "Device_memory_desc_of_container": 1},
    ),
    Kind(
        "utilization",
        Tolerance(absolute=5),
        {
            r"^vgpu_\w*(utilization|fan_speed)_ratio": 0.01,
            "_utilization_ratio": 1,
            "HostCoreUtilization": 1,
            "Device_utilization_desc_of_container": 1,
        },
        "percentage points",
    ),
    Kind("temperature", Tolerance(absolute=2), {"_celsius": 1}, "°C"),
    Kind("power", Tolerance(relative=0.05), {"_power_watts": 1, "_power_usage_watts": 1}),
    Kind("clock", Tolerance(relative=0.05), {"_clock_hertz": 1}),
    Kind(
        "time",
        Tolerance(absolute=2),
        {"_elapsed_seconds": 1, "Device_last_kernel_of_container": 1, "_timestamp_seconds": 1},
        "s",
    ),
    Kind("rate", Tolerance(relative=0.1), {f"^{RATE}": 1}),
    Kind("other", Tolerance(), {"": 1}),
)


class Tolerances:
    """The tolerance of each family: that of its kind in ``chosen``, otherwise the default."""

    def __init__(self, chosen: Mapping[str, Tolerance] | None = None) -> None:
        self._chosen = chosen or {}

    def of(self, family: str) -> Tolerance:
        for kind in KINDS:
            for pattern, unit in kind.units.items():
                if re.search(f"{pattern}$", family):
                    tolerance = self._chosen.get(kind.name, kind.default)
                    return Tolerance(tolerance.absolute * unit, tolerance.relative)
        raise AssertionError(family)  # The last pattern matches all.


def parse_tolerance(text: str) -> tuple[str, Tolerance]:
    """``KIND=AMOUNT``, such as ``bytes=1048576`` or ``power=10%``. Raises ValueError."""
    name, _, amount = text.partition("=")
    kinds = {kind.name for kind in KINDS}
    if name not in kinds:
        raise ValueError(
            f"unknown kind of value {name!r}: expected {', '.join(kind.name for kind in KINDS)}"
        )
    try:
        number = float(amount.removesuffix("%"))
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(
            f"invalid tolerance {text!r}: expected a number or a percentage, such as {name}=5%"
        )
    if amount.endswith("%"):
        return name, Tolerance(relative=number / 100)
    return name, Tolerance(absolute=number)


def same(a: Readings, b: Readings, tolerance: Tolerance) -> bool:
    """Whether the two agree in each scrape that has both."""
    pairs = _pairs(a, b)
    return bool(pairs) and all(tolerance.agree(*pair) for pair in pairs)


def moved_alike(a: Readings, b: Readings, tolerance: Tolerance) -> bool:
    """Whether two that don't agree in each scrape can be one value that moves: what both sides
    showed of it overlaps, and one isn't always off by the same amount."""
    if len(a) < LOOKS:
        return False
    offsets = {second - first for first, second in _pairs(a, b)}
    if len(offsets) == 1 and not same(a, b, tolerance):
        return False
    known_a = [value for value in a if value is not None]
    known_b = [value for value in b if value is not None]
    low, high = max(min(known_a), min(known_b)), min(max(known_a), max(known_b))
    return low <= high or tolerance.agree(low, high)


def _pairs(a: Readings, b: Readings) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
