from __future__ import annotations

import asyncio
import os
from pathlib import Path

from testing.resources import Held
from vgpumonitor.sources.pods.watch import DirectoryWatch


def watches() -> int:
    return Held.by(os.getpid()).watches


def test_one_watch_at_a_time_and_none_at_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        top = tmp_path / "top"
        top.mkdir()
        before = watches()
        with DirectoryWatch(top, lambda _: True) as watch:
            watch.arm()
            assert watches() == before + 1
            top.rename(tmp_path / "elsewhere")
            watch.arm()
            assert watches() == before
            top.mkdir()
            watch.arm()
            watch.arm()
            assert watches() == before + 1
            (tmp_path / "elsewhere").rename(tmp_path / "top2")
            top.rename(tmp_path / "elsewhere")
            (tmp_path / "top2").rename(top)
            watch.arm()
            assert watches() == before + 1
        assert watches() == before

    asyncio.run(main())
