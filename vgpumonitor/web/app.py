"""The aiohttp application: the metrics, the health endpoints, the JSON API and the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from aiohttp import web

from vgpumonitor.diagnosis import in_a_line
from vgpumonitor.metrics.exposition import OPENMETRICS, TEXT
from vgpumonitor.scrape import Scraper
from vgpumonitor.web.api import api_routes
from vgpumonitor.web.page import page_routes

#: Bytes handed to a connection at once: a slow reader holds this much, not a copy of the answer.
CHUNK = 64 * 1024

#: What is wrong; None where nothing is.
Check = Callable[[], str | None]

#: Why a source is not ready yet, by its name.
Readiness = Mapping[str, Check]


def make_app(scraper: Scraper, readiness: Readiness, health: Check) -> web.Application:
    """``health`` tells of what only a restart mends."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", _Metrics(scraper).answer),
            web.get("/healthz", _Healthz(health).answer),
            web.get("/readyz", _Readyz(readiness, scraper).answer),
            *api_routes(scraper),
            *page_routes(),
        ]
    )
    return app


class _Metrics:
    def __init__(self, scraper: Scraper) -> None:
        self._scraper = scraper

    async def answer(self, request: web.Request) -> web.StreamResponse:
        openmetrics = accepts(request.headers.get("Accept", ""), "application/openmetrics-text")
        gzipped = accepts(request.headers.get("Accept-Encoding", ""), "gzip")
        names = frozenset(request.query.getall("name[]", []))
        scrape = await self._scraper.collect()
        pieces = await scrape.text(openmetrics, names, gzipped)
        response = web.StreamResponse()
        response.headers["Content-Type"] = OPENMETRICS if openmetrics else TEXT
        response.headers["Vary"] = "Accept, Accept-Encoding"
        if gzipped:
            response.headers["Content-Encoding"] = "gzip"
        response.content_length = sum(map(len, pieces))
        await response.prepare(request)
        if request.method != "HEAD":
            for chunk in chunks(pieces):
                await response.write(chunk)
        await response.write_eof()
        return response


def chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, CHUNK at a time."""
    waiting: list[memoryview] = []
    size = 0
    for piece in pieces:
        view = memoryview(piece)
        while size + len(view) >= CHUNK:
            missing = CHUNK - size
            yield b"".join((*waiting, view[:missing]))
            waiting, size, view = [], 0, view[missing:]
        waiting.append(view)
        size += len(view)
    if size:
        yield b"".join(waiting)


def accepts(header: str, value: str) -> bool:
    """Whether an Accept or Accept-Encoding header names ``value``, and not with weight 0."""
    for accepted in header.lower().split(","):
        name, *parameters = (part.replace(" ", "") for part in accepted.split(";"))
        if name == value:
            return not any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters)
    return False


class _Healthz:
    def __init__(self, health: Check) -> None:
        self._health = health

    async def answer(self, _request: web.Request) -> web.Response:
        problem = self._health()
        return web.Response(status=503 if problem else 200, text=f"{problem or 'ok'}\n")


class _Readyz:
    """Whether each source that is switched on has had its first sync, a line for each; below, what
    is wrong on the node, which is no reason to take its exporter away."""

    def __init__(self, readiness: Readiness, scraper: Scraper) -> None:
        self._readiness = readiness
        self._scraper = scraper

    async def answer(self, _request: web.Request) -> web.Response:
        reasons = {name: reason() for name, reason in self._readiness.items()}
        lines = [
            f"[+] {name} ok" if reason is None else f"[-] {name}: {reason}"
            for name, reason in reasons.items()
        ]
        ready = all(reason is None for reason in reasons.values())
        lines += map(in_a_line, await self._scraper.findings())
        return web.Response(status=200 if ready else 503, text="\n".join(lines) + "\n")
