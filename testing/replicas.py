"""Many nodes, all like one simulated node but with names, UUIDs and pods of their own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import Any

import yaml

from testing.exporter import running
from testing.prometheus import Prometheus
from testing.remote_write import Labels, write_constant
from testing.rules import ALERTS, in_seconds

_LABEL = re.compile(r'(\w+)="([^"]*)"')
_UUID = re.compile(r"^(GPU|MIG)-[0-9a-f]{8}")


@dataclass(frozen=True)
class Replicated:
    """The series of one node's scrape, with their values."""

    series: list[tuple[dict[str, str], float]]

    def of(
        self, number: int, wanted: Callable[[str], bool] = lambda _: True
    ) -> Iterator[tuple[Labels, float]]:
        """Those of the node with that ``number`` whose family is ``wanted``."""
        target = {"job": "vgpumonitor", "instance": f"node-{number}:9394"}
        for labels, value in self.series:
            if wanted(labels["__name__"]):
                yield (
                    {label: _own(label, text, number) for label, text in labels.items()} | target,
                    value,
                )


def _own(label: str, text: str, number: int) -> str:
    if label in ("node", "nodeid"):
        return f"node-{number}"
    if label in ("pod", "podname") and text:
        return f"{number}-{text}"
    return _UUID.sub(rf"\g<1>-{number:08x}", text)


def simulated(*flags: str, settle: float = 15, looks: int = 9) -> Replicated:
    """``demo``'s with ``flags`` once it has settled for some seconds, each series with the median
    of ``looks``: what has just begun, or peaks or rests for a moment, would do so for the whole
    past, and be alerts that a cluster doesn't have."""
    seen: dict[str, list[float]] = {}
    with running("demo", *flags) as exporter:
        time.sleep(settle)
        for _ in range(looks):
            for text, value in _lines(exporter.get("/metrics").decode().splitlines()):
                seen.setdefault(text, []).append(float(value))
            time.sleep(2)
    series: list[tuple[dict[str, str], float]] = [
        ({"__name__": "up"}, 1),
        ({"__name__": "scrape_duration_seconds"}, 0.01),
    ]
    for text, values in seen.items():
        name, _, labels = text.partition("{")
        series.append(({"__name__": name, **dict(_LABEL.findall(labels))}, median_low(values)))
    return Replicated(series)


def _lines(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The series as it is written, and its value."""
    for line in lines:
        if not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            yield series, value


def recorded(
    source: Prometheus, rule: Mapping[str, Any], when: int
) -> Iterator[tuple[Labels, float]]:
    """What a recording rule gives at ``when``, Unix seconds."""
    found = source.get("/api/v1/query", query=rule["expr"], time=str(when))["result"]
    for series in found:
        labels = {**series["metric"], **rule.get("labels", {}), "__name__": rule["record"]}
        yield labels, float(series["value"][1])


def write_past(
    source: Prometheus, node: Replicated, nodes: int, times: range, rules: Path = ALERTS
) -> None:
    """Into ``source``, at all ``times``, the series of that many nodes and what the rules in the
    directory ``rules`` record of them."""
    for number in range(nodes):
        write_constant(source.url, times, node.of(number))
    for group in yaml.safe_load((rules / "recording.rules.yaml").read_text())["groups"]:
        every = max(in_seconds(group.get("interval", "0s")) // times.step, 1)
        for rule in group["rules"]:
            write_constant(
                source.url,
                times[(len(times) - 1) % every :: every],
                recorded(source, rule, times[-1]),
            )
