from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from tests.sources.pods.waiting import names, running, until
from vgpumonitor.sources.pods import Pod, PodSource, PodsView, cluster
from vgpumonitor.sources.pods.none import NoPodSource
from vgpumonitor.sources.pods.registry import (
    SOURCES,
    PodSourceOptions,
    RestartedPodSource,
    make_pod_source,
    parse_pods,
    pods_help,
)


@pytest.fixture(autouse=True)
def no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(cluster, "SERVICE_ACCOUNT", tmp_path / "serviceaccount")


def made(pods: str, pod_logs_dir: Path, kubeconfig: str | None = None) -> PodSource:
    return make_pod_source(pods, PodSourceOptions("node-a", kubeconfig, pod_logs_dir))


@pytest.mark.parametrize(
    ("pods", "parsed"),
    [
        ("auto", ("auto", "")),
        ("kubernetes", ("kubernetes", "")),
        ("pod-logs", ("pod-logs", "")),
        ("none", ("none", "")),
        ("file:/pods.json", ("file", "/pods.json")),
        ("file:relative:with:colons", ("file", "relative:with:colons")),
    ],
)
def test_by_name(pods: str, parsed: tuple[str, str], tmp_path: Path) -> None:
    assert parse_pods(pods) == parsed
    assert made(pods, tmp_path).name == {"auto": "pod-logs"}.get(parsed[0], parsed[0])


@pytest.mark.parametrize("pods", ["", "kube", "pod-logs:/x", "none:", "auto:", ":x"])
def test_no_names(pods: str, tmp_path: Path) -> None:
    message = f"unknown pod source {pods!r}: expected auto, kubernetes, pod-logs, file:PATH or none"
    with pytest.raises(ValueError, match=message):
        parse_pods(pods)
    with pytest.raises(ValueError, match=message):
        made(pods, tmp_path)


@pytest.mark.parametrize("pods", ["file", "file:"])
def test_a_file_without_its_path(pods: str) -> None:
    with pytest.raises(ValueError, match=f"pod source '{pods}' lacks its path: expected file:PATH"):
        parse_pods(pods)


def test_the_help_text_names_all() -> None:
    for name in SOURCES:
        assert name in pods_help()


def test_auto_takes_a_cluster_then_logs_then_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = tmp_path / "absent"
    assert made("auto", absent, "/a/kubeconfig").name == "kubernetes"
    assert made("auto", tmp_path).name == "pod-logs"
    assert made("auto", absent).name == "none"
    # The kernel refuses to look for such a name, as it does in a folder that one may not enter.
    assert made("auto", tmp_path / ("long" * 100)).name == "none"
    (tmp_path / "serviceaccount").mkdir()
    (tmp_path / "serviceaccount" / "token").write_text("token")
    # Half of a service account is none.
    assert made("auto", tmp_path).name == "pod-logs"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert made("auto", tmp_path).name == "kubernetes"


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


class BrokenSource:
    """Fails as nothing should, as often as it is told."""

    name = "broken"

    def __init__(self, failures: int) -> None:
        self.view = PodsView({"uid": Pod("uid", "default", "known")}, up=True, synced=7.0)
        self.runs = 0
        self._failures = failures

    async def run(self) -> None:
        self.runs += 1
        if self.runs <= self._failures:
            raise RuntimeError("nobody thought of this")
        self.view = PodsView({"uid": Pod("uid", "default", "new")}, up=True, synced=8.0)
        await asyncio.Event().wait()


def test_an_unexpected_error_ends_nothing_and_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        broken = BrokenSource(failures=2)
        async with running(source := RestartedPodSource(broken, delay=0.05)):
            await until(lambda: not source.view.up)
            assert names(source.view) == {"known"}
            assert source.view.synced == 7.0
            await until(lambda: source.view.up)
            assert names(source.view) == {"new"}
            assert broken.runs == 3

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    errors = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert errors == ["nobody thought of this"] * 2
