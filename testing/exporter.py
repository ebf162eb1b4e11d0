"""The real exporter as a process, and Prometheus beside it."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from testing.polling import eventually

#: Linux gives connections ports from here on, unless it is told otherwise (ip_local_port_range): a
#: connection may take one that was free before somebody listens on it.
_OF_CONNECTIONS = 32768


def free_port() -> int:
    return free_ports(1)


def free_ports(number: int) -> int:
    """The first of ``number`` free ports in a row."""
    for _ in range(100):
        # Not random's, which Hypothesis begins anew for each of its tests.
        first = 10240 + secrets.randbelow(_OF_CONNECTIONS - 10240 - number)
        try:
            with ExitStack() as stack:
                for port in range(first, first + number):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise AssertionError(f"there are no {number} free ports in a row")


@dataclass
class Exporter:
    """A running ``vgpumonitor serve`` (or ``demo``)."""

    process: subprocess.Popen[bytes]
    port: int
    log_path: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, headers=dict(headers or {}))
        with urllib.request.urlopen(request, timeout=30) as response:
            body: bytes = response.read()
            return body

    def status(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def samples(self, path: str = "/metrics") -> dict[str, dict[frozenset[tuple[str, str]], float]]:
        """Values by sample name and labels."""
        found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
        for family in text_string_to_metric_families(self.get(path).decode()):
            for sample in family.samples:
                series = found.setdefault(sample.name, {})
                labels = frozenset(sample.labels.items())
                assert labels not in series, f"{sample.name}{dict(labels)} is there twice"
                series[labels] = sample.value
        return found

    def value(self, name: str, **labels: str) -> float | None:
        """The one sample of ``name`` that has all ``labels``; None where there is none."""
        wanted = labels.items()
        matching = [
            value
            for series, value in self.samples().get(name, {}).items()
            if all(item in series for item in wanted)
        ]
        assert len(matching) <= 1, f"{len(matching)} series of {name} match {labels}"
        return matching[0] if matching else None

    def wait(self) -> None:
        """Until it answers."""

        def answers() -> bool:
            assert self.process.poll() is None, self.log
            return self.status("/healthz") == (200, "ok\n")

        eventually(answers)

    @property
    def log(self) -> str:
        return self.log_path.read_text()


@contextmanager
def running(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    program: tuple[str, ...] = ("-m", "vgpumonitor"),
    port: int | None = None,
) -> Iterator[Exporter]:
    """``vgpumonitor ARGUMENTS`` on ``port`` or a free one of 127.0.0.1, once it answers.
    ``program`` is what Python runs for it."""
    port = port or free_port()
    with tempfile.TemporaryDirectory() as directory:
        log_path = Path(directory) / "log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [
                    sys.executable,
                    *program,
                    *arguments,
                    f"--listen-address=127.0.0.1:{port}",
                ],
                stderr=log,
                stdout=log,
                env={**os.environ, **(env or {})},
            )
        exporter = Exporter(process, port, log_path)
        try:
            exporter.wait()
            yield exporter
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(10)
                finally:
                    process.kill()
                    process.wait()


def serve_arguments(containers: Path, *more: str) -> list[str]:
    """Arguments of ``serve`` that depend on nothing of this machine."""
    return [
        "serve",
        f"--containers-dir={containers}",
        "--node-name=node-1",
        "--nvml=off",
        "--process-liveness=off",
        *(() if any(flag.startswith("--pods") for flag in more) else ("--pods=none",)),
        *more,
    ]


def image_variables() -> dict[str, str]:
    """The image's environment variables that bear on memory."""
    dockerfile = (Path(__file__).parent.parent / "Dockerfile").read_text()
    found = dict(re.findall(r"\b((?:FROZENLIST|MALLOC|SSL)_[A-Z_]+)=(\S+)", dockerfile))
    # Not in the image, and all of it would be read at start.
    return {**found, "SSL_CERT_FILE": ""}


def wait_for_exit(process: subprocess.Popen[bytes], seconds: float) -> float:
    """Seconds until the process has ended."""
    began = time.monotonic()
    process.wait(seconds)
    return time.monotonic() - began
