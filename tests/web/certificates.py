"""Certificates for tests, made by the openssl command."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from testing.tools import require


class Pair(NamedTuple):
    cert: Path
    key: Path


class Authority:
    """A certificate authority of its own in ``directory``."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._own = _request(directory / name, name)
        self.cert = self._own.cert

    def issue(self, name: str, *sans: str) -> Pair:
        """A certificate for ``name``; ``sans`` as openssl writes them, "DNS:example"."""
        options = ["-CA", str(self._own.cert), "-CAkey", str(self._own.key)]
        if sans:
            options += ["-addext", f"subjectAltName={','.join(sans)}"]
        return _request(
            self._directory / name, name, *options, "-addext", "basicConstraints=CA:FALSE"
        )


def _request(stem: Path, name: str, *options: str) -> Pair:
    pair = Pair(stem.with_suffix(".crt"), stem.with_suffix(".key"))
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
    certificate = ["-x509", "-days", "2", "-subj", f"/CN={name}", *options]
    files = ["-keyout", str(pair.key), "-out", str(pair.cert)]
    openssl("req", *key, *certificate, *files)
    return pair


def openssl(*arguments: str) -> str:
    """What ``openssl`` with ``arguments`` prints."""
    return subprocess.run(
        [require("openssl"), *arguments],
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
    ).stdout
