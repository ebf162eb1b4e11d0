from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testing.values import GIB
from vgpumonitor.formatting import ago, percent, plain, short_uuid, size

KIB = 1 << 10


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "–"),
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (KIB, "1.00 KiB"),
        (10 * KIB - 1, "10.0 KiB"),
        (100 * KIB - 1, "100 KiB"),
        (999 * KIB, "999 KiB"),
        (1000 * KIB, "0.98 MiB"),
        (1395658752, "1.30 GiB"),
        (40 * GIB, "40.0 GiB"),
        (141 * GIB, "141 GiB"),
        (1 << 40, "1.00 TiB"),
        ((1 << 64) - 1, "16.0 EiB"),
    ],
)
def test_sizes_have_three_digits_and_iec_units(count: int | None, text: str) -> None:
    assert size(count) == text


@given(st.integers(min_value=1024, max_value=(1 << 64) - 1))
def test_a_size_is_right_to_half_a_percent(count: int) -> None:
    number, unit = size(count).split()
    factor = 1024 ** ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB").index(unit)
    assert float(number) * factor == pytest.approx(count, rel=0.0055)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (-3, "now"),
        (0.9, "now"),
        (1, "1 s ago"),
        (59.9, "59 s ago"),
        (60, "1 min ago"),
        (239, "3 min ago"),
        (3599, "59 min ago"),
        (3600, "1 h ago"),
        (86_399, "23 h ago"),
        (86_400 * 400, "400 d ago"),
    ],
)
def test_times_are_in_their_largest_unit(seconds: float | None, text: str) -> None:
    assert ago(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0, "0%"), (12.5, "13%"), (13.5, "14%"), (250, "250%")]
)
def test_percentages_are_whole(value: float | None, text: str) -> None:
    assert percent(value) == text


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("a/b.cache", "a/b.cache"),
        ("\x1b[31mred\n", "\\x1b[31mred\\n"),
        ("\udcff", "\\udcff"),
        ("\u202egnp", "\\u202egnp"),
        ("mémoire", "mémoire"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, printed: str) -> None:
    assert plain(text) == printed


@pytest.mark.parametrize(
    ("uuid", "short"),
    [
        ("GPU-8664316c-6888-5063-1e4d-f2a09cfbf100", "GPU-8664316c"),
        ("MIG-8664316c-6888-5063-1e4d-f2a09cfbf100", "MIG-8664316c"),
        ("", ""),
    ],
)
def test_short_uuid(uuid: str, short: str) -> None:
    assert short_uuid(uuid) == short
