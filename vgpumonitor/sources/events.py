"""Events in a directory, by watchdog: an alarm clock, which may be late and may not ring at all.

So nothing is true because of an event, and without inotify (or its like elsewhere) whoever
listens here looks from time to time and knows no less.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from watchdog.events import DirDeletedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

log = logging.getLogger(__name__)

_LIMITS = {
    errno.ENOSPC: "raise fs.inotify.max_user_watches",
    errno.EMFILE: "raise fs.inotify.max_user_instances",
}


class DirectoryEvents(FileSystemEventHandler):
    """Calls ``on_event``, in a thread of watchdog's, for events of the ``kinds`` in
    ``directory``, not in what is below it. All methods are for one thread, and may hang with
    the directory's disk."""

    def __init__(
        self,
        directory: Path,
        kinds: list[type[FileSystemEvent]],
        on_event: Callable[[FileSystemEvent], None],
    ) -> None:
        """Without FileOpenedEvent and FileClosedNoWriteEvent among the ``kinds`` a look at
        the directory makes no event; DirDeletedEvent has to be one of them."""
        self._directory = directory
        self._kinds = kinds
        self._on_event = on_event
        self._observer: BaseObserver | None = None
        self._watch: ObservedWatch | None = None
        self._watched: tuple[int, int] | None = None
        self._failure: str | None = None

    def follow(self) -> None:
        """Watches what the directory's path means now, which may be another directory than
        before, or none. Never raises."""
        try:
            status = os.stat(self._directory)
        except OSError:
            self._unwatch()
            return
        identity = status.st_dev, status.st_ino
        if identity == self._watched:
            return
        self._unwatch()
        try:
            if self._observer is None:
                observer = Observer()
                observer.start()
                self._observer = observer
            # A link is followed: /var/log/pods may be one.
            self._watch = self._observer.schedule(
                self, str(self._directory), event_filter=self._kinds, follow_symlink=True
            )
        except Exception as error:  # Each of watchdog's systems has errors of its own.
            self._failed(error)
        else:
            self._watched = identity
            self._failure = None

    def stop(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer = None

    def on_any_event(self, event: FileSystemEvent) -> None:
        if isinstance(event, DirDeletedEvent) and event.src_path == str(self._directory):
            # One that is made again may have the same inode, and has no watch.
            self._watched = None
        self._on_event(event)

    def _unwatch(self) -> None:
        if self._observer is not None and self._watch is not None:
            with suppress(KeyError):
                self._observer.unschedule(self._watch)
        self._watch = self._watched = None

    def _failed(self, error: Exception) -> None:
        if str(error) != self._failure:
            self._failure = str(error)
            hint = _LIMITS.get(getattr(error, "errno", None) or 0)
            log.warning(
                "can't watch a directory for events: looking at it from time to time instead",
                extra={
                    "path": str(self._directory),
                    "error": str(error),
                    **({} if hint is None else {"hint": hint}),
                },
            )
