"""Running a source while a test looks at its view."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from vgpumonitor.sources.pods import PodSource, PodsView


@asynccontextmanager
async def running(source: PodSource) -> AsyncIterator[PodSource]:
    task = asyncio.create_task(source.run())
    try:
        yield source
        assert not task.done(), "the source ended"
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Waits until ``condition`` holds; a test fails where it doesn't in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.01)


async def looked(source: PodSource, times: int = 3) -> None:
    """Waits until the source has shown so many views more, as each of its looks makes one."""
    for _ in range(times):
        before = source.view
        await until(lambda before=before: source.view is not before)  # type: ignore[misc]


def names(view: PodsView) -> set[str]:
    return {pod.name for pod in view.pods.values()}
