from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from vgpumonitor.sources.pods.watch import DirectoryWatch


def watches() -> int:
    """The inotify watches of this process."""
    count = 0
    for info in Path("/proc/self/fdinfo").iterdir():
        with suppress(FileNotFoundError):  # The descriptor of this very listing.
            count += info.read_text().count("inotify wd:")
    return count


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
