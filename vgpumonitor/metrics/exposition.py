"""From a snapshot to the text that Prometheus reads.

Written by hand for our own families, since a client library's object per sample costs too much
at tens of thousands of series (as kube-state-metrics does, for the same reason).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import (
    generate_latest as generate_latest_openmetrics,
)

from vgpumonitor.metrics.container_text import ContainerTexts
from vgpumonitor.metrics.family import Family, NodeFamily
from vgpumonitor.metrics.labels import label_text
from vgpumonitor.remembered import Remembered
from vgpumonitor.snapshot import NodeSnapshot

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Exposition:
    """Renders snapshots of one exporter. Not to be used by two threads at once."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = tuple(families)
        self._containers = ContainerTexts(self._families)
        self._node_texts: defaultdict[NodeFamily, Remembered[bytes]] = defaultdict(Remembered)
        #: The text of the labels of each series of the other NodeFamilies.
        self._label_texts: dict[NodeFamily, dict[tuple[str, ...], str]] = {}
        self._registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render(
        self, snapshot: NodeSnapshot, openmetrics: bool = False, names: Collection[str] = ()
    ) -> list[bytes]:
        """The metrics as UTF-8 text, in pieces: joined, they would be in memory twice. ``names``
        selects families (all where it is empty)."""
        families, containers = self._families, self._containers
        if names:
            # No text is made that nobody asked for, and none of what is kept is touched.
            families = tuple(family for family in families if _selected(family, names))
            containers = ContainerTexts(families)
        containers.update(snapshot.containers)
        of_containers = containers.by_family(snapshot.time)
        parts: list[bytes] = []
        for family in families:
            parts.append(_header(family, openmetrics).encode())
            if isinstance(family, NodeFamily):
                parts.append(self._node_text(family, snapshot))
            else:
                parts += of_containers[family]
        parts.append(self._own(openmetrics, names))
        return parts

    def _node_text(self, family: NodeFamily, snapshot: NodeSnapshot) -> bytes:
        if family.source is None:
            return self._node_lines(family, snapshot)
        return self._node_texts[family].get(
            (snapshot.node, family.source(snapshot)), lambda: self._node_lines(family, snapshot)
        )

    def _node_lines(self, family: NodeFamily, snapshot: NodeSnapshot) -> bytes:
        known = self._label_texts.setdefault(family, {})
        lines = []
        for values, value in family.samples(snapshot):
            text = known.get(values)
            if text is None:
                text = known[values] = label_text(family.constant, family.labels, values)
            lines.append(f"{family.name}{text}{value}\n")
        if len(known) > 2 * len(lines):
            # Mostly of series that are gone.
            known.clear()
        return "".join(lines).encode()

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
