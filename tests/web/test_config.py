from __future__ import annotations

import logging
import os
import ssl
from pathlib import Path

import pytest

from tests.web.certificates import Authority, Pair, openssl
from vgpumonitor.web.config import RateLimit, WebConfig, WebConfigError
from vgpumonitor.web.reload import WebConfigFile

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
    assert load(path, text) == WebConfig(
        tls=None, client_allowed_sans=None, headers={}, users={}, rate_limit=None
    )


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


def context(path: Path, text: str) -> ssl.SSLContext:
    tls = load(path, text).tls
    assert tls is not None
    return tls


def tls12_ciphers(context: ssl.SSLContext) -> list[str]:
    return [one["name"] for one in context.get_ciphers() if one["protocol"] == "TLSv1.2"]


def test_tls_defaults(tls_path: Path) -> None:
    tls = context(tls_path, TLS)
    assert (tls.minimum_version, tls.maximum_version) == (
        ssl.TLSVersion.TLSv1_2,
        ssl.TLSVersion.TLSv1_3,
    )
    assert tls.verify_mode is ssl.CERT_NONE
    assert tls12_ciphers(tls) == tls12_ciphers(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    assert tls.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert tls.options & ssl.OP_NO_RENEGOTIATION
    assert load(tls_path, TLS).client_allowed_sans is None


def test_every_tls_field(tls_path: Path, authority: Authority) -> None:
    text = (
        TLS
        + """
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus.example, "spiffe://cluster/prometheus", 192.0.2.1]
  min_version: TLS12
  max_version: TLS12
  cipher_suites:
    - TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
    - TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
  prefer_server_cipher_suites: no
  curve_preferences: [CurveP384]
"""
    )
    tls = context(tls_path, text)
    assert tls.verify_mode is ssl.CERT_REQUIRED
    own = ssl.PEM_cert_to_DER_cert(authority.cert.read_text())
    assert tls.get_ca_certs(binary_form=True) == [own]
    assert load(tls_path, text).client_allowed_sans == frozenset(
        ("prometheus.example", "spiffe://cluster/prometheus", "192.0.2.1")
    )
    assert (tls.minimum_version, tls.maximum_version) == (
        ssl.TLSVersion.TLSv1_2,
        ssl.TLSVersion.TLSv1_2,
    )
    assert tls12_ciphers(tls) == ["ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256"]
    assert not tls.options & ssl.OP_CIPHER_SERVER_PREFERENCE


def test_inline_pem(path: Path, pair: Pair, authority: Authority) -> None:
    def block(file: Path) -> str:
        return "|\n" + "".join(f"    {line}\n" for line in file.read_text().splitlines())

    tls = context(
        path,
        f"tls_server_config:\n  cert: {block(pair.cert)}  key: {block(pair.key)}"
        f"  client_ca: {block(authority.cert)}  client_auth_type: VerifyClientCertIfGiven\n",
    )
    own = ssl.PEM_cert_to_DER_cert(authority.cert.read_text())
    assert tls.get_ca_certs(binary_form=True) == [own]
    assert tls.verify_mode is ssl.CERT_OPTIONAL


def test_all_three_suites_of_tls13_leave_the_choice_open(tls_path: Path) -> None:
    suites = "TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256"
    tls = context(tls_path, f"{TLS}  min_version: TLS13\n  cipher_suites: [{suites}]\n")
    assert tls12_ciphers(tls) == tls12_ciphers(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


def test_null_is_unset(tls_path: Path) -> None:
    text = (
        f"{TLS}  client_ca:\n  min_version: null\nhttp_server_config:\n  headers:\nrate_limit: ~\n"
    )
    assert load(tls_path, text).headers == {}
    assert context(tls_path, text).minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "web.yml: the file: expected a mapping, not a list"),
        ("''\n", "web.yml: the file: expected a mapping, not text"),
        ("false\n", "web.yml: the file: expected a mapping, not true or false"),
        ("a: [\n", "web.yml:2: expected the node content, but found '<stream end>'"),
        ("a: 1\n---\nb: 1\n", "web.yml:2: but found another document"),
        ("a: \x01\n", "web.yml: unacceptable character #x0001: special characters are not allowed"),
        ("[" * 5000, "web.yml: is nested too deeply"),
        ("\ntls_config: {}\n", "web.yml: tls_config: not a field of the format"),
        ("rate_limit: 5\n", "web.yml: rate_limit: expected a mapping, not text"),
        ("rate_limit:\n  ? [a]\n  : 1\n", "web.yml:2: found unhashable key"),
        (
            "rate_limit:\n  yes: 1\n",
            "web.yml: rate_limit: expected text for the names of its fields",
        ),
        ("yes: 1\n", "web.yml: the file: expected text for the names of its fields"),
        ("rate_limit:\n  burst: 1\n  burst: 2\n", "web.yml:2: a field is given twice"),
        (
            "rate_limit:\n  interval: 1\n",
            "web.yml: rate_limit.interval: invalid duration '1': expected a Go duration such as 5m",
        ),
        (
            "rate_limit:\n  interval: -1s\n",
            "web.yml: rate_limit.interval: invalid duration '-1s': expected a Go duration such as "
            "5m",
        ),
        (
            "rate_limit:\n  burst: few\n  interval: 0\n",
            "web.yml: rate_limit.burst: expected a whole number, not text",
        ),
        (
            "rate_limit:\n  interval: 1s\n",
            "web.yml: rate_limit.burst: expected at least 1, or nothing would be answered",
        ),
        (
            "rate_limit:\n  interval: 1s\n  burst: 0\n",
            "web.yml: rate_limit.burst: expected at least 1, or nothing would be answered",
        ),
        (
            f"rate_limit:\n  burst: {'9' * 5000}\n",
            "web.yml: rate_limit.burst: Integer value out of range",
        ),
        (
            "basic_auth_users:\n  alice: secret\n",
            "web.yml: basic_auth_users.alice: expected a bcrypt hash ($2a$, $2b$ or $2y$)",
        ),
        (
            "basic_auth_users:\n  alice:\n",
            "web.yml: basic_auth_users.alice: expected a bcrypt hash ($2a$, $2b$ or $2y$)",
        ),
        (
            # Of the right form, with a salt that bcrypt can't decode.
            f"basic_auth_users:\n  bob: {HASH}\n  alice: $2b$10${'z' * 53}\n",
            "web.yml: basic_auth_users.alice: expected a bcrypt hash ($2a$, $2b$ or $2y$)",
        ),
        (
            f"basic_auth_users:\n  a:b: {HASH}\n",
            "web.yml: basic_auth_users.a:b: expected a user name without a colon",
        ),
        (
            "http_server_config:\n  http2: true\n",
            "web.yml: http_server_config.http2: expected false: HTTP/2 is not served",
        ),
        (
            "http_server_config:\n  http2: maybe\n",
            "web.yml: http_server_config.http2: expected true or false, not text",
        ),
        (
            "http_server_config:\n  http2: !!bool maybe\n",
            "web.yml: expected true or false, not 'maybe'",
        ),
        (
            "http_server_config:\n  http2: !!int maybe\n",
            "web.yml:2: could not determine a constructor for the tag 'tag:yaml.org,2002:int'",
        ),
        (
            "http_server_config:\n  headers:\n    Server: x\n",
            "web.yml: http_server_config.headers.Server: not one of the headers that the format "
            "has: Strict-Transport-Security, X-Content-Type-Options, X-Frame-Options, "
            "X-XSS-Protection or Content-Security-Policy",
        ),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: allow\n",
            "web.yml: http_server_config.headers.X-Frame-Options: expected deny or sameorigin, "
            "not 'allow'",
        ),
        (
            'http_server_config:\n  headers:\n    X-XSS-Protection: "a\\r\\nSet-Cookie: b"\n',
            "web.yml: http_server_config.headers.X-XSS-Protection: expected one line of "
            "printable text",
        ),
        (
            "tls_server_config:\n  min_version: TLS12\n",
            "web.yml: tls_server_config.cert_file: expected this field or cert",
        ),
        (
            "tls_server_config:\n  cert: x\n",
            "web.yml: tls_server_config.key_file: expected this field or key",
        ),
        (
            "tls_server_config:\n  cert: x\n  cert_file: server.crt\n",
            "web.yml: tls_server_config.cert_file: expected this field or cert, not both",
        ),
        (
            "tls_server_config:\n  cert_file: absent.crt\n",
            "web.yml: tls_server_config.cert_file: absent.crt: No such file or directory",
        ),
        (
            'tls_server_config:\n  cert_file: "a\\0b"\n',
            "web.yml: tls_server_config.cert_file: expected a path: embedded null byte",
        ),
        (
            "tls_server_config:\n  cert: x\n  key_file: server.key\n",
            "web.yml: tls_server_config.cert: expected a PEM certificate that fits "
            "key_file (server.key): no PEM text of that kind",
        ),
    ],
)
def test_refused_with_field(tls_path: Path, text: str, message: str) -> None:
    assert error(tls_path, text) == message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("min_version: TLS11", "min_version: expected TLS12 or TLS13, not 'TLS11'"),
        ("min_version: [TLS12]", "min_version: expected text, not a list"),
        (
            "min_version: TLS13, max_version: TLS12",
            "min_version: expected a version not above max_version",
        ),
        (
            "client_auth_type: RequestClientCert",
            "client_auth_type: expected NoClientCert, VerifyClientCertIfGiven or "
            "RequireAndVerifyClientCert, not 'RequestClientCert'",
        ),
        (
            "client_ca_file: ca.crt",
            "client_ca_file (ca.crt): needs a client_auth_type that asks for certificates",
        ),
        (
            "client_auth_type: RequireAndVerifyClientCert, client_ca: junk",
            "client_ca: expected PEM certificates: no certificate or crl found",
        ),
        (
            "client_auth_type: VerifyClientCertIfGiven, client_allowed_sans: [a]",
            "client_allowed_sans: needs client_auth_type RequireAndVerifyClientCert",
        ),
        (
            "client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: []",
            "client_allowed_sans: expected a list with at least one entry",
        ),
        (
            "client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: [[a]]",
            "client_allowed_sans[0]: expected text, not a list",
        ),
        ("cipher_suites: TLS_X", "cipher_suites: expected a list, not text"),
        (
            "cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]",
            "cipher_suites: expected "
            "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, "
            "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, "
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 or "
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, not 'TLS_RSA_WITH_RC4_128_SHA'",
        ),
        (
            "cipher_suites: [TLS_AES_128_GCM_SHA256]",
            "cipher_suites: expected all three suites of TLS 1.3, or none of them",
        ),
        (
            "cipher_suites: "
            "[TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256]",
            "cipher_suites: expected one for TLS 1.2, or TLS13 as min_version",
        ),
        (
            "curve_preferences: [CurveP256, CurveP384]",
            "curve_preferences: expected a single curve",
        ),
        (
            "curve_preferences: [X25519]",
            "curve_preferences: expected CurveP256, CurveP384 or CurveP521, not 'X25519'",
        ),
    ],
)
def test_tls_field_refused(tls_path: Path, fields: str, message: str) -> None:
    text = f"tls_server_config: {{cert_file: server.crt, key_file: server.key, {fields}}}\n"
    assert error(tls_path, text) == f"web.yml: tls_server_config.{message}"


def test_key_of_another_certificate_is_refused(tls_path: Path, authority: Authority) -> None:
    (tls_path.parent / "server.key").write_bytes(authority.issue("other").key.read_bytes())
    assert error(tls_path, TLS) == (
        "web.yml: tls_server_config.cert_file (server.crt): expected a PEM certificate that fits "
        "key_file (server.key): key values mismatch"
    )


def test_encrypted_key_is_refused_without_asking(tls_path: Path) -> None:
    key = tls_path.parent / "server.key"
    key.write_text(openssl("pkey", "-in", str(key), "-aes128", "-passout", "pass:secret"))
    assert error(tls_path, TLS) == (
        "web.yml: tls_server_config.key_file (server.key): expected a key that is not encrypted"
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
        "web configuration rejected, the one before stays in force: "
        f"{path}: basic_auth_users: expected a mapping, not a list"
    ]
    caplog.clear()
    path.unlink()
    with caplog.at_level(logging.INFO):
        assert [set(file.current.users) for _ in range(3)] == [{"alice"}] * 3
    assert caplog.messages == [
        "web configuration rejected, the one before stays in force: "
        f"{path}: No such file or directory"
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
        "web configuration rejected, the one before stays in force: "
        f"{tls_path}: TLS can only be switched on or off by a restart"
    ]
