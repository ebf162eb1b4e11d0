"""The past of simulated nodes, in a Prometheus: what it would hold had it scraped them for days,
and evaluated the rules. ``python -m testing.history`` lives one node's days in a minute.

The nodes are those of ``demo`` with the same numbers: their series go on where it is scraped.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from testing.polling import eventually
from testing.prometheus import Prometheus
from testing.remote_write import Series, write
from testing.rules import ALERTS, in_seconds
from vgpumonitor.serve import build
from vgpumonitor.settings import Settings
from vgpumonitor.simulate.node import SimulatedNode
from vgpumonitor.simulate.nvml.python_library import SimulatedLibrary

#: Prometheus' flags and configuration without which nothing of the past can be written to it.
FLAG = "--web.enable-remote-write-receiver"
CONFIG = "storage: {tsdb: {out_of_order_time_window: 30d}}\n"

#: Steps after which what they gave is written: the memory of the process is among it, and would
#: grow with all that it keeps.
_STEPS = 30

_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


@dataclass(frozen=True)
class Span:
    """Unix seconds from ``start`` to ``end``, every ``step`` of them."""

    start: int
    end: int
    step: int

    @property
    def times(self) -> range:
        return range(self.start, self.end + 1, self.step)


def spans(end: int, days: float, recent_hours: float = 6) -> list[Span]:
    """The last ``days``: a sample a minute in the last hours, before them one in four minutes,
    which is what Prometheus looks back for."""
    recent = end - int(recent_hours * 3600)
    start = end - int(days * 86400)
    last = Span(max(start, recent), end, 60)
    if start >= recent:
        return [last]
    return [Span(start, recent - 60, 240), last]


def write_history(
    source: Prometheus, instances: Mapping[str, str], past: Sequence[Span], rules: Path = ALERTS
) -> None:
    """Into ``source`` the past of a node for each of ``instances``: its name, and the label by
    which its target is known. The rules are those of the directory ``rules``."""
    times = [when for span in past for when in span.times]

    def live(numbered: tuple[int, tuple[str, str]]) -> None:
        number, (name, instance) = numbered
        plan = {"url": source.url, "number": number, "name": name, "instance": instance}
        subprocess.run(
            [sys.executable, "-m", "testing.history"],
            input=json.dumps({**plan, "times": times}),
            check=True,
            text=True,
        )

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(live, enumerate(instances.items())))
    for name in ("recording", "alerts"):
        for group in yaml.safe_load((rules / f"{name}.rules.yaml").read_text())["groups"]:
            evaluations = _at_most_every(in_seconds(group["interval"]), past)
            for rule in group["rules"]:
                series = _recorded if "record" in rule else _alerted
                write(source.url, series(source, rule, evaluations))


def _at_most_every(interval: int, past: Sequence[Span]) -> Sequence[Span]:
    """A group that is evaluated more seldom than scrapes come counts on its own interval."""
    if interval <= max(span.step for span in past):
        return past
    return [Span(past[0].start // interval * interval, past[-1].end, interval)]


def _evaluated(
    source: Prometheus, rule: Mapping[str, Any], span: Span
) -> Iterator[tuple[dict[str, str], dict[int, float]]]:
    found = source.get(
        "/api/v1/query_range",
        query=rule["expr"],
        start=str(span.start),
        end=str(span.end),
        step=str(span.step),
    )
    # What a rule finds has no name: series that differ in nothing else, as the two sides of an "or"
    # may, are one.
    together: dict[frozenset[tuple[str, str]], dict[int, float]] = {}
    for series in found["result"]:
        labels = {**series["metric"], **rule.get("labels", {})}
        labels.pop("__name__", None)
        values = together.setdefault(frozenset(labels.items()), {})
        values |= {int(when): float(value) for when, value in series["values"]}
    for key, values in together.items():
        yield dict(key), dict(sorted(values.items()))


def _recorded(
    source: Prometheus, rule: Mapping[str, Any], past: Sequence[Span]
) -> Iterator[Series]:
    for span in past:
        for labels, values in _evaluated(source, rule, span):
            yield {**labels, "__name__": rule["record"]}, _with_ends(values, span)


def _alerted(source: Prometheus, rule: Mapping[str, Any], past: Sequence[Span]) -> Iterator[Series]:
    waits = in_seconds(rule.get("for", "0s"))
    #: Of the span before, since when each alert was active at its end.
    still: dict[frozenset[tuple[str, str]], float] = {}
    for span in past:
        before, still = still, {}
        for found, values in _evaluated(source, rule, span):
            labels = {**found, "alertname": rule["alert"]}
            key = frozenset(labels.items())
            since: dict[int, float] = {}
            if key in before:
                since[span.start - span.step] = before[key]
            for when in values:
                since[when] = since.get(when - span.step, float(when))
            since.pop(span.start - span.step, None)
            if span.times[-1] in since:
                still[key] = since[span.times[-1]]
            firing = {when: 1.0 for when, began in since.items() if when - began >= waits}
            for_state = {**labels, "__name__": "ALERTS_FOR_STATE"}
            yield for_state, _with_ends(since, span)
            if firing:
                of_state = {**labels, "__name__": "ALERTS", "alertstate": "firing"}
                yield of_state, _with_ends(firing, span)


def _with_ends(values: Mapping[int, float], span: Span) -> list[tuple[float, float | None]]:
    """With marks where the series is absent from the next evaluation."""
    samples: list[tuple[float, float | None]] = []
    for when, value in values.items():
        samples.append((when, value))
        if when + span.step not in values and when + span.step <= span.end:
            samples.append((when + span.step, None))
    return samples


def _live(url: str, number: int, name: str, instance: str, times: Sequence[int]) -> None:
    """One node's life at ``times``, of which each is a step, and what a scrape of it would be."""
    now = float(times[0])
    target = {"job": "vgpumonitor", "instance": instance}
    # XIDs and the like are part of the simulation.
    logging.disable(logging.WARNING)
    # The edge: whatever asks for the time in this process gets that of the simulated node.
    time.time = lambda: now

    async def live() -> None:
        nonlocal now
        with (
            tempfile.TemporaryDirectory() as directory,
            SimulatedNode(Path(directory), node_name=name, number=number, clock=time.time) as node,
        ):
            exporter = build(
                Settings(
                    containers_dir=node.containers_dir,
                    node_name=name,
                    pods=f"file:{node.pods_file}",
                    procfs=node.procfs_dir,
                    metrics="all",
                ),
                SimulatedLibrary(node.nvml_state),
            )
            pods = asyncio.create_task(exporter.pods.run())
            await asyncio.to_thread(eventually, lambda: exporter.pods.view.synced)
            series: defaultdict[str, list[tuple[float, float | None]]] = defaultdict(list)
            before: set[str] = set()
            for step, when in enumerate(times, 1):
                now = float(when)
                node.step()
                scrape = await exporter.scraper.collect()
                text = b"".join(await scrape.text(False, frozenset(), False)).decode()
                there = {"up": 1.0}
                for line in text.splitlines():
                    if not line.startswith("#"):
                        key, _, shown = line.rpartition(" ")
                        there[key] = float(shown)
                for key, value in there.items():
                    series[key].append((when, value))
                for key in before - there.keys():
                    series[key].append((when, None))
                before = set(there)
                if step % _STEPS == 0 or when == times[-1]:
                    told = [({**_labels(key), **target}, found) for key, found in series.items()]
                    await asyncio.to_thread(write, url, told)
                    series.clear()
            pods.cancel()
            if exporter.devices is not None:
                # Before the driver goes, or what waits for its XIDs would complain.
                await asyncio.to_thread(exporter.devices.stop)

    asyncio.run(live())


def _labels(key: str) -> dict[str, str]:
    name, _, rest = key.partition("{")
    return {
        "__name__": name,
        **{
            label: re.sub(r"\\.", lambda match: _ESCAPED[match[0]], value)
            for label, value in _LABEL.findall(rest)
        },
    }


if __name__ == "__main__":
    _live(**json.load(sys.stdin))
