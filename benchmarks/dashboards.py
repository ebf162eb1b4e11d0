"""``python -m benchmarks.dashboards``: what one refresh of each dashboard reads.

A real Prometheus is given the last hour of many nodes, all like one simulated node but with names,
UUIDs and pods of their own, and what the rules record of them. Each query of each panel is asked as
Grafana asks it when the dashboard is opened, with the first value that each variable offers, over
that hour, and Prometheus tells how many samples it read.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.table import Row, markdown
from testing.dashboards import GIVEN, Dashboard, chosen, filled, first, panels, read
from testing.history import CONFIG, FLAG
from testing.prometheus import Prometheus, prometheus
from testing.replicas import simulated, write_past

ROOT = Path(__file__).parents[1]
#: Seconds that the dashboards show, and from one sample, and one point of a graph, to the next.
RANGE = 3600
STEP = 30


@dataclass(frozen=True)
class _Query:
    dashboard: str
    panel: str
    samples: int
    seconds: float


def _asked(source: Prometheus, name: str, dashboard: Dashboard, end: int) -> Iterator[_Query]:
    ranges = {"__range": f"{RANGE}s", "__rate_interval": f"{4 * STEP}s"}
    values = chosen(dashboard, source, **ranges, **GIVEN.get(name, {}))
    opened = first(values)
    for variable in dashboard["templating"]["list"]:
        if variable.get("query", "").startswith("query_result("):
            expr = filled(variable["query"].removeprefix("query_result("), opened)[:-1]
            yield _query(source, name, f"variable {variable['name']}", expr, end, instant=True)
    for panel in panels(dashboard):
        repeated = panel.get("repeat") or ""
        for option in values[repeated][1:] if repeated else [""]:
            for target in panel["targets"]:
                expr = filled(target["expr"], {**opened, repeated: option})
                yield _query(
                    source, name, panel["title"], expr, end, instant=target.get("instant", False)
                )


def _query(
    source: Prometheus, dashboard: str, panel: str, expr: str, end: int, *, instant: bool
) -> _Query:
    when = {"time": end} if instant else {"start": end - RANGE, "end": end, "step": STEP}
    began = time.perf_counter()
    answer = source.get(
        "/api/v1/query" if instant else "/api/v1/query_range",
        query=expr,
        stats="all",
        **{name: str(value) for name, value in when.items()},
    )
    seconds = time.perf_counter() - began
    return _Query(dashboard, panel, answer["stats"]["samples"]["totalQueryableSamples"], seconds)


def _rows(found: list[_Query]) -> Iterator[Row]:
    for name in dict.fromkeys(query.dashboard for query in found):
        of = [query for query in found if query.dashboard == name]
        yield Row(
            name,
            f"{sum(query.samples for query in of):,} samples",
            f"{len(of)} queries, {sum(query.seconds for query in of):.2f} s one after the other",
        )
    for query in sorted(found, key=lambda query: query.samples, reverse=True)[:5]:
        yield Row(
            "reads the most", f"{query.samples:,} samples", f"{query.dashboard}: {query.panel}"
        )


@click.command()
@click.option("--nodes", default=50, show_default=True)
@click.option("--gpus", default=8, show_default=True, help="GPUs of each node.")
@click.option("--containers", default=28, show_default=True, help="Containers on each node.")
@click.option(
    "--tree",
    multiple=True,
    default=[ROOT],
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A directory with alerts/ and dashboards/, to compare; repeatable.  [default: this one]",
)
def main(nodes: int, gpus: int, containers: int, tree: tuple[Path, ...]) -> None:
    """Count what the dashboards read of a simulated cluster."""
    node = simulated(f"--gpus={gpus}", f"--containers={containers}")
    for root in tree:
        with tempfile.TemporaryDirectory() as name:
            data = f"--storage.tsdb.path={name}/data"
            with prometheus(Path(name), CONFIG, data, FLAG) as source:
                now = int(time.time())
                times = range(now - RANGE - 1200, now + 1, STEP)
                write_past(source, node, nodes, times, root / "alerts")
                found = [
                    query
                    for name, dashboard in read(root / "dashboards").items()
                    for query in _asked(source, name, dashboard, now)
                ]
        click.echo(f"\n{root}\n\n{markdown(list(_rows(found)))}")


if __name__ == "__main__":
    main()
