"""The one way to make calls that may hang: a disk, a driver, a lock that another process holds.

Nothing can interrupt such a call, so it gets a thread, and those who want its result wait no
longer than they can afford.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class HangTolerantThread:
    """Runs calls one after the other in a thread of its own. Unlike an executor's threads
    it is a daemon: a call that hangs for ever does not keep the process from ending."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._late: Future[Any] | None = None
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Queues ``call``. The future can be cancelled until the call begins."""
        future: Future[T] = Future()
        self._calls.put((future, call))
        return future

    async def within(self, call: Callable[[], T], timeout: float) -> T:  # noqa: ASYNC109
        """The result of ``call``, or what it raises.

        Raises TimeoutError after ``timeout`` seconds, and at once, without queueing ``call``,
        while one that timed out earlier still runs. The result of a call that timed out is
        dropped; a call that had not begun by then never runs.
        """
        if self._late is not None:
            if not self._late.done():
                raise TimeoutError("an earlier call still hangs")
            self._late = None
        future = self.submit(call)
        waiting = asyncio.wrap_future(future)
        try:
            # Not asyncio.timeout: it would take the call's own TimeoutError for this one's.
            await asyncio.wait([waiting], timeout=timeout)
            if waiting.done():
                return waiting.result()
            if not future.cancel():
                self._late = future
        finally:
            waiting.cancel()
        raise TimeoutError(f"no result within {timeout:g} s")

    def _run(self) -> None:
        while True:
            future, call = self._calls.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:
                    future.set_exception(error)
            del future, call
