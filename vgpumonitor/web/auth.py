"""Who is answered: the HTTP part of a web configuration file, put on an aiohttp application."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import bcrypt
from aiohttp import web

from vgpumonitor.hang import HangTolerantThread
from vgpumonitor.web.config import RateLimit, WebConfigFile
from vgpumonitor.web.tls import subject_alternative_names

#: Bytes of a password that bcrypt looks at; the library refuses longer ones.
BCRYPT_BYTES = 72

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def protect(app: web.Application, file: WebConfigFile) -> None:
    """Put ``file``'s client_allowed_sans, rate_limit, basic_auth_users and headers before
    every route of ``app``, in this order and as they are at each request. They answer 403,
    429 and 401."""
    logins = Logins()
    bucket = Bucket()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        config = file.current
        allowed = config.tls_server_config.client_allowed_sans
        if allowed is not None and _names_of_client(request).isdisjoint(allowed):
            refusal = web.Response(
                status=403, text="no name of the client certificate is allowed\n"
            )
            refusal.force_close()
            return refusal
        if config.rate_limit.seconds and not bucket.take(config.rate_limit, time.monotonic()):
            return web.Response(status=429, text="too many requests\n")
        users = config.basic_auth_users
        if users:
            login = basic_login(request.headers.get("Authorization", ""))
            if login is None or not await logins.check(users, login):
                return web.Response(
                    status=401,
                    text="user name and password needed\n",
                    headers={"WWW-Authenticate": 'Basic realm="vgpumonitor", charset="UTF-8"'},
                )
        return await handler(request)

    async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(file.current.http_server_config.sent)

    app.middlewares.insert(0, guard)
    app.on_response_prepare.append(add_headers)


def _names_of_client(request: web.Request) -> frozenset[str]:
    transport = request.transport
    return subject_alternative_names(
        None if transport is None else transport.get_extra_info("peercert")
    )


@dataclass(frozen=True, slots=True)
class Login:
    """The user name and password that a client gives."""

    user: str
    password: bytes = field(repr=False)


def basic_login(header: str) -> Login | None:
    """The login in an Authorization header of scheme Basic (RFC 7617), None for any other."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return Login(user.decode(), password) if colon else None
    except ValueError:
        return None


class Logins:
    """Checks logins against bcrypt hashes, one at a time in a thread, and remembers the right
    ones: they are answered at once, however many wrong ones wait for their check."""

    def __init__(self) -> None:
        self._secret = os.urandom(32)
        #: The login that was right for a user, with the hash that it was right for.
        self._right: dict[str, bytes] = {}
        self._lock = asyncio.Lock()
        self._thread = HangTolerantThread("bcrypt")

    def remembers(self, users: Mapping[str, str], login: Login) -> bool:
        """Whether ``login`` was right before, for the hash that its user has now."""
        hashed = users.get(login.user)
        return hashed is not None and self._right.get(login.user) == self._digest(hashed, login)

    async def check(self, users: Mapping[str, str], login: Login) -> bool:
        """Whether ``login`` is right; ``users`` has at least one bcrypt hash by name."""
        if self.remembers(users, login):
            return True
        async with self._lock:
            if self.remembers(users, login):  # Several requests came with it at once.
                return True
            hashed = users.get(login.user)
            # An unknown user costs as much as a known one, so that the time tells no names.
            compared = (hashed or max(users.values(), key=_cost)).encode()
            matches = await asyncio.wrap_future(
                self._thread.submit(lambda: bcrypt.checkpw(login.password[:BCRYPT_BYTES], compared))
            )
        if hashed is None or not matches:
            return False
        self._right[login.user] = self._digest(hashed, login)
        return True

    def _digest(self, hashed: str, login: Login) -> bytes:
        # Keyed, so that a copy of the memory is no quick test for passwords.
        value = repr((login.user, hashed, login.password)).encode()
        return hashlib.blake2b(value, key=self._secret).digest()


def _cost(hashed: str) -> str:
    return hashed[4:6]


class Bucket:
    """A token bucket, full at first, under a limit that may change from call to call."""

    def __init__(self) -> None:
        self._tokens = math.inf
        self._at = 0.0

    def take(self, limit: RateLimit, now: float) -> bool:
        """Take a token at ``now``, in seconds of a steady clock. False if none is left."""
        refill = (now - self._at) / limit.seconds
        self._tokens, self._at = min(limit.burst, self._tokens + refill), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
