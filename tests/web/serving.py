"""A minimal application behind a web configuration, on a free port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from testing.exporter import free_port
from vgpumonitor.settings import Address
from vgpumonitor.web.auth import protect
from vgpumonitor.web.config import WebConfigFile
from vgpumonitor.web.server import listening


def write(path: Path, text: str) -> None:
    """Write a configuration, also in the middle of a coroutine."""
    path.write_text(text, encoding="utf-8")


@asynccontextmanager
async def serving(file: WebConfigFile) -> AsyncIterator[int]:
    """Serve ``answered 1`` at /metrics as ``file`` says; the value is the port at 127.0.0.1."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text="# TYPE answered gauge\nanswered 1\n")

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    protect(app, file)
    address = Address("127.0.0.1", free_port())
    async with listening(app, (address,), file.ssl_context()):
        yield address.port
