"""A real Prometheus that scrapes, for tests."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testing.exporter import free_port
from testing.polling import eventually
from testing.tools import require


@dataclass
class Prometheus:
    """``query`` gives the result of an instant query, as Prometheus' API has it."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **parameters: str) -> Any:
        url = f"{self.url}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        result = self.get("/api/v1/query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]

    def targets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/api/v1/targets")["activeTargets"]
        return found


@contextmanager
def prometheus(directory: Path, config: str, *flags: str) -> Iterator[Prometheus]:
    """Prometheus with ``config`` (YAML text); its data are in ``directory`` where no ``flags``
    say otherwise."""
    directory.mkdir(exist_ok=True)
    config_path = directory / "prometheus.yml"
    config_path.write_text(config)
    port = free_port()
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                require("prometheus"),
                f"--config.file={config_path}",
                f"--web.listen-address=127.0.0.1:{port}",
                *(flags or [f"--storage.tsdb.path={directory / 'data'}"]),
            ],
            stdout=log,
            stderr=log,
        )
    made = Prometheus(port)

    def answers() -> bool:
        assert process.poll() is None, (directory / "prometheus.log").read_text()
        made.get("/api/v1/status/buildinfo")
        return True

    try:
        eventually(answers, 300)
        yield made
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()
