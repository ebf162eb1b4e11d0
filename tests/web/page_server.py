"""The page and the API over a snapshot that a test chooses, on a port that stays the same."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import web

from vgpumonitor.scrape import Scraper
from vgpumonitor.snapshot import NodeSnapshot
from vgpumonitor.web.api import api_routes
from vgpumonitor.web.page import page_routes


@dataclass
class FixedScraper:
    """Gives ``snapshot`` as a collection's, or fails where it is None."""

    snapshot: NodeSnapshot | None

    async def collect(self) -> FixedScraper:
        if self.snapshot is None:
            raise RuntimeError("no snapshot")
        return self


def make_app(scraper: FixedScraper) -> web.Application:
    async def text(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    app = web.Application()
    app.add_routes(page_routes())
    app.add_routes(api_routes(cast(Scraper, scraper)))
    app.add_routes([web.get("/metrics", text), web.get("/readyz", text)])
    return app


class PageServer:
    """Serves in a thread. ``stop`` and ``start`` keep the port."""

    def __init__(self, snapshot: NodeSnapshot) -> None:
        self.scraper = FixedScraper(snapshot)
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._call(self._start())

    def stop(self) -> None:
        self._call(self._stop())

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> None:
        self._runner = web.AppRunner(make_app(self.scraper), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _call(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)
