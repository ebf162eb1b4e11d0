"""The lock file of HAMi's dynamic MIG: while it is there nobody may hold the GPUs open.

A process that does makes the change of a GPU's partitions fail (HAMi #1088). vGPUmonitor shuts
NVML down for as long as the file exists.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from watchdog.events import (
    DirDeletedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
)

from vgpumonitor.sources.events import DirectoryEvents

log = logging.getLogger(__name__)

#: Seconds between two looks where no event asks for one: the file's directory may not exist yet.
LOOK_INTERVAL = 5.0


class LockFile:
    """Calls ``on_change``, in a thread of its own, when the file comes or goes."""

    def __init__(
        self, path: Path, on_change: Callable[[], object], look_interval: float = LOOK_INTERVAL
    ) -> None:
        self.path = path
        self._on_change = on_change
        self._look_interval = look_interval
        self._alarm = threading.Event()
        self._stopping = threading.Event()

    @property
    def exists(self) -> bool:
        """Also False where one can't look, as in a folder that another user alone may enter: all
        figures of the GPUs are worth more than a change of MIG devices that may never come."""
        return self._look() is True

    def _look(self) -> bool | OSError:
        try:
            self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            return error
        return True

    def start(self) -> None:
        threading.Thread(target=self._watch, name="mig-lock", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()
        self._alarm.set()

    def _watch(self) -> None:
        kinds: list[type[FileSystemEvent]] = [
            FileCreatedEvent,
            FileDeletedEvent,
            FileMovedEvent,
            DirDeletedEvent,
        ]
        events = DirectoryEvents(self.path.parent, kinds, lambda _: self._alarm.set())
        existed = refused = False
        while not self._stopping.is_set():
            self._alarm.clear()
            events.follow()
            found = self._look()
            if isinstance(found, OSError) and not refused:
                log.warning(
                    "can't look for the lock file of MIG changes, so none holds NVML off",
                    extra={"path": str(self.path), "error": found.strerror},
                )
            refused = isinstance(found, OSError)
            if (found is True) != existed:
                existed = not existed
                self._on_change()
            self._alarm.wait(self._look_interval)
        events.stop()
