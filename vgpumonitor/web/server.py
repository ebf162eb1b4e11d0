"""Listening, within bounds on what a client can hold.

As node_exporter bounds them: a number of requests at once, beyond which the answer is 503. aiohttp
closes connections that are quiet, but has no bound on the time that a client takes to read its
answer, and it logs a traceback for each request that it can't parse and for each client that
leaves before its answer is sent: whoever reaches the port could fill the log.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import ssl
from asyncio import sslproto
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from vgpumonitor.settings import Address

#: Requests that are answered at once. Probes are not counted: a busy exporter is alive.
REQUESTS = 40
PROBES = frozenset(("/healthz", "/readyz"))
#: Seconds for an answer, until the client has read it.
ANSWER = 30.0
#: Seconds without a whole request until a connection is closed: more than between two scrapes.
QUIET = 120.0
#: Bytes that a TLS connection can hold of what its client sends: a record, where asyncio would
#: allocate 256 KiB for each connection, long before its handshake has ended.
TLS_BUFFER = 16 * 1024
#: Seconds that open requests get to be answered after the end of ``listening``.
SHUTDOWN = 1.5

log = logging.getLogger(__name__)

#: What aiohttp's server logs to.
_http_log = logging.getLogger("vgpumonitor.http")
_http_log.addFilter(
    lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ListenError(Exception):
    """An address can't be listened on; the message names it."""


@asynccontextmanager
async def listening(
    app: web.Application, addresses: Iterable[Address], tls: ssl.SSLContext | None
) -> AsyncIterator[list[Address]]:
    """Serves ``app`` on ``addresses``, with TLS where there is a context for it; gives them with
    the ports that they have in fact. Raises ListenError."""
    _bound(app)
    if tls is not None:
        sslproto.SSLProtocol.max_size = TLS_BUFFER
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_http_log,
        shutdown_timeout=SHUTDOWN,
        keepalive_timeout=QUIET,
    )
    await runner.setup()
    try:
        yield [await _listen(runner, address, tls) for address in addresses]
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, address: Address, tls: ssl.SSLContext | None) -> Address:
    site = web.TCPSite(runner, address.host, address.port, ssl_context=tls)
    try:
        await site.start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ListenError(
                f"can't listen on {address}: the address is in use; is another vgpumonitor running?"
            ) from error
        # asyncio puts the address and words of its own around the reason.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror
        raise ListenError(f"can't listen on {address}: {reason}") from error
    served = Address(address.host or "0.0.0.0", site.port)
    log.info("serving", extra={"url": f"{'http' if tls is None else 'https'}://{served}/"})
    return served


def _bound(app: web.Application) -> None:
    """Puts a bound on the time of each answer before all that ``app`` does, and one on their
    number after its authentication: a refused request takes nobody's place."""
    under_way = 0

    @web.middleware
    async def timed(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            async with asyncio.timeout(ANSWER):
                return await _answer(request, handler)
        except (TimeoutError, ConnectionError):
            if isinstance(request.transport, asyncio.Transport):
                # Not close: that waits until the client has read everything.
                request.transport.abort()
            # aiohttp finds nobody there to send it to, and says nothing.
            return web.Response()

    @web.middleware
    async def counted(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal under_way
        if request.path in PROBES:
            return await handler(request)
        if under_way >= REQUESTS:
            return web.Response(
                status=503, text=f"limit of {REQUESTS} requests at once reached, try again later\n"
            )
        under_way += 1
        try:
            return await _answer(request, handler)
        finally:
            under_way -= 1

    app.middlewares.insert(0, timed)
    app.middlewares.append(counted)


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The response of ``handler``, once the client has it."""
    try:
        response = await handler(request)
    except web.HTTPException as error:
        await _send(error, request)
        raise
    await _send(response, request)
    return response


async def _send(response: web.StreamResponse, request: web.Request) -> None:
    await response.prepare(request)
    await response.write_eof()
