from __future__ import annotations

import asyncio
import logging
import re
import shutil
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import aiohttp
import bcrypt
import pytest

from testing.exporter import free_port
from testing.tools import require
from tests.web.certificates import Authority, Pair, openssl
from tests.web.serving import serving, write
from vgpumonitor.web.config import WebConfigFile
from vgpumonitor.web.tls import subject_alternative_names

DEADLINE = 60.0
SERVER = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
CLIENT = f"{SERVER}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), "other")


@pytest.fixture(scope="module")
def server(authority: Authority) -> Pair:
    return authority.issue("server", "IP:127.0.0.1")


@pytest.fixture(scope="module")
def prometheus(authority: Authority) -> Pair:
    return authority.issue(
        "prometheus", "DNS:prometheus.example", "URI:spiffe://cluster/prometheus", "IP:2001:db8::1"
    )


@pytest.fixture
def path(tmp_path: Path, authority: Authority, server: Pair) -> Path:
    """A configuration beside server.crt, server.key and ca.crt."""
    shutil.copy(server.cert, tmp_path / "server.crt")
    shutil.copy(server.key, tmp_path / "server.key")
    shutil.copy(authority.cert, tmp_path / "ca.crt")
    return tmp_path / "web.yml"


class Client:
    """Connects anew for each request, and trusts ``authority``."""

    def __init__(self, port: int, authority: Authority) -> None:
        self.address = f"127.0.0.1:{port}"
        self._port = port
        self._authority = authority

    async def get(self, pair: Pair | None = None, **settings: Any) -> tuple[int, ssl.SSLObject]:
        """The status of /metrics, and the connection. ``settings`` are the context's."""
        context = ssl.create_default_context(cafile=str(self._authority.cert))
        for name, value in settings.items():
            setattr(context, name, value)
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=context)
        try:
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            # TLS 1.3 refuses a client's certificate only after its own handshake has ended.
            if not answer:
                raise ssl.SSLError("closed without an answer")
            return int(answer.split()[1]), writer.get_extra_info("ssl_object")
        finally:
            writer.close()

    async def common_name(self) -> str:
        """The server certificate's."""
        certificate: Any = (await self.get())[1].getpeercert()
        return str(dict(one[0] for one in certificate["subject"])["commonName"])

    async def refused(self, pair: Pair | None = None, **settings: Any) -> bool:
        try:
            await self.get(pair, **settings)
        except (ssl.SSLError, ConnectionError):
            return True
        return False


def with_server(
    path: Path, text: str, authority: Authority, test: Callable[[Client], Awaitable[None]]
) -> None:
    async def run() -> None:
        write(path, text)
        async with serving(WebConfigFile(path)) as port:
            await asyncio.wait_for(test(Client(port, authority)), DEADLINE)

    asyncio.run(run())


def test_served_with_tls(path: Path, authority: Authority) -> None:
    async def test(client: Client) -> None:
        status, connection = await client.get()
        assert status == 200
        assert connection.version() == "TLSv1.3"
        status, connection = await client.get(maximum_version=ssl.TLSVersion.TLSv1_2)
        assert status == 200
        assert connection.version() == "TLSv1.2"

    with_server(path, SERVER, authority, test)


def test_versions(path: Path, authority: Authority) -> None:
    async def test(client: Client) -> None:
        assert await client.refused(maximum_version=ssl.TLSVersion.TLSv1_2)
        assert (await client.get())[0] == 200
        write(path, f"{SERVER}  max_version: TLS12\n")
        assert (await client.get())[1].version() == "TLSv1.2"
        assert await client.refused(minimum_version=ssl.TLSVersion.TLSv1_3)

    with_server(path, f"{SERVER}  min_version: TLS13\n", authority, test)


def test_cipher_suites_in_the_order_of_who_is_preferred(path: Path, authority: Authority) -> None:
    names = {
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    }
    offered = [one["name"] for one in ssl.create_default_context().get_ciphers()]
    clients_first = min(names.values(), key=offered.index)

    async def test(client: Client) -> None:
        for order in (list(names), list(names)[::-1]):
            suites = f"{SERVER}  max_version: TLS12\n  cipher_suites: [{', '.join(order)}]\n"
            write(path, suites)
            assert (await client.get())[1].cipher() == (names[order[0]], "TLSv1.2", ANY)
            write(path, f"{suites}  prefer_server_cipher_suites: false\n")
            assert (await client.get())[1].cipher() == (clients_first, "TLSv1.2", ANY)

    with_server(path, SERVER, authority, test)


@pytest.mark.parametrize("version", ["TLS12", "TLS13"])
def test_curve(path: Path, authority: Authority, version: str) -> None:
    async def test(client: Client) -> None:
        shown = await asyncio.to_thread(openssl, "s_client", "-connect", client.address)
        assert re.findall(r"Temp Key: ECDH, (\w+)", shown) == ["secp521r1"]

    text = f"{SERVER}  min_version: {version}\n  max_version: {version}\n"
    with_server(path, f"{text}  curve_preferences: [CurveP521]\n", authority, test)


def test_client_certificate_required(
    path: Path, authority: Authority, other_authority: Authority, prometheus: Pair
) -> None:
    stranger = other_authority.issue("stranger")

    async def test(client: Client) -> None:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            assert (await client.get(prometheus, maximum_version=version))[0] == 200
            assert await client.refused(maximum_version=version)
            assert await client.refused(stranger, maximum_version=version)

    with_server(path, CLIENT, authority, test)


def test_client_certificate_if_given(
    path: Path, authority: Authority, other_authority: Authority, prometheus: Pair
) -> None:
    stranger = other_authority.issue("stranger")

    async def test(client: Client) -> None:
        assert (await client.get())[0] == 200
        assert (await client.get(prometheus))[0] == 200
        assert await client.refused(stranger)

    text = CLIENT.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven")
    with_server(path, text, authority, test)


def test_any_certificate_of_the_file_is_an_anchor(
    path: Path, authority: Authority, prometheus: Pair
) -> None:
    """As in Go: one client's own certificate admits that client, and no other."""
    other = authority.issue("another")
    shutil.copy(prometheus.cert, path.parent / "ca.crt")

    async def test(client: Client) -> None:
        assert (await client.get(prometheus))[0] == 200
        assert await client.refused(other)

    with_server(path, CLIENT, authority, test)


def test_without_client_ca_the_systems_are_trusted(
    path: Path,
    authority: Authority,
    other_authority: Authority,
    prometheus: Pair,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.cert))
    stranger = other_authority.issue("stranger")

    async def test(client: Client) -> None:
        assert (await client.get(prometheus))[0] == 200
        assert await client.refused(stranger)

    with_server(path, CLIENT.replace("  client_ca_file: ca.crt\n", ""), authority, test)


@pytest.mark.parametrize(
    ("allowed", "status"),
    [
        ("prometheus.example", 200),
        ("spiffe://cluster/prometheus", 200),
        ("2001:db8::1", 200),
        ("other, prometheus.example", 200),
        ("prometheus", 403),  # the common name
        ("example", 403),
        ("'*.example'", 403),
    ],
)
def test_allowed_names(
    path: Path, authority: Authority, prometheus: Pair, allowed: str, status: int
) -> None:
    async def test(client: Client) -> None:
        assert (await client.get(prometheus))[0] == status

    with_server(path, f"{CLIENT}  client_allowed_sans: [{allowed}]\n", authority, test)


def test_next_handshake_has_the_new_certificate(path: Path, authority: Authority) -> None:
    renewed = authority.issue("renewed", "IP:127.0.0.1")

    async def test(client: Client) -> None:
        assert await client.common_name() == "server"
        shutil.copy(renewed.cert, path.parent / "server.crt")
        # The key is missing yet: the pair of before goes on.
        assert await client.common_name() == "server"
        shutil.copy(renewed.key, path.parent / "server.key")
        assert await client.common_name() == "renewed"

    with_server(path, SERVER, authority, test)


def test_authority_taken_away_is_trusted_no_more(
    path: Path, authority: Authority, other_authority: Authority, prometheus: Pair
) -> None:
    async def test(client: Client) -> None:
        assert (await client.get(prometheus))[0] == 200
        shutil.copy(other_authority.cert, path.parent / "ca.crt")
        assert await client.refused(prometheus)
        assert (await client.get(other_authority.issue("stranger")))[0] == 200

    with_server(path, CLIENT, authority, test)


def test_client_certificates_switched_on(path: Path, authority: Authority) -> None:
    async def test(client: Client) -> None:
        assert (await client.get())[0] == 200
        write(path, CLIENT)
        assert await client.refused()

    with_server(path, SERVER, authority, test)


def test_broken_files_keep_the_old_serving(
    path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(client: Client) -> None:
        (path.parent / "server.crt").write_text("junk\n")
        for _ in range(3):
            assert await client.common_name() == "server"

    with caplog.at_level(logging.INFO, logger="vgpumonitor"):
        with_server(path, SERVER, authority, test)
    errors = [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]
    assert errors == [
        "web configuration rejected, the one before stays in force: "
        f"{path}: tls_server_config: cert_file: expected a PEM certificate, and its key in "
        "key or key_file: no such PEM text"
    ]


def test_plain_http_to_tls_is_no_answer(path: Path, authority: Authority) -> None:
    async def test(client: Client) -> None:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientError):
                await session.get(f"http://{client.address}/metrics")
        assert (await client.get())[0] == 200

    with_server(path, SERVER, authority, test)


def test_connections_take_little_memory_before_their_handshake(
    path: Path, authority: Authority
) -> None:
    """asyncio alone allocates 256 KiB for each."""
    count = 50

    async def test(client: Client) -> None:
        await client.get()
        with ExitStack() as stack:
            tracemalloc.start()
            stack.callback(tracemalloc.stop)
            host, _, port = client.address.partition(":")
            for _ in range(count):
                stack.enter_context(socket.create_connection((host, int(port))))
            await client.get()  # After it, those before were accepted too.
            assert tracemalloc.get_traced_memory()[0] < count * 128 * 1024

    with_server(path, SERVER, authority, test)


def test_subject_alternative_names() -> None:
    peercert = {
        "subject": (((("commonName", "c"),)),),
        "subjectAltName": (
            ("DNS", "a.example"),
            ("IP Address", "2001:DB8:0:0:0:0:0:1"),
            ("IP Address", "192.0.2.1"),
            ("email", "a@example"),
            ("URI", "spiffe://a"),
            ("DirName", "x"),
        ),
    }
    assert subject_alternative_names(peercert) == {
        "a.example",
        "2001:db8::1",
        "192.0.2.1",
        "a@example",
        "spiffe://a",
    }
    assert subject_alternative_names(None) == frozenset()
    assert subject_alternative_names({}) == frozenset()


@asynccontextmanager
async def running_prometheus(directory: Path, config: str) -> AsyncIterator[str]:
    """A Prometheus with the configuration ``config``; the value is its address."""
    write(directory / "prometheus.yml", config)
    address = f"127.0.0.1:{free_port()}"
    with (directory / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            require("prometheus"),
            f"--config.file={directory}/prometheus.yml",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address={address}",
            stdout=log,
            stderr=log,
        )
    try:
        yield address
    finally:
        process.terminate()
        await process.wait()


async def scraped(address: str, jobs: int) -> dict[str, dict[str, Any]]:
    """Prometheus' targets by job, once each of ``jobs`` has been scraped."""
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"http://{address}/api/v1/targets") as response:
                    targets = (await response.json())["data"]["activeTargets"]
            except (aiohttp.ClientError, KeyError):
                targets = []
            by_job = {one["scrapePool"]: one for one in targets if one["health"] != "unknown"}
            if len(by_job) == jobs:
                return by_job
            await asyncio.sleep(0.2)


@pytest.mark.slow
def test_prometheus_scrapes_with_certificate_and_password(
    path: Path, authority: Authority, prometheus: Pair
) -> None:
    pair = f"cert_file: {prometheus.cert}, key_file: {prometheus.key}"

    def job(name: str, address: str, password: str, pair: str) -> str:
        return f"""
  - job_name: {name}
    scheme: https
    static_configs: [{{targets: ["{address}"]}}]
    basic_auth: {{username: prometheus, password: {password}}}
    tls_config: {{ca_file: {authority.cert}, {pair}}}"""

    async def test(client: Client) -> None:
        config = "global: {scrape_interval: 1s}\nscrape_configs:" + "".join(
            (
                job("right", client.address, "secret", pair),
                job("wrong_password", client.address, "guess", pair),
                job("no_certificate", client.address, "secret", ""),
            )
        )
        async with running_prometheus(path.parent, config) as address:
            targets = await scraped(address, 3)
        assert {name: one["health"] for name, one in targets.items()} == {
            "right": "up",
            "wrong_password": "down",
            "no_certificate": "down",
        }
        assert targets["wrong_password"]["lastError"] == (
            "server returned HTTP status 401 Unauthorized"
        )
        # The handshake fails: there is no HTTP status.
        assert targets["no_certificate"]["lastError"].startswith(f'Get "https://{client.address}')

    stored = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    text = (
        f"{CLIENT}  client_allowed_sans: [prometheus.example]\n"
        f"basic_auth_users:\n  prometheus: {stored}\n"
    )
    with_server(path, text, authority, test)
