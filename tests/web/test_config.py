from __future__ import annotations

import logging
import os
import ssl
from pathlib import Path

import pytest

from tests.web.certificates import Authority, Pair, openssl
from vgpumonitor.web.config import RateLimit, WebConfig, WebConfigError, WebConfigFile

HASH = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"
OTHER_HASH = "$2b$04$c.9a7jbUAFQTvuxJHbcXQe3AEXNi5k8jSMLNk2Cg6K3gon91Eho3C"
TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("server", "IP:127.0.0.1")


def load(path: Path, text: str) -> WebConfig:
    path.write_text(text, encoding="utf-8")
    return WebConfigFile(path).current


def error(path: Path, text: str) -> str:
    """The message for ``text``, without the directory's name."""
    with pytest.raises(WebConfigError) as caught:
        load(path, text)
    return str(caught.value).replace(f"{path.parent}/", "")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "web.yml"


@pytest.fixture
def tls_path(path: Path, pair: Pair, authority: Authority) -> Path:
    """A configuration beside server.crt, server.key and ca.crt."""
    for name, source in (("server.crt", pair.cert), ("server.key", pair.key)):
        (path.parent / name).write_bytes(source.read_bytes())
    (path.parent / "ca.crt").write_bytes(authority.cert.read_bytes())
    return path


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "tls_server_config: {}\n", "null"])
def test_empty_is_plain_http_without_login(path: Path, text: str) -> None:
    assert load(path, text) == WebConfig(tls=None, headers={}, users={}, rate_limit=None)


def test_http_parts(path: Path) -> None:
    config = load(
        path,
        f"""
http_server_config:
  http2: false
  headers:
    X-Frame-Options: deny
    X-Content-Type-Options: nosniff
    X-XSS-Protection: 0
    Strict-Transport-Security: max-age=31536000; includeSubDomains
    Content-Security-Policy: ""
basic_auth_users:
  alice: {HASH}
  bob: '{OTHER_HASH}'
rate_limit:
  interval: 1m0.5s
  burst: 20
""",
    )
    assert config.headers == {
        "X-Frame-Options": "deny",
        "X-Content-Type-Options": "nosniff",
        "X-XSS-Protection": "0",
        "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    }
    assert config.users == {"alice": HASH, "bob": OTHER_HASH}
    assert config.rate_limit == RateLimit(60.5, 20)
    assert HASH not in repr(config)


def test_tls_defaults(tls_path: Path, pair: Pair) -> None:
    tls = load(tls_path, TLS).tls
    assert tls is not None
    assert tls.cert.data == pair.cert.read_bytes()
    assert tls.key.data == pair.key.read_bytes()
    assert "PRIVATE KEY" not in repr(tls)
    assert (tls.min_version, tls.max_version) == (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    assert tls.client_auth is ssl.CERT_NONE
    assert (tls.client_ca, tls.client_allowed_sans, tls.curve) == (None, None, None)
    assert tls.cipher_suites == ()
    assert tls.prefer_server_cipher_suites is True


def test_every_tls_field(tls_path: Path, authority: Authority) -> None:
    tls = load(
        tls_path,
        TLS
        + """
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus.example, "spiffe://cluster/prometheus"]
  min_version: TLS12
  max_version: TLS12
  cipher_suites:
    - TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
    - TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
  prefer_server_cipher_suites: no
  curve_preferences: [CurveP384]
""",
    ).tls
    assert tls is not None
    assert tls.client_auth is ssl.CERT_REQUIRED
    assert tls.client_ca is not None
    assert tls.client_ca.data == authority.cert.read_bytes()
    assert tls.client_allowed_sans == frozenset(
        ("prometheus.example", "spiffe://cluster/prometheus")
    )
    assert (tls.min_version, tls.max_version) == (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)
    assert tls.cipher_suites == ("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256")
    assert tls.prefer_server_cipher_suites is False
    assert tls.curve == "secp384r1"


def test_inline_pem(path: Path, pair: Pair, authority: Authority) -> None:
    def block(file: Path) -> str:
        return "|\n" + "".join(f"    {line}\n" for line in file.read_text().splitlines())

    tls = load(
        path,
        f"tls_server_config:\n  cert: {block(pair.cert)}  key: {block(pair.key)}"
        f"  client_ca: {block(authority.cert)}  client_auth_type: VerifyClientCertIfGiven\n",
    ).tls
    assert tls is not None
    assert tls.cert.data == pair.cert.read_bytes()
    assert tls.client_ca is not None
    assert tls.client_ca.data == authority.cert.read_bytes()
    assert tls.client_auth is ssl.CERT_OPTIONAL


def test_tls13_suites_all_three_are_a_choice_of_none(tls_path: Path) -> None:
    suites = "TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256"
    tls = load(tls_path, f"{TLS}  min_version: TLS13\n  cipher_suites: [{suites}]\n").tls
    assert tls is not None
    assert tls.cipher_suites == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "web.yml:1: the file must be a mapping"),
        ("a: [\n", "web.yml:2: expected the node content, but found '<stream end>'"),
        ("a: 1\n---\nb: 1\n", "web.yml:2: but found another document"),
        ("a: \x01\n", "web.yml: unacceptable character #x0001: special characters are not allowed"),
        (
            "\ntls_config: {}\n",
            "web.yml:2: tls_config is no field of the format; known here are tls_server_config, "
            "http_server_config, basic_auth_users, rate_limit",
        ),
        ("rate_limit: 5\n", "web.yml:1: rate_limit must be a mapping"),
        ("rate_limit:\n  ? [a]\n  : 1\n", "web.yml:2: a key must be plain text"),
        ("rate_limit:\n  burst: 1\n  burst: 2\n", "web.yml:3: rate_limit.burst is given twice"),
        (
            "rate_limit:\n  interval: 1\n",
            "web.yml:2: rate_limit.interval must be a duration with its unit, as in 500ms or 1s",
        ),
        (
            "rate_limit:\n  interval: -1s\n",
            "web.yml:2: rate_limit.interval must be a duration with its unit, as in 500ms or 1s",
        ),
        (
            "rate_limit:\n  burst: few\n  interval: 0\n",
            "web.yml:2: rate_limit.burst must be a whole number",
        ),
        (
            "rate_limit:\n  interval: 1s\n",
            "web.yml:2: rate_limit.interval: without a burst of at least 1 nothing is answered",
        ),
        (
            "rate_limit:\n  interval: 1s\n  burst: 0\n",
            "web.yml:3: rate_limit.burst: without a burst of at least 1 nothing is answered",
        ),
        (
            "basic_auth_users:\n  alice: secret\n",
            "web.yml:2: basic_auth_users.alice must be a bcrypt hash ($2a$, $2b$ or $2y$)",
        ),
        ("basic_auth_users:\n  alice:\n", "web.yml:2: basic_auth_users.alice must be text"),
        (
            f"basic_auth_users:\n  a:b: {HASH}\n",
            "web.yml:2: basic_auth_users.a:b: a user name can't have a colon in it",
        ),
        (
            "http_server_config:\n  http2: true\n",
            "web.yml:2: http_server_config.http2: HTTP/2 is not served; leave it out or say false",
        ),
        (
            "http_server_config:\n  http2: maybe\n",
            "web.yml:2: http_server_config.http2 must be true or false",
        ),
        (
            "http_server_config:\n  headers:\n    Server: x\n",
            "web.yml:3: http_server_config.headers.Server is no field of the format; known here "
            "are Strict-Transport-Security, X-Content-Type-Options, X-Frame-Options, "
            "X-XSS-Protection, Content-Security-Policy",
        ),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: allow\n",
            "web.yml:3: http_server_config.headers.X-Frame-Options must be one of deny, sameorigin",
        ),
        (
            'http_server_config:\n  headers:\n    X-XSS-Protection: "a\\r\\nSet-Cookie: b"\n',
            "web.yml:3: http_server_config.headers.X-XSS-Protection must be one line of "
            "printable text",
        ),
        (
            "tls_server_config:\n  min_version: TLS12\n",
            "web.yml:1: tls_server_config needs one of cert and cert_file",
        ),
        (
            "tls_server_config:\n  cert: x\n",
            "web.yml:1: tls_server_config needs one of key and key_file",
        ),
        (
            "tls_server_config:\n  cert: x\n  cert_file: server.crt\n",
            "web.yml:3: tls_server_config.cert_file and cert are both given",
        ),
        (
            "tls_server_config:\n  cert_file: absent.crt\n",
            "web.yml:2: tls_server_config.cert_file: absent.crt: No such file or directory",
        ),
        (
            "tls_server_config:\n  cert: x\n  key_file: server.key\n",
            "web.yml:2: tls_server_config.cert: no certificate that fits "
            "web.yml:3: tls_server_config.key_file (server.key): no PEM text of that kind",
        ),
    ],
)
def test_refused_with_line(tls_path: Path, text: str, message: str) -> None:
    assert error(tls_path, text) == message


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("min_version: TLS10", ".min_version: 'TLS10' is not one of TLS12, TLS13"),
        ("min_version: [TLS12]", ".min_version must be text"),
        ("{min_version: TLS13, max_version: TLS12}", ".min_version is above max_version"),
        (
            "client_auth_type: RequestClientCert",
            ".client_auth_type: RequestClientCert takes certificates without verifying them, "
            "which is not supported here; use RequireAndVerifyClientCert",
        ),
        (
            "client_auth_type: RequireAnyClientCert",
            ".client_auth_type: RequireAnyClientCert takes certificates without verifying them, "
            "which is not supported here; use RequireAndVerifyClientCert",
        ),
        (
            "client_auth_type: Always",
            ".client_auth_type: 'Always' is not one of NoClientCert, VerifyClientCertIfGiven, "
            "RequireAndVerifyClientCert",
        ),
        (
            "client_ca_file: ca.crt",
            ".client_ca_file (ca.crt) is given, but client_auth_type asks for none",
        ),
        (
            "{client_auth_type: RequireAndVerifyClientCert, client_ca: junk}",
            ".client_ca: no certificates: no certificate or crl found",
        ),
        (
            "{client_auth_type: VerifyClientCertIfGiven, client_allowed_sans: [a]}",
            ".client_allowed_sans needs client_auth_type RequireAndVerifyClientCert",
        ),
        (
            "{client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: []}",
            ".client_allowed_sans must be a list with at least one entry",
        ),
        (
            "cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]",
            ".cipher_suites: 'TLS_RSA_WITH_RC4_128_SHA' is not one of "
            "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, "
            "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, "
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        ),
        (
            "cipher_suites: [TLS_AES_128_GCM_SHA256]",
            ".cipher_suites: the suites of TLS 1.3 can't be chosen one by one here; "
            "name all three of them, or none",
        ),
        (
            "cipher_suites: "
            "[TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256]",
            ".cipher_suites has none for TLS 1.2; set min_version to TLS13",
        ),
        (
            "curve_preferences: [CurveP256, CurveP384]",
            ".curve_preferences: more than one curve is not supported here",
        ),
        (
            "curve_preferences: [X25519]",
            ".curve_preferences: 'X25519' is not one of CurveP256, CurveP384, CurveP521",
        ),
    ],
)
def test_tls_field_refused_with_line(tls_path: Path, field: str, message: str) -> None:
    fields = field.strip("{}").replace(", client", "\n  client").replace(", max", "\n  max")
    text = f"{TLS}  {fields}\n"
    name = message[1:].split(":")[0].split(" ")[0]
    line = next(i for i, one in enumerate(text.splitlines(), 1) if one.strip().startswith(name))
    assert error(tls_path, text) == f"web.yml:{line}: tls_server_config{message}"


def test_key_of_another_certificate_is_refused(tls_path: Path, authority: Authority) -> None:
    (tls_path.parent / "server.key").write_bytes(authority.issue("other").key.read_bytes())
    assert error(tls_path, TLS) == (
        "web.yml:2: tls_server_config.cert_file (server.crt): no certificate that fits "
        "web.yml:3: tls_server_config.key_file (server.key): key values mismatch"
    )


def test_encrypted_key_is_refused_without_asking(tls_path: Path) -> None:
    key = tls_path.parent / "server.key"
    key.write_text(openssl("pkey", "-in", str(key), "-aes128", "-passout", "pass:secret"))
    assert error(tls_path, TLS) == (
        "web.yml:3: tls_server_config.key_file (server.key): the key is encrypted, "
        "which the format has no password for"
    )


def test_missing_file_names_it(path: Path) -> None:
    with pytest.raises(WebConfigError) as caught:
        WebConfigFile(path)
    assert str(caught.value) == f"{path}: No such file or directory"


def test_change_is_seen(path: Path) -> None:
    path.write_text(f"basic_auth_users: {{alice: {HASH}}}\n")
    file = WebConfigFile(path)
    assert file.current is file.current
    path.write_text(f"basic_auth_users: {{bob: {OTHER_HASH}}}\n")
    assert file.current.users == {"bob": OTHER_HASH}


def test_change_by_symlink_is_seen(path: Path) -> None:
    """As kubelet swaps the content of a Secret's volume."""
    for name, user in (("v1", "alice"), ("v2", "bobby")):
        (path.parent / name).mkdir()
        (path.parent / name / "web.yml").write_text(f"basic_auth_users: {{{user}: {HASH}}}\n")
    (path.parent / "data").symlink_to("v1")
    path.symlink_to("data/web.yml")
    file = WebConfigFile(path)
    assert set(file.current.users) == {"alice"}
    (path.parent / "next").symlink_to("v2")
    os.rename(path.parent / "next", path.parent / "data")
    assert set(file.current.users) == {"bobby"}


def test_broken_change_keeps_the_old_and_is_logged_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(f"basic_auth_users: {{alice: {HASH}}}\n")
    file = WebConfigFile(path)
    path.write_text("basic_auth_users: [alice]\n")
    with caplog.at_level(logging.INFO):
        assert [set(file.current.users) for _ in range(3)] == [{"alice"}] * 3
    assert caplog.messages == [
        "web configuration can't be used, the one before stays: "
        f"{path}:1: basic_auth_users must be a mapping"
    ]
    caplog.clear()
    path.unlink()
    with caplog.at_level(logging.INFO):
        assert [set(file.current.users) for _ in range(3)] == [{"alice"}] * 3
    assert caplog.messages == [
        f"web configuration can't be used, the one before stays: {path}: No such file or directory"
    ]
    caplog.clear()
    path.write_text(f"basic_auth_users: {{bob: {HASH}}}\n")
    with caplog.at_level(logging.INFO):
        assert set(file.current.users) == {"bob"}
    assert caplog.messages == [f"web configuration read again: {path}"]


def test_tls_is_not_switched_without_restart(
    tls_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tls_path.write_text(TLS)
    file = WebConfigFile(tls_path)
    tls_path.write_text(f"basic_auth_users: {{alice: {HASH}}}\n")
    assert file.current.tls is not None
    assert file.current.users == {}
    assert caplog.messages == [
        "web configuration can't be used, the one before stays: "
        f"{tls_path}: TLS can only be switched on or off by a restart"
    ]
