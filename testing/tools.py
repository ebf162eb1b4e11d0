"""External programs that tests and benchmarks run."""

from __future__ import annotations

import shutil


class MissingToolError(Exception):
    """Something that has to be installed is not; the message says what. A test that meets it
    skips, in CI it fails."""


def require(tool: str) -> str:
    """The path of ``tool``. Raises MissingToolError."""
    path = shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/sbin")
    if path is None:
        raise MissingToolError(f"{tool} is not installed")
    return path
