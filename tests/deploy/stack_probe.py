"""Run in a network namespace of its own: starts the stack, and prints as JSON what came of it.

A namespace, since the stack's ports are fixed by its configuration.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

STACK = Path(__file__).parents[2] / "deploy/compose/stack"
DEADLINE = time.monotonic() + 90


def get(path: str) -> Any:
    """The ``data`` of Prometheus' answer, None while there is none."""
    try:
        with urllib.request.urlopen(f"http://localhost:9090/api/v1/{path}", timeout=5) as answer:
            return json.load(answer)["data"]
    except (urllib.error.URLError, ConnectionError):
        return None


def targets() -> dict[str, str]:
    found = get("targets?state=active") or {"activeTargets": []}
    return {target["labels"]["instance"]: target["health"] for target in found["activeTargets"]}


subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
with subprocess.Popen(
    [STACK], env=os.environ | {"PYTHON": sys.executable}, stdout=sys.stderr
) as stack:
    try:
        while (
            stack.poll() is None
            and time.monotonic() < DEADLINE
            and not (len(targets()) == 5 and set(targets().values()) == {"up"})
        ):
            time.sleep(0.5)
        result = {
            "targets": targets(),
            "rule_groups": len((get("rules") or {"groups": []})["groups"]),
            "alertmanagers": [
                manager["url"]
                for manager in (get("alertmanagers") or {"activeAlertmanagers": []})[
                    "activeAlertmanagers"
                ]
            ],
            "nodes": len(
                (get("query?query=group+by+(node)+(vgpu_memory_used_bytes)") or {"result": []})[
                    "result"
                ]
            ),
        }
    finally:
        stack.send_signal(signal.SIGTERM)
    result["status"] = stack.wait(timeout=30)
print(json.dumps(result))
