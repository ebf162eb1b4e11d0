"""One directory's events, for sources that look at it when something happened."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from inotify_simple import INotify, flags

log = logging.getLogger(__name__)

#: Seconds between two looks where no event asks for one.
LOOK_INTERVAL = 30.0
#: Seconds in which events gather before they are looked at: a storm costs few looks.
GATHER = 0.1

_MASK = (
    flags.CREATE
    | flags.DELETE
    | flags.MOVED_FROM
    | flags.MOVED_TO
    | flags.CLOSE_WRITE
    | flags.DELETE_SELF
    | flags.MOVE_SELF
    | flags.ONLYDIR
)
_UNSURE = flags.Q_OVERFLOW | flags.IGNORED | flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT


class DirectoryWatch:
    """A context manager within a running event loop. ``arm`` before a look, ``wait`` after
    it: whatever happens from ``arm`` on ends the wait. Where inotify has nothing left, or
    the directory isn't there, every wait is ``interval`` seconds long."""

    def __init__(
        self, directory: Path, concerns: Callable[[str], bool], interval: float = LOOK_INTERVAL
    ) -> None:
        self._directory = directory
        self._concerns = concerns
        self._interval = interval
        self._event = asyncio.Event()
        self._inotify: INotify | None = None
        self._wd: int | None = None
        self._failure: str | None = None

    def __enter__(self) -> DirectoryWatch:
        try:
            self._inotify = INotify()
        except OSError as error:
            self._failed(error)
        else:
            asyncio.get_running_loop().add_reader(self._inotify.fileno(), self._drain)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fileno())
            self._inotify.close()

    def arm(self) -> None:
        """Watches what the directory's path means now, which may be another directory than
        before."""
        if self._inotify is None:
            return
        try:
            wd = self._inotify.add_watch(self._directory, _MASK)
        except OSError as error:
            self._failed(error)
            wd = None
        else:
            self._failure = None
        if self._wd is not None and self._wd != wd:
            with suppress(OSError):
                self._inotify.rm_watch(self._wd)
        self._wd = wd

    async def wait(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), self._interval)
            await asyncio.sleep(GATHER)
        self._event.clear()

    def _drain(self) -> None:
        assert self._inotify is not None
        for event in self._inotify.read(timeout=0):
            if event.mask & _UNSURE:
                if event.wd == self._wd:
                    self._event.set()
            elif self._concerns(event.name):
                self._event.set()

    def _failed(self, error: OSError) -> None:
        message = error.strerror or str(error)
        if message != self._failure:
            log.info(
                "not watched: looked at from time to time",
                extra={"path": str(self._directory), "error": message},
            )
            self._failure = message
