"""What each pod source costs: start, memory, and the first sync of many pods."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.node import simulated
from benchmarks.table import Row
from testing.apiserver import ApiServer, kubeconfig, make_certificate, server_tls
from testing.exporter import image_variables, running
from testing.pods import pod
from testing.resources import Held
from testing.values import MIB
from vgpumonitor.simulate.node import SimulatedNode

#: Bytes that a real pod has beyond what the exporter keeps (env, volumes, managed fields).
_BALLAST = 7000


def rows(containers: int = 100, many: int = 500) -> list[Row]:
    with simulated(containers) as node:
        pods = json.loads(node.pods_file.read_text())["items"]
        found = [
            _row(node, "no pod source", "--pods=none"),
            _row(node, "pods from a file", f"--pods=file:{node.pods_file}"),
            _row(
                node,
                "pods from kubelet's logs",
                "--pods=pod-logs",
                f"--pod-logs-dir={node.pod_logs_dir}",
            ),
        ]
        with _api_server(pods) as account:
            found += [
                _in_cluster(node, account, f"pods from Kubernetes, {metrics}", metrics)
                for metrics in ("documented,vgpu", "all")
            ]
            config = kubeconfig(
                account / "kubeconfig",
                (account / "url").read_text(),
                {"certificate-authority": "ca.crt"},
                tokenFile="token",
            )
            found.append(
                _row(
                    node,
                    "pods from Kubernetes by a kubeconfig",
                    "--pods=kubernetes",
                    f"--kubeconfig={config}",
                )
            )
        # More than a kubelet takes by default, which is 110.
        ballast = {"benchmark": "x" * _BALLAST}
        objects = [
            pod(
                f"pod-{number}",
                f"0c9a5f0e-52ad-4a8e-9b86-{number:012x}",
                node=node.node_name,
                annotations=ballast,
            )
            for number in range(many)
        ]
        with _api_server(objects) as account:
            found.append(_in_cluster(node, account, f"{many} pods from Kubernetes"))
    return found


def _in_cluster(
    node: SimulatedNode, account: Path, what: str, metrics: str = "documented,vgpu"
) -> Row:
    """As in a pod whose service account's files are in ``account``."""
    url = urlsplit((account / "url").read_text())
    return _row(
        node,
        what,
        "--pods=kubernetes",
        f"--metrics={metrics}",
        program=("-m", "testing.in_cluster", str(account)),
        env={
            "KUBERNETES_SERVICE_HOST": str(url.hostname),
            "KUBERNETES_SERVICE_PORT": str(url.port),
        },
    )


def _row(
    node: SimulatedNode,
    what: str,
    *flags: str,
    program: tuple[str, ...] = ("-m", "vgpumonitor"),
    env: Mapping[str, str] | None = None,
) -> Row:
    began = time.perf_counter()
    with running(
        "serve",
        f"--containers-dir={node.containers_dir}",
        f"--node-name={node.node_name}",
        "--nvml=off",
        "--process-liveness=off",
        *flags,
        program=program,
        env=image_variables() | dict(env or {}),
    ) as exporter:
        exporter.get("/metrics")
        first = time.perf_counter() - began
        while exporter.status("/readyz")[0] != 200:
            time.sleep(0.01)
        synced = time.perf_counter() - began
        for _ in range(10):
            exporter.get("/metrics")
        resident = Held.at_rest(exporter).memory / MIB
    containers = len(list(node.containers_dir.iterdir()))
    return Row(
        f"resident with {containers} containers, {what}",
        f"{resident:.1f} MiB",
        f"start to first scrape {first:.2f} s, to synced {synced:.2f} s",
    )


@contextmanager
def _api_server(objects: list[dict[str, Any]]) -> Iterator[Path]:
    """Runs an API server with ``objects`` in a thread. Gives a service account's directory for it,
    with the server's URL in ``url``."""
    ready, stop = threading.Event(), threading.Event()
    with tempfile.TemporaryDirectory(prefix="vgpumonitor-bench-") as name:
        account = Path(name)
        certificate, key = make_certificate(account)
        shutil.copy(certificate, account / "ca.crt")
        (account / "token").write_text("token")

        async def serve() -> None:
            async with ApiServer(tls=server_tls(certificate, key), tokens={"token"}) as server:
                for pod in objects:
                    server.put(pod)
                (account / "url").write_text(server.url)
                ready.set()
                await asyncio.to_thread(stop.wait)

        thread = threading.Thread(target=asyncio.run, args=(serve(),))
        thread.start()
        ready.wait()
        try:
            yield account
        finally:
            stop.set()
            thread.join()
