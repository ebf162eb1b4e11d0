"""Durations as Go writes them (``time.ParseDuration``), the format that HAMi and Prometheus use."""

from __future__ import annotations

import math
import re

#: Units of a Go duration, in seconds. Both characters that look like a micro sign are Go's.
_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,  # U+00B5, micro sign
    "\N{GREEK SMALL LETTER MU}s": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART = re.compile(rf"(\d+(?:\.\d*)?|\.\d+)({'|'.join(_UNITS)})", re.ASCII)
_DURATION = re.compile(rf"\+?(?:{_PART.pattern})+", re.ASCII)
_NUMBER = re.compile(r"\+?(\d+(?:\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def parse_duration(text: str) -> float:
    """Seconds of a Go duration such as ``300ms``, ``1m30s`` or ``0``. Raises ValueError."""
    seconds = 0.0 if text in ("0", "+0") else _with_units(text)
    if seconds is None:
        raise ValueError(f"invalid duration {text!r}: expected a Go duration such as 5m")
    return seconds


def parse_seconds(text: str) -> float:
    """Seconds of a plain number or of a Go duration, as flags take both. Raises ValueError."""
    seconds = float(text) if _NUMBER.fullmatch(text) else _with_units(text)
    if seconds is None or math.isinf(seconds):
        raise ValueError(f"invalid duration {text!r}: expected seconds or a Go duration such as 5m")
    return seconds


def _with_units(text: str) -> float | None:
    """None where ``text`` isn't a duration, or is longer than Go's 292 years."""
    if not _DURATION.fullmatch(text):
        return None
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    return seconds if seconds * 1e9 < 2**63 else None
