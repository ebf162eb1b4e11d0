from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import aiohttp
import pytest

from tests.web.certificates import Authority, Pair
from tests.web.serving import serving, write
from vgpumonitor.web.client import client_context
from vgpumonitor.web.reload import WebConfigFile
from vgpumonitor.web.tls import TlsError


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def person(authority: Authority) -> Pair:
    return authority.issue("person")


def test_asks_an_exporter_that_wants_certificates(
    tmp_path: Path, authority: Authority, person: Pair
) -> None:
    server = authority.issue("server", "IP:127.0.0.1")
    both = tmp_path / "both.pem"
    both.write_bytes(person.cert.read_bytes() + person.key.read_bytes())

    async def run() -> None:
        path = tmp_path / "web.yml"
        write(
            path,
            f"tls_server_config:\n  cert_file: {server.cert}\n  key_file: {server.key}\n"
            f"  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: {authority.cert}\n",
        )
        async with serving(WebConfigFile(path)) as port, aiohttp.ClientSession() as session:

            async def get(context: ssl.SSLContext) -> str:
                url = f"https://127.0.0.1:{port}/metrics"
                async with session.get(url, ssl=context) as response:
                    return await response.text()

            for files in ((person.cert, person.key), (both,)):
                assert "answered 1" in await get(client_context(authority.cert, *files))
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await get(client_context(None, person.cert, person.key))
            with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
                await get(client_context(authority.cert))

    asyncio.run(run())


def refused(
    ca_file: Path | None = None, cert_file: Path | None = None, key_file: Path | None = None
) -> str:
    with pytest.raises(TlsError) as caught:
        client_context(ca_file, cert_file, key_file)
    return str(caught.value)


def test_files_that_cannot_be_used(tmp_path: Path, authority: Authority, person: Pair) -> None:
    absent, junk = tmp_path / "absent.pem", tmp_path / "junk.pem"
    junk.write_text("junk\n")
    assert refused(absent) == f"{absent}: No such file or directory"
    assert refused(None, person.cert, absent) == f"{absent}: No such file or directory"
    assert refused(junk) == (f"{junk}: expected PEM certificates: no certificate or crl found")
    assert refused(None, None, person.key) == (
        f"{person.key}: expected a certificate file for this key"
    )
    assert refused(None, person.cert) == (
        f"{person.cert}: expected a PEM certificate that fits its own key: no PEM text of that kind"
    )
    assert refused(None, authority.cert, person.key) == (
        f"{authority.cert}: expected a PEM certificate that fits {person.key}: key values mismatch"
    )
