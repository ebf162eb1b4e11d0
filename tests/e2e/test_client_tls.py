"""``top``, ``compare`` and ``doctor`` with an exporter that asks for client certificates."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.exporter import free_port, serve_arguments
from testing.polling import eventually
from testing.region_files import put
from testing.values import UID
from tests.web.certificates import Authority, Pair, openssl
from vgpumonitor import __version__

WEB_CONFIG = """\
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: authority.crt
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority(directory: Path) -> Authority:
    return Authority(directory)


@pytest.fixture(scope="module")
def client(authority: Authority) -> Pair:
    return authority.issue("client")


@pytest.fixture(scope="module")
def url(directory: Path, authority: Authority) -> Iterator[str]:
    authority.issue("server", "IP:127.0.0.1")
    config = directory / "web.yml"
    config.write_text(WEB_CONFIG)
    entry = f"{UID}_train"
    put("hami-2.9.0-three-processes", directory / "containers" / entry / f"{entry}.cache")
    port = free_port()
    arguments = serve_arguments(
        directory / "containers",
        f"--listen-address=127.0.0.1:{port}",
        f"--web-config-file={config}",
    )
    log = directory / "log"
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "vgpumonitor", *arguments], stderr=file)
    try:
        eventually(lambda: "msg=serving" in log.read_text())
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vgpumonitor", *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


def test_a_client_with_a_certificate_is_answered(
    url: str, authority: Authority, client: Pair
) -> None:
    flags = f"--ca-file={authority.cert}", f"--cert-file={client.cert}", f"--key-file={client.key}"
    done = run("top", url, "--once", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("node-1  1 container  ")
    done = run("compare", url, url, *flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(" series agree\n")
    done = run("doctor", url, *flags)
    assert done.stderr == ""
    assert done.stdout.startswith("node-1: ")


def test_doctor_finds_it_at_the_port_of_this_machine(
    url: str, authority: Authority, client: Pair, tmp_path: Path
) -> None:
    def port(*flags: str) -> str:
        address = url.removeprefix("https://")
        node = (f"--listen-address={address}", f"--hook-path={tmp_path}", "--nvml=off")
        done = run("doctor", "--json", "--pods=none", *node, *flags)
        assert done.stderr == ""
        text: str = json.loads(done.stdout)["looked_at"]["port"]
        return text.removeprefix(f"{address}: ")

    certificate = f"--cert-file={client.cert}", f"--key-file={client.key}"
    assert port(f"--ca-file={authority.cert}", *certificate) == f"vgpumonitor {__version__} answers"
    assert port() == "answers with TLS, and its certificate is not trusted (--ca-file)"
    wanted = "answers with TLS, and wants a client's certificate (--cert-file)"
    assert port(f"--ca-file={authority.cert}") == wanted


def test_the_key_may_be_in_the_certificates_file(
    url: str, authority: Authority, client: Pair, tmp_path: Path
) -> None:
    both = tmp_path / "client.pem"
    both.write_text(client.cert.read_text() + client.key.read_text())
    done = run("top", url, "--once", f"--ca-file={authority.cert}", f"--cert-file={both}")
    assert (done.returncode, done.stderr) == (0, "")


def test_an_exporter_of_an_unknown_authority_is_not_believed(url: str) -> None:
    for done in (run("top", url, "--once"), run("compare", url, url), run("doctor", url)):
        assert done.returncode in (1, 2)
        assert "its certificate is not trusted: self-signed certificate" in done.stderr
        assert done.stderr.endswith(" (--ca-file)\n")
        assert "Traceback" not in done.stderr


def test_an_exporter_that_expects_tls_says_so(url: str) -> None:
    plain = url.replace("https:", "http:")
    for done in (run("top", plain, "--once"), run("compare", plain, plain), run("doctor", plain)):
        assert done.returncode in (1, 2)
        assert done.stderr.endswith(": does it expect https://?\n")


def test_a_client_without_a_certificate_is_refused(url: str, authority: Authority) -> None:
    for command in (("top", url, "--once"), ("compare", url, url), ("doctor", url)):
        done = run(*command, f"--ca-file={authority.cert}")
        assert done.returncode in (1, 2)
        assert f"{url}/" in done.stderr or f"{url}:" in done.stderr
        assert "Traceback" not in done.stderr


class TestWrongFiles:
    @pytest.mark.parametrize(
        ("flag", "message"),
        [
            ("--ca-file=/nowhere", "Invalid value for --ca-file: can't use /nowhere: No such file"),
            (
                "--cert-file=/nowhere",
                "Invalid value for --cert-file: can't use /nowhere: No such file",
            ),
            ("--key-file=/nowhere", "--key-file needs --cert-file"),
        ],
    )
    def test_are_named(self, flag: str, message: str) -> None:
        for command in (("top",), ("compare", "http://a", "http://b"), ("doctor",)):
            done = run(*command, flag)
            assert done.returncode == 2
            assert message in done.stderr

    def test_that_hold_something_else(self, tmp_path: Path) -> None:
        text = tmp_path / "text"
        text.write_text("text")
        for flag in ("--ca-file", "--cert-file"):
            done = run("top", f"{flag}={text}")
            assert done.returncode == 2
            assert f"Invalid value for {flag}: can't use {text}: " in done.stderr

    def test_a_key_with_a_password_is_not_asked_for(self, client: Pair, tmp_path: Path) -> None:
        key = tmp_path / "encrypted.key"
        openssl("ec", "-in", str(client.key), "-aes256", "-passout", "pass:x", "-out", str(key))
        done = run("top", f"--cert-file={client.cert}", f"--key-file={key}")
        assert done.returncode == 2
        assert "the private key is encrypted: expected one without a password" in done.stderr
