"""Which source ``--pods`` means."""

from __future__ import annotations

import logging
from pathlib import Path

from vgpumonitor.sources.pods.file import FilePodSource
from vgpumonitor.sources.pods.kubernetes import KubernetesPodSource, in_cluster
from vgpumonitor.sources.pods.model import PodSource
from vgpumonitor.sources.pods.none import NoPodSource
from vgpumonitor.sources.pods.pod_logs import PodLogsSource

log = logging.getLogger(__name__)


def parse_pods(text: str) -> tuple[str, Path | None]:
    """The name of a source, and for ``file:PATH`` the path. Raises ValueError."""
    if text in ("auto", "kubernetes", "pod-logs", "none"):
        return text, None
    name, _, path = text.partition(":")
    if name == "file" and path:
        return name, Path(path)
    raise ValueError(
        f"unknown pod source {text!r}: expected auto, kubernetes, pod-logs, file:PATH or none"
    )


def make_pod_source(
    pods: str, node_name: str, kubeconfig: str | None, pod_logs_dir: Path
) -> PodSource:
    """The source that ``pods`` names, as ``parse_pods`` takes it. Raises ValueError."""
    name, path = parse_pods(pods)
    if name == "auto":
        name = _found(kubeconfig, pod_logs_dir)
        log.info("pod source chosen", extra={"source": name})
    if path is not None:
        return FilePodSource(path, node_name)
    if name == "kubernetes":
        return KubernetesPodSource(node_name, kubeconfig)
    if name == "pod-logs":
        return PodLogsSource(pod_logs_dir)
    return NoPodSource()


def _found(kubeconfig: str | None, pod_logs_dir: Path) -> str:
    if kubeconfig or in_cluster():
        return "kubernetes"
    return "pod-logs" if pod_logs_dir.is_dir() else "none"
