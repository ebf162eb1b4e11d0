"""Who is answered: the HTTP part of a web configuration file, put on an aiohttp application."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import bcrypt
from aiohttp import web

from vgpumonitor.web.config import RateLimit, WebConfigFile
from vgpumonitor.web.tls import subject_alternative_names

#: Logins that are remembered as right.
REMEMBERED = 100

#: Logins of one address that may wait for their check; more are answered with 429.
WAITING_PER_ADDRESS = 16

#: Bytes of a password that bcrypt looks at; the library refuses longer ones.
BCRYPT_BYTES = 72

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def protect(app: web.Application, file: WebConfigFile) -> None:
    """Put ``file``'s client_allowed_sans, rate_limit, basic_auth_users and headers before
    every route of ``app``, in this order and as they are at each request. They answer 403,
    429 and 401.

    A login that was checked before has a token bucket of its own: a flood of wrong ones takes
    none of its tokens, and, as it needs no bcrypt, none of its time.
    """
    logins = Logins()
    proven_bucket, other_bucket = Bucket(), Bucket()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        config = file.current
        if config.tls is not None and config.tls.client_allowed_sans is not None:
            peer = (
                None if request.transport is None else request.transport.get_extra_info("peercert")
            )
            if not config.tls.client_allowed_sans & subject_alternative_names(peer):
                refusal = web.Response(
                    status=403, text="no name of the client certificate is allowed\n"
                )
                refusal.force_close()
                return refusal
        login = basic_login(request.headers.get("Authorization", ""))
        proven = login is not None and logins.remembers(config.users, login)
        bucket = proven_bucket if proven else other_bucket
        if config.rate_limit is not None and not bucket.take(config.rate_limit, time.monotonic()):
            return web.Response(status=429, text="too many requests\n")
        if config.users and not proven:
            try:
                right = login is not None and await logins.check(
                    config.users, login, request.remote or ""
                )
            except TooManyLoginsError:
                return web.Response(status=429, text="too many logins at once\n")
            if not right:
                return web.Response(
                    status=401,
                    text="user name and password needed\n",
                    headers={"WWW-Authenticate": 'Basic realm="vgpumonitor", charset="UTF-8"'},
                )
        return await handler(request)

    async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(file.current.headers)

    async def close(_: web.Application) -> None:
        logins.close()

    app.middlewares.insert(0, guard)
    app.on_response_prepare.append(add_headers)
    app.on_cleanup.append(close)


@dataclass(frozen=True, slots=True)
class Login:
    """What a client says who it is."""

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


class TooManyLoginsError(Exception):
    """As many logins as may wait are waiting for the same address."""


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class Logins:
    """Checks logins against bcrypt hashes, one at a time in a thread, and remembers the right
    ones.

    Addresses take turns, and each waits only for its own: however many wrong logins one sends,
    another's is checked after at most one of them.
    """

    def __init__(self) -> None:
        self._secret = os.urandom(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._turns: dict[str, _Turn] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bcrypt")

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def remembers(self, users: Mapping[str, str], login: Login) -> bool:
        """Whether ``login`` was checked before, against the hash that it has now."""
        hashed = users.get(login.user)
        if hashed is None:
            return False
        key = self._key(hashed, login)
        if key not in self._right:
            return False
        self._right.move_to_end(key)
        return True

    async def check(self, users: Mapping[str, str], login: Login, address: str) -> bool:
        """Whether ``login`` is right; ``users`` has at least one bcrypt hash by name. Raises
        TooManyLoginsError."""
        turn = self._turns.setdefault(address, _Turn())
        if turn.waiting >= WAITING_PER_ADDRESS:
            raise TooManyLoginsError
        turn.waiting += 1
        try:
            async with turn.lock:
                if self.remembers(users, login):
                    return True
                return await self._compare(users, login)
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                del self._turns[address]

    async def _compare(self, users: Mapping[str, str], login: Login) -> bool:
        # An unknown user costs as much as a known one, so that the time tells no names.
        hashed = users.get(login.user)
        matches = await asyncio.get_running_loop().run_in_executor(
            self._thread,
            bcrypt.checkpw,
            login.password[:BCRYPT_BYTES],
            (hashed or max(users.values(), key=_cost)).encode(),
        )
        if hashed is None or not matches:
            return False
        self._right[self._key(hashed, login)] = None
        if len(self._right) > REMEMBERED:
            self._right.popitem(last=False)
        return True

    def _key(self, hashed: str, login: Login) -> bytes:
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
        refill = (now - self._at) / limit.interval
        self._tokens, self._at = min(limit.burst, self._tokens + refill), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
