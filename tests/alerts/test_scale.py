"""docs/scale.md: its configurations with a real Prometheus, its figures with the declarations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from benchmarks.series import main, sets
from testing.exporter import Exporter, running
from testing.polling import eventually
from testing.prometheus import Prometheus, prometheus
from testing.rules import without_waits
from testing.tools import require

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/scale.md").read_text()
AGENT, PART = re.findall(r"```yaml\n(.+?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def demo() -> Iterator[Exporter]:
    require("prometheus")
    with running("demo") as exporter:
        yield exporter


@contextmanager
def store(directory: Path) -> Iterator[Prometheus]:
    (directory / "rules").mkdir()
    without_waits(directory / "rules")
    config = f"global: {{evaluation_interval: 1s}}\nrule_files: [{directory}/rules/*.yaml]\n"
    with prometheus(
        directory / "store",
        config,
        f"--storage.tsdb.path={directory / 'store/data'}",
        "--web.enable-remote-write-receiver",
    ) as made:
        yield made


def adapted(text: str, exporter: Exporter, written_to: Prometheus) -> dict[str, Any]:
    """The page's configuration at test's pace. Debian's Prometheus is built without Kubernetes:
    a static target has the labels that discovery would give it."""
    config: dict[str, Any] = yaml.safe_load(text)
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
    (scrape,) = config["scrape_configs"]
    (discovery,) = scrape.pop("kubernetes_sd_configs")
    assert discovery == {"role": "pod", "namespaces": {"names": ["koordinator-system"]}}
    for relabel in scrape["relabel_configs"]:
        if "modulus" in relabel:
            relabel["modulus"] = 1
    found = {
        "__meta_kubernetes_pod_label_koord_app": "hami-daemon",
        "__meta_kubernetes_pod_container_port_name": "metrics",
        "__meta_kubernetes_pod_node_name": "node-1",
    }
    another = {**found, "__meta_kubernetes_pod_label_koord_app": "other"}
    scrape["static_configs"] = [
        {"targets": [f"127.0.0.1:{exporter.port}"], "labels": found},
        {"targets": ["127.0.0.1:9"], "labels": another},
    ]
    (write,) = config["remote_write"]
    write["url"] = f"http://127.0.0.1:{written_to.port}/api/v1/write"
    return config


def test_an_agent_forwards_and_the_store_records(tmp_path: Path, demo: Exporter) -> None:
    with store(tmp_path) as written_to:
        config = adapted(AGENT, demo, written_to)
        with prometheus(
            tmp_path / "agent",
            yaml.safe_dump(config),
            "--enable-feature=agent",
            f"--storage.agent.path={tmp_path / 'agent/data'}",
        ):
            recorded = eventually(
                lambda: written_to.query('node:vgpu_memory_used_bytes:sum{cluster="gpu-a"} > 0'),
                60,
            )
            assert len(recorded) == 1
            used = written_to.query("sum by (cluster) (vgpu_memory_used_bytes)")
            assert [labels for labels, _ in used] == [{"cluster": "gpu-a"}]
            # A scrape is sent in pieces; this one may be in the last.
            up = eventually(lambda: written_to.query("up"), 30)
            assert [(labels["cluster"], labels["node"], value) for labels, value in up] == [
                ("gpu-a", "node-1", 1)
            ]
            assert not written_to.query("Device_memory_desc_of_container")
            assert not written_to.query('{__name__=~"python_.+"}')
            # Whose namespace it is: the workload's.
            assert written_to.query('vgpu_memory_limit_bytes{namespace="team-nlp"}')
            assert not written_to.query('{exported_namespace!=""}')


def test_a_part_passes_on_its_sums_only(tmp_path: Path, demo: Exporter) -> None:
    with prometheus(
        tmp_path / "store",
        "{}",
        f"--storage.tsdb.path={tmp_path / 'store/data'}",
        "--web.enable-remote-write-receiver",
    ) as written_to:
        config = adapted(PART, demo, written_to)
        config["global"]["evaluation_interval"] = "1s"
        without_waits(tmp_path)
        config["rule_files"] = [f"{tmp_path}/*.rules.yaml"]
        with prometheus(
            tmp_path / "part",
            yaml.safe_dump(config),
            f"--storage.tsdb.path={tmp_path / 'part/data'}",
        ) as part:
            passed_on = eventually(
                lambda: written_to.query("namespace:vgpu_memory_used_bytes:sum > 0"), 60
            )
            assert passed_on[0][0]["part"] == "0"
            eventually(lambda: written_to.query("card:vgpu_memory_used_bytes:sum > 0"), 30)
            others = '{__name__=~".+", __name__!~"(cluster|namespace|workload|node|card):.+"}'
            assert not written_to.query(others)
            assert part.query(others)


def test_figures_of_the_declarations() -> None:
    """As docs/metrics.md has the families: for example a container on one GPU has two series
    of its allocation, four of its memory by kind, four of its processes, six of the driver's
    account, and ten more."""
    assert sets()["vgpu"] == {"node": 0, "GPU": 58, "container": 2 + 4 + 4 + 6 + 10}
    # Feedback and clean-up are off.
    assert sets()["documented"] == {"node": 0, "GPU": 2, "container": 5}
    assert sets()["hami"] == {"node": 1, "GPU": 7, "container": 8}


def test_the_pages_figures_are_the_scripts() -> None:
    done = CliRunner().invoke(main, [])
    assert done.exit_code == 0, done.output
    figures = dict(re.findall(r"^\| (.+?) \| ([\d,]+) \|", done.output, re.MULTILINE))
    for name in ("documented", "hami", "vgpu", "--process-metrics"):
        assert re.search(rf"`{name}` \| {figures[name]} \|", PAGE), name
    for level, entity in (
        ("card", "GPU"),
        ("node", "node"),
        ("namespace", "namespace"),
        ("workload", "workload"),
    ):
        assert f"recorded per {entity} | {figures[f'recorded: {level}']} |" in PAGE
    assert f"is {figures['kept of them: cluster, namespace, workload, node, card']} (" in PAGE
    assert f"| {figures['about itself']} |" in PAGE
