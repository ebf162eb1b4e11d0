"""Region files for tests: the recorded ones that the real HAMi-core wrote."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parents[1] / "tests" / "data" / "regions"
NAMES = sorted(path.name.removesuffix(".json") for path in RECORDED.glob("*.json"))


def recorded_bytes(name: str) -> bytes:
    return gzip.decompress((RECORDED / f"{name}.cache.gz").read_bytes())


def recorded_content(name: str) -> dict[str, Any]:
    """What is in the file, read independently of this project."""
    content: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())
    return content


def put(name: str, path: Path) -> Path:
    """Writes the recorded file ``name`` to ``path``, making its directory. Whoever looks
    meanwhile sees all of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(recorded_bytes(name))
    return beside.replace(path)
