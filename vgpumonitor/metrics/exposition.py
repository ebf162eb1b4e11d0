"""From a snapshot to the text that Prometheus reads.

Written by hand for the region families, since a client library's object per sample costs
too much at tens of thousands of series (as kube-state-metrics does, for the same reason).
The text of a container's samples is kept while its value in the snapshot is the same
object, and the text of a series' labels while it has a sample; both go with the container.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import cache

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import (
    generate_latest as generate_latest_openmetrics,
)

from vgpumonitor.metrics.family import AgeFamily, ContainerFamily, Family, NodeFamily, Sample
from vgpumonitor.snapshot import Container, NodeSnapshot

TEXT = "text/plain; version=0.0.4; charset=utf-8"
_TO_ESCAPE = re.compile(r'["\\\n]')
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


@cache
def _template(family: Family) -> str:
    """The text of any series of the family, with a %s for each label value."""
    constant = [f'{name}="{_escaped(value)}"' for name, value in family.constant]
    labels = ",".join([*constant, *(f'{name}="%s"' for name in family.labels)])
    return f"{family.name}{{{labels}}} " if labels else f"{family.name} "


def series_text(family: Family, values: tuple[str, ...]) -> str:
    """A series as the text format writes it: name{label="value",…}, and a space."""
    if _TO_ESCAPE.search("".join(values)):
        values = tuple(map(_escaped, values))
    return _template(family) % values


class _Kept:
    """The text of one container.

    ``labels`` and ``series`` are the label values and the text of each of its series, in the
    order of the families; ``bounds`` says where each family's begin, and the last ends.
    ``text`` has the lines of each ContainerFamily, ``moments`` those of each AgeFamily.
    """

    __slots__ = ("bounds", "container", "labels", "moments", "series", "text")

    def __init__(self, container: Container) -> None:
        self.container = container
        self.bounds: list[int] = []
        self.labels: list[tuple[str, ...]] = []
        self.series: list[str] = []
        self.text: dict[Family, bytes] = {}
        self.moments: dict[Family, list[tuple[str, float]]] = {}


class Exposition:
    """Renders snapshots of one exporter. Not to be used by two threads at once."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = tuple(families)
        self._of_containers = [
            family for family in self._families if isinstance(family, ContainerFamily | AgeFamily)
        ]
        self._ages = {family for family in self._families if isinstance(family, AgeFamily)}
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._node_series: dict[Family, dict[tuple[str, ...], str]] = {}
        self._registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render(
        self, snapshot: NodeSnapshot, openmetrics: bool = False, names: Collection[str] = ()
    ) -> bytes:
        """The metrics as UTF-8 text; ``names`` selects families (all where it is empty)."""
        containers = self._update(snapshot.containers)
        # Bytes all along: one text of all would stand in memory twice to be encoded.
        parts: list[bytes] = []
        for family in self._families:
            if not _selected(family, names):
                continue
            parts.append(_header(family, openmetrics).encode())
            if isinstance(family, ContainerFamily):
                parts += [kept.text[family] for kept in containers]
            elif isinstance(family, AgeFamily):
                parts += [
                    f"{series}{max(0.0, snapshot.time - moment):.3f}\n".encode()
                    for kept in containers
                    for series, moment in kept.moments[family]
                ]
            elif isinstance(family, NodeFamily):
                parts.append("".join(self._node_lines(family, snapshot)).encode())
        parts.append(self._own(openmetrics, names))
        return b"".join(parts)

    def _node_lines(self, family: NodeFamily, snapshot: NodeSnapshot) -> list[str]:
        before = self._node_series.get(family, {})
        now = self._node_series[family] = {}
        lines = []
        for labels, value in family.samples(snapshot):
            series = now[labels] = before.get(labels) or series_text(family, labels)
            lines.append(f"{series}{value}\n")
        return lines

    def _update(self, containers: Iterable[Container]) -> list[_Kept]:
        """The text of each container, made anew only for those that changed."""
        now: dict[tuple[str, str], _Kept] = {}
        for container in containers:
            kept = self._kept.get(container.key)
            if kept is None or kept.container is not container:
                kept = self._made(container, kept)
            now[container.key] = kept
        self._kept = now
        return list(now.values())

    def _made(self, container: Container, before: _Kept | None) -> _Kept:
        made = _Kept(container)
        samples: list[Sample] = []
        for family in self._of_containers:
            made.bounds.append(len(samples))
            samples += family.samples(container)
        made.bounds.append(len(samples))
        made.labels = [labels for labels, _ in samples]
        if before is None or before.bounds != made.bounds:
            made.series = [""] * len(samples)
        else:
            # Mostly only values change: the text of a series that stands where it stood.
            made.series = [
                series if labels == was else ""
                for labels, was, series in zip(
                    made.labels, before.labels, before.series, strict=True
                )
            ]
        spans = list(zip(self._of_containers, made.bounds[:-1], made.bounds[1:], strict=True))
        if "" in made.series:
            for family, begin, end in spans:
                for at in range(begin, end):
                    if not made.series[at]:
                        made.series[at] = series_text(family, made.labels[at])
        values = [value for _, value in samples]
        lines = [f"{text}{value}\n" for text, value in zip(made.series, values, strict=True)]
        for family, begin, end in spans:
            if family in self._ages:
                moments = zip(made.series[begin:end], values[begin:end], strict=True)
                made.moments[family] = list(moments)
            else:
                made.text[family] = "".join(lines[begin:end]).encode()
        return made

    def _own(self, openmetrics: bool, names: Collection[str]) -> bytes:
        """What prometheus-client knows of the process and of Python."""
        registry = self._registry.restricted_registry(list(names)) if names else self._registry
        generate = generate_latest_openmetrics if openmetrics else generate_latest
        return generate(registry)


def _selected(family: Family, names: Collection[str]) -> bool:
    return not names or family.name in names or family.name.removesuffix("_total") in names


def _header(family: Family, openmetrics: bool) -> str:
    counter = family.type == "counter"
    name = family.name.removesuffix("_total") if openmetrics and counter else family.name
    text = family.help.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {text}\n# TYPE {name} {family.type}\n"
