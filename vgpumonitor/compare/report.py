"""A comparison as people read it, a line for each series, so that it can be searched."""

from __future__ import annotations

import json
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from vgpumonitor.compare.causes import Cause, container_of
from vgpumonitor.compare.dcgm import NotCompared
from vgpumonitor.compare.exposition import Readings
from vgpumonitor.compare.matching import Comparison, Series, SharedFamily
from vgpumonitor.formatting import count, plain

#: Causes of which some series are shown, and how many, unless all are.
CAUSES = 10
SHOWN = 3


def report(
    comparison: Comparison,
    found: Sequence[Cause],
    left_out: Sequence[NotCompared],
    every_series: bool,
    width: int,
) -> Iterator[str]:
    """Lines: what only one side has, then the differences by cause, then the sum of it."""
    one_sided = [*_one_sided(comparison, width), *_left_out(left_out, width)]
    if one_sided:
        yield from (*one_sided, "")
    for place, cause in enumerate(found):
        yield _heading(cause)
        if not every_series and place >= CAUSES:
            continue
        shown = cause.series if every_series else cause.series[:SHOWN]
        yield from (f"  {_series(one)}" for one in shown)
        if len(shown) < len(cause.series):
            yield f"  and {len(cause.series) - len(shown)} more (--list shows all)"
        yield ""
    if not every_series and len(found) > CAUSES:
        yield ""
    yield _summary(comparison, found)


def _one_sided(comparison: Comparison, width: int) -> Iterator[str]:
    for side, names in (("A", comparison.only_a), ("B", comparison.only_b)):
        if names:
            series = count(sum(names.values()), "series", "series")
            families = count(len(names), "family", "families")
            yield from _wrapped(f"Only in {side}, {families}, {series}:", names, width)
    for side in ("A", "B"):
        by_labels: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        for family in comparison.shared:
            by_labels[family.labels_only_a if side == "A" else family.labels_only_b].append(
                family.name
            )
        for labels, families_with in by_labels.items():
            if labels:
                yield from _wrapped(
                    f"Labels only in {side}: {', '.join(labels)}, of", families_with, width
                )
    by_types: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for family in comparison.shared:
        if _types_differ(family):
            by_types[family.types].append(family.name)
    for (a, b), families_with in by_types.items():
        yield from _wrapped(f"Type {a} in A, {b} in B:", families_with, width)


def _types_differ(family: SharedFamily) -> bool:
    a, b = family.types
    return a != b and bool(a and b)


def _left_out(left_out: Sequence[NotCompared], width: int) -> Iterator[str]:
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    for one in left_out:
        by_reason[one.reason.replace("`", "")].append(one.name)
    for reason, names in by_reason.items():
        yield from _wrapped(f"Not compared ({reason}):", names, width)


def _wrapped(head: str, names: Iterable[str], width: int) -> list[str]:
    text = f"{head} {', '.join(map(plain, names))}"
    return textwrap.wrap(
        text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def _heading(cause: Cause) -> str:
    number = len(cause.series)
    of = f"{number} of {cause.total} series" if number < cause.total else _all(number)
    ways = Counter(one.verdict for one in cause.series)
    if len(ways) == 1:
        way = next(iter(ways))
        what = "differ" if way == "differs" else f"are {way}"
        what = what if number > 1 else "differs" if way == "differs" else f"is {way}"
    else:
        sides = [f"{how_many} {way}" for way, how_many in ways.items() if way != "differs"]
        what = f"differ ({', '.join(sides)})"
    return f"{_name(cause)}: {of} {what}{_by(cause)}"


def _all(number: int) -> str:
    return f"all its {number} series" if number > 1 else "its one series"


def _name(cause: Cause) -> str:
    names = plain("/".join(filter(None, cause.names)))
    if cause.kind == "layout":
        containers = {container_of(one.labels) for one in cause.series}
        return f"Layout {names} ({count(len(containers), 'container', 'containers')})"
    if cause.kind == "device":
        return f"GPU {names}"
    if cause.kind == "offset":
        families = dict.fromkeys(one.family for one in cause.series)
        return f"B is A {_signed(names)} in {', '.join(families)}"
    return names if cause.kind == "family" else f"{cause.kind.capitalize()} {names}"


def _signed(offset: str) -> str:
    return f"{offset[0]} {offset[1:]}"


def _by(cause: Cause) -> str:
    """By how much, where that is the same, or in the same proportion, for all."""
    pairs = [(_last(one.a), _last(one.b)) for one in cause.series if one.a and one.b]
    if cause.kind == "offset" or len(pairs) < len(cause.series) or len(pairs) < 2:
        return ""
    offsets = {f"{b - a:+.12g}" for a, b in pairs}
    if len(offsets) == 1:
        return f": B is A {_signed(offsets.pop())}"
    factors = {f"{b / a:.6g}" if a else "" for a, b in pairs}
    if len(factors) == 1 and not factors & {"", "0"}:
        return f": B is A × {factors.pop()}"
    return ""


def _series(one: Series) -> str:
    labels = ",".join(f"{name}={json.dumps(value)}" for name, value in one.labels)
    return f"{one.family}{{{labels}}}  A {_values(one.a)}  B {_values(one.b)}"


def _values(readings: Readings | None) -> str:
    if readings is None:
        return "missing"
    known = [value for value in readings if value is not None]
    low, high = min(known), max(known)
    return _number(low) if low == high or low != low else f"{_number(low)} to {_number(high)}"


def _last(readings: Readings) -> float:
    return next(value for value in reversed(readings) if value is not None)


def _number(value: float) -> str:
    return f"{value:.15g}"


def _summary(comparison: Comparison, found: Sequence[Cause]) -> str:
    verdicts = Counter(one.verdict for one in comparison.series)
    agree = verdicts["same"] + verdicts["moved"]
    text = f"{count(agree, 'series agrees', 'series agree')}"
    if verdicts["moved"]:
        text += f" ({verdicts['moved']} of them moved meanwhile)"
    different = len(comparison.differences)
    if different:
        text += f", {different} {'differs' if different == 1 else 'differ'}"
        text += f" for {count(len(found), 'cause', 'causes')}"
    return text
