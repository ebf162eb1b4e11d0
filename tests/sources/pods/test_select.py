from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.sources.pods.waiting import running
from vgpumonitor.sources.pods import cluster
from vgpumonitor.sources.pods.none import NoPodSource
from vgpumonitor.sources.pods.select import make_pod_source


@pytest.fixture(autouse=True)
def no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(cluster, "SERVICE_ACCOUNT", tmp_path / "serviceaccount")


@pytest.mark.parametrize(
    ("pods", "name"),
    [
        ("kubernetes", "kubernetes"),
        ("pod-logs", "pod-logs"),
        ("none", "none"),
        ("file:/pods.json", "file"),
        ("file:relative:with:colons", "file"),
    ],
)
def test_by_name(pods: str, name: str, tmp_path: Path) -> None:
    assert make_pod_source(pods, "node-a", None, tmp_path).name == name


@pytest.mark.parametrize("pods", ["", "file:", "file", "kube", "pod-logs:/x"])
def test_no_names(pods: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not auto, kubernetes, pod-logs, none or file:PATH"):
        make_pod_source(pods, "node-a", None, tmp_path)


def test_auto_takes_a_cluster_then_logs_then_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = tmp_path / "absent"
    assert make_pod_source("auto", "node-a", "/a/kubeconfig", absent).name == "kubernetes"
    assert make_pod_source("auto", "node-a", None, tmp_path).name == "pod-logs"
    assert make_pod_source("auto", "node-a", None, absent).name == "none"
    (tmp_path / "serviceaccount").mkdir()
    (tmp_path / "serviceaccount" / "token").write_text("token")
    # Half of a service account is none.
    assert make_pod_source("auto", "node-a", None, tmp_path).name == "pod-logs"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert make_pod_source("auto", "node-a", None, tmp_path).name == "kubernetes"


def test_no_source_is_up_and_current() -> None:
    async def main() -> None:
        async with running(source := NoPodSource()):
            await asyncio.sleep(0)
            before = time.time()
            assert source.view.up
            assert source.view.pods == {}
            assert source.view.synced is not None
            assert source.view.synced >= before

    asyncio.run(main())
