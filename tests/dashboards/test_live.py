"""Demo, Prometheus with the rules and Alertmanager, all real: every query of every panel
returns data, every query of a runbook is PromQL, and alerts arrive."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from testing.exporter import free_port, running
from testing.polling import eventually
from testing.prometheus import Prometheus, prometheus
from testing.rules import ALERTS, looks_back_seconds, without_waits
from testing.tools import require
from tests.dashboards.test_json import DASHBOARDS, PANELS, panels

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
#: The variables that each query of a dashboard has to heed: one of a cluster's levels shows the
#: cluster, and within it what is chosen.
BOUNDED_BY = {
    "cluster": ("cluster",),
    "capacity": ("cluster",),
    "rightsizing": ("namespace",),
    "node": ("node", "instance"),
    "workload": ("namespace", "node"),
    "documented": ("cluster",),
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


def filled(text: str, values: Mapping[str, str]) -> str:
    """Variables as Grafana fills them in, the longest name first."""
    known = {"__rate_interval": "15s", "__range": "5m", **values}
    for name in sorted(known, key=len, reverse=True):
        text = text.replace(f"${name}", known[name])
    assert "$" not in text, text
    return looks_back_seconds(text)


def chosen(dashboard: dict[str, Any], source: Prometheus, **given: str) -> dict[str, list[str]]:
    """The values of each variable that Grafana would offer, of which it takes the first; what
    stands for All comes before them."""
    found: dict[str, list[str]] = {name: [value] for name, value in given.items()}
    for variable in dashboard["templating"]["list"]:
        name = variable["name"]
        if variable["type"] in ("custom", "textbox"):
            found[name] = [variable["current"]["value"]]
        if variable["type"] != "query" or name in given:
            continue
        match = re.fullmatch(r"(label_values|query_result)\((.+?)(?:, (\w+))?\)", variable["query"])
        assert match is not None
        asked = filled(match[2], {name: values[0] for name, values in found.items()})
        if match[1] == "label_values":
            values = source.get(f"/api/v1/label/{match[3]}/values", **{"match[]": asked})
        else:
            (label,) = re.findall(r'/(\w+)="', variable["regex"])
            values = [labels[label] for labels, _ in source.query(asked)]
        if variable["includeAll"]:
            values = [variable.get("allValue") or "|".join(values), *values]
        assert [value for value in values if value], name
        found[name] = values
    return found


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_each_query_returns_data(stack: Stack, name: str, panel: dict[str, Any]) -> None:
    # Of the demo's namespaces the one in which there is something of everything.
    given = {"namespace": "team-nlp"} if name == "workload" else {}
    values = eventually(lambda: chosen(DASHBOARDS[name], stack.prometheus, **given), 30)
    first = {variable: options[0] for variable, options in values.items()}
    # A panel for each GPU: some have no container with a core limit.
    repeated = panel.get("repeat", "")
    options = values[repeated][1:] if repeated else [""]
    for target in panel["targets"]:
        expressions = [filled(target["expr"], {**first, repeated: option}) for option in options]

        def data(expressions: list[str] = expressions) -> bool:
            return any(stack.prometheus.query(expression) for expression in expressions)

        if (name, panel["title"]) in EMPTY_WHEN_ALL_IS_WELL:
            data()
        else:
            eventually(data, 60)


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_queries_read_nothing_that_the_variables_exclude(
    stack: Stack, name: str, panel: dict[str, Any]
) -> None:
    """What a query reads for a node or a namespace that there is not is what it would read of a
    thousand others."""
    values = eventually(lambda: chosen(DASHBOARDS[name], stack.prometheus), 30)
    first = {variable: options[0] for variable, options in values.items()}
    nothing = {variable: "there-is-none" for variable in BOUNDED_BY[name] if variable in first}
    for target in panel["targets"]:
        answer = stack.prometheus.get(
            "/api/v1/query", query=filled(target["expr"], {**first, **nothing}), stats="all"
        )
        assert answer["stats"]["samples"]["totalQueryableSamples"] == 0, target["expr"]


def test_panels_of_the_largest_pods_read_no_others(stack: Stack) -> None:
    """The pods are found once for all of them, and not by each for itself."""
    dashboard = DASHBOARDS["documented"]
    values = eventually(lambda: chosen(dashboard, stack.prometheus), 30)
    assert 1 < len(values["largest"][1:]) <= 10
    first = {variable: options[0] for variable, options in values.items()}
    expressions = [
        target["expr"]
        for panel in panels(dashboard)
        for target in panel["targets"]
        if "$largest" in target["expr"]
    ]
    assert len(expressions) == 4
    for expr in expressions:
        assert stack.prometheus.query(filled(expr, first))
        nothing = filled(expr, {**first, "largest": "there-is-none"})
        answer = stack.prometheus.get("/api/v1/query", query=nothing, stats="all")
        assert answer["stats"]["samples"]["totalQueryableSamples"] == 0, expr


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
