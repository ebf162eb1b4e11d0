"""What ``serve`` can be told: each flag with its default, its allowed values and its help."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vgpumonitor.metrics.sets import families_for
from vgpumonitor.options import Parsed, duration, flag
from vgpumonitor.sources.pods.registry import parse_pods, pods_help


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on; ``host`` is None for all."""

    host: str | None
    port: int

    def __str__(self) -> str:
        host = self.host or ""
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


def parse_address(text: str) -> Address:
    """``HOST:PORT``, ``:PORT`` or ``[IPv6]:PORT``. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"invalid address {text!r}: expected HOST:PORT")
    if ":" in host and not bracketed:
        raise ValueError(f"invalid address {text!r}: expected an IPv6 address in brackets")
    return Address((host[1:-1] if bracketed else host) or None, int(port))


def _metrics(text: str) -> str:
    families_for(text)
    return text


def _pods(text: str) -> str:
    parse_pods(text)
    return text


def _pod_labels(text: str) -> str:
    families_for("vgpu", pod_labels=text)
    return text


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``serve`` was told. Durations are in seconds."""

    listen_address: tuple[Address, ...] = flag(
        (Address(None, 9394),),
        "Address to listen on: HOST:PORT, with IPv6 in brackets; repeatable.",
        type=Parsed("HOST:PORT", parse_address),
        names=("--metrics-bind-address",),
    )
    hook_path: Path = flag(
        Path("/usr/local/vgpu"),
        "HAMi-core's directory on the host; the containers directory is `containers` in it.",
        variables=("HOOK_PATH",),
    )
    containers_dir: Path | None = flag(
        None,
        "The containers directory, if it is not under --hook-path.",
        variables=("HAMI_VGPU_CACHE_ROOT",),
    )
    node_name: str = flag(
        socket.gethostname(),
        "Name of this node.",
        variables=("NODE_NAME",),
        default_shown="the host's name",
    )
    metrics: str = flag(
        "documented,vgpu",
        "Sets of metric families, separated by commas: documented, hami, vgpu, all; "
        "-memory-desc leaves out Device_memory_desc_of_container.",
        type=Parsed("SETS", _metrics),
    )
    pods: str = flag(
        "auto",
        pods_help(),
        type=Parsed("SOURCE", _pods),
    )
    kubeconfig: str | None = flag(
        None,
        "Kubeconfig file.",
        variables=("KUBECONFIG",),
        default_shown="the pod's service account",
    )
    pod_labels: str = flag(
        "",
        "Labels of pods that vgpu_pod_info has as label_…, separated by commas.",
        type=Parsed("NAMES", _pod_labels),
        default_shown="none",
    )
    pod_logs_dir: Path = flag(Path("/var/log/pods"), "Kubelet's directory of pod logs.")
    nvml: Literal["auto", "off"] = flag(
        "auto", "Ask NVML about the GPUs; auto goes on without a driver, and tries again."
    )
    mig_lock_file: Path = flag(
        Path("/tmp/hami/hami-mig-apply.lock"),
        "NVML is released while this file is there: HAMi then changes MIG devices.",
    )
    procfs: Path = flag(Path("/proc"), "Where to look for the host's processes.")
    process_liveness: Literal["auto", "on", "off"] = flag(
        "auto",
        "Leave out processes that no longer exist; auto does so where the host's PIDs are visible.",
    )
    process_metrics: bool = flag(False, "Also serve series for each process.")
    feedback: bool = flag(
        False, "Block launches of lower priorities and lift core limits, as vGPUmonitor does."
    )
    feedback_release_after: float = flag(
        60.0,
        "Release blocked containers after part of the node was unreadable for this long.",
        type=duration(),
    )
    gc: bool = flag(False, "Remove the directories of pods that are gone.")
    gc_grace: float = flag(
        300.0,
        "How long a pod must have been gone, and its directory unchanged, before the directory is "
        "removed.",
        type=duration(),
        variables=("HAMI_RESYNC_INTERVAL",),
        variables_may_be_wrong=True,
    )
    dry_run: bool = flag(False, "Feedback and clean-up only log what they would do.")
    web_config_file: Path | None = flag(
        None, "TLS and basic auth, in the file format of Prometheus's exporter-toolkit."
    )
    log_level: Literal["debug", "info", "warning", "error"] = flag("info", "Lowest level to log.")
    log_format: Literal["logfmt", "json"] = flag("logfmt", "Format of the log on standard error.")

    @property
    def containers(self) -> Path:
        """The containers directory."""
        return self.containers_dir or self.hook_path / "containers"
