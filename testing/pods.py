"""Pods as `kubectl get pods -A -o json` prints them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

KOORDINATOR = "scheduling.koordinator.sh/device-allocated"
HAMI = "hami.io/vgpu-devices-allocated"


def pod(
    name: str,
    uid: str | None = None,
    *,
    namespace: str = "team-a",
    node: str = "node-1",
    phase: str = "Running",
    annotations: Mapping[str, str] | None = None,
    statuses: Sequence[dict[str, Any]] | None = None,
    init_statuses: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """A pod with the containers that have ``statuses``; without any it has one, ``train``, which
    runs."""
    statuses = [running("train")] if statuses is None else statuses
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "uid": uid or f"uid-of-{name}",
            "name": name,
            "namespace": namespace,
            "annotations": dict(annotations or {}),
        },
        "spec": {
            "nodeName": node,
            "containers": [{"name": status["name"]} for status in statuses],
            "initContainers": [{"name": status["name"]} for status in init_statuses],
        },
        "status": {
            "phase": phase,
            "containerStatuses": list(statuses),
            "initContainerStatuses": list(init_statuses),
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
