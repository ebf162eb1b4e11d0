"""Pods as `kubectl get pods -A -o json` prints them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

KOORDINATOR = "scheduling.koordinator.sh/device-allocated"
HAMI = "hami.io/vgpu-devices-allocated"


def pod(
    uid: str,
    name: str,
    namespace: str = "team-a",
    phase: str = "Running",
    annotations: dict[str, str] | None = None,
    statuses: list[dict[str, Any]] | None = None,
    init_statuses: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    containers = [status["name"] for status in statuses or []] or ["train"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "uid": uid,
            "name": name,
            "namespace": namespace,
            "annotations": annotations or {},
        },
        "spec": {
            "nodeName": "node-1",
            "containers": [{"name": container} for container in containers],
            "initContainers": [{"name": status["name"]} for status in init_statuses or []],
        },
        "status": {
            "phase": phase,
            "containerStatuses": statuses or [],
            "initContainerStatuses": init_statuses or [],
        },
    }


def running(name: str) -> dict[str, Any]:
    return {"name": name, "state": {"running": {"startedAt": "2026-11-24T10:00:00Z"}}}


def terminated(name: str, finished_at: str = "2099-01-01T00:00:00Z") -> dict[str, Any]:
    """A finished container; by default no directory can be newer than its end."""
    return {"name": name, "state": {"terminated": {"exitCode": 0, "finishedAt": finished_at}}}


def koordinator(minor: int, memory: str, core: int) -> dict[str, str]:
    resources = {
        "koordinator.sh/gpu-core": str(core),
        "koordinator.sh/gpu-memory": memory,
        "koordinator.sh/gpu-memory-ratio": "50",
    }
    return {KOORDINATOR: json.dumps({"gpu": [{"minor": minor, "resources": resources}]})}


def write(path: Path, *pods: dict[str, Any]) -> Path:
    """A PodList, put in place as a whole."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"apiVersion": "v1", "kind": "PodList", "items": list(pods)}))
    new.replace(path)
    return path
