from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from testing.resources import Held
from vgpumonitor.sources.pods import watch as watch_module
from vgpumonitor.sources.pods.watch import DirectoryWatch

#: So long that only events can have told.
NEVER = 3600.0


def watches() -> int:
    return Held.by(os.getpid()).watches


def test_one_watch_at_a_time_and_none_at_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        top = tmp_path / "top"
        top.mkdir()
        before = watches()
        async with DirectoryWatch(top, lambda _: True) as watch:

            async def look() -> int:
                return await watch.look(watches)

            assert await look() == before + 1
            top.rename(tmp_path / "elsewhere")
            assert await look() == before
            top.mkdir()
            assert await look() == before + 1
            assert await look() == before + 1
            (tmp_path / "elsewhere").rename(tmp_path / "top2")
            top.rename(tmp_path / "elsewhere")
            (tmp_path / "top2").rename(top)
            assert await look() == before + 1
        assert watches() == before

    asyncio.run(main())


def test_what_ends_a_wait_and_what_does_not(tmp_path: Path) -> None:
    """Neither what happens below the directory, nor that something in it is read, is told; an
    entry that doesn't concern is told and doesn't end the wait."""
    told: list[str] = []

    def concerns(name: str) -> bool:
        told.append(name)
        return name == "x"

    async def main() -> None:
        below = tmp_path / "below"
        below.mkdir()
        async with DirectoryWatch(tmp_path, concerns, NEVER) as watch:
            await watch.look(lambda: None)
            (below / "x").touch()
            (tmp_path / "y").touch()
            (tmp_path / "y").read_bytes()
            (tmp_path / "x").touch()
            async with asyncio.timeout(20):
                await watch.wait()

    asyncio.run(main())
    # Events come in order: made, and closed by who wrote it.
    assert told[:3] == ["y", "y", "x"]


def test_a_link_to_the_directory(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        async with DirectoryWatch(tmp_path / "link", lambda _: True, NEVER) as watch:
            await watch.look(lambda: None)
            (tmp_path / "real" / "x").touch()
            async with asyncio.timeout(20):
                await watch.wait()

    asyncio.run(main())


def test_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        begun, answers = threading.Event(), threading.Event()

        def hang() -> None:
            begun.set()
            answers.wait(60)

        async with DirectoryWatch(tmp_path, lambda _: True) as watch:
            await watch.look(lambda: None)
            monkeypatch.setattr(watch_module, "LOOK_TIMEOUT", 0.01)
            while not begun.is_set():
                with pytest.raises(TimeoutError):
                    await watch.look(hang)
            monkeypatch.setattr(watch_module, "LOOK_TIMEOUT", NEVER)
            with pytest.raises(TimeoutError, match="an earlier call still hangs"):
                await watch.look(lambda: None)
            answers.set()

            async def answered() -> int:
                while True:
                    try:
                        return await watch.look(lambda: 7)
                    except TimeoutError:
                        await asyncio.sleep(0.01)

            assert await asyncio.wait_for(answered(), 20) == 7

    asyncio.run(main())


@pytest.mark.parametrize(
    ("make", "read"),
    [
        ("file.FilePodSource(Path('/pods.json'))", "open"),
        ("pod_logs.PodLogsSource(Path('/pods'))", "scandir"),
    ],
)
def test_a_disk_that_hangs_does_not_keep_the_process_from_ending(make: str, read: str) -> None:
    script = f"""
import asyncio, os, threading
from pathlib import Path
from vgpumonitor.sources.pods import file, pod_logs

hangs = threading.Event()
def hang(*_, **__):
    hangs.set()
    threading.Event().wait()
os.{read} = hang

async def main():
    running = asyncio.create_task({make}.run())
    while not hangs.is_set():
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])

asyncio.run(main())
print("ended")
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)
    assert ended.stdout == b"ended\n", ended.stderr
    assert ended.returncode == 0
