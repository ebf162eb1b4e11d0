"""Waiting for what happens soon, on machines that may be slow."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T], seconds: float = 20.0) -> T:
    """The first true value of ``look``; its last AssertionError, or an error of ours, where
    there is none in ``seconds``. ``look`` may fail by asserting."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = look()
            if found:
                return found
            failure: Exception = AssertionError(f"not in {seconds} s: {found!r}")
        except (AssertionError, OSError, KeyError, IndexError) as error:
            failure = error
        if time.monotonic() > deadline:
            raise failure
        time.sleep(0.02)
