from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from testing.apiserver import pod_object
from tests.sources.pods.waiting import names, running, until
from vgpumonitor.sources.pods import file as file_module
from vgpumonitor.sources.pods import watch
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
        write(path, pod_object("one"), pod_object("two"))
        async with running(source := FilePodSource(path, look_interval=NEVER)):
            await until(lambda: names(source.view) == {"one", "two"})
            assert source.view.up
            assert source.view.synced is not None
            write(path, pod_object("two"), pod_object("three"))
            await until(lambda: names(source.view) == {"two", "three"})
            assert set(source.view.deleted) == {"uid-of-one"}
            # Written in place.
            path.write_text(json.dumps(pod_object("alone")))
            await until(lambda: names(source.view) == {"alone"})

    asyncio.run(main())


def test_pods_of_one_node(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "pods.json"
        unbound = pod_object("unbound")
        del unbound["spec"]["nodeName"]
        write(path, pod_object("here"), pod_object("there", node="node-b"), unbound)
        async with (
            running(one := FilePodSource(path, "node-a")),
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
        write(tmp_path / version / "pods.json", pod_object(pod))
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
        write(path, pod_object("one"))
        async with running(source := FilePodSource(path, look_interval=0.05)):
            await until(lambda: source.view.up)
            if broken is None:
                path.unlink()
            else:
                path.write_text(broken)
            await until(lambda: not source.view.up)
            synced = source.view.synced
            await asyncio.sleep(0.5)
            assert names(source.view) == {"one"}
            assert source.view.synced == synced
            write(path, pod_object("two"))
            await until(lambda: source.view.up)
            assert names(source.view) == {"two"}

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    # Once, although it was looked at many times.
    (record,) = [record for record in caplog.records if record.name.endswith("table")]
    assert str(tmp_path / "pods.json") in getattr(record, "error", "")


def test_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "later" / "pods.json"
        async with running(source := FilePodSource(path, look_interval=0.05)):
            await asyncio.sleep(0.2)
            assert (source.view.up, source.view.synced) == (False, None)
            path.parent.mkdir()
            write(path, pod_object("one"))
            await until(lambda: names(source.view) == {"one"})

    asyncio.run(main())


def test_no_regular_file_holds_it_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        path = tmp_path / "pods.json"
        os.mkfifo(path)
        async with running(FilePodSource(path, look_interval=0.05)) as source:
            await until(lambda: caplog.records)
            path.unlink()
            write(path, pod_object("one"))
            await until(lambda: names(source.view) == {"one"})

    asyncio.run(main())
    assert "is not a regular file" in getattr(caplog.records[0], "error", "")


def test_a_file_that_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        monkeypatch.setattr(file_module, "MAX_BYTES", 10)
        path = tmp_path / "pods.json"
        write(path, pod_object("one"))
        async with running(FilePodSource(path)):
            await until(lambda: caplog.records)

    asyncio.run(main())
    assert "has more than 10 bytes" in getattr(caplog.records[0], "error", "")


def test_a_wrong_item_is_lost_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        path = tmp_path / "pods.json"
        write(path, 7, {"kind": "Pod"}, pod_object("one"))
        async with running(source := FilePodSource(path)):
            await until(lambda: source.view.up)
            assert names(source.view) == {"one"}

    asyncio.run(main())
    assert [getattr(record, "where", "") for record in caplog.records] == ["items[0]", "items[1]"]


def test_without_inotify_it_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> None:
        raise OSError(24, "Too many open files")

    async def main() -> None:
        monkeypatch.setattr(watch, "INotify", none_left)
        path = tmp_path / "pods.json"
        write(path, pod_object("one"))
        async with running(source := FilePodSource(path, look_interval=0.05)):
            await until(lambda: names(source.view) == {"one"})
            write(path, pod_object("two"))
            await until(lambda: names(source.view) == {"two"})

    asyncio.run(main())
