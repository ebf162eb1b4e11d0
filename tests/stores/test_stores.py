"""Two agents, a Prometheus and a vmagent, scrape the same three nodes and write to three stores,
each of which evaluates the rules. What these record, the alerts, and what the dashboards' queries
return are compared with one Prometheus that scrapes the nodes itself."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from testing.dashboards import GIVEN, chosen, filled, first
from testing.polling import eventually
from testing.prometheus import Prometheus
from testing.rules import looks_back_seconds, without_waits
from testing.tools import require
from tests.alerts.test_scale import AGENT
from tests.dashboards.test_json import DASHBOARDS, PANELS, RECORDED
from tests.stores.programs import program, standing_still, targets

pytestmark = pytest.mark.slow

NODES = 3
INTERVAL = "4s"
#: Of graphs, in seconds: as Grafana has it, more than the scrape interval.
STEP = 10
STORES = ("prometheus-2", "prometheus-3", "victoria-metrics")
EACH = pytest.mark.parametrize("store", STORES)

#: Queries whose values are the store's own: when its rules first saw an alert, and sum or count of
#: all that its rules recorded since it started.
OF_THE_STORE = re.compile(r"ALERTS_FOR_STATE|(?:sum|count)_over_time\(workload:")
#: In VictoriaMetrics a counter that appears within the window of increase() begins at 0, so that
#: more of them may have risen.
RISEN = "increase("

Labels = frozenset[tuple[str, str]]


@dataclass
class Stack:
    """``one`` scrapes the nodes itself. A store's series have ``cluster``, and those of the
    Prometheus stores a ``replica`` as well, until a rule drops it."""

    one: Prometheus
    stores: dict[str, Prometheus]
    _variables: dict[tuple[str, str], dict[str, list[str]]] = field(default_factory=dict)

    def variables(self, store: str, dashboard: str) -> dict[str, list[str]]:
        """What Grafana offers of each."""
        key = (store, dashboard)
        if key not in self._variables:
            source = {"one": self.one, **self.stores}[store]
            self._variables[key] = chosen(DASHBOARDS[dashboard], source, **GIVEN.get(dashboard, {}))
        return self._variables[key]


@pytest.fixture(scope="module")
def stack(binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    debian = require("prometheus")
    directory = tmp_path_factory.mktemp("stores")
    rules = directory / "rules"
    rules.mkdir()
    without_waits(rules)
    with ExitStack() as running:
        port, paths = running.enter_context(standing_still(NODES))

        def start(name: str, ready: str, *command: str | Path) -> int:
            return running.enter_context(program(directory / name, ready, *command))

        def prometheus(name: str, binary: str | Path, *flags: str, **config: Any) -> int:
            path = directory / f"{name}.yaml"
            path.write_text(yaml.safe_dump(config))
            listen = ("--web.listen-address=127.0.0.1:PORT", f"--config.file={path}")
            # Debian's has a path of its own, which would be shared.
            data = f"--storage.{'agent' if '--agent' in flags else 'tsdb'}.path=data"
            return start(name, "/-/ready", binary, *listen, data, *flags)

        evaluated = {
            "global": {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL},
            "rule_files": [f"{rules}/*.rules.yaml"],
        }
        scrape: dict[str, Any] = {"job_name": "vgpumonitor", "honor_labels": True}
        own = {**scrape, "static_configs": targets(port, paths)}
        one = prometheus("one", debian, **{**evaluated, "scrape_configs": [own]})
        receives = "--web.enable-remote-write-receiver"
        stores = {
            "prometheus-2": prometheus("prometheus-2", debian, receives, **evaluated),
            "prometheus-3": prometheus(
                "prometheus-3", binaries / "prometheus", receives, **evaluated
            ),
            "victoria-metrics": start(
                "victoria-metrics",
                "/health",
                binaries / "victoria-metrics",
                "-httpListenAddr=127.0.0.1:PORT",
                "-storageDataPath=data",
                "-search.latencyOffset=1s",
                f"-dedup.minScrapeInterval={INTERVAL}",
            ),
        }
        victoria = f"http://127.0.0.1:{stores['victoria-metrics']}"
        start(
            "vmalert",
            "/health",
            binaries / "vmalert",
            "-httpListenAddr=127.0.0.1:PORT",
            f"-rule={rules}/*.rules.yaml",
            f"-datasource.url={victoria}",
            f"-remoteWrite.url={victoria}",
            f"-remoteRead.url={victoria}",
            "-notifier.blackhole",
            "-disableAlertgroupLabel",
            f"-evaluationInterval={INTERVAL}",
            "-rule.evalDelay=1s",
            "-remoteWrite.flushInterval=200ms",
        )
        for replica in ("a", "b"):
            config = agent(port, paths, replica)
            urls = {name: f"http://127.0.0.1:{at}/api/v1/write" for name, at in stores.items()}
            (write,) = config.pop("remote_write")
            drop = [*write["write_relabel_configs"]]
            drop_replica = [*drop, {"regex": "replica", "action": "labeldrop"}]
            relabels = {name: drop_replica if "victoria" in name else drop for name in stores}
            if replica == "a":
                writes = [
                    {
                        "url": url,
                        "write_relabel_configs": relabels[name],
                        "queue_config": {"batch_send_deadline": "1s"},
                    }
                    for name, url in urls.items()
                ]
                flag = "--agent"
                prometheus(
                    "agent", binaries / "prometheus", flag, **{**config, "remote_write": writes}
                )
                continue
            flags = []
            for name, url in urls.items():
                path = directory / f"relabel-{name}.yaml"
                path.write_text(yaml.safe_dump(relabels[name]))
                flags += [f"-remoteWrite.url={url}", f"-remoteWrite.urlRelabelConfig={path}"]
            path = directory / "vmagent.yaml"
            path.write_text(yaml.safe_dump(config))
            start(
                "vmagent",
                "/health",
                binaries / "vmagent",
                "-httpListenAddr=127.0.0.1:PORT",
                f"-promscrape.config={path}",
                *flags,
            )
        made = Stack(Prometheus(one), {name: Prometheus(at) for name, at in stores.items()})
        eventually(lambda: settled(made), 180)
        yield made


def agent(port: int, paths: list[str], replica: str) -> dict[str, Any]:
    """The agent's configuration of docs/scale.md as that of one of two replicas; static targets
    have the labels that Kubernetes would give them."""
    config: dict[str, Any] = yaml.safe_load(AGENT)
    config["global"] |= {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL}
    config["global"]["external_labels"]["replica"] = replica
    (scrape,) = config["scrape_configs"]
    del scrape["kubernetes_sd_configs"]
    for relabel in scrape["relabel_configs"]:
        if "modulus" in relabel:
            relabel["modulus"] = 1
    scrape["static_configs"] = targets(
        port,
        paths,
        __meta_kubernetes_pod_label_koord_app="hami-daemon",
        __meta_kubernetes_pod_container_port_name="metrics",
    )
    return config


def settled(stack: Stack) -> bool:
    """Both agents' samples are everywhere, and what takes longest to record is too."""
    last = "workload:vgpu_idle_gpu_hours:sum5m"
    expected = len(stack.one.query(last))
    assert expected
    for name, store in stack.stores.items():
        assert len(store.query(last)) == expected, name
        replicas = 1 if name == "victoria-metrics" else 2
        assert len(store.query("vgpumonitor_build_info")) == NODES * replicas, name
    return True


def series(found: list[tuple[dict[str, str], float]]) -> dict[Labels, float]:
    """Without what only a store's series have: the external labels, and the names that MetricsQL
    keeps through round() and its like."""
    made: dict[Labels, float] = {}
    for labels, value in found:
        key = frozenset(
            (name, value)
            for name, value in labels.items()
            if name not in ("cluster", "__name__") and value
        )
        assert key not in made, f"{dict(key)} is there twice"
        made[key] = value
    return made


@EACH
def test_rules_record_what_one_prometheus_records(stack: Stack, store: str) -> None:
    for name in sorted(RECORDED):

        def equal(name: str = name) -> bool:
            of_one = series(stack.one.query(name))
            of_store = series(stack.stores[store].query(name))
            assert of_store == pytest.approx(of_one, rel=1e-12), name
            return True

        eventually(equal, 30)
    for level in ("node", "workload", "cluster"):
        assert stack.one.query(f"{level}:vgpu_allocated_memory_bytes:sum > 0")


@EACH
def test_alerts_are_those_of_one_prometheus(stack: Stack, store: str) -> None:
    def equal() -> bool:
        firing = 'ALERTS{alertstate="firing"}'
        of_one = series(stack.one.query(firing))
        assert {dict(key)["alertname"] for key in of_one} >= {"VgpuIdle", "VgpuMemoryBypassed"}
        assert series(stack.stores[store].query(firing)) == of_one
        return True

    eventually(equal, 60)


def test_what_two_agents_scrape_is_deduplicated(stack: Stack) -> None:
    """Where the store doesn't, each series is there twice; no rule counts it twice."""
    devices = len(stack.one.query("vgpu_device_info"))
    for name, store in stack.stores.items():
        twice = 1 if name == "victoria-metrics" else 2
        assert len(store.query("vgpu_device_info")) == devices * twice, name
        (counted,) = store.query("cluster:vgpu_device_info:count")
        assert counted == (
            {"__name__": "cluster:vgpu_device_info:count", "cluster": "gpu-a"},
            devices,
        ), name
    samples = stack.stores["victoria-metrics"].query("count_over_time(up[20s])")
    assert len(samples) == NODES
    assert all(value <= 6 for _, value in samples), samples


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_dashboards_show_what_they_show_of_one_prometheus(
    stack: Stack, name: str, panel: dict[str, Any]
) -> None:
    of_one = stack.variables("one", name)
    for store in STORES:
        for variable, options in stack.variables(store, name).items():
            if variable != "cluster":
                assert each(options) == each(of_one[variable]), (store, variable)
    repeated = panel.get("repeat", "")
    for option in of_one[repeated][1:] if repeated else [""]:
        for target in panel["targets"]:
            expr = looks_back_seconds(filled(target["expr"], {**first(of_one), repeated: option}))

            def equal(expr: str = expr) -> bool:
                # One moment for all, since some panels show how long ago something was, and one
                # of which every store has the samples.
                now = time.time() - 5
                for ask in (instant, last_of_range):
                    expected = ask(stack.one, expr, now)
                    for store, source in stack.stores.items():
                        found = ask(source, expr, now)
                        if RISEN in expr and store == "victoria-metrics":
                            assert set(found) >= set(expected), (store, expr)
                        elif RISEN in expr or OF_THE_STORE.search(expr):
                            assert set(found) == set(expected), (store, expr)
                        else:
                            assert found == pytest.approx(expected, rel=1e-9), (store, expr)
                return True

            # A busy machine may miss an evaluation, and the slowest group comes every 5 minutes.
            eventually(equal, 330)


def each(options: list[str]) -> set[str]:
    """The values, also those that All stands for, which may be in any order."""
    return set("|".join(options).split("|"))


def instant(source: Prometheus, expr: str, now: float) -> dict[Labels, float]:
    answer = source.get("/api/v1/query", query=expr, time=f"{now:.3f}")["result"]
    return series([(found["metric"], float(found["value"][1])) for found in answer])


def last_of_range(source: Prometheus, expr: str, now: float) -> dict[Labels, float]:
    """What a graph shows at its right edge."""
    # VictoriaMetrics moves a range to multiples of its step, and looks back for a sample no further
    # than the step or the scrape interval, where Prometheus looks back five minutes.
    end = int(now) // STEP * STEP
    answer = source.get(
        "/api/v1/query_range", query=expr, start=str(end - 2 * STEP), end=str(end), step=str(STEP)
    )["result"]
    return series(
        [
            (found["metric"], float(found["values"][-1][1]))
            for found in answer
            if found["values"][-1][0] == end
        ]
    )
