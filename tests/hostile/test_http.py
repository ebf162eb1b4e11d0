"""Clients that are slow, greedy or wrong: answered or dropped, and a scrape comes through."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web

from testing.exporter import Exporter, free_port, running, serve_arguments
from testing.polling import eventually
from testing.region_files import put
from testing.values import MIB
from vgpumonitor import serve as serve_module
from vgpumonitor.settings import Address, Settings
from vgpumonitor.sources.containers import raise_descriptor_limit
from vgpumonitor.web import server

NAME = "9d3f1c6e-6f55-4c5e-8a43-0f2c9b1f3a11_train"
REGION = "hami-2.9.0-three-processes"
#: Bytes of an answer that no socket's buffers hold.
LARGE = 64 * MIB


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("node") / "containers"
    put(REGION, directory / NAME / f"{NAME}.cache")
    return directory


@pytest.fixture(scope="module")
def exporter(containers: Path) -> Iterator[Exporter]:
    with running(*serve_arguments(containers)) as made:
        yield made


def scrape(exporter: Exporter) -> None:
    """A whole scrape, on a connection of its own."""
    assert exporter.value("vgpu_region_info", container="train") == 1


def connect(exporter: Exporter) -> socket.socket:
    return socket.create_connection(("127.0.0.1", exporter.port), timeout=30)


def answer(exporter: Exporter, request: bytes) -> bytes:
    """Everything that comes back until the connection is closed."""
    with connect(exporter) as connection:
        connection.sendall(request)
        return rest(connection)


def rest(connection: socket.socket) -> bytes:
    body = b""
    while True:
        try:
            chunk = connection.recv(65536)
        except ConnectionError:
            return body
        if not chunk:
            return body
        body += chunk


def sockets_of(exporter: Exporter) -> int:
    directory = f"/proc/{exporter.process.pid}/fd"
    found = 0
    for fd in os.listdir(directory):
        try:
            found += os.readlink(f"{directory}/{fd}").startswith("socket:")
        except FileNotFoundError:
            continue
    return found


class TestRequests:
    @pytest.mark.parametrize(
        "request_",
        [
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * MIB + b"\r\n\r\n",
            b"GET /" + b"x" * MIB + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"X-Many: y\r\n" * 10_000 + b"\r\n",
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
            b"GET\r\n\r\n",
            b"\0" * 100_000,
        ],
        ids=["long-header", "long-path", "many-headers", "no-colon", "tls", "short", "zeros"],
    )
    def test_what_is_no_request_is_refused(self, request_: bytes, exporter: Exporter) -> None:
        with connect(exporter) as connection:
            with suppress(ConnectionError):  # It has read enough.
                connection.sendall(request_)
            got = rest(connection)
        assert got == b"" or got.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
        scrape(exporter)
        assert exporter.log.count("\n") == 1  # Where it serves; nobody else's words.

    @pytest.mark.parametrize(
        "accept",
        [
            "",
            ";;;,,,",
            "q=1",
            "*/*;q=x",
            "\xff\xfe",
            "text/plain;version=" + "9" * 4000,
            "," * 8000,
        ],
        ids=["empty", "parts", "weight", "no-weight", "bytes", "version", "commas"],
    )
    def test_a_bad_accept_gets_text(self, accept: str, exporter: Exporter) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", exporter.port, timeout=30)
        connection.request("GET", "/metrics", headers={"Accept": accept})
        got = connection.getresponse()
        assert got.status == 200
        assert got.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert b"vgpu_region_info{" in got.read()
        connection.close()

    @pytest.mark.parametrize(
        ("target", "status"),
        [
            (b"/metrics?name[]=%ff%00&name[]=" + b"x" * 4000, b"200"),
            (b"/metrics?" + b"&" * 4000, b"200"),
            (b"/%00%0d%0aX-Injected:%20x", b"404"),
            (b"/../../etc/passwd", b"404"),
            (b"/" + b"../" * 1000, b"404"),
            (b"http://[::1/metrics", b"400"),
            (b"*", b"400"),
        ],
        ids=["names", "ampersands", "control", "parent", "parents", "bracket", "star"],
    )
    def test_odd_targets(self, target: bytes, status: bytes, exporter: Exporter) -> None:
        got = answer(
            exporter, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        assert got.split(b" ", 2)[1] == status
        assert b"X-Injected" not in got.partition(b"\r\n\r\n")[0]
        assert exporter.log.count("\n") == 1

    def test_http_1_0(self, exporter: Exporter) -> None:
        head, _, body = answer(exporter, b"GET /metrics HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 200 OK")
        assert b"chunked" not in head.lower()
        assert b"vgpu_region_info{" in body
        assert f"Content-Length: {len(body)}".encode() in head

    def test_pipelined_requests_are_answered_in_order(self, exporter: Exporter) -> None:
        paths = [b"/healthz", b"/nothing"] * 500
        requests = b"".join(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in paths[:-1])
        last = b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        got = answer(exporter, requests + last)
        statuses = [part[:3] for part in got.split(b"HTTP/1.1 ")[1:]]
        assert statuses == [b"200", b"404"] * 500

    def test_a_body_that_never_comes(self, exporter: Exporter) -> None:
        with connect(exporter) as connection:
            connection.sendall(
                b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n\r\n"
            )
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
            scrape(exporter)

    def test_other_methods(self, exporter: Exporter) -> None:
        for method in (b"POST", b"PUT", b"DELETE", b"TRACE"):
            got = answer(
                exporter, method + b" /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            )
            assert got.startswith(b"HTTP/1.1 405 ")


class TestManyConnections:
    def test_slow_headers_do_not_hold_a_scrape(self, exporter: Exporter) -> None:
        with ExitStack() as stack:
            slow = [stack.enter_context(connect(exporter)) for _ in range(100)]
            for step in (b"GET /metrics HT", b"TP/1.1\r\nHost: x", b"\r\nX-Slow: "):
                for connection in slow:
                    connection.sendall(step)
                scrape(exporter)

    def test_thousands_of_idle_connections(self, exporter: Exporter) -> None:
        """Nothing bounds them but descriptors and memory, of which each takes little."""
        raise_descriptor_limit()
        with ExitStack() as stack:
            idle = [stack.enter_context(connect(exporter)) for _ in range(2000)]
            eventually(lambda: sockets_of(exporter) >= len(idle))
            scrape(exporter)
            for connection in (idle[0], idle[-1]):
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert rest(connection).startswith(b"HTTP/1.1 200 ")
        eventually(lambda: sockets_of(exporter) < 20)

    def test_slow_readers_below_the_bound(self, exporter: Exporter) -> None:
        with ExitStack() as stack:
            for _ in range(server.REQUESTS - 5):
                reader = stack.enter_context(socket.socket())
                reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                reader.connect(("127.0.0.1", exporter.port))
                reader.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            for _ in range(3):
                scrape(exporter)


@asynccontextmanager
async def bounded_server() -> AsyncIterator[int]:
    """A server within the bounds whose answers are LARGE: in pieces at /pieces and in one at
    /whole. The value is its port."""

    async def pieces(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(LARGE // MIB):
            await response.write(bytes(MIB))
        return response

    async def whole(_: web.Request) -> web.Response:
        return web.Response(body=bytes(LARGE))

    async def probe(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    app = web.Application()
    app.router.add_get("/pieces", pieces)
    app.router.add_get("/whole", whole)
    app.router.add_get("/healthz", probe)
    address = Address("127.0.0.1", free_port())
    async with server.listening(app, (address,), None):
        yield address.port


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()


async def ask(port: int, request: bytes) -> socket.socket:
    """A client that asks, and reads nothing."""
    loop = asyncio.get_running_loop()
    client = socket.socket()
    client.setblocking(False)
    await loop.sock_connect(client, ("127.0.0.1", port))
    await loop.sock_sendall(client, request)
    return client


async def begun(client: socket.socket) -> None:
    """The first byte of the answer is there; it is not taken."""
    async with asyncio.timeout(20):
        while True:
            try:
                if client.recv(1, socket.MSG_PEEK):
                    return
            except BlockingIOError:
                await asyncio.sleep(0.02)


async def status(port: int, path: str) -> int:
    """The status of an answer that is read to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(get(path))
    first, *_ = (await reader.read()).split(b"\r\n", 1)
    writer.close()
    return int(first.split()[1])


async def read(client: socket.socket) -> int:
    """Closes ``client`` after all that it gets; how many bytes that is."""
    loop = asyncio.get_running_loop()
    count = 0
    with client, suppress(ConnectionError):
        while chunk := await loop.sock_recv(client, MIB):
            count += len(chunk)
    return count


class TestBounds:
    @pytest.mark.parametrize("path", ["/pieces", "/whole"])
    def test_a_client_that_never_reads_its_answer(
        self, path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It gives its place up to others."""
        monkeypatch.setattr(server, "ANSWER", 0.5)
        monkeypatch.setattr(server, "REQUESTS", 1)

        async def run() -> None:
            async with bounded_server() as port:
                client = await ask(port, get(path))
                await begun(client)
                async with asyncio.timeout(20):
                    while await status(port, "/nothing") == 503:
                        pass
                assert await read(client) < LARGE

        asyncio.run(run())
        assert not caplog.records

    @pytest.mark.parametrize("path", ["/pieces", "/whole"])
    def test_more_requests_than_the_bound(
        self, path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """As long as their answers are not read. A probe is answered all the same."""
        monkeypatch.setattr(server, "REQUESTS", 3)

        async def run() -> None:
            async with bounded_server() as port:
                clients = [await ask(port, get(path)) for _ in range(3)]
                for client in clients:
                    await begun(client)
                assert await status(port, path) == 503
                assert await status(port, "/nothing") == 503
                assert await status(port, "/healthz") == 200
                assert [await read(client) > LARGE for client in clients] == [True] * 3
                assert await status(port, "/nothing") == 404

        asyncio.run(run())
        assert not caplog.records

    def test_headers_that_never_end(
        self, containers: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The exporter itself, with less patience: also where bytes trickle in all the time."""
        monkeypatch.setattr(server, "QUIET", 0.5)
        address = Address("127.0.0.1", free_port())
        settings = Settings((address,), containers_dir=containers, pods="none", nvml="off")

        async def run() -> None:
            loop = asyncio.get_running_loop()
            serving = asyncio.create_task(serve_module.run(settings))
            client = None
            while client is None:
                try:
                    client = await ask(address.port, b"GET /metrics HTTP/1.1\r\nX-Slow: ")
                except ConnectionRefusedError:
                    await asyncio.sleep(0.02)
            async with asyncio.timeout(20):
                with client, suppress(ConnectionError):
                    while True:
                        await loop.sock_sendall(client, b"x")
                        await asyncio.sleep(0.02)
            os.kill(os.getpid(), signal.SIGTERM)
            await serving

        asyncio.run(run())
