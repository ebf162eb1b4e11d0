"""The process's limit of file descriptors."""

from __future__ import annotations

import resource
from contextlib import suppress


def raise_limit() -> None:
    """Raises the soft limit to the hard one: each region file stays open, and Python keeps a
    descriptor with each mapping, so that the usual 1024 are soon too few."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
