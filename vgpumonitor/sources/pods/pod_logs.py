"""Pods from the names of kubelet's log directories, which need no API access.

``<namespace>_<name>_<uid>/<container>``; neither a namespace nor a pod's name can have a
``_``. The source is kubelet's ``BuildPodLogsDirectory``.
"""

from __future__ import annotations

import logging
import os
import re
import time
from pathlib import Path

from vgpumonitor.sources.pods.model import Pod, PodsView
from vgpumonitor.sources.pods.objects import PodReading
from vgpumonitor.sources.pods.store import PodStore
from vgpumonitor.sources.pods.watch import LOOK_INTERVAL, DirectoryWatch, described

log = logging.getLogger(__name__)

#: Of a DNS subdomain, whose parts Kubernetes does not limit to 63 characters.
_PART = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_NAME = re.compile(
    r"([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)"
    rf"_(?=[^_]{{1,253}}_)({_PART}(?:\.{_PART})*)"
    r"_([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32})"
)


def parse_directory(name: str) -> Pod | None:
    """The pod that a log directory is of; None where the name is of another form."""
    match = _NAME.fullmatch(name)
    return Pod(uid=match[3], namespace=match[1], name=match[2]) if match else None


class PodLogsSource:
    """Names only: neither phases nor containers nor allocations are known."""

    name = "pod-logs"

    def __init__(self, directory: Path, look_interval: float = LOOK_INTERVAL) -> None:
        self._directory = directory
        self._look_interval = look_interval
        self._table = PodStore(self.name)
        self._ignored: set[str] = set()

    @property
    def view(self) -> PodsView:
        return self._table.view

    async def run(self) -> None:
        async with DirectoryWatch(self._directory, lambda _: True, self._look_interval) as watch:
            while True:
                await self._look(watch)
                await watch.wait()

    async def _look(self, watch: DirectoryWatch) -> None:
        began = time.time()
        try:
            names = await watch.look(self._directories)
        except OSError as error:
            self._table.mark_stale(f"{self._directory}: {described(error)}")
            return
        pods = {name: parse_directory(name) for name in names}
        self._ignore({name for name, pod in pods.items() if pod is None})
        self._table.replace(PodReading(pod) for pod in pods.values() if pod is not None)
        self._table.mark_synced(as_of=began)

    def _directories(self) -> list[str]:
        with os.scandir(self._directory) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]

    def _ignore(self, names: set[str]) -> None:
        for name in names - self._ignored:
            log.warning(
                "log directory ignored: its name is not <namespace>_<name>_<uid>",
                extra={"path": str(self._directory), "entry": name},
            )
        self._ignored = names
