"""``python -m benchmarks.rules``: what evaluating the rules costs.

A real Prometheus is given the past of many nodes, all like one simulated node but with names, UUIDs
and pods of their own: of each family that a rule reads as much as the rule looks back on, and of
each recorded series as much as it would hold had the rules always been there. Then it evaluates the
rules. Nothing is scraped meanwhile, so what the process uses is what the rules cost. Values don't
change, which makes long windows a little cheaper than they are.

All rules are evaluated at the same pace and one after the other, to see what one evaluation of each
group takes: groups of their own would run beside each other or not by chance. What a group costs in
a minute follows from its own interval.
"""

from __future__ import annotations

import re
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from benchmarks.table import Row, markdown
from testing.prometheus import Prometheus, prometheus
from testing.remote_write import write_constant
from testing.replicas import Replicated, recorded, simulated
from testing.rules import ALERTS, in_seconds

#: Evaluations of each group that are measured, and seconds from one to the next.
EVALUATIONS = 4
PACE = 20
#: Intervals at which Prometheus evaluates groups that have none of their own.
INTERVALS = (15, 30, 60)
#: A sample is looked at for so long.
LOOKBACK = 300
#: Raw series reach into the future for so long: writing, the evaluation that begins with the rules,
#: and those that are measured.
AHEAD = 540
#: One block for the whole past, so that none is cut while rules are measured.
FLAGS = (
    "--web.enable-remote-write-receiver",
    "--web.enable-lifecycle",
    "--storage.tsdb.min-block-duration=60d",
    "--storage.tsdb.max-block-duration=60d",
    "--storage.tsdb.retention.time=120d",
)

_READ = re.compile(
    r"((?:\b\w+:)?(?:\bvgpu|vgpumonitor|\bup\b|\bscrape_|\bprocess_)\w*(?::\w+)?)"
    r"(?:\{[^}]*\})?(?:\[(\w+)\])?(?: offset (\w+))?"
)
_SUBQUERY = re.compile(r"\[(\w+):")
_STRING = re.compile(r'"[^"]*"')


@dataclass(frozen=True)
class _Group:
    """``interval`` in seconds, None where it is Prometheus' own."""

    name: str
    interval: int | None
    rules: list[dict[str, Any]]


def _groups(directory: Path) -> list[_Group]:
    return [
        _Group(
            group["name"],
            in_seconds(group["interval"]) if "interval" in group else None,
            group["rules"],
        )
        for name in ("recording", "alerts")
        for group in yaml.safe_load((directory / f"{name}.rules.yaml").read_text())["groups"]
    ]


def _looked_back_on(groups: list[_Group]) -> dict[str, int]:
    """Seconds that any rule looks back on each name."""
    found: dict[str, int] = {}
    for group in groups:
        for rule in group.rules:
            expr = _STRING.sub('""', re.sub("#.*", "", rule["expr"]))
            # A subquery's window is that of what it is of, which can be anything in the rule.
            windows = map(in_seconds, _SUBQUERY.findall(expr))
            least = max(windows, default=LOOKBACK)
            for name, window, offset in _READ.findall(expr):
                reach = max(least, *(in_seconds(text) for text in (window, offset) if text), 0)
                found[name] = max(found.get(name, 0), reach)
    return found


def _write_past(
    source: Prometheus, node: Replicated, nodes: int, groups: list[_Group], interval: int
) -> None:
    """Oldest first, as Prometheus takes it."""
    now = int(time.time())
    names = _looked_back_on(groups)

    def scraped(name: str) -> range:
        return range(now - names[name], now + AHEAD, interval)

    by_window: dict[int, dict[str, int]] = {}
    for name, window in names.items():
        if ":" not in name:
            by_window.setdefault(window, {})[name] = window
    for of_window in by_window.values():
        for number in range(nodes):
            write_constant(
                source.url, scraped(next(iter(of_window))), node.of(number, of_window.__contains__)
            )
    for group in groups:
        for rule in group.rules:
            if "record" in rule:
                name = rule["record"]
                step = group.interval or interval
                write_constant(
                    source.url,
                    range(now - names.get(name, 0) // step * step, now + 1, step),
                    recorded(source, rule, now),
                )


def _own_metrics(source: Prometheus) -> str:
    with urllib.request.urlopen(f"{source.url}/metrics", timeout=60) as answer:
        text: str = answer.read().decode()
        return text


def _cpu_seconds(source: Prometheus) -> float:
    (found,) = re.findall(r"^process_cpu_seconds_total (\S+)", _own_metrics(source), re.MULTILINE)
    return float(found)


def _last_evaluations(source: Prometheus) -> list[float]:
    """Seconds that the last evaluation of each rule took."""
    (group,) = source.get("/api/v1/rules")["groups"]
    for rule in group["rules"]:
        assert rule["health"] == "ok", rule
    return [rule["evaluationTime"] for rule in group["rules"]]


@dataclass(frozen=True)
class _Cost:
    """``groups`` has each group's seconds of one evaluation; ``cpu`` is that of one of all."""

    groups: dict[str, float]
    cpu: float
    rules: dict[str, float]
    read: int
    written: int

    def in_a_minute(self, intervals: Mapping[str, int | None], default: int) -> float:
        return sum(
            seconds * 60 / (intervals[name] or default) for name, seconds in self.groups.items()
        )


def _evaluated(directory: Path, node: Replicated, nodes: int, of: Path, interval: int) -> _Cost:
    groups = _groups(of)
    rules = directory / "rules.yaml"
    config = {
        "global": {"evaluation_interval": f"{PACE}s"},
        "rule_files": [str(rules)],
    }
    with prometheus(
        directory / "prometheus",
        yaml.safe_dump(config),
        f"--storage.tsdb.path={directory / 'data'}",
        *FLAGS,
    ) as source:
        _write_past(source, node, nodes, groups, interval)
        (_, read) = source.query('count({__name__=~".+", __name__!~".+:.+"})')[0]
        (_, written) = source.query('count({__name__=~".+:.+"})')[0]
        every = [(group.name, rule) for group in groups for rule in group.rules]
        together = {"name": "all", "rules": [rule for _, rule in every]}
        rules.write_text(yaml.safe_dump({"groups": [together]}))
        urllib.request.urlopen(f"{source.url}/-/reload", data=b"", timeout=60).close()
        # The first evaluations make what later ones find.
        time.sleep(2 * PACE)
        seconds: list[list[float]] = []
        used = _cpu_seconds(source)
        for _ in range(EVALUATIONS):
            time.sleep(PACE)
            seconds.append(_last_evaluations(source))
        used = _cpu_seconds(source) - used
        by_group = dict.fromkeys((group.name for group in groups), 0.0)
        by_rule: dict[str, float] = {}
        for (name, rule), took in zip(every, zip(*seconds, strict=True), strict=True):
            by_group[name] += min(took)
            by_rule[rule.get("record") or rule["alert"]] = min(took)
        return _Cost(
            by_group,
            used / EVALUATIONS,
            by_rule,
            round(read),
            round(written),
        )


def _rows(nodes: int, of: Path, cost: _Cost) -> list[Row]:
    intervals = {group.name: group.interval for group in _groups(of)}
    dearest = sorted(cost.rules.items(), key=lambda rule: rule[1], reverse=True)[:5]
    return [
        Row(f"series of {nodes} nodes", f"{cost.read:,}", f"{cost.written:,} more are recorded"),
        *(
            Row(
                f"{name}, one evaluation",
                f"{took:.2f} s",
                f"every {intervals[name]} s" if intervals[name] else "at Prometheus' own interval",
            )
            for name, took in cost.groups.items()
        ),
        Row("all groups, one evaluation", f"{sum(cost.groups.values()):.2f} s"),
        Row("CPU of that", f"{cost.cpu:.2f} s"),
        *(
            Row(
                f"all groups in a minute, evaluation_interval {default} s",
                f"{cost.in_a_minute(intervals, default):.2f} s",
            )
            for default in INTERVALS
        ),
        Row("dearest rules", "; ".join(f"{name} {took:.2f} s" for name, took in dearest)),
    ]


@click.command()
@click.option("--nodes", default=250, show_default=True)
@click.option("--gpus", default=8, show_default=True, help="GPUs of each node.")
@click.option("--containers", default=32, show_default=True, help="Containers on each node.")
@click.option(
    "--interval", default=15, show_default=True, help="Seconds from one sample to the next."
)
@click.option(
    "--rules",
    multiple=True,
    default=[ALERTS],
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A directory with *.rules.yaml, to compare; repeatable.  [default: alerts]",
)
def main(nodes: int, gpus: int, containers: int, interval: int, rules: tuple[Path, ...]) -> None:
    """Measure the rules on a simulated cluster."""
    node = simulated(f"--gpus={gpus}", f"--containers={containers}", "--metrics=vgpu")
    for of in rules:
        with tempfile.TemporaryDirectory() as directory:
            cost = _evaluated(Path(directory), node, nodes, of, interval)
        click.echo(f"\n{of}\n\n{markdown(_rows(nodes, of, cost))}")


if __name__ == "__main__":
    main()
