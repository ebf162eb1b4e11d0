"""Which series of two exporters are the same, and whether they agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vgpumonitor.compare.exposition import Exposition, Labels, Readings, readings
from vgpumonitor.compare.kinds import Tolerance, Tolerances, moved_alike, same

#: ``moved``: the value, or the series itself, changed from scrape to scrape, and what both sides
#: showed goes together.
Verdict = Literal["same", "moved", "differs", "only in A", "only in B"]


@dataclass(frozen=True, slots=True)
class Series:
    """A series of a family that both sides have. Its labels are those by which both sides'
    series are matched, or all, where only one side has it."""

    family: str
    labels: Labels
    a: Readings | None
    b: Readings | None
    verdict: Verdict

    @property
    def different(self) -> bool:
        return self.verdict not in ("same", "moved")


@dataclass(frozen=True, slots=True)
class SharedFamily:
    """A metric name that both sides have: the labels that only one side's series have, and the
    two types."""

    name: str
    labels_only_a: tuple[str, ...]
    labels_only_b: tuple[str, ...]
    types: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The families of both sides, and all series of these; and by metric name how many series
    the families have that only one side has."""

    shared: tuple[SharedFamily, ...]
    series: tuple[Series, ...]
    only_a: Mapping[str, int]
    only_b: Mapping[str, int]

    @property
    def differences(self) -> list[Series]:
        return [one for one in self.series if one.different]


def compare(scrapes: Sequence[tuple[Exposition, Exposition]], tolerances: Tolerances) -> Comparison:
    """Compares two sides by one scrape or more of each."""
    sides_a, sides_b = zip(*scrapes, strict=True)
    a, b = readings(sides_a), readings(sides_b)
    names_a, names_b = _label_names(sides_a), _label_names(sides_b)
    types_a, types_b = sides_a[-1].types, sides_b[-1].types
    # A family that is declared and has no series just now is one that the side serves.
    has_a, has_b = a.keys() | types_a.keys(), b.keys() | types_b.keys()
    shared: list[SharedFamily] = []
    series: list[Series] = []
    for name in sorted((a.keys() | b.keys()) & has_a & has_b):
        own_a, own_b = a.get(name, {}), b.get(name, {})
        labels_a, labels_b = names_a[name], names_b[name]
        both = own_a and own_b
        only_a = tuple(sorted(labels_a - labels_b)) if both else ()
        only_b = tuple(sorted(labels_b - labels_a)) if both else ()
        types = types_a.get(name, ""), types_b.get(name, "")
        shared.append(SharedFamily(name, only_a, only_b, types))
        matched_by = labels_a & labels_b
        series += _matched(name, own_a, own_b, matched_by, tolerances.of(name))
    return Comparison(
        tuple(shared),
        tuple(series),
        {name: len(a[name]) for name in sorted(a.keys() - has_b)},
        {name: len(b[name]) for name in sorted(b.keys() - has_a)},
    )


def _label_names(scrapes: Iterable[Exposition]) -> Mapping[str, frozenset[str]]:
    found: defaultdict[str, frozenset[str]] = defaultdict(frozenset)
    for scrape in scrapes:
        for name, labels in scrape.label_names.items():
            found[name] |= labels
    return found


def _matched(
    name: str,
    a: Mapping[Labels, Readings],
    b: Mapping[Labels, Readings],
    matched_by: frozenset[str],
    tolerance: Tolerance,
) -> Iterator[Series]:
    groups_a, groups_b = _grouped(a, matched_by), _grouped(b, matched_by)
    for labels in sorted(groups_a.keys() | groups_b.keys()):
        pairs, rest_a, rest_b = _paired(
            groups_a.get(labels, []), groups_b.get(labels, []), tolerance
        )
        for own_a, own_b in pairs:
            yield Series(name, labels, own_a, own_b, _verdict(own_a, own_b, tolerance))
        for own, readings_a in rest_a:
            verdict: Verdict = "moved" if None in readings_a else "only in A"
            yield Series(name, own, readings_a, None, verdict)
        for own, readings_b in rest_b:
            verdict = "moved" if None in readings_b else "only in B"
            yield Series(name, own, None, readings_b, verdict)


def _verdict(a: Readings, b: Readings, tolerance: Tolerance) -> Verdict:
    if same(a, b, tolerance):
        return "same"
    return "moved" if moved_alike(a, b, tolerance) else "differs"


_Own = list[tuple[Labels, Readings]]


def _grouped(series: Mapping[Labels, Readings], names: frozenset[str]) -> dict[Labels, _Own]:
    """The series by their labels ``names``, each group sorted by value."""
    groups: defaultdict[Labels, _Own] = defaultdict(list)
    for labels, values in series.items():
        groups[tuple(label for label in labels if label[0] in names)].append((labels, values))
    for group in groups.values():
        group.sort(key=lambda one: (_last(one[1]), one[0]))
    return groups


def _last(values: Readings) -> float:
    return next(value for value in reversed(values) if value is not None)


def _paired(
    a: _Own, b: _Own, tolerance: Tolerance
) -> tuple[list[tuple[Readings, Readings]], _Own, _Own]:
    """Pairs of two groups, and what is left of each: several series can share the labels that
    they are matched by. Those whose values agree are pairs, then the others in order."""
    pairs: list[tuple[Readings, Readings]] = []
    left_a: _Own = []
    left_b: _Own = []
    a, b = a[::-1], b[::-1]
    while a and b:
        if _verdict(a[-1][1], b[-1][1], tolerance) != "differs":
            pairs.append((a.pop()[1], b.pop()[1]))
        elif _last(a[-1][1]) < _last(b[-1][1]):
            left_a.append(a.pop())
        else:
            left_b.append(b.pop())
    left_a, left_b = left_a + a[::-1], left_b + b[::-1]
    others = list(zip(left_a, left_b, strict=False))
    pairs += [(one[1], other[1]) for one, other in others]
    return pairs, left_a[len(others) :], left_b[len(others) :]
