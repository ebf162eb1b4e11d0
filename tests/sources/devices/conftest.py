"""The compiled simulated library."""

from __future__ import annotations

from pathlib import Path

import pytest

from testing.nvml import build
from testing.tools import require


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its directory."""
    require("cc")
    return build(tmp_path_factory.mktemp("nvml")).parent
