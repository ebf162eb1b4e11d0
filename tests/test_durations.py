from __future__ import annotations

import re

import pytest

from vgpumonitor.durations import parse_duration, parse_seconds

GO = [
    ("0", 0.0),
    ("+0", 0.0),
    ("0s", 0.0),
    ("300ms", 0.3),
    ("5m0s", 300.0),
    ("1m30s", 90.0),
    ("1h", 3600.0),
    ("1h2m3.5s", 3723.5),
    ("1.5h", 5400.0),
    (".5s", 0.5),
    ("5.s", 5.0),
    ("+5m", 300.0),
    ("30s1m", 90.0),  # Go takes any order
    ("250us", 250e-6),
    ("250µs", 250e-6),
    ("250\N{GREEK SMALL LETTER MU}s", 250e-6),
    ("7ns", 7e-9),
    ("2562047h", 2562047 * 3600.0),
]
INVALID = [
    "",
    "soon",
    " 5m",
    "5m ",
    "5 m",
    "-5m",
    "-0",
    "5d",
    "m",
    "1m30",
    "1e3s",
    ".s",
    "1..5s",
    "nan",
    "inf",
    "infs",
    "\N{ARABIC-INDIC DIGIT FIVE}m",
    "0x5",
    "1_0",
    "2562048h",  # beyond int64 nanoseconds
    "9" * 400 + "h",
]


@pytest.mark.parametrize(("text", "seconds"), GO)
def test_go_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)
    assert parse_seconds(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "seconds"), [("300", 300.0), ("0.5", 0.5), (".5", 0.5), ("5.", 5.0), ("1e2", 100.0)]
)
def test_numbers_are_seconds_for_flags_only(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds
    with pytest.raises(ValueError, match="expected a Go duration such as 5m"):
        parse_duration(text)


@pytest.mark.parametrize("text", [*INVALID, "-1", "9" * 400, "1e999"])
def test_invalid(text: str) -> None:
    shown = re.escape(repr(text))
    with pytest.raises(
        ValueError, match=f"^invalid duration {shown}: expected a Go duration such as 5m$"
    ):
        parse_duration(text)
    with pytest.raises(
        ValueError,
        match=f"^invalid duration {shown}: expected seconds or a Go duration such as 5m$",
    ):
        parse_seconds(text)
