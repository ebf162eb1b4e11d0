"""What differences have in common: one layout that a side can't read makes hundreds of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from vgpumonitor.compare.exposition import Exposition, Labels
from vgpumonitor.compare.matching import Series

_NAMESPACE, _POD = ("namespace", "podnamespace"), ("pod", "podname")
_CONTAINER, _DEVICE = ("container", "ctrname"), ("device_uuid", "deviceuuid", "UUID")

#: From the one that says most to the one that says least, which decides between equals.
CauseKind = Literal["layout", "device", "container", "pod", "offset", "family"]
#: Namespace, pod and container, each empty where a series has none.
Names = tuple[str, str, str]
_Key = tuple[CauseKind, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Cause:
    """What ``series`` have in common, all of which differ, out of ``total`` that have it: the
    layout of a container, its names, the device's UUID, the family, or the amount by which B is
    above A."""

    kind: CauseKind
    names: tuple[str, ...]
    series: tuple[Series, ...]
    total: int


def causes(series: Sequence[Series], layout_of: Mapping[Names, str]) -> list[Cause]:
    """The causes of the differences among ``series``, the one that explains most first: each
    difference has one. ``layout_of`` a container is known from ``layouts``.

    A cause explains well what it has many of, and few that agree: the next one is always the one
    with most differences that no other explains, times their share of what it has, squared."""
    totals: Counter[_Key] = Counter()
    open_: defaultdict[_Key, dict[int, Series]] = defaultdict(dict)
    keys_of: list[tuple[int, list[_Key]]] = []
    offset_families: defaultdict[_Key, set[str]] = defaultdict(set)
    in_family: Counter[str] = Counter(one.family for one in series)
    for number, one in enumerate(series):
        keys = list(_keys(one, layout_of))
        totals.update(keys)
        if one.different:
            offset = _offset(one)
            if offset:
                key: _Key = ("offset", (offset,))
                keys.append(key)
                offset_families[key].add(one.family)
            keys_of.append((number, keys))
            for key in keys:
                open_[key][number] = one
    for key, families in offset_families.items():
        totals[key] = sum(in_family[family] for family in families)
    by_number = dict(keys_of)
    found: list[Cause] = []
    while open_:
        best = max(open_, key=lambda key: (_worth(len(open_[key]), totals[key]), _rank(key)))
        explained = open_[best]
        found.append(Cause(best[0], best[1], tuple(explained.values()), totals[best]))
        for number in list(explained):
            for key in by_number[number]:
                open_[key].pop(number)
                if not open_[key]:
                    del open_[key]
    return found


def _worth(number: int, total: int) -> float:
    """The share counts twice: containers of which all is missing say more than families in which
    half is."""
    return number * (number / total) ** 2


def _rank(key: _Key) -> int:
    return -get_args(CauseKind).index(key[0])


def _keys(one: Series, layout_of: Mapping[Names, str]) -> Iterator[_Key]:
    yield "family", (one.family,)
    names = _namespace, pod, container = container_of(one.labels)
    device = _first(dict(one.labels), _DEVICE)
    if device:
        yield "device", (device,)
    if pod:
        yield "pod", names[:2]
    if container:
        yield "container", names
    if names in layout_of:
        yield "layout", (layout_of[names],)


def _offset(one: Series) -> str:
    """By how much B is above A where that is the same in each scrape, otherwise nothing."""
    if one.a is None or one.b is None:
        return ""
    offsets = {
        f"{b - a:+.12g}"
        for a, b in zip(one.a, one.b, strict=True)
        if a is not None and b is not None
    }
    return offsets.pop() if len(offsets) == 1 else ""


def layouts(*sides: Exposition) -> dict[Names, str]:
    """The layout of each container's region, where a side serves it. A layout that one container
    alone has explains nothing that the container doesn't."""
    found = {
        container_of(series): dict(series).get("layout", "")
        for side in sides
        for series in side.values.get("vgpu_region_info", {})
    }
    number = Counter(found.values())
    return {container: layout for container, layout in found.items() if number[layout] > 1}


def container_of(labels: Labels) -> Names:
    known = dict(labels)
    return _first(known, _NAMESPACE), _first(known, _POD), _first(known, _CONTAINER)


def _first(labels: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((labels[name] for name in names if name in labels), "")
