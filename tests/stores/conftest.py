from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from testing.tools import require

BUILD = Path(__file__).parent / "servers/build"


@pytest.fixture(scope="session")
def binaries() -> Path:
    """The folder with Prometheus 3 and VictoriaMetrics."""
    require("go")
    done = subprocess.run([BUILD, "--where"], capture_output=True, text=True, check=True)
    found = Path(done.stdout.strip())
    if not found.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{found} is not there: make test-stores builds it")
        pytest.skip("Prometheus 3 and VictoriaMetrics are not built: make test-stores")
    return found
