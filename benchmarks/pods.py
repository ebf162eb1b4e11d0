"""What each pod source costs: start, memory, and the first sync of many pods."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.node import simulated
from benchmarks.table import Row
from testing.apiserver import ApiServer, kubeconfig, pod_object
from testing.exporter import running
from testing.resources import MIB, Held

#: Bytes that a real pod has beyond what the exporter keeps (env, volumes, managed fields).
_BALLAST = 7000


def rows(containers: int = 100, many: int = 5000) -> list[Row]:
    found: list[Row] = []
    with simulated(containers) as node:
        pods = json.loads(node.pods_file.read_text())["items"]
        with _api_server(pods) as url:
            config = kubeconfig(node.directory / "kubeconfig", url)
            sources = (
                ("--pods=none",),
                (f"--pods=file:{node.pods_file}",),
                ("--pods=pod-logs", f"--pod-logs-dir={node.pod_logs_dir}"),
                ("--pods=kubernetes", f"--kubeconfig={config}"),
            )
            found += [
                _row(node.containers_dir, node.node_name, containers, flags) for flags in sources
            ]
        ballast = {"benchmark": "x" * _BALLAST}
        objects = [
            pod_object(
                f"pod-{number}",
                f"0c9a5f0e-52ad-4a8e-9b86-{number:012x}",
                node=node.node_name,
                annotations=ballast,
            )
            for number in range(many)
        ]
        with _api_server(objects) as url:
            config = kubeconfig(node.directory / "kubeconfig", url)
            flags = ("--pods=kubernetes", f"--kubeconfig={config}")
            found.append(_row(node.containers_dir, node.node_name, containers, flags, many))
    return found


def _row(
    containers_dir: Path, node_name: str, containers: int, flags: tuple[str, ...], pods: int = 0
) -> Row:
    began = time.perf_counter()
    with running(
        "serve",
        f"--containers-dir={containers_dir}",
        f"--node-name={node_name}",
        "--nvml=off",
        "--process-liveness=off",
        *flags,
    ) as exporter:
        exporter.get("/metrics")
        first = time.perf_counter() - began
        while exporter.status("/readyz")[0] != 200:
            time.sleep(0.01)
        synced = time.perf_counter() - began
        for _ in range(10):
            exporter.get("/metrics")
        resident = Held.by(exporter.process.pid).memory / MIB
    source = flags[0].partition("=")[2].partition(":")[0]
    what = f"{source}, {pods} pods" if pods else source
    return Row(
        f"resident with {containers} containers, pods from {what}",
        f"{resident:.1f} MiB",
        f"start to first scrape {first:.2f} s, to synced {synced:.2f} s",
    )


@contextmanager
def _api_server(objects: list[dict[str, Any]]) -> Iterator[str]:
    """Runs an API server with ``objects`` in a thread; gives its URL."""
    started: list[str] = []
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with ApiServer() as server:
            for pod in objects:
                server.put(pod)
            started.append(server.url)
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait()
    try:
        yield started[0]
    finally:
        stop.set()
        thread.join()
