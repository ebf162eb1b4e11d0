"""The same families as a collector on prometheus-client gives them."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from vgpumonitor.metrics.family import (
    AgeFamily,
    ContainerFamily,
    DeviceFamily,
    Family,
    NodeFamily,
    ProcessFamily,
    Sample,
)
from vgpumonitor.metrics.values import container_labels
from vgpumonitor.snapshot import NodeSnapshot


class ClientCollector:
    def __init__(self, snapshot: NodeSnapshot, families: Iterable[Family]) -> None:
        self._snapshot = snapshot
        self._families = tuple(families)

    def collect(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        for family in self._families:
            constant = [value for _, value in family.constant]
            labels = [*(name for name, _ in family.constant), *family.labels]
            kind = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
            made = kind(family.name, family.help, labels=labels)
            for values, value in samples(family, self._snapshot):
                made.add_metric([*constant, *values], value)
            yield made


def samples(family: Family, snapshot: NodeSnapshot) -> Iterable[Sample]:
    if isinstance(family, NodeFamily):
        yield from family.samples(snapshot)
    for container in snapshot.containers:
        if isinstance(family, ProcessFamily):
            yield from family.samples(container)
        elif isinstance(family, ContainerFamily):
            for part, of_container in family.values.items():
                found = of_container(container)
                if found is not None:
                    texts = [(text(container) or b"").decode() for text in family.texts]
                    yield (*container_labels(container), *part, *texts), found
        elif isinstance(family, DeviceFamily):
            for part, value in family.values.items():
                for device in container.devices:
                    found = value(container, device)
                    if found is not None:
                        if isinstance(family, AgeFamily):
                            found = max(0.0, snapshot.time - found)
                        numbers = [str(number(container, device)) for number in family.numbers]
                        yield (*family.subject(container, device), *part, *numbers), found
