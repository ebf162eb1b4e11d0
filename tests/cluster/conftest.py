from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.tools import require
from tests.cluster.server import Cluster

BUILD = Path(__file__).parent / "servers/build"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    require("go")
    require("openssl")
    done = subprocess.run([BUILD, "--where"], capture_output=True, text=True, check=True)
    binaries = Path(done.stdout.strip())
    if not binaries.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{binaries} is not there: make test-cluster builds it")
        pytest.skip("the API server is not built: make test-cluster")
    found = Cluster(binaries, tmp_path_factory.mktemp("cluster"))
    try:
        found.start()
        yield found
    finally:
        found.stop()
