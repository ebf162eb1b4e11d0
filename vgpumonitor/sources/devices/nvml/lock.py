"""The lock file of HAMi's dynamic MIG: while it is there nobody may hold the GPUs open.

A process that does makes the change of a GPU's partitions fail (HAMi #1088). vGPUmonitor shuts
NVML down for as long as the file exists.
"""

from __future__ import annotations

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
        return self.path.exists()

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
        existed = False
        while not self._stopping.is_set():
            self._alarm.clear()
            events.follow()
            if self.exists != existed:
                existed = not existed
                self._on_change()
            self._alarm.wait(self._look_interval)
        events.stop()
