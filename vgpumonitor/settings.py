"""The flags of ``serve`` as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
        raise ValueError(f"{text!r} is not HOST:PORT")
    if ":" in host and not bracketed:
        raise ValueError(f"{text!r} is not HOST:PORT: an IPv6 address goes in brackets")
    return Address((host[1:-1] if bracketed else host) or None, int(port))


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``serve`` was asked to do. Times are in seconds. ``pods`` is auto, kubernetes,
    pod-logs, none or file:PATH; ``nvml`` is auto or off; ``process_liveness`` auto, on or off."""

    listen: tuple[Address, ...]
    containers_dir: Path
    node_name: str
    metrics: str = "documented,vgpu"
    pods: str = "auto"
    kubeconfig: str | None = None
    pod_logs_dir: Path = Path("/var/log/pods")
    nvml: str = "auto"
    procfs: Path = Path("/proc")
    process_liveness: str = "auto"
    process_metrics: bool = False
    feedback: bool = False
    feedback_release_after: float = 60.0
    gc: bool = False
    gc_grace: float = 300.0
    dry_run: bool = False
    web_config_file: Path | None = None
