"""Prometheus, VictoriaMetrics and their agents as processes on 127.0.0.1, and the nodes that they
scrape."""

from __future__ import annotations

import subprocess
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from testing.exporter import free_port, free_ports, running
from testing.polling import eventually


@contextmanager
def program(directory: Path, ready: str, *command: str | Path) -> Iterator[int]:
    """Runs ``command``, in which PORT stands for a free port; gives the port once ``ready``, a
    path there, answers."""
    directory.mkdir()
    port = free_port()
    log_path = directory / "log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [str(part).replace("PORT", str(port)) for part in command],
            cwd=directory,
            stdout=log,
            stderr=log,
        )

    def answers() -> bool:
        assert process.poll() is None, log_path.read_text()[-2000:]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{ready}", timeout=10) as response:
            return bool(response.status == 200)

    try:
        eventually(answers, 60)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()


def _scraped(number: int) -> list[bytes]:
    """What each of ``number`` simulated nodes serves."""

    def scrape(port: int) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as response:
            text: bytes = response.read()
        assert b"\nvgpu_nvml_memory_used_bytes{" in text
        return text

    first = free_ports(number)
    with running("demo", f"--nodes={number}", port=first):
        return [eventually(partial(scrape, first + node), 60) for node in range(number)]


@contextmanager
def standing_still(number: int) -> Iterator[tuple[int, list[str]]]:
    """The metrics of ``number`` simulated nodes, as their exporters served them once: rules make
    the same of them whenever they are evaluated. Gives the port and each node's path."""
    texts = {f"/{node}": text for node, text in enumerate(_scraped(number))}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(texts[self.path])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, sorted(texts)
        finally:
            server.shutdown()
            thread.join()


def targets(port: int, paths: Sequence[str], **labels: str) -> list[dict[str, object]]:
    """A static configuration for each node, with ``labels``."""
    return [
        {
            "targets": [f"127.0.0.1:{port}"],
            "labels": {
                **labels,
                "__metrics_path__": path,
                "__meta_kubernetes_pod_node_name": f"node-{path[1:]}",
                "instance": f"node-{path[1:]}:9394",
            },
        }
        for path in paths
    ]
