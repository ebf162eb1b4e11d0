"""The docker-compose stack, and the same without containers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from testing.tools import require

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy/compose"


def compose() -> dict[str, Any]:
    done = subprocess.run(
        [require("docker-compose"), "--file", str(COMPOSE / "docker-compose.yaml"), "config"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    services: dict[str, Any] = yaml.safe_load(done.stdout)["services"]
    return services


def test_compose_file_is_valid() -> None:
    services = compose()
    assert set(services) == {"exporter", "prometheus", "alertmanager", "grafana"}
    exporter = services["exporter"]
    assert exporter["command"] == ["demo", "--nodes=3", "--node-name=gpu-node"]
    assert exporter["read_only"] is True
    assert exporter["cap_drop"] == ["ALL"]
    # A demo without passwords is for this machine's own browser.
    assert sorted(exporter["ports"]) == [
        f"127.0.0.1:{port}:{port}/tcp" for port in (3000, 9090, 9093, 9394, 9395, 9396)
    ]


def test_compose_mounts_what_there_is() -> None:
    for name, service in compose().items():
        for volume in service.get("volumes", []):
            source, _, mode = volume.partition(":")
            assert Path(source).exists(), f"{name}: {source}"
            assert mode.endswith(":ro")


def test_images_are_pinned() -> None:
    for service in compose().values():
        assert service["image"].rpartition(":")[2] not in ("", "latest"), service["image"]


def test_prometheus_accepts_its_file_and_our_rules() -> None:
    done = subprocess.run(
        [require("promtool"), "check", "config", str(COMPOSE / "prometheus.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rules = sorted((ROOT / "alerts").glob("*.rules.yaml"))
    assert rules
    assert f"SUCCESS: {len(rules)} rule files found" in done.stdout


def test_alertmanager_accepts_its_file() -> None:
    done = subprocess.run(
        [require("amtool"), "check-config", str(ROOT / "alerts/alertmanager.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_finds_the_data_source_and_the_dashboards() -> None:
    provisioning = COMPOSE / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert (source["type"], source["url"]) == ("prometheus", "http://localhost:9090")
    assert source["isDefault"] is True
    (provider,) = yaml.safe_load((provisioning / "dashboards/vgpumonitor.yaml").read_text())[
        "providers"
    ]
    mounts = [volume.split(":")[:2] for volume in compose()["grafana"]["volumes"]]
    assert [str(ROOT / "dashboards"), provider["options"]["path"]] in mounts


@pytest.mark.slow
def test_the_stack_runs_without_containers() -> None:
    for tool in ("prometheus", "prometheus-alertmanager", "ip"):
        require(tool)
    unshare = [require("unshare"), "--map-root-user", "--net"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine allows no network namespace")
    done = subprocess.run(
        [*unshare, sys.executable, "-m", "tests.deploy.stack_probe"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    ports = (9090, 9093, 9394, 9395, 9396)
    assert result["targets"] == {f"localhost:{port}": "up" for port in ports}
    assert result["alertmanagers"] == ["http://localhost:9093/api/v2/alerts"]
    assert result["rule_groups"] >= 1
    assert result["nodes"] == 3
    assert result["status"] == 0
