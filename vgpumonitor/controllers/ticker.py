"""A steady pace for rounds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator


async def ticks(interval: float) -> AsyncIterator[None]:
    """Yields at once, and then every ``interval`` seconds of the monotonic clock, always a whole
    number of intervals after the first time; missed ticks are skipped."""
    due = time.monotonic()
    while True:
        yield
        due = next_due(due, interval, time.monotonic())
        await asyncio.sleep(due - time.monotonic())


def next_due(due: float, interval: float, now: float) -> float:
    """The first time after ``now`` that is a whole number of intervals after ``due``, and at least
    one. All in seconds."""
    missed = max(0.0, now - due) // interval
    return due + (missed + 1) * interval
