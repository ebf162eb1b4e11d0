from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from watchdog.observers.api import BaseObserver

from tests.sources.pods.waiting import looked, names, running, until
from vgpumonitor.sources.pods import Pod
from vgpumonitor.sources.pods.model import PodContainer
from vgpumonitor.sources.pods.pod_logs import PodLogsSource, parse_directory

UID = "11111111-2222-3333-4444-555555555555"
HASH = "0123456789abcdef0123456789abcdef"
#: So long that only events can have told.
NEVER = 3600.0


@pytest.mark.parametrize(
    ("name", "pod"),
    [
        (f"default_web-0_{UID}", Pod(UID, "default", "web-0")),
        (f"kube-system_etcd-node.b_{HASH}", Pod(HASH, "kube-system", "etcd-node.b")),
        (f"n_{'a' * 200}_{UID}", Pod(UID, "n", "a" * 200)),
    ],
)
def test_names(name: str, pod: Pod) -> None:
    assert parse_directory(name) == pod


@pytest.mark.parametrize(
    "name",
    [
        "",
        "default_web-0",
        f"web-0_{UID}",
        f"a_b_c_{UID}",
        f"Default_web-0_{UID}",
        f"default_-web_{UID}",
        f"de.fault_web_{UID}",
        f"{'n' * 64}_web_{UID}",
        f"default_{'a' * 254}_{UID}",
        f"default_a..b_{UID}",
        f"default_web_{UID}x",
        f"default_web_{UID.replace('-', '')}0",
        f"default_web_{UID.upper().replace('1', 'A')}",
        f"default_web_{UID}\n",
        f"../default_web_{UID}",
    ],
)
def test_no_names(name: str) -> None:
    assert parse_directory(name) is None


def test_directories_come_and_go(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        one = tmp_path / f"default_one_{UID}"
        (one / "main").mkdir(parents=True)
        (tmp_path / "lost+found").mkdir()
        (tmp_path / f"default_a-file_{HASH}").touch()
        (tmp_path / f"default_a-link_{HASH}").symlink_to(one)
        async with running(source := PodLogsSource(tmp_path, NEVER)):
            await until(lambda: source.view.up)
            assert source.view.pods == {UID: Pod(UID, "default", "one")}
            (tmp_path / f"kube-system_two_{HASH}").mkdir()
            await until(lambda: names(source.view) == {"one", "two"})
            shutil.rmtree(one)
            await until(lambda: names(source.view) == {"two"})
            assert set(source.view.deleted) == {UID}

    asyncio.run(main())
    assert [getattr(record, "entry", "") for record in caplog.records] == ["lost+found"]


def test_links_to_logs_name_containers(tmp_path: Path) -> None:
    async def main() -> None:
        pods, links = tmp_path / "pods", tmp_path / "containers"
        directory = pods / f"default_one_{UID}"
        directory.mkdir(parents=True)
        async with running(source := PodLogsSource(pods, 0.2)):
            await until(lambda: source.view.up)
            assert source.view.pods[UID].containers == {}
            links.mkdir()
            # Not kubelet's, not a link, of no pod, cut off.
            (links / f"one_default_main-{'9' * 64}.log").write_text("")
            (links / f"one_default_main-{'8' * 64}.log").symlink_to("/elsewhere")
            (links / f"two_default_main-{'7' * 64}.log").symlink_to(
                pods / f"default_two_{HASH}/main/0.log"
            )
            (links / f"one_default_main-{'6' * 60}.log").symlink_to(directory / "main/11.log")
            # Ten restarts sort before nine as text.
            for container, start, digit in (("main", 9, "c"), ("main", 10, "b"), ("init", 0, "d")):
                link = links / f"one_default_{container}-{digit * 64}.log"
                link.symlink_to(directory / container / f"{start}.log")
            await until(lambda: len(source.view.pods[UID].containers) == 2)
            assert source.view.pods[UID].containers == {
                name: PodContainer(name, None, None, frozenset((digit * 64,)))
                for name, digit in (("main", "b"), ("init", "d"))
            }
            assert set(source.view.pods) == {UID}

    asyncio.run(main())


def test_a_new_link_is_seen_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        pods, links = tmp_path / "pods", tmp_path / "containers"
        directory = pods / f"default_one_{UID}"
        directory.mkdir(parents=True)
        links.mkdir()
        async with running(source := PodLogsSource(pods, NEVER)):
            await until(lambda: source.view.up)
            link = links / f"one_default_main-{'a' * 64}.log"
            link.symlink_to(directory / "main/0.log")
            await until(lambda: source.view.pods[UID].containers)
            link.unlink()
            await until(lambda: not source.view.pods[UID].containers)

    asyncio.run(main())


def test_a_directory_that_goes_and_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        top = tmp_path / "pods"
        (top / f"default_one_{UID}").mkdir(parents=True)
        async with running(source := PodLogsSource(top, 0.2)):
            await until(lambda: source.view.up)
            top.rename(tmp_path / "elsewhere")
            await until(lambda: not source.view.up)
            assert names(source.view) == {"one"}
            (top / f"default_two_{HASH}").mkdir(parents=True)
            await until(lambda: source.view.up and names(source.view) == {"two"})

    asyncio.run(main())


def test_a_new_directory_in_its_place_is_watched(tmp_path: Path) -> None:
    async def main() -> None:
        top = tmp_path / "pods"
        top.mkdir()
        async with running(source := PodLogsSource(top, NEVER)):
            await until(lambda: source.view.up)
            other = tmp_path / "other"
            (other / f"default_one_{UID}").mkdir(parents=True)
            top.rmdir()
            other.rename(top)
            await until(lambda: names(source.view) == {"one"})
            (top / f"default_two_{HASH}").mkdir()
            await until(lambda: names(source.view) == {"one", "two"})

    asyncio.run(main())


def test_a_directory_that_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        top = tmp_path / "pods"
        async with running(source := PodLogsSource(top, 0.05)):
            await looked(source)
            assert (source.view.up, source.view.synced) == (False, None)
            (top / f"default_one_{UID}").mkdir(parents=True)
            await until(lambda: names(source.view) == {"one"})

    asyncio.run(main())
    errors = [getattr(record, "error", "") for record in caplog.records]
    assert errors == [f"{tmp_path / 'pods'}: No such file or directory"]


def test_without_watches_it_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    async def main() -> None:
        monkeypatch.setattr(BaseObserver, "schedule", none_left)
        async with running(source := PodLogsSource(tmp_path, 0.05)):
            await until(lambda: source.view.up)
            (tmp_path / f"default_one_{UID}").mkdir()
            await until(lambda: names(source.view) == {"one"})

    asyncio.run(main())
