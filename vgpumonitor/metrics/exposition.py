"""From a snapshot to the text that Prometheus reads.

Written by hand for the region families, since a client library's object per sample costs
too much at tens of thousands of series (as kube-state-metrics does, for the same reason).
The text of a container's samples is kept while its value in the snapshot is the same
object, and the text of a series' labels while it has a sample; both go with the container.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from functools import cache

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import (
    generate_latest as generate_latest_openmetrics,
)

from vgpumonitor.metrics.family import (
    AgeFamily,
    ContainerFamily,
    DeviceFamily,
    DeviceValue,
    Family,
    Found,
    NodeFamily,
    Sample,
)
from vgpumonitor.region.model import Region
from vgpumonitor.snapshot import Container, ContainerDevice, NodeSnapshot

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

    For each card, ``texts`` are by row what follows the name, with a %s for each number, and
    ``found`` are the numbers. ``lines`` are the samples of all cards by row; there are none
    without a card. ``samples``, ``sample_texts`` (of their labels) and ``sample_lines`` are by
    ContainerFamily.
    """

    __slots__ = (
        "cards",
        "container",
        "found",
        "lines",
        "sample_lines",
        "sample_texts",
        "samples",
        "texts",
    )

    def __init__(self, container: Container) -> None:
        self.container = container
        self.cards = [card.vdevice_labels for card in container.devices]
        self.texts: list[list[str]] = []
        self.found: list[list[Found]] = []
        self.lines: list[bytes] = []
        self.samples: list[list[Sample]] = []
        self.sample_texts: list[dict[tuple[str, ...], str]] = []
        self.sample_lines: list[bytes] = []


class Exposition:
    """Renders snapshots of one exporter. Not to be used by two threads at once."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = tuple(families)
        self._of_containers = [f for f in self._families if isinstance(f, ContainerFamily)]
        # A row is what each card has at most one sample of. Those of a family are neighbours.
        self._rows: list[tuple[DeviceFamily, tuple[str, ...]]] = []
        self._values: list[DeviceValue] = []
        self._spans: dict[Family, tuple[int, int]] = {}
        for family in self._families:
            if isinstance(family, DeviceFamily):
                begin = len(self._rows)
                self._rows += [(family, part) for part in family.values]
                self._values += family.values.values()
                self._spans[family] = begin, len(self._rows)
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
        with_cards = [kept for kept in containers if kept.lines]
        # Bytes all along: one text of all would stand in memory twice to be encoded.
        parts: list[bytes] = []
        for family in self._families:
            if not _selected(family, names):
                continue
            parts.append(_header(family, openmetrics).encode())
            if isinstance(family, NodeFamily):
                parts.append("".join(self._node_lines(family, snapshot)).encode())
            elif isinstance(family, AgeFamily):
                lines = self._age_lines(family, with_cards, snapshot.time)
                parts.append("".join(lines).encode())
            elif isinstance(family, DeviceFamily):
                begin, end = self._spans[family]
                if end == begin + 1:
                    parts += [kept.lines[begin] for kept in with_cards]
                else:
                    parts += [lines for kept in with_cards for lines in kept.lines[begin:end]]
            elif isinstance(family, ContainerFamily):
                at = self._of_containers.index(family)
                parts += [kept.sample_lines[at] for kept in containers]
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

    def _age_lines(self, family: AgeFamily, with_cards: list[_Kept], now: float) -> Iterator[str]:
        name = family.name
        row, _ = self._spans[family]
        for kept in with_cards:
            for texts, found in zip(kept.texts, kept.found, strict=True):
                moment = found[row]
                if moment is not None:
                    assert not isinstance(moment, tuple)
                    yield f"{name}{texts[row] % f'{max(0.0, now - moment):.3f}'}\n"

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
        if container.region is not None and container.devices:
            self._add_cards(made, container.region, before)
        self._add_samples(made, before)
        return made

    def _add_cards(self, made: _Kept, region: Region, before: _Kept | None) -> None:
        cards, values = made.container.devices, self._values
        made.found = [[value(region, card) for value in values] for card in cards]
        if before is not None and before.cards == made.cards:
            # Most values stay what they were while some change.
            made.texts, made.lines = before.texts, before.lines.copy()
            changed: Iterable[int] = {
                row
                for now, was in zip(made.found, before.found, strict=True)
                for row, value in enumerate(now)
                if value != was[row]
            }
        else:
            made.texts = [self._card_texts(card) for card in cards]
            made.lines = [b""] * len(values)
            changed = range(len(values))
        for row in changed:
            name = self._rows[row][0].name
            made.lines[row] = "".join(
                [
                    f"{name}{texts[row] % found[row]}\n"
                    for texts, found in zip(made.texts, made.found, strict=True)
                    if found[row] is not None
                ]
            ).encode()

    def _card_texts(self, card: ContainerDevice) -> list[str]:
        """For each row, what follows its name, with a %s for each number."""
        texts: dict[tuple[object, ...], str] = {}
        of_rows = []
        for family, part in self._rows:
            # Rows of the same labels share their text.
            shape = family.constant, family.labels, family.vdevice, part
            if shape not in texts:
                card_labels = card.vdevice_labels if family.vdevice else card.labels
                values = [value.replace("%", "%%") for value in (*card_labels, *part)]
                values += ["%s"] * (len(family.labels) - len(values))
                texts[shape] = label_text(family.constant, family.labels, tuple(values)) + "%s"
            of_rows.append(texts[shape])
        return of_rows

    def _add_samples(self, made: _Kept, before: _Kept | None) -> None:
        for at, family in enumerate(self._of_containers):
            samples = list(family.samples(made.container))
            if before is not None and before.samples[at] == samples:
                texts, lines = before.sample_texts[at], before.sample_lines[at]
            else:
                known = {} if before is None else before.sample_texts[at]
                texts = {
                    values: known.get(values) or label_text(family.constant, family.labels, values)
                    for values, _ in samples
                }
                lines = "".join(
                    [f"{family.name}{texts[values]}{value}\n" for values, value in samples]
                ).encode()
            made.samples.append(samples)
            made.sample_texts.append(texts)
            made.sample_lines.append(lines)

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
