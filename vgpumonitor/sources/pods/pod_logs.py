"""Pods from the names of kubelet's log directories, which need no API access.

``<namespace>_<name>_<uid>/<container>``; neither a namespace nor a pod's name can have a
``_``. The source is kubelet's ``BuildPodLogsDirectory``. Beside them, in ``containers``, kubelet
makes a link to each container's log, whose name ends with the container's ID
(``legacyLogSymlink``): ``<name>_<namespace>_<container>-<id>.log`` leads to
``<namespace>_<name>_<uid>/<container>/<restarts>.log``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections import defaultdict
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from pathlib import Path

from vgpumonitor.sources.pods.model import Pod, PodContainer, PodsView
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
#: The end of a link's name, and of what it leads to. Kubelet cuts names of more than 255 bytes.
_LINK = re.compile(r"-([0-9a-f]{64})\.log$")
_LOG = re.compile(r"(?:.*/)?([^/]+)/([^/]+)/([0-9]+)\.log")


def parse_directory(name: str) -> Pod | None:
    """The pod that a log directory is of; None where the name is of another form."""
    match = _NAME.fullmatch(name)
    return Pod(uid=match[3], namespace=match[1], name=match[2]) if match else None


class PodLogsSource:
    """Names and containers' IDs: neither phases nor allocations are known, and whether a container
    finished only its processes tell."""

    name = "pod-logs"

    def __init__(self, directory: Path, look_interval: float = LOOK_INTERVAL) -> None:
        self._directory = directory
        self._links = directory.with_name("containers")
        self._look_interval = look_interval
        self._table = PodStore(self.name)
        self._ignored: set[str] = set()

    @property
    def view(self) -> PodsView:
        return self._table.view

    async def run(self) -> None:
        async with (
            DirectoryWatch(self._directory, lambda _: True, self._look_interval) as watch,
            DirectoryWatch(
                self._links, lambda name: name.endswith(".log"), self._look_interval
            ) as links,
        ):
            while True:
                await self._look(watch, links)
                await _first(watch.wait(), links.wait())

    async def _look(self, watch: DirectoryWatch, links: DirectoryWatch) -> None:
        began = time.time()
        try:
            names = await watch.look(self._directories)
        except OSError as error:
            self._table.mark_stale(f"{self._directory}: {described(error)}")
            return
        try:
            ids = await links.look(self._ids)
        except OSError:
            ids = {}  # Names are what was asked for.
        pods = {name: parse_directory(name) for name in names}
        self._ignore({name for name, pod in pods.items() if pod is None})
        self._table.replace(
            PodReading(replace(pod, containers=ids.get(name, {})))
            for name, pod in pods.items()
            if pod is not None
        )
        self._table.mark_synced(as_of=began)

    def _ids(self) -> Mapping[str, Mapping[str, PodContainer]]:
        """By the pod's log directory and the container's name: of several links to one container,
        that to its last start."""
        newest: defaultdict[str, dict[str, tuple[int, str]]] = defaultdict(dict)
        with os.scandir(self._links) as entries:
            for entry in entries:
                if (link := _LINK.search(entry.name)) is None:
                    continue
                try:
                    target = os.readlink(entry.path)
                except OSError:
                    continue
                if (log_file := _LOG.fullmatch(target)) is None:
                    continue
                pod, container, start = log_file[1], log_file[2], (int(log_file[3]), link[1])
                newest[pod][container] = max(newest[pod].get(container, start), start)
        return {
            pod: {name: PodContainer(name, None, None, frozenset((id_,))) for name, (_, id_) in of}
            for pod, of in ((pod, containers.items()) for pod, containers in newest.items())
        }

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


async def _first(*waits: Awaitable[None]) -> None:
    """Until one of ``waits`` has ended."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
