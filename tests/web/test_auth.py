from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path

import aiohttp
import bcrypt
import pytest

from tests.web.serving import serving, write
from vgpumonitor.web import server
from vgpumonitor.web.auth import Bucket, Login, Logins, basic_login
from vgpumonitor.web.config import RateLimit, WebConfigFile

DEADLINE = 60.0


def hashed(password: bytes, cost: int = 4) -> str:
    return bcrypt.hashpw(password, bcrypt.gensalt(cost)).decode()


USERS = {"alice": hashed(b"wonderland"), "jörg": hashed("grün:blau".encode())}
USERS_TEXT = "basic_auth_users:\n" + "".join(f"  {name}: {one}\n" for name, one in USERS.items())


def header(user: str, password: str) -> dict[str, str]:
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {login}"}


RIGHT, WRONG = header("alice", "wonderland"), header("alice", "looking-glass")

Answer = tuple[int, Mapping[str, str], str]
Get = Callable[[Mapping[str, str]], Coroutine[None, None, Answer]]


def with_server(path: Path, text: str, test: Callable[[Get], Awaitable[None]]) -> None:
    """Run ``test`` with a function that gets /metrics: status, headers, text."""

    async def run() -> None:
        write(path, text)
        async with serving(WebConfigFile(path)) as port, aiohttp.ClientSession() as session:

            async def get(headers: Mapping[str, str]) -> Answer:
                url = f"http://127.0.0.1:{port}/metrics"
                async with session.get(url, headers=headers) as response:
                    return response.status, response.headers, await response.text()

            await asyncio.wait_for(test(get), DEADLINE)

    asyncio.run(run())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "web.yml"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (RIGHT, 200),
        (WRONG, 401),
        (header("bob", "wonderland"), 401),
        (header("", ""), 401),
        (header("jörg", "grün:blau"), 200),
        ({"Authorization": "Bearer wonderland"}, 401),
        ({"Authorization": "Basic ?"}, 401),
    ],
)
def test_login(path: Path, headers: Mapping[str, str], status: int) -> None:
    async def test(get: Get) -> None:
        for _ in range(2):
            answer, answered, text = await get(headers)
            assert answer == status
            assert ("answered 1" in text) == (status == 200)
            assert answered.get("WWW-Authenticate") == (
                None if status == 200 else 'Basic realm="vgpumonitor", charset="UTF-8"'
            )

    with_server(path, USERS_TEXT, test)


def test_no_users_no_login(path: Path) -> None:
    async def test(get: Get) -> None:
        assert (await get({}))[0] == 200

    with_server(path, "", test)


def test_changed_users_hold_at_once(path: Path) -> None:
    async def test(get: Get) -> None:
        assert (await get(RIGHT))[0] == 200
        write(path, f"basic_auth_users: {{alice: {hashed(b'looking-glass')}}}\n")
        assert (await get(RIGHT))[0] == 401
        assert (await get(WRONG))[0] == 200
        write(path, f"basic_auth_users: {{bob: {hashed(b'builder')}}}\n")
        assert (await get(WRONG))[0] == 401

    with_server(path, USERS_TEXT, test)


def test_headers_on_every_answer(path: Path) -> None:
    async def test(get: Get) -> None:
        for headers in (RIGHT, WRONG):
            assert (await get(headers))[1]["X-Frame-Options"] == "deny"

    text = f"{USERS_TEXT}http_server_config:\n  headers:\n    X-Frame-Options: deny\n"
    with_server(path, text, test)


def test_rate_limit_without_login(path: Path) -> None:
    async def test(get: Get) -> None:
        assert [(await get({}))[0] for _ in range(4)] == [200, 200, 429, 429]

    with_server(path, "rate_limit: {interval: 1h, burst: 2}\n", test)


def test_rate_limit_comes_before_the_login(path: Path) -> None:
    """One bucket for all, as in exporter-toolkit: no flood of logins costs more than it allows."""

    async def test(get: Get) -> None:
        answers = [(await get(headers))[0] for headers in (RIGHT, WRONG, RIGHT, WRONG)]
        assert answers == [200, 401, 200, 429]

    with_server(path, f"{USERS_TEXT}rate_limit: {{interval: 1h, burst: 3}}\n", test)


class HeldBcrypt:
    """bcrypt.checkpw that waits for ``release``, and notes the passwords in order."""

    def __init__(self) -> None:
        self.passwords: list[bytes] = []
        self.begun = threading.Event()
        self.release = threading.Event()
        self._check = bcrypt.checkpw

    def __call__(self, password: bytes, stored: bytes) -> bool:
        self.passwords.append(password)
        self.begun.set()
        assert self.release.wait(DEADLINE)
        return self._check(password, stored)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> HeldBcrypt:
    held = HeldBcrypt()
    monkeypatch.setattr(bcrypt, "checkpw", held)
    return held


def test_scrapes_go_on_while_wrong_logins_are_checked(path: Path, held: HeldBcrypt) -> None:
    """The flood's bcrypt doesn't end here, and is longer than the requests that are answered at
    once; the login that was right before doesn't need it."""

    async def test(get: Get) -> None:
        held.release.set()
        assert (await get(RIGHT))[0] == 200
        held.release.clear()
        held.begun.clear()
        flood = [asyncio.create_task(get(WRONG)) for _ in range(server.REQUESTS + 10)]
        assert await asyncio.to_thread(held.begun.wait, DEADLINE)
        assert [(await get(RIGHT))[0] for _ in range(3)] == [200, 200, 200]
        assert not any(task.done() for task in flood)
        held.release.set()
        assert {(await task)[0] for task in flood} == {401}

    with_server(path, USERS_TEXT, test)


def test_logins_that_wait_too_long_are_dropped(
    path: Path, held: HeldBcrypt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with them their turn: the next one is checked as soon as bcrypt is free."""
    monkeypatch.setattr(server, "ANSWER", 0.5)

    async def test(get: Get) -> None:
        for flood in asyncio.as_completed([get(WRONG) for _ in range(5)]):
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await flood
        monkeypatch.setattr(server, "ANSWER", DEADLINE)
        held.release.set()
        assert (await get(RIGHT))[0] == 200
        assert held.passwords == [b"looking-glass", b"wonderland"]

    with_server(path, USERS_TEXT, test)


def run_logins(test: Callable[[Logins], Awaitable[None]]) -> None:
    async def run() -> None:
        await asyncio.wait_for(test(Logins()), DEADLINE)

    asyncio.run(run())


def test_one_check_for_many_at_once(held: HeldBcrypt) -> None:
    """A page's first requests come together, with the same login."""

    async def test(logins: Logins) -> None:
        login = Login("alice", b"wonderland")
        held.release.set()
        checks = (logins.check(USERS, login) for _ in range(5))
        assert await asyncio.gather(*checks) == [True] * 5
        assert held.passwords == [b"wonderland"]

    run_logins(test)


def test_unknown_user_costs_the_dearest_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    users = {"cheap": hashed(b"a", 4), "dear": hashed(b"b", 5)}
    compared: list[str] = []
    check = bcrypt.checkpw

    def noting(password: bytes, stored: bytes) -> bool:
        compared.append(stored.decode())
        return check(password, stored)

    monkeypatch.setattr(bcrypt, "checkpw", noting)

    async def test(logins: Logins) -> None:
        assert await logins.check(users, Login("nobody", b"b")) is False
        assert compared == [users["dear"]]
        assert await logins.check(users, Login("cheap", b"a")) is True
        assert compared == [users["dear"], users["cheap"]]

    run_logins(test)


def test_only_right_logins_are_remembered() -> None:
    users = {"alice": hashed(b"a"), "bob": hashed(b"b")}
    users["carol"] = users["alice"]

    async def test(logins: Logins) -> None:
        right, wrong = Login("alice", b"a"), Login("alice", b"b")
        assert await logins.check(users, wrong) is False
        assert await logins.check(users, right) is True
        assert logins.remembers(users, right)
        assert not logins.remembers(users, wrong)
        assert not logins.remembers(users, Login("bob", b"b"))
        # A changed hash, or a user taken away, ends it; also where another has the same hash.
        assert not logins.remembers({"alice": hashed(b"a")}, right)
        assert not logins.remembers({"carol": users["carol"]}, right)
        assert await logins.check({"carol": users["carol"]}, right) is False

    run_logins(test)


def test_long_password_is_compared_as_bcrypt_made_it() -> None:
    async def test(logins: Logins) -> None:
        users = {"alice": hashed(b"x" * 72)}
        assert await logins.check(users, Login("alice", b"x" * 100)) is True
        assert await logins.check(users, Login("alice", b"x" * 71)) is False

    run_logins(test)


@pytest.mark.parametrize(
    ("text", "login"),
    [
        ("Basic YTpi", Login("a", b"b")),
        ("basic  YTpi ", Login("a", b"b")),
        ("Basic YTpiOmM=", Login("a", b"b:c")),
        ("Basic Og==", Login("", b"")),
        ("Basic YTr/", Login("a", b"\xff")),
        ("Basic /zph", None),  # a user name that is no UTF-8
        ("Basic YQ==", None),  # no colon
        ("Basic YTp", None),
        ("Basic é", None),
        ("Basic", None),
        ("Digest YTpi", None),
        ("", None),
    ],
)
def test_basic_login(text: str, login: Login | None) -> None:
    assert basic_login(text) == login


def test_bucket() -> None:
    bucket, limit = Bucket(), RateLimit(interval="2s", burst=3)
    assert [bucket.take(limit, 100.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(limit, 102.0) for _ in range(2)] == [True, False]
    assert [bucket.take(limit, 200.0) for _ in range(4)] == [True, True, True, False]
    smaller = RateLimit(interval="500ms", burst=1)
    assert [bucket.take(smaller, 210.0) for _ in range(2)] == [True, False]
