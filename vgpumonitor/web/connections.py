"""How many connections there are, and for how long: none is in the way of a scrape.

aiohttp itself closes a connection on which no whole request came for its keep-alive timeout,
counted from the last answer. It has no bound on their number, nor on the time that a client
takes to read an answer, and it logs a traceback for each request that is none and for each
client that goes before its answer is sent: whoever reaches the port could fill the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

#: Seconds without a whole request until a connection is closed: more than between two scrapes.
QUIET = 120.0
#: Seconds for an answer, until the client has read it.
ANSWER = 60.0
#: Seconds for a TLS handshake.
HANDSHAKE = 10.0
#: Connections that stay open, and how many of them may have an answer under way.
CONNECTIONS = 512
ANSWERS = 64
#: New connections that wait until they are taken: a burst beyond it makes clients try again.
BACKLOG = 512
#: Seconds in which new connections gather before those beyond the bound are closed.
GATHER = 0.1

#: What aiohttp's server logs to.
log = logging.getLogger("vgpumonitor.http")
log.addFilter(
    lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Protocol = web.RequestHandler


class Connections:
    """Beyond the bounds the oldest connection is dropped, one without a request first: a new
    scrape is always let in."""

    def __init__(self) -> None:
        self._answering: dict[Protocol, None] = {}
        self._trimming = False
        self._made = False

    def bound(self, app: web.Application) -> None:
        """Puts the bounds on answers before everything else that ``app`` does."""

        @web.middleware
        async def bounded(request: web.Request, handler: Handler) -> web.StreamResponse:
            protocol = request.protocol
            if len(self._answering) >= ANSWERS:
                oldest = next(iter(self._answering))
                del self._answering[oldest]
                _drop(oldest)
            self._answering[protocol] = None
            try:
                async with asyncio.timeout(ANSWER):
                    return await handler(request)
            except (TimeoutError, ConnectionError):
                _drop(protocol)
                # aiohttp finds nobody there to send it to, and says nothing.
                return web.Response()
            finally:
                self._answering.pop(protocol, None)

        app.middlewares.insert(0, bounded)

    def factory(self, server: web.Server) -> Callable[[], asyncio.BaseProtocol]:
        """What makes the protocol of each new connection to ``server``."""

        def make() -> asyncio.BaseProtocol:
            self._made = True
            if not self._trimming:
                self._trim(server)
            return server()

        return make

    def _trim(self, server: web.Server) -> None:
        connections = server.connections  # Oldest first.
        excess = len(connections) - CONNECTIONS
        if excess > 0:
            connections.sort(key=self._answering.__contains__)
            for protocol in connections[:excess]:
                _drop(protocol)
        # The server counts a new one only later: once more after the last of them.
        self._trimming, self._made = self._made, False
        if self._trimming:
            asyncio.get_running_loop().call_later(GATHER, self._trim, server)


def _drop(protocol: Protocol) -> None:
    # Not close: that waits until the client has read everything.
    if isinstance(protocol.transport, asyncio.Transport):
        protocol.transport.abort()
