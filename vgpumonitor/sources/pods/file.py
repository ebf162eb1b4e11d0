"""Pods from a file: what ``kubectl get pods -A -o json`` prints."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import NamedTuple

from vgpumonitor.sources.pods.model import PodsView
from vgpumonitor.sources.pods.objects import (
    PodReading,
    decode,
    node_of,
    pod_from_object,
    split_list,
)
from vgpumonitor.sources.pods.store import PodStore
from vgpumonitor.sources.pods.watch import LOOK_INTERVAL, DirectoryWatch, described

log = logging.getLogger(__name__)

#: A larger file is not read.
MAX_BYTES = 256 * 1024 * 1024


class _Stamp(NamedTuple):
    """What tells that a file changed."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class FilePodSource:
    """The file is read again whenever it changed; while it can't be, its last pods stay.
    ``view.synced`` is the file's mtime: the list is as old as the file.

    With ``node_name`` only the pods that are bound to that node count: a pod without a node
    is on none yet.
    """

    name = "file"

    def __init__(
        self, path: Path, node_name: str | None = None, look_interval: float = LOOK_INTERVAL
    ) -> None:
        self._path = path
        self._node_name = node_name
        self._look_interval = look_interval
        self._table = PodStore(self.name, node_name)
        self._stamp: _Stamp | None = None

    @property
    def view(self) -> PodsView:
        return self._table.view

    async def run(self) -> None:
        async with DirectoryWatch(self._path.parent, self._concerns, self._look_interval) as watch:
            while True:
                await self._look(watch)
                await watch.wait()

    def _concerns(self, name: str) -> bool:
        # A ConfigMap's files are links through "..data", which is what kubelet replaces.
        return name == self._path.name or name.startswith("..")

    async def _look(self, watch: DirectoryWatch) -> None:
        try:
            stamp, readings = await watch.look(self._read)
        except (OSError, ValueError) as error:
            self._table.mark_stale(f"{self._path}: {described(error)}")
            return
        if readings is not None:
            self._table.replace(readings)
            self._stamp = stamp
        # The file knows no pod that came after it was written, however often it is read.
        self._table.mark_synced(as_of=stamp.mtime_ns / 1e9)

    def _read(self) -> tuple[_Stamp, list[PodReading] | None]:
        """The pods; None where the file is as it was. Raises OSError and ValueError."""
        # A pipe in the file's place must not hold the thread.
        with open(os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            stamp = _Stamp(
                status.st_dev,
                status.st_ino,
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
            )
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("is not a regular file")
            if stamp == self._stamp:
                return stamp, None
            document = file.read(MAX_BYTES + 1)
        if len(document) > MAX_BYTES:
            raise ValueError(f"has more than {MAX_BYTES} bytes")
        return stamp, list(self._readings(document))

    def _readings(self, document: bytes) -> list[PodReading]:
        readings = []
        for place, item in enumerate(split_list(document).items):
            try:
                pod = decode(item)
                if self._node_name is None or node_of(pod) == self._node_name:
                    readings.append(PodReading(*pod_from_object(pod)))
            except ValueError as error:
                log.warning(
                    "pod of the file ignored",
                    extra={
                        "path": str(self._path),
                        "where": f"items[{place}]",
                        "error": str(error),
                    },
                )
        return readings
