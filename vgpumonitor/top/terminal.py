"""The terminal: a screen that is drawn at each snapshot, key and change of size. Unix only."""

from __future__ import annotations

import os
import queue
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.live import Live

from vgpumonitor.top.draw import render
from vgpumonitor.top.fetch import Document, Fetch, FetchError
from vgpumonitor.top.view import View, parse_keys, press

#: Seconds in which the rest of a key's sequence follows its escape over a slow line.
ESCAPE_DELAY = 0.05


class Screen:
    """Shows what ``fetch`` gives every ``interval`` seconds until the user ends it."""

    def __init__(self, fetch: Fetch, view: View, interval: float) -> None:
        self._fetch = fetch
        self._view = view
        self._interval = interval
        self._page = 1
        self._document: Document | None = None
        self._trouble: str | None = None
        self._answers: queue.SimpleQueue[Document | str] = queue.SimpleQueue()
        self._wake_r, self._wake_w = os.pipe()
        self._ended = threading.Event()

    def run(self) -> None:
        threading.Thread(target=self._ask, name="fetch", daemon=True).start()
        console = Console()
        with (
            _keys_at_once(),
            self._woken_by_resize(),
            suppress(KeyboardInterrupt),
            Live(console=console, screen=True, auto_refresh=False) as live,
        ):
            while True:
                width, height = console.size
                picture, self._view, self._page = render(
                    self._document, self._view, width, height, self._trouble
                )
                live.update(picture, refresh=True)
                if not self._wait():
                    break
        self._ended.set()

    def _ask(self) -> None:
        while not self._ended.is_set():
            try:
                self._answers.put(self._fetch())
            except FetchError as error:
                self._answers.put(str(error))
            os.write(self._wake_w, b"x")
            self._ended.wait(self._interval)

    def _wait(self) -> bool:
        """Waits until something happens; false if that was the end."""
        ready, _, _ = select.select([sys.stdin, self._wake_r], [], [])
        if self._wake_r in ready:
            os.read(self._wake_r, 64)
            while not self._answers.empty():
                answer = self._answers.get()
                if isinstance(answer, str):
                    self._trouble = answer
                else:
                    self._document, self._trouble = answer, None
        if sys.stdin in ready:
            data = os.read(sys.stdin.fileno(), 1024)
            if not data:
                return False
            if data == b"\x1b" and select.select([sys.stdin], [], [], ESCAPE_DELAY)[0]:
                data += os.read(sys.stdin.fileno(), 1024)
            for key in parse_keys(data):
                view = press(self._view, key, self._page)
                if view is None:
                    return False
                self._view = view
        return True

    @contextmanager
    def _woken_by_resize(self) -> Iterator[None]:
        before = signal.signal(signal.SIGWINCH, lambda *_: os.write(self._wake_w, b"x"))
        try:
            yield
        finally:
            signal.signal(signal.SIGWINCH, before)


@contextmanager
def _keys_at_once() -> Iterator[None]:
    """Each key as it is pressed, and the terminal as it was afterwards, however it ends."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    settings = termios.tcgetattr(sys.stdin)
    before = signal.signal(signal.SIGTERM, end)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, settings)
        signal.signal(signal.SIGTERM, before)
