"""``python -m benchmarks.rules``: what scraping many nodes and evaluating the rules costs.

A real Prometheus scrapes the metrics of one simulated node many times over: each target serves
them with a node name, UUIDs and pod names of its own. Every group is evaluated at the scrape
interval, to see what one evaluation takes; what it costs in a minute follows from its own interval.
Windows longer than the run hold only what the run gave them.

Time is what Prometheus says that a group took; on a machine that does other things too, the
process's CPU says more: what it uses beyond a run that only scrapes.
"""

from __future__ import annotations

import json
import re
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median

import click

from benchmarks.table import Row, markdown
from testing.exporter import running
from testing.polling import eventually
from testing.prometheus import Prometheus, prometheus
from testing.rules import ALERTS, without_waits

INTERVAL = 15
EVALUATIONS = 8


@contextmanager
def _cluster(text: str) -> Iterator[int]:
    """Serves ``text`` under /N as that of node N; gives the port."""

    @cache
    def of(number: int) -> bytes:
        of_node = re.sub(r"(GPU|MIG)-[0-9a-f]{8}", rf"\1-{number:08x}", text)
        of_node = re.sub(r'\b(node|nodeid)="[^"]*"', rf'\1="node-{number}"', of_node)
        return re.sub(r'\b(pod|podname)="(?=.)', rf'\1="{number}-', of_node).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(of(int(self.path[1:])))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def _config(port: int, nodes: int, rules: Path) -> str:
    targets = [
        {
            "targets": [f"127.0.0.1:{port}"],
            "labels": {"__metrics_path__": f"/{number}", "instance": f"node-{number}:9394"},
        }
        for number in range(nodes)
    ]
    scrape = {"job_name": "vgpumonitor", "honor_labels": True, "static_configs": targets}
    # JSON is YAML too.
    return json.dumps(
        {
            "global": {
                "scrape_interval": f"{INTERVAL}s",
                "evaluation_interval": f"{INTERVAL}s",
            },
            "rule_files": [f"{rules}/*.rules.yaml"],
            "scrape_configs": [scrape],
        }
    )


def _seconds(interval: str) -> int:
    return int(interval[:-1]) * {"s": 1, "m": 60}[interval[-1]] if interval else INTERVAL


def _cpu_seconds(source: Prometheus) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{source.port}/metrics", timeout=30) as answer:
        (found,) = re.findall(rb"^process_cpu_seconds_total (\S+)", answer.read(), re.MULTILINE)
    return float(found)


def _run(source: Prometheus, nodes: int) -> tuple[float, dict[str, list[float]]]:
    """CPU of an interval, and how long each evaluation of each group took."""
    eventually(lambda: source.query(f"count(up == 1) == {nodes}"), 180)
    seconds: dict[str, list[float]] = {}
    began, used = time.monotonic(), _cpu_seconds(source)
    for _ in range(EVALUATIONS):
        time.sleep(INTERVAL)
        for group in source.get("/api/v1/rules")["groups"]:
            seconds.setdefault(group["name"], []).append(group["evaluationTime"])
    intervals = (time.monotonic() - began) / INTERVAL
    return (_cpu_seconds(source) - used) / intervals, seconds


def _measured(
    source: Prometheus, nodes: int, intervals: dict[str, str], scraping: float
) -> list[Row]:
    cpu, seconds = _run(source, nodes)
    (_, series) = source.query('count({__name__=~".+"})')[0]
    (_, recorded) = source.query('count({__name__=~".+:.+:.+"})')[0]
    once = {name: median(took) for name, took in seconds.items()}
    a_minute = {name: took * 60 / _seconds(intervals[name]) for name, took in once.items()}
    return [
        Row(f"series of {nodes} nodes", f"{series:,.0f}", f"{recorded:,.0f} of them recorded"),
        *(
            Row(
                f"{name}, one evaluation",
                f"{took:.2f} s",
                f"median of {EVALUATIONS}, {max(seconds[name]):.2f} s at most; "
                f"{a_minute[name]:.2f} s in a minute",
            )
            for name, took in once.items()
        ),
        Row(
            "all groups, once",
            f"{sum(once.values()):.2f} s",
            f"{sum(a_minute.values()):.2f} s in a minute",
        ),
        Row(
            "CPU of all groups, once",
            f"{cpu - scraping:.2f} s",
            f"{cpu:.2f} s in {INTERVAL} s, of which {scraping:.2f} s without rules",
        ),
    ]


@click.command()
@click.option("--nodes", default=100, show_default=True)
@click.option("--gpus", default=8, show_default=True, help="GPUs of each node.")
@click.option("--containers", default=32, show_default=True, help="Containers on each node.")
@click.option(
    "--rules",
    multiple=True,
    default=[ALERTS],
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A directory with *.rules.yaml, to compare; repeatable.  [default: alerts]",
)
def main(nodes: int, gpus: int, containers: int, rules: tuple[Path, ...]) -> None:
    """Measure the rules on a simulated cluster."""
    with running("demo", f"--gpus={gpus}", f"--containers={containers}") as exporter:
        eventually(lambda: exporter.samples().get("vgpu_device_info"))
        text = exporter.get("/metrics").decode()
    with _cluster(text) as port:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            with prometheus(directory / "prometheus", _config(port, nodes, directory)) as source:
                scraping, _ = _run(source, nodes)
        for of in rules:
            with tempfile.TemporaryDirectory() as name:
                directory = Path(name)
                intervals = without_waits(directory, of)
                with prometheus(
                    directory / "prometheus", _config(port, nodes, directory)
                ) as source:
                    click.echo(
                        f"\n{of}\n\n{markdown(_measured(source, nodes, intervals, scraping))}"
                    )


if __name__ == "__main__":
    main()
