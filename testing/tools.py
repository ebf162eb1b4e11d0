"""External programs that tests run."""

from __future__ import annotations

import os
import shutil

import pytest


def require(tool: str) -> str:
    """The path of ``tool``. Where it is missing the test skips; in CI that is an error."""
    path = shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/sbin")
    if path is not None:
        return path
    if os.environ.get("CI") == "true":
        pytest.fail(f"{tool} is not installed; in CI every tool that tests use must be")
    pytest.skip(f"{tool} is not installed")
