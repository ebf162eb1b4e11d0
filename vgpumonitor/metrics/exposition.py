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
_Constant = tuple[tuple[str, str], ...]
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


@cache
def _template(constant: _Constant, names: tuple[str, ...]) -> str:
    """The labels of any series with these label names, with a %s for each value."""
    fixed = [f'{name}="{_escaped(value)}"' for name, value in constant]
    labels = ",".join([*fixed, *(f'{name}="%s"' for name in names)])
    return f"{{{labels}}} " if labels else " "


def label_text(constant: _Constant, names: tuple[str, ...], values: tuple[str, ...]) -> str:
    """The labels of a series as the text format writes them, and a space."""
    if _TO_ESCAPE.search("".join(values)):
        values = tuple(map(_escaped, values))
    return _template(constant, names) % values


class _Kept:
    """The text of one container.

    ``values`` and ``labels`` are the label values of each of its series and their text, in
    the order of the families; ``bounds`` says where each family's begin, and the last ends.
    Families with the same labels share the text. ``lines`` has those of each ContainerFamily,
    ``moments`` those of each AgeFamily.
    """

    __slots__ = ("bounds", "container", "labels", "lines", "moments", "values")

    def __init__(self, container: Container) -> None:
        self.container = container
        self.bounds: list[int] = []
        self.values: list[tuple[str, ...]] = []
        self.labels: list[str] = []
        self.lines: dict[Family, bytes] = {}
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
        self._node_labels: dict[Family, dict[tuple[str, ...], str]] = {}
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
                parts += [kept.lines[family] for kept in containers]
            elif isinstance(family, AgeFamily):
                parts += [
                    f"{family.name}{labels}{max(0.0, snapshot.time - moment):.3f}\n".encode()
                    for kept in containers
                    for labels, moment in kept.moments[family]
                ]
            elif isinstance(family, NodeFamily):
                parts.append("".join(self._node_lines(family, snapshot)).encode())
        parts.append(self._own(openmetrics, names))
        return b"".join(parts)

    def _node_lines(self, family: NodeFamily, snapshot: NodeSnapshot) -> list[str]:
        before = self._node_labels.get(family, {})
        now = self._node_labels[family] = {}
        lines = []
        for values, value in family.samples(snapshot):
            text = before.get(values) or label_text(family.constant, family.labels, values)
            now[values] = text
            lines.append(f"{family.name}{text}{value}\n")
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
        made.values = [values for values, _ in samples]
        if before is None or before.bounds != made.bounds:
            made.labels = [""] * len(samples)
        else:
            # Mostly only values change: the text of a series that stands where it stood.
            made.labels = [
                text if values == was else ""
                for values, was, text in zip(made.values, before.values, before.labels, strict=True)
            ]
        spans = list(zip(self._of_containers, made.bounds[:-1], made.bounds[1:], strict=True))
        if "" in made.labels:
            shared: dict[tuple[_Constant, tuple[str, ...], tuple[str, ...]], str] = {}
            for family, begin, end in spans:
                for at in range(begin, end):
                    if not made.labels[at]:
                        key = family.constant, family.labels, made.values[at]
                        if key not in shared:
                            shared[key] = label_text(*key)
                        made.labels[at] = shared[key]
        for family, begin, end in spans:
            labelled = [(made.labels[at], samples[at][1]) for at in range(begin, end)]
            if family in self._ages:
                made.moments[family] = labelled
            else:
                name = family.name
                made.lines[family] = "".join(
                    [f"{name}{text}{value}\n" for text, value in labelled]
                ).encode()
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
