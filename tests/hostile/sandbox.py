"""The exporter started by a shell that first takes something away from it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from testing.exporter import Exporter, free_port, serve_arguments
from testing.tools import require

ROOT = Path(__file__).parents[2]


@contextmanager
def started(
    containers: Path,
    log_path: Path,
    *,
    wrapper: Sequence[str] = (),
    script: str = "",
    python: Sequence[str] = (sys.executable,),
    port: int | None = None,
) -> Iterator[Exporter]:
    """``wrapper sh -c script`` and then, in the same process, the exporter; once it answers."""
    port = port or free_port()
    command = [
        *wrapper,
        require("sh"),
        "-ec",
        f'{script}\nexec "$@"',
        "sh",
        *python,
        "-m",
        "vgpumonitor",
        *serve_arguments(containers),
        f"--listen-address=127.0.0.1:{port}",
    ]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    exporter = Exporter(process, port, log_path)
    try:
        exporter.wait()
        yield exporter
    finally:
        process.kill()
        process.wait()


def unshare(*flags: str) -> list[str]:
    """``unshare`` with ``flags``; skips where this machine doesn't let us."""
    command = [require("unshare"), *flags]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no namespaces of our own here: {tried.stderr.strip()}")
    return command


def in_mounts_of(exporter: Exporter, *command: str) -> None:
    """Runs ``command`` in the exporter's mount namespace."""
    subprocess.run(
        [require("nsenter"), f"--target={exporter.process.pid}", "--mount", *command],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
    )
