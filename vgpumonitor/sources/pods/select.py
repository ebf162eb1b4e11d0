"""Which source ``--pods`` means."""

from __future__ import annotations

import logging
from pathlib import Path

from vgpumonitor.sources.pods.cluster import in_cluster
from vgpumonitor.sources.pods.file import FilePodSource
from vgpumonitor.sources.pods.kubernetes import KubernetesPodSource
from vgpumonitor.sources.pods.model import PodSource
from vgpumonitor.sources.pods.none import NoPodSource
from vgpumonitor.sources.pods.pod_logs import PodLogsSource

log = logging.getLogger(__name__)


def make_pod_source(
    pods: str, node_name: str, kubeconfig: str | None, pod_logs_dir: Path
) -> PodSource:
    """The source that ``pods`` names: auto, kubernetes, pod-logs, none or file:PATH.
    Raises ValueError."""
    if pods == "auto":
        pods = _found(kubeconfig, pod_logs_dir)
        log.info("source of pods", extra={"source": pods})
    if pods == "kubernetes":
        return KubernetesPodSource(node_name, kubeconfig)
    if pods == "pod-logs":
        return PodLogsSource(pod_logs_dir)
    if pods == "none":
        return NoPodSource()
    scheme, _, path = pods.partition(":")
    if scheme == "file" and path:
        return FilePodSource(Path(path), node_name)
    raise ValueError(f"{pods!r} is not auto, kubernetes, pod-logs, none or file:PATH")


def _found(kubeconfig: str | None, pod_logs_dir: Path) -> str:
    if kubeconfig or in_cluster():
        return "kubernetes"
    return "pod-logs" if pod_logs_dir.is_dir() else "none"
