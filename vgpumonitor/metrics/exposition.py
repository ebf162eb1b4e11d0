"""From a snapshot to the text that Prometheus reads.

Written by hand for the region families, since a client library's object per sample costs
too much at tens of thousands of series (as kube-state-metrics does, for the same reason).
The text of a container's samples is kept while its value in the snapshot is the same
object, and the text of a series' labels while it has a sample; both go with the container.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import (
    generate_latest as generate_latest_openmetrics,
)

from vgpumonitor.metrics.family import AgeFamily, ContainerFamily, Family, NodeFamily
from vgpumonitor.snapshot import Container, NodeSnapshot

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_LabelTexts = dict[tuple[Family, tuple[str, ...]], str]


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def series_text(family: Family, values: tuple[str, ...]) -> str:
    """A series as the text format writes it: name{label="value",…}, and a space."""
    labels = [*family.constant, *zip(family.labels, values, strict=True)]
    if not labels:
        return f"{family.name} "
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)
    return f"{family.name}{{{inner}}} "


class _Kept:
    """The text of one container."""

    __slots__ = ("container", "labels", "moments", "texts")

    def __init__(self, container: Container) -> None:
        self.container = container
        self.labels: _LabelTexts = {}
        self.texts: list[str] = []
        self.moments: list[tuple[tuple[str, float], ...]] = []


class Exposition:
    """Renders snapshots of one exporter. Not to be used by two threads at once."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = tuple(families)
        self._container = [f for f in self._families if isinstance(f, ContainerFamily)]
        self._age = [f for f in self._families if isinstance(f, AgeFamily)]
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._node_labels: _LabelTexts = {}
        self._registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render(
        self, snapshot: NodeSnapshot, openmetrics: bool = False, names: Collection[str] = ()
    ) -> bytes:
        """The metrics as UTF-8 text; ``names`` selects families (all where it is empty)."""
        kept = self._update(snapshot.containers)
        parts: list[str] = []
        labels: _LabelTexts = {}
        container_index = age_index = 0
        for family in self._families:
            if isinstance(family, ContainerFamily):
                if _selected(family, names):
                    parts.append(_header(family, openmetrics))
                    parts += [container.texts[container_index] for container in kept]
                container_index += 1
            elif isinstance(family, AgeFamily):
                if _selected(family, names):
                    parts.append(_header(family, openmetrics))
                    parts += [
                        f"{series}{max(0.0, snapshot.time - moment):.3f}\n"
                        for container in kept
                        for series, moment in container.moments[age_index]
                    ]
                age_index += 1
            elif isinstance(family, NodeFamily) and _selected(family, names):
                parts.append(_header(family, openmetrics))
                for values, value in family.samples(snapshot):
                    text = _label_text(family, values, self._node_labels, labels)
                    parts.append(f"{text}{value}\n")
        if not names:
            self._node_labels = labels
        parts.append(self._own(openmetrics, names))
        return "".join(parts).encode()

    def _update(self, containers: Iterable[Container]) -> list[_Kept]:
        """The text of each container, made anew only for those that changed."""
        now: dict[tuple[str, str], _Kept] = {}
        for container in containers:
            before = self._kept.get(container.key)
            if before is None or before.container is not container:
                before = self._made(container, {} if before is None else before.labels)
            now[container.key] = before
        self._kept = now
        return list(now.values())

    def _made(self, container: Container, labels: _LabelTexts) -> _Kept:
        made = _Kept(container)
        for family in self._container:
            made.texts.append(
                "".join(
                    f"{_label_text(family, values, labels, made.labels)}{value}\n"
                    for values, value in family.samples(container)
                )
            )
        for family in self._age:
            made.moments.append(
                tuple(
                    (_label_text(family, values, labels, made.labels), value)
                    for values, value in family.moments(container)
                )
            )
        return made

    def _own(self, openmetrics: bool, names: Collection[str]) -> str:
        """What prometheus-client knows of the process and of Python."""
        registry = self._registry.restricted_registry(list(names)) if names else self._registry
        generate = generate_latest_openmetrics if openmetrics else generate_latest
        return generate(registry).decode()  # type: ignore[arg-type]


def _label_text(
    family: Family, values: tuple[str, ...], before: _LabelTexts, now: _LabelTexts
) -> str:
    key = family, values
    text = before.get(key)
    if text is None:
        text = series_text(family, values)
    now[key] = text
    return text


def _selected(family: Family, names: Collection[str]) -> bool:
    return not names or family.name in names or family.name.removesuffix("_total") in names


def _header(family: Family, openmetrics: bool) -> str:
    counter = family.type == "counter"
    name = family.name.removesuffix("_total") if openmetrics and counter else family.name
    text = family.help.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {text}\n# TYPE {name} {family.type}\n"
