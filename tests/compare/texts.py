"""Texts of exporters, and their comparison without a server."""

from __future__ import annotations

from collections.abc import Sequence

from vgpumonitor.compare.causes import Cause, causes, layouts
from vgpumonitor.compare.exposition import Exposition, parse
from vgpumonitor.compare.kinds import Tolerance, Tolerances
from vgpumonitor.compare.matching import Comparison, Series, compare


def scrapes(a: Sequence[str], b: Sequence[str]) -> list[tuple[Exposition, Exposition]]:
    """One second apart."""
    return [
        (parse(text_a, "A", at), parse(text_b, "B", at))
        for at, (text_a, text_b) in enumerate(zip(a, b, strict=True))
    ]


def compared(a: str | Sequence[str], b: str | Sequence[str], **tolerances: Tolerance) -> Comparison:
    """Two sides by one text of each, or by one for each scrape."""
    texts_a = (a,) if isinstance(a, str) else a
    texts_b = (b,) if isinstance(b, str) else b
    return compare(scrapes(texts_a, texts_b), Tolerances(tolerances))


def one(a: str | Sequence[str], b: str | Sequence[str], **tolerances: Tolerance) -> Series:
    (series,) = compared(a, b, **tolerances).series
    return series


def causes_of(a: str, b: str) -> list[Cause]:
    comparison = compared(a, b)
    return causes(comparison.series, layouts(parse(a, "A"), parse(b, "B")))
