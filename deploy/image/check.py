"""Runs inside the built image: its demo serves one scrape, parsed by prometheus-client."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families


def scrape(url: str, process: subprocess.Popen[bytes], deadline: float) -> str:
    """The body at ``url``, as soon as the process answers."""
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"the demo ended with status {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    sys.exit(f"nothing answered at {url}")


with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{probe.getsockname()[1]}"
# As `kubectl exec` calls it: by its name, without a shell.
demo = subprocess.Popen(["vgpumonitor", "demo", "--listen-address", address])
try:
    deadline = time.monotonic() + 60
    scrape(f"http://{address}/healthz", demo, deadline)
    families = {
        family.name: len(family.samples)
        for family in text_string_to_metric_families(
            scrape(f"http://{address}/metrics", demo, deadline)
        )
    }
finally:
    demo.terminate()
    demo.wait(timeout=30)
# As `kubectl exec` calls it: by its name, without a shell.
doctor = subprocess.run(
    ["vgpumonitor", "doctor", "--json"], stdout=subprocess.PIPE, timeout=60, check=False
)
if doctor.returncode not in (0, 1, 2) or "findings" not in json.loads(doctor.stdout):
    sys.exit(f"vgpumonitor doctor ended with status {doctor.returncode}")
if not families.get("vGPU_device_memory_usage_in_bytes"):
    sys.exit(f"the demo's scrape has no container: {sorted(families)}")
print(f"the image's demo serves {sum(families.values())} samples of {len(families)} families")
