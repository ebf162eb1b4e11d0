"""Every pod source there is, and which of them ``--pods`` names.

A new source is a module with a class that fulfils ``PodSource``, and a line of ``SOURCES``.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from vgpumonitor.sources.pods.cluster import in_cluster
from vgpumonitor.sources.pods.file import FilePodSource
from vgpumonitor.sources.pods.kubernetes import KubernetesPodSource
from vgpumonitor.sources.pods.model import PodSource, PodsView
from vgpumonitor.sources.pods.none import NoPodSource
from vgpumonitor.sources.pods.pod_logs import PodLogsSource

log = logging.getLogger(__name__)

AUTO = "auto"

#: Seconds after which a source that failed in a way that it doesn't know runs again.
RESTART_DELAY = 5.0


@dataclass(frozen=True, slots=True)
class PodSourceOptions:
    """What the flags of ``serve`` say to pod sources. ``argument`` is what follows the colon
    in ``--pods``; ``kubeconfig`` None is the pod's service account."""

    node_name: str
    kubeconfig: str | None
    pod_logs_dir: Path
    argument: str = ""


@dataclass(frozen=True, slots=True)
class PodSourceType:
    """``argument`` is the name, in help texts, of what has to follow the source's own name
    and a colon; empty where nothing may. ``is_there`` says whether ``auto`` takes it."""

    help: str
    make: Callable[[PodSourceOptions], PodSource]
    argument: str = ""
    is_there: Callable[[PodSourceOptions], bool] = lambda _: False


#: By the word that ``--pods`` takes; ``auto`` is the first that is there.
SOURCES: dict[str, PodSourceType] = {
    "kubernetes": PodSourceType(
        "the Kubernetes API",
        lambda options: KubernetesPodSource(options.node_name, options.kubeconfig),
        is_there=lambda options: bool(options.kubeconfig) or in_cluster(),
    ),
    "pod-logs": PodSourceType(
        "the names in --pod-logs-dir",
        lambda options: PodLogsSource(options.pod_logs_dir),
        # pathlib's is_dir raises where one may not look.
        is_there=lambda options: os.path.isdir(options.pod_logs_dir),
    ),
    "file": PodSourceType(
        "what `kubectl get pods -A -o json` printed",
        lambda options: FilePodSource(Path(options.argument), options.node_name),
        argument="PATH",
    ),
    "none": PodSourceType("no pods", lambda _: NoPodSource(), is_there=lambda _: True),
}


def _form(name: str) -> str:
    argument = SOURCES[name].argument
    return f"{name}:{argument}" if argument else name


def pods_help() -> str:
    """What ``--pods`` takes, for its help text."""
    listed = "; ".join(f"{_form(name)}, {source.help}" for name, source in SOURCES.items())
    return f"Where pods are known from: {listed}; or {AUTO}, the first that is there."


def parse_pods(text: str) -> tuple[str, str]:
    """The name of a source, or ``auto``, and its argument in a value of ``--pods``. Raises
    ValueError."""
    if text == AUTO:
        return AUTO, ""
    name, colon, argument = text.partition(":")
    source = SOURCES.get(name)
    if source is None or (colon and not source.argument):
        *forms, last = AUTO, *map(_form, SOURCES)
        raise ValueError(f"unknown pod source {text!r}: expected {', '.join(forms)} or {last}")
    if source.argument and not argument:
        raise ValueError(
            f"pod source {text!r} lacks its {source.argument.lower()}: expected {_form(name)}"
        )
    return name, argument


def make_pod_source(text: str, options: PodSourceOptions) -> PodSource:
    """The source that ``text``, a value of ``--pods``, names. It outlives whatever goes wrong
    in it. Raises ValueError as ``parse_pods``."""
    name, argument = parse_pods(text)
    if name == AUTO:
        name = next(name for name, source in SOURCES.items() if source.is_there(options))
        log.info("pod source chosen", extra={"source": name})
    return RestartedPodSource(SOURCES[name].make(replace(options, argument=argument)))


class RestartedPodSource:
    """``source``, run again whenever it ends with an error that it didn't expect, which must
    not end the exporter. Until it knows more it is down, and its last pods stay."""

    def __init__(self, source: PodSource, delay: float = RESTART_DELAY) -> None:
        self.name = source.name
        self._source = source
        self._delay = delay
        self._view_at_failure: PodsView | None = None

    @property
    def view(self) -> PodsView:
        view = self._source.view
        return replace(view, up=False) if view is self._view_at_failure else view

    async def run(self) -> None:
        while True:
            try:
                await self._source.run()
            except Exception:
                log.exception(
                    "pod source failed unexpectedly and starts again",
                    extra={"source": self.name, "seconds": self._delay},
                )
                self._view_at_failure = self._source.view
            await asyncio.sleep(self._delay)
