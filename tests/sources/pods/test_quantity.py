from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vgpumonitor.sources.pods.quantity import parse_quantity

BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
DECIMAL = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", "0"),
        ("50", "50"),
        ("11520Mi", "12079595520"),
        ("-1.5Gi", "-1610612736"),
        ("+3", "3"),
        (".5", "0.5"),
        ("5.", "5"),
        ("5.k", "5000"),
        ("100m", "0.1"),
        ("1E", "1000000000000000000"),
        ("1E3", "1000"),
        ("1E+3", "1000"),
        ("1e-3", "0.001"),
        ("1.25e3", "1250"),
        ("1Ei", "1152921504606846976"),
        ("0.000000001", "0.000000001"),
        ("1n", "0.000000001"),
        ("9223372036854775807", "9223372036854775807"),
    ],
)
def test_texts(text: str, value: str) -> None:
    assert parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "1\n", "Mi", ".", "-", "1e", "1K", "1ki", "1MiB", "1e3k", "0x10", "1_000",
     "--1", "1.2.3", "NaN", "inf", "-Infinity", "\u0661", "1e1000000000", "1e-65"],
)  # fmt: skip
def test_no_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("number", "value"),
    [(50, "50"), (0.5, "0.5"), (1e-07, "1e-7"), (1e20, "1e20"), (2**63, "9223372036854775808")],
)
def test_json_numbers(number: float, value: str) -> None:
    assert parse_quantity(number) == Decimal(value)


@pytest.mark.parametrize("number", [True, 10**500, 1e300, json.loads("NaN"), json.loads("1e999")])
def test_json_numbers_that_are_none(number: float) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity(number)


def test_hostile_sizes_cost_nothing() -> None:
    for value in ("9" * 10**6, "1e" + "9" * 10**6, "0." + "0" * 10**6 + "1", 10**5000):
        with pytest.raises(ValueError, match="is not a quantity") as caught:
            parse_quantity(value)
        assert len(str(caught.value)) < 100


@given(st.integers(-(2**63), 2**63), st.sampled_from(sorted(BINARY)))
def test_binary_suffixes(number: int, suffix: str) -> None:
    assert parse_quantity(f"{number}{suffix}") == number * BINARY[suffix]


@given(st.decimals(-(10**12), 10**12, places=9, allow_nan=False), st.sampled_from(sorted(DECIMAL)))
def test_decimal_suffixes(number: Decimal, suffix: str) -> None:
    with_suffix = parse_quantity(f"{number:f}{suffix}")
    assert with_suffix == number * DECIMAL[suffix]


@given(st.integers(0, 10**9), st.integers(-64, 64), st.sampled_from("eE"))
def test_exponents(number: int, exponent: int, letter: str) -> None:
    assert parse_quantity(f"{number}{letter}{exponent}") == Decimal(number).scaleb(exponent)


@given(st.text() | st.from_regex(r"[+-]?[0-9.]{0,70}(e[0-9]{1,80}|[A-Za-z]{0,3})", fullmatch=True))
def test_any_text_is_a_finite_number_or_a_value_error(text: str) -> None:
    try:
        value = parse_quantity(text)
    except ValueError:
        return
    assert value.is_finite()
    assert abs(value) <= Decimal(10) ** 128
