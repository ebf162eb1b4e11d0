"""The table that benchmarks print."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    what: str
    figure: str
    how: str = ""


def markdown(rows: Iterable[Row]) -> str:
    lines = ["| what | figure | how |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {row.what} | {row.figure} | {row.how} |" for row in rows)])
