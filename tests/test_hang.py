"""Calls that hang, and those who wait for them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from vgpumonitor.hang import HangTolerantThread


@pytest.fixture
def thread() -> HangTolerantThread:
    return HangTolerantThread("test")


def test_a_result_and_an_error_come_through(thread: HangTolerantThread) -> None:
    def wrong() -> None:
        raise TimeoutError("the disk's own")

    async def main() -> None:
        assert await thread.within(lambda: 7, 20) == 7
        with pytest.raises(TimeoutError, match="the disk's own"):
            await thread.within(wrong, 20)
        # That was an answer: nothing hangs.
        assert await thread.within(lambda: 8, 20) == 8

    asyncio.run(main())


def test_a_call_that_hangs_is_waited_for_once(thread: HangTolerantThread) -> None:
    begun, answers = threading.Event(), threading.Event()
    calls: list[str] = []

    def hang() -> None:
        begun.set()
        answers.wait(60)

    async def main() -> None:
        # Again until it runs: one that timed out before that never will.
        while not begun.is_set():
            with pytest.raises(TimeoutError):
                await thread.within(hang, 0.01)
        for _ in range(3):
            with pytest.raises(TimeoutError, match="an earlier call still hangs"):
                await thread.within(lambda: calls.append("while it hangs"), 3600)
        answers.set()
        # The thread takes one call after the other: this one is done when the hanging one is.
        await asyncio.wrap_future(thread.submit(lambda: None))
        await thread.within(lambda: calls.append("afterwards"), 20)

    asyncio.run(main())
    assert calls == ["afterwards"]


def test_a_call_that_never_began_never_runs(thread: HangTolerantThread) -> None:
    answers = threading.Event()
    calls: list[str] = []

    async def main() -> None:
        hanging = thread.submit(lambda: answers.wait(60))
        with pytest.raises(TimeoutError):
            await thread.within(lambda: calls.append("late"), 0.01)
        answers.set()
        await asyncio.wrap_future(hanging)
        await thread.within(lambda: calls.append("afterwards"), 20)

    asyncio.run(main())
    assert calls == ["afterwards"]


def test_a_call_that_hangs_does_not_keep_the_process_from_ending() -> None:
    script = """
import asyncio, threading
from vgpumonitor.hang import HangTolerantThread

async def main():
    try:
        await HangTolerantThread("test").within(threading.Event().wait, 0.01)
    except TimeoutError:
        print("timed out")

asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)
    assert ended.stdout == b"timed out\n"
    assert ended.returncode == 0
