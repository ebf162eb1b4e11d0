"""Demo, Prometheus with the rules and Alertmanager, all real: every query of every panel
returns data, every query of a runbook is PromQL, and alerts arrive."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from testing.dashboards import GIVEN, chosen, filled, first
from testing.exporter import free_port, running
from testing.polling import eventually
from testing.prometheus import Prometheus, prometheus
from testing.rules import ALERTS, looks_back_seconds, without_waits
from testing.tools import require
from tests.dashboards.test_json import DASHBOARDS, PANELS

pytestmark = pytest.mark.slow

RUNBOOKS = sorted((ALERTS / "runbooks").glob("Vgpu*.md"))


#: What shows faults and waiting only, or what not every GPU has.
EMPTY_WHEN_ALL_IS_WELL = {
    ("node", "Errors"),
    ("node", "Errors of memory and links"),
    ("node", "PCIe and NVLink"),
    ("node", "State of the hardware"),
    ("node", "XIDs"),
    ("node", "Memory in no container"),
    ("node", "GPU $device: memory"),
    ("workload", "Launches blocked"),
    ("workload", "Share of the memory limit in an hour"),
    ("workload", "Alerts"),
}


@dataclass
class Webhook:
    """``arrived`` has each notification's alerts, by the receiver that the path names."""

    port: int = 0
    arrived: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def alerts(self, name: str) -> list[tuple[str, dict[str, str]]]:
        return [
            (receiver, alert["labels"])
            for receiver, alert in list(self.arrived)
            if alert["labels"]["alertname"] == name
        ]


@dataclass
class Stack:
    prometheus: Prometheus
    alertmanager: int
    webhook: Webhook


@contextmanager
def webhook() -> Iterator[Webhook]:
    made = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.arrived += [(self.path.strip("/"), alert) for alert in body["alerts"]]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.port = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def alertmanager(directory: Path, receiving: Webhook) -> Iterator[int]:
    """The repository's configuration, with receivers that are ours and without its waits."""
    config = yaml.safe_load((ALERTS / "alertmanager.yaml").read_text())
    for route in (config["route"], *config["route"]["routes"]):
        route["group_wait"] = "0s"
        route["group_interval"] = "1s"
    for receiver in config["receivers"]:
        url = f"http://127.0.0.1:{receiving.port}/{receiver['name']}"
        receiver["webhook_configs"] = [{"url": url}]
    path = directory / "alertmanager.yaml"
    path.write_text(yaml.safe_dump(config))
    port = free_port()
    with (directory / "alertmanager.log").open("wb") as log:
        process = subprocess.Popen(
            [
                require("prometheus-alertmanager"),
                f"--config.file={path}",
                f"--storage.path={directory / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    require("prometheus")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        without_waits(directory)
        with (
            webhook() as receiving,
            alertmanager(directory, receiving) as alerting,
            running("demo", "--feedback") as exporter,
            prometheus(
                directory,
                f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [{directory}/*.rules.yaml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:{alerting}"]}}]}}]}}
scrape_configs:
  - job_name: vgpumonitor
    static_configs: [{{targets: ["127.0.0.1:{exporter.port}"]}}]
""",
            ) as scraping,
        ):
            eventually(lambda: scraping.query("node:vgpu_memory_used_bytes:sum > 0"), 60)
            yield Stack(scraping, alerting, receiving)


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_each_query_returns_data(stack: Stack, name: str, panel: dict[str, Any]) -> None:
    values = eventually(
        lambda: chosen(DASHBOARDS[name], stack.prometheus, **GIVEN.get(name, {})), 30
    )
    # A panel for each GPU: some have no container with a core limit.
    repeated = panel.get("repeat", "")
    options = values[repeated][1:] if repeated else [""]
    for target in panel["targets"]:
        expressions = [
            looks_back_seconds(filled(target["expr"], {**first(values), repeated: option}))
            for option in options
        ]

        def data(expressions: list[str] = expressions) -> bool:
            return any(stack.prometheus.query(expression) for expression in expressions)

        if (name, panel["title"]) in EMPTY_WHEN_ALL_IS_WELL:
            data()
        else:
            eventually(data, 60)


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_queries_of_runbooks_are_promql(stack: Stack, path: Path) -> None:
    queries = re.findall(r"```promql\n(.+?)\n```", path.read_text(), re.DOTALL)
    assert queries
    for query in queries:
        stack.prometheus.query(query)


def test_rules_are_healthy(stack: Stack) -> None:
    groups = stack.prometheus.get("/api/v1/rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 50
    assert [rule["lastError"] for rule in rules if rule.get("lastError")] == []


def test_an_idle_notebook_arrives_where_it_is_collected(stack: Stack) -> None:
    """The demo's notebook launched its last kernel more than an hour ago."""
    arrived = eventually(lambda: stack.webhook.alerts("VgpuIdle"), 60)
    ((receiver, labels),) = [
        (receiver, labels) for receiver, labels in arrived if labels["pod"] == "notebook-anna-0"
    ][:1]
    assert receiver == "digest"
    assert (labels["namespace"], labels["severity"]) == ("team-research", "info")
    assert labels["node"]


def test_who_got_round_hami_core_arrives_at_the_platform(stack: Stack) -> None:
    def arrived() -> list[tuple[str, dict[str, str]]]:
        return [
            (receiver, labels)
            for receiver, labels in stack.webhook.alerts("VgpuMemoryBypassed")
            if labels["pod"].startswith("custom-cuda-")
        ]

    receiver, labels = eventually(arrived, 120)[0]
    assert receiver == "platform"
    ((_, alert),) = [item for item in stack.webhook.arrived if item[1]["labels"] == labels][:1]
    assert "GiB in processes that are not in its region" in alert["annotations"]["description"]
    assert alert["annotations"]["runbook_url"].endswith("/VgpuMemoryBypassed.md")


def test_an_exporter_that_is_down_silences_what_it_would_have_told(stack: Stack) -> None:
    def alert(name: str, severity: str, node: str) -> dict[str, Any]:
        labels = {"alertname": name, "severity": severity, "node": node}
        return {"labels": {**labels, "audience": "platform", "source": "test"}}

    url = f"http://127.0.0.1:{stack.alertmanager}/api/v2/alerts"
    sent = [
        alert("VgpuMonitorDown", "critical", "node-1"),
        alert("VgpuCardEccCorrected", "info", "node-1"),
        alert("VgpuCardEccCorrected", "info", "node-2"),
    ]
    request = urllib.request.Request(
        url, json.dumps(sent).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=30).close()

    def states() -> dict[tuple[str, str], str]:
        with urllib.request.urlopen(f"{url}?filter=source%3D%22test%22", timeout=30) as answer:
            return {
                (found["labels"]["alertname"], found["labels"]["node"]): found["status"]["state"]
                for found in json.load(answer)
            }

    eventually(
        lambda: (
            states()
            == {
                ("VgpuMonitorDown", "node-1"): "active",
                ("VgpuCardEccCorrected", "node-1"): "suppressed",
                ("VgpuCardEccCorrected", "node-2"): "active",
            }
        ),
        60,
    )
