"""The series of a text exposition."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import click
from prometheus_client.parser import text_string_to_metric_families

#: Prefixes of what exporters say about themselves.
IGNORED = ("go_", "hami_build_info", "process_", "promhttp_", "python_", "vgpumonitor_")

#: Labels that hold values: they change with every allocation, and identify no series.
VALUE_LABELS = {
    "Device_memory_desc_of_container": ("context", "module", "data", "offset"),
    # HAMi 2.9.
    "hami_container_device_memory_bytes": (
        *("context_size", "module_size", "buffer_size", "offset"),
    ),
}

_TYPE = re.compile(r"^# TYPE (\S+) (\S+)$", re.MULTILINE)

#: The labels of a series, sorted by name.
Labels = tuple[tuple[str, str], ...]
#: A series' value in each scrape, None where the scrape doesn't have it.
Readings = tuple[float | None, ...]


class CompareError(click.ClickException):
    """Two exporters that can't be compared; the message names the URL that is at fault."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Exposition:
    """One scrape: values by metric name and labels, without the labels that hold values; by
    metric name its type and the names of all its labels; and when it was, in seconds of a clock
    that nobody sets."""

    values: Mapping[str, Mapping[Labels, float]]
    types: Mapping[str, str]
    label_names: Mapping[str, frozenset[str]]
    at: float = 0.0


def parse(text: str, url: str, at: float = 0.0) -> Exposition:
    """Raises CompareError, naming ``url``."""
    values: defaultdict[str, dict[Labels, float]] = defaultdict(dict)
    names: defaultdict[str, set[str]] = defaultdict(set)
    try:
        # As a counter the parser would give Device_memory_desc_of_container, which HAMi's monitor
        # up to 2.8 says is one, another name.
        for family in text_string_to_metric_families(_TYPE.sub("", text)):
            for sample in family.samples:
                if sample.name.startswith(IGNORED):
                    continue
                # An empty label is the same as an absent one.
                labels = {name: value for name, value in sample.labels.items() if value}
                names[sample.name].update(labels)
                for name in VALUE_LABELS.get(sample.name, ()):
                    labels.pop(name, None)
                values[sample.name][tuple(sorted(labels.items()))] = sample.value
    except ValueError as error:
        raise CompareError(f"{url}: expected Prometheus's text format: {error}") from error
    types = dict(_TYPE.findall(text))
    return Exposition(dict(values), types, {name: frozenset(of) for name, of in names.items()}, at)


def readings(scrapes: Iterable[Exposition]) -> dict[str, dict[Labels, Readings]]:
    """The series of all ``scrapes``, by metric name and labels."""
    scrapes = tuple(scrapes)
    found: defaultdict[str, set[Labels]] = defaultdict(set)
    for scrape in scrapes:
        for name, series in scrape.values.items():
            found[name].update(series)
    return {
        name: {
            labels: tuple(scrape.values.get(name, {}).get(labels) for scrape in scrapes)
            for labels in all_labels
        }
        for name, all_labels in found.items()
    }
