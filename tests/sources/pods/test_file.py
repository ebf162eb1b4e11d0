from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from testing import pods
from tests.sources.pods.waiting import looked, names, running, until
from vgpumonitor.sources import events as events_module
from vgpumonitor.sources.pods import file as file_module
from vgpumonitor.sources.pods import watch as watch_module
from vgpumonitor.sources.pods.file import FilePodSource

#: So long that only events can have told.
NEVER = 3600.0


def write(path: Path, *pods: Any) -> None:
    """As a careful writer does: beside it, then a rename."""
    beside = path.parent / f".{path.name}.new"
    beside.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}, indent=4))
    os.replace(beside, path)


def test_reads_again_whenever_it_changes(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "pods.json"
        write(path, pods.pod("one"), pods.pod("two"))
        async with running(source := FilePodSource(path, look_interval=NEVER)):
            await until(lambda: names(source.view) == {"one", "two"})
            assert source.view.up
            assert source.view.synced is not None
            write(path, pods.pod("two"), pods.pod("three"))
            await until(lambda: names(source.view) == {"two", "three"})
            assert set(source.view.deleted) == {"uid-of-one"}
            # Written in place.
            path.write_text(json.dumps(pods.pod("alone")))
            await until(lambda: names(source.view) == {"alone"})

    asyncio.run(main())


def test_pods_of_one_node(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "pods.json"
        unbound = pods.pod("unbound")
        del unbound["spec"]["nodeName"]
        write(path, pods.pod("here"), pods.pod("there", node="node-b"), unbound)
        async with (
            running(one := FilePodSource(path, "node-1")),
            running(every := FilePodSource(path)),
        ):
            await until(lambda: one.view.up and every.view.up)
            assert names(one.view) == {"here"}
            assert names(every.view) == {"here", "there", "unbound"}

    asyncio.run(main())


def test_a_config_map_s_links(tmp_path: Path) -> None:
    """kubelet replaces the link ``..data``; the file's own link stays."""

    def publish(version: str, pod: str) -> None:
        (tmp_path / version).mkdir()
        write(tmp_path / version / "pods.json", pods.pod(pod))
        (tmp_path / "..data_tmp").symlink_to(version)
        os.replace(tmp_path / "..data_tmp", tmp_path / "..data")

    async def main() -> None:
        publish("..1", "one")
        (tmp_path / "pods.json").symlink_to("..data/pods.json")
        source = FilePodSource(tmp_path / "pods.json", look_interval=NEVER)
        async with running(source):
            await until(lambda: names(source.view) == {"one"})
            publish("..2", "two")
            await until(lambda: names(source.view) == {"two"})

    asyncio.run(main())


@pytest.mark.parametrize("broken", ["{", '{"kind": "NodeList"}', None])
def test_a_broken_file_keeps_the_pods_and_comes_back(
    tmp_path: Path, broken: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        path = tmp_path / "pods.json"
        write(path, pods.pod("one"))
        async with running(source := FilePodSource(path, look_interval=0.05)):
            await until(lambda: source.view.up)
            synced = source.view.synced
            if broken is None:
                path.unlink()
            else:
                path.write_text(broken)
            await until(lambda: not source.view.up)
            assert names(source.view) == {"one"}
            assert source.view.synced == synced
            await looked(source)
            assert (source.view.up, source.view.synced) == (False, synced)
            write(path, pods.pod("two"))
            await until(lambda: source.view.up)
            assert names(source.view) == {"two"}

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    # Once, although it was looked at many times.
    (record,) = [record for record in caplog.records if record.name.endswith("store")]
    assert str(tmp_path / "pods.json") in getattr(record, "error", "")


def test_the_list_is_as_old_as_its_file_however_often_it_is_read(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "pods.json"
        write(path, pods.pod("one"))
        os.utime(path, (1e9, 1e9))
        async with running(source := FilePodSource(path, look_interval=0.05)):
            await until(lambda: source.view.up)
            await looked(source)
            assert source.view.synced == 1e9
            # Of a file from the future the look itself is all that is known.
            os.utime(path, (4e9, 4e9))
            before = time.time()
            await until(lambda: source.view.synced != 1e9)
            assert before <= (source.view.synced or 0.0) <= time.time()

    asyncio.run(main())


def test_a_disk_that_hangs_is_told_and_over_once_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        path = tmp_path / "pods.json"
        write(path, pods.pod("one"))
        answers = threading.Event()
        real = os.open
        async with running(source := FilePodSource(path, look_interval=0.05)):
            await until(lambda: source.view.up)

            def hang(*arguments: Any, **options: Any) -> int:
                answers.wait(60)
                return real(*arguments, **options)

            monkeypatch.setattr(watch_module, "LOOK_TIMEOUT", 0.05)
            monkeypatch.setattr(os, "open", hang)
            await until(lambda: not source.view.up)
            await looked(source)
            assert names(source.view) == {"one"}
            monkeypatch.setattr(os, "open", real)
            monkeypatch.setattr(watch_module, "LOOK_TIMEOUT", 20.0)
            answers.set()
            await until(lambda: source.view.up)

    asyncio.run(main())
    errors = [getattr(record, "error", "") for record in caplog.records]
    assert [error for error in errors if error] == [
        f"{tmp_path / 'pods.json'}: the disk does not answer"
    ]


def test_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "later" / "pods.json"
        async with running(source := FilePodSource(path, look_interval=0.05)):
            await looked(source)
            assert (source.view.up, source.view.synced) == (False, None)
            path.parent.mkdir()
            write(path, pods.pod("one"))
            await until(lambda: names(source.view) == {"one"})

    asyncio.run(main())


def test_no_regular_file_holds_it_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        path = tmp_path / "pods.json"
        os.mkfifo(path)
        async with running(FilePodSource(path, look_interval=0.05)) as source:
            await until(lambda: caplog.records)
            path.unlink()
            write(path, pods.pod("one"))
            await until(lambda: names(source.view) == {"one"})

    asyncio.run(main())
    assert "is not a regular file" in getattr(caplog.records[0], "error", "")


def test_a_file_that_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        monkeypatch.setattr(file_module, "MAX_BYTES", 10)
        path = tmp_path / "pods.json"
        write(path, pods.pod("one"))
        async with running(FilePodSource(path)):
            await until(lambda: caplog.records)

    asyncio.run(main())
    assert "has more than 10 bytes" in getattr(caplog.records[0], "error", "")


def test_a_wrong_item_is_lost_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        path = tmp_path / "pods.json"
        write(path, 7, {"kind": "Pod"}, pods.pod("one"))
        async with running(source := FilePodSource(path)):
            await until(lambda: source.view.up)
            assert names(source.view) == {"one"}

    asyncio.run(main())
    assert [getattr(record, "where", "") for record in caplog.records] == ["items[0]", "items[1]"]


def test_without_events_it_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> None:
        raise OSError(24, "Too many open files")

    async def main() -> None:
        monkeypatch.setattr(events_module, "Observer", none_left)
        path = tmp_path / "pods.json"
        write(path, pods.pod("one"))
        async with running(source := FilePodSource(path, look_interval=0.05)):
            await until(lambda: names(source.view) == {"one"})
            write(path, pods.pod("two"))
            await until(lambda: names(source.view) == {"two"})

    asyncio.run(main())
