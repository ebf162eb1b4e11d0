"""Looks at a directory again whenever something in it changed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
)

from vgpumonitor.hang import HangTolerantThread
from vgpumonitor.sources.events import DirectoryEvents

#: Seconds between two looks where no event asks for one.
LOOK_INTERVAL = 30.0
#: Seconds in which events gather before they are looked at: a storm costs few looks.
GATHER = 0.1
#: Seconds that one look may take; a large file takes its time.
LOOK_TIMEOUT = 30.0
#: Seconds that watching may take to end.
STOP_TIMEOUT = 1.0

_KINDS: list[type[FileSystemEvent]] = [
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
]

T = TypeVar("T")


class DirectoryWatch:
    """An asynchronous context manager: ``look``, then ``wait``, again and again. Whatever
    happens from a look's beginning on to an entry that ``concerns`` by its name ends the wait.
    Where events can't be had, or the directory isn't there, every wait is ``interval`` seconds
    long. A disk that hangs holds nobody up, nor the process when it ends."""

    def __init__(
        self,
        directory: Path,
        concerns: Callable[[str], bool],
        interval: float = LOOK_INTERVAL,
    ) -> None:
        self._directory = directory
        self._concerns = concerns
        self._interval = interval
        self._changed = asyncio.Event()
        self._events = DirectoryEvents(directory, _KINDS, self._on_event)

    async def __aenter__(self) -> DirectoryWatch:
        self._loop = asyncio.get_running_loop()
        self._thread = HangTolerantThread("pods")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(TimeoutError):
            await self._thread.within(self._events.stop, STOP_TIMEOUT)

    async def look(self, read: Callable[[], T]) -> T:
        """The result of ``read``, which is called in a thread, or what it raises. Raises
        TimeoutError while the disk hangs."""

        def watch_and_read() -> T:
            self._events.follow()
            return read()

        return await self._thread.within(watch_and_read, LOOK_TIMEOUT)

    async def wait(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), self._interval)
            await asyncio.sleep(GATHER)
        self._changed.clear()

    def _on_event(self, event: FileSystemEvent) -> None:
        """In watchdog's thread."""
        paths = [os.fsdecode(path) for path in (event.src_path, event.dest_path) if path]
        itself = str(self._directory) in paths
        if itself or any(self._concerns(os.path.basename(path)) for path in paths):
            with suppress(RuntimeError):  # The loop ended meanwhile.
                self._loop.call_soon_threadsafe(self._changed.set)


def described(error: OSError | ValueError) -> str:
    """What a look's error says, without the path, which those who log it know."""
    if isinstance(error, TimeoutError):
        return "the disk does not answer"
    return (isinstance(error, OSError) and error.strerror) or str(error)
