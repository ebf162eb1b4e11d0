from __future__ import annotations

import logging
import os
import ssl
import string
from pathlib import Path

import bcrypt
import pytest

from tests.web.certificates import Authority, Pair, openssl
from vgpumonitor.web.config import WebConfig, WebConfigError, WebConfigFile

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
    config = load(path, text)
    assert config == WebConfig()
    assert config.tls_server_config.context is None
    assert not config.rate_limit.seconds


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
    assert config.http_server_config.sent == {
        "X-Frame-Options": "deny",
        "X-Content-Type-Options": "nosniff",
        "X-XSS-Protection": "0",
        "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    }
    assert config.basic_auth_users == {"alice": HASH, "bob": OTHER_HASH}
    assert (config.rate_limit.seconds, config.rate_limit.burst) == (60.5, 20)
    assert HASH not in repr(config)
    assert HASH not in repr(vars(config))


def context(path: Path, text: str) -> ssl.SSLContext:
    tls = load(path, text).tls_server_config.context
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
    assert load(tls_path, TLS).tls_server_config.client_allowed_sans is None


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
    assert load(tls_path, text).tls_server_config.client_allowed_sans == (
        "prometheus.example",
        "spiffe://cluster/prometheus",
        "192.0.2.1",
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
    assert load(tls_path, text).http_server_config.sent == {}
    assert context(tls_path, text).minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "web.yml: expected a mapping, got a list"),
        ("''\n", "web.yml: expected a mapping, got text"),
        ("false\n", "web.yml: expected a mapping, got true or false"),
        ("a: [\n", "web.yml: line 2: expected the node content, but found '<stream end>'"),
        ("a: 1\n---\nb: 1\n", "web.yml: line 2: but found another document"),
        ("a: \x01\n", "web.yml: unacceptable character #x0001: special characters are not allowed"),
        ('a: "\\UFFFFFFFF"\n', "web.yml: Python int too large to convert to C int"),
        ("bogus:\n", "web.yml: unknown field bogus"),
        ("[" * 5000, "web.yml: expected less nesting"),
        ("\ntls_config: {}\n", "web.yml: unknown field tls_config"),
        ("rate_limit: 5\n", "web.yml: rate_limit: expected a mapping, got text"),
        ("rate_limit:\n  ? [a]\n  : 1\n", "web.yml: line 2: found unhashable key"),
        (
            "rate_limit:\n  yes: 1\n",
            "web.yml: key in rate_limit: expected text",
        ),
        ("yes: 1\n", "web.yml: key in $: expected text"),
        ("rate_limit:\n  burst: 1\n  burst: 2\n", "web.yml: line 2: a field is given twice"),
        (
            "rate_limit:\n  interval: 1\n",
            "web.yml: rate_limit: interval: invalid duration '1': expected a Go duration such as "
            "5m",
        ),
        (
            "rate_limit:\n  interval: -1s\n",
            "web.yml: rate_limit: interval: invalid duration '-1s': expected a Go duration such as "
            "5m",
        ),
        (
            "rate_limit:\n  burst: few\n  interval: 0\n",
            "web.yml: rate_limit: burst: expected a whole number, got text",
        ),
        (
            "rate_limit:\n  interval: 1s\n",
            "web.yml: rate_limit: burst: expected at least 1, or nothing would be answered",
        ),
        (
            "rate_limit:\n  interval: 1s\n  burst: 0\n",
            "web.yml: rate_limit: burst: expected at least 1, or nothing would be answered",
        ),
        (
            f"rate_limit:\n  burst: {'9' * 5000}\n",
            "web.yml: rate_limit: burst: Integer value out of range",
        ),
        (
            "basic_auth_users:\n  alice: secret\n",
            "web.yml: basic_auth_users: alice: expected a bcrypt hash ($2a$, $2b$ or $2y$)",
        ),
        (
            "basic_auth_users:\n  alice:\n",
            "web.yml: basic_auth_users: alice: expected a bcrypt hash ($2a$, $2b$ or $2y$)",
        ),
        (
            "http_server_config:\n  headers:\n    X-XSS-Protection: off\n",
            "web.yml: http_server_config: headers: X-XSS-Protection: expected one line of "
            "printable text",
        ),
        (
            # Of the right form, with a salt that bcrypt can't decode.
            f"basic_auth_users:\n  bob: {HASH}\n  alice: $2b$10${'z' * 53}\n",
            "web.yml: basic_auth_users: alice: expected a bcrypt hash ($2a$, $2b$ or $2y$)",
        ),
        (
            f"basic_auth_users:\n  a:b: {HASH}\n",
            "web.yml: basic_auth_users: a:b: expected a user name without a colon",
        ),
        (
            "http_server_config:\n  http2: true\n",
            "web.yml: http_server_config: http2: expected false: HTTP/2 is not served",
        ),
        (
            "http_server_config:\n  http2: maybe\n",
            "web.yml: http_server_config: http2: expected true or false, got text",
        ),
        (
            "http_server_config:\n  http2: !!bool maybe\n",
            "web.yml: http_server_config: http2: expected true or false, got text",
        ),
        (
            "http_server_config:\n  http2: !!int maybe\n",
            "web.yml: http_server_config: http2: expected true or false, got text",
        ),
        (
            "http_server_config:\n  headers:\n    Server: x\n",
            "web.yml: http_server_config: headers: expected Strict-Transport-Security or "
            "X-Content-Type-Options or X-Frame-Options or X-XSS-Protection or "
            "Content-Security-Policy, not 'Server'",
        ),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: allow\n",
            "web.yml: http_server_config: headers: X-Frame-Options: expected deny or sameorigin, "
            "not 'allow'",
        ),
        (
            'http_server_config:\n  headers:\n    X-XSS-Protection: "a\\r\\nSet-Cookie: b"\n',
            "web.yml: http_server_config: headers: X-XSS-Protection: expected one line of "
            "printable text",
        ),
        (
            "tls_server_config:\n  min_version: TLS12\n",
            "web.yml: tls_server_config: key_file: expected either this field or key",
        ),
        (
            "tls_server_config:\n  cert: x\n",
            "web.yml: tls_server_config: key_file: expected either this field or key",
        ),
        (
            "tls_server_config:\n  key: x\n  cert: x\n  cert_file: server.crt\n",
            "web.yml: tls_server_config: cert_file: expected either this field or cert",
        ),
        (
            "tls_server_config:\n  cert_file: absent.crt\n",
            "web.yml: tls_server_config: cert_file: expected a readable file: absent.crt: "
            "No such file or directory",
        ),
        (
            'tls_server_config:\n  cert_file: "a\\0b"\n',
            "web.yml: tls_server_config: cert_file: embedded null byte",
        ),
        (
            "tls_server_config:\n  cert: x\n  key_file: server.key\n",
            "web.yml: tls_server_config: cert: expected a PEM certificate, and its key in "
            "key or key_file: no such PEM text",
        ),
    ],
)
def test_refused_with_field(tls_path: Path, text: str, message: str) -> None:
    assert error(tls_path, text) == message


def test_a_hash_is_taken_where_the_library_takes_it(path: Path) -> None:
    """Of the last character of a salt, bcrypt looks at two bits and refuses others."""
    alphabet = f"./{string.ascii_letters}{string.digits}_-"
    for last in alphabet:
        hashed = f"$2b$04${'a' * 21}{last}{'b' * 31}"
        try:
            bcrypt.hashpw(b"", hashed.encode())
        except ValueError:
            assert "expected a bcrypt hash" in error(path, f"basic_auth_users: {{a: {hashed}}}\n")
        else:
            config = load(path, f"basic_auth_users: {{a: {hashed}}}\n")
            assert config.basic_auth_users == {"a": hashed}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("min_version: TLS11", "min_version: expected TLS12 or TLS13, not 'TLS11'"),
        ("min_version: [TLS12]", "min_version: expected text, got a list"),
        (
            "min_version: TLS13, max_version: TLS12",
            "min_version: expected a version not above max_version",
        ),
        (
            "client_auth_type: RequestClientCert",
            "client_auth_type: expected NoClientCert or VerifyClientCertIfGiven or "
            "RequireAndVerifyClientCert, not 'RequestClientCert'",
        ),
        (
            "client_ca_file: ca.crt",
            "client_ca: needs a client_auth_type that asks for certificates",
        ),
        (
            "client_auth_type: RequireAndVerifyClientCert, client_ca: junk",
            "client_ca: expected PEM certificates: no certificate or crl found",
        ),
        (
            "client_auth_type: VerifyClientCertIfGiven, client_allowed_sans: [a]",
            "client_allowed_sans: expected only with client_auth_type RequireAndVerifyClientCert",
        ),
        (
            "client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: []",
            "client_allowed_sans: expected a list of length >= 1",
        ),
        (
            "client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: [[a]]",
            "client_allowed_sans[0]: expected text, got a list",
        ),
        ("cipher_suites: TLS_X", "cipher_suites: expected a list, got text"),
        (
            "cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]",
            "cipher_suites: expected "
            "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA or "
            "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA or "
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 or "
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 or "
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 or "
            "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA or "
            "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA or "
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or "
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 or "
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, not 'TLS_RSA_WITH_RC4_128_SHA'",
        ),
        (
            "cipher_suites: [TLS_AES_128_GCM_SHA256]",
            "cipher_suites: expected all three suites of TLS 1.3, or none",
        ),
        (
            "cipher_suites: "
            "[TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256]",
            "cipher_suites: expected one for TLS 1.2, or TLS13 as min_version",
        ),
        (
            "curve_preferences: [CurveP256, CurveP384]",
            "curve_preferences: expected a list of length 1, got 2",
        ),
        (
            "curve_preferences: [X25519]",
            "curve_preferences: expected CurveP256 or CurveP384 or CurveP521, not 'X25519'",
        ),
    ],
)
def test_tls_field_refused(tls_path: Path, fields: str, message: str) -> None:
    text = f"tls_server_config: {{cert_file: server.crt, key_file: server.key, {fields}}}\n"
    assert error(tls_path, text) == f"web.yml: tls_server_config: {message}"


def test_key_of_another_certificate_is_refused(tls_path: Path, authority: Authority) -> None:
    (tls_path.parent / "server.key").write_bytes(authority.issue("other").key.read_bytes())
    assert error(tls_path, TLS) == (
        "web.yml: tls_server_config: cert_file: expected a PEM certificate, and its key in "
        "key or key_file: key values mismatch"
    )


def test_encrypted_key_is_refused_without_asking(tls_path: Path) -> None:
    key = tls_path.parent / "server.key"
    key.write_text(openssl("pkey", "-in", str(key), "-aes128", "-passout", "pass:secret"))
    assert error(tls_path, TLS) == (
        "web.yml: tls_server_config: key or key_file: expected a key that is not encrypted"
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
    assert file.current.basic_auth_users == {"bob": OTHER_HASH}


def test_change_by_symlink_is_seen(path: Path) -> None:
    """As kubelet swaps the content of a Secret's volume."""
    for name, user in (("v1", "alice"), ("v2", "bobby")):
        (path.parent / name).mkdir()
        (path.parent / name / "web.yml").write_text(f"basic_auth_users: {{{user}: {HASH}}}\n")
    (path.parent / "data").symlink_to("v1")
    path.symlink_to("data/web.yml")
    file = WebConfigFile(path)
    assert set(file.current.basic_auth_users) == {"alice"}
    (path.parent / "next").symlink_to("v2")
    os.rename(path.parent / "next", path.parent / "data")
    assert set(file.current.basic_auth_users) == {"bobby"}


def test_broken_change_keeps_the_old_and_is_logged_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(f"basic_auth_users: {{alice: {HASH}}}\n")
    file = WebConfigFile(path)
    path.write_text("basic_auth_users: [alice]\n")
    with caplog.at_level(logging.INFO):
        assert [set(file.current.basic_auth_users) for _ in range(3)] == [{"alice"}] * 3
    assert caplog.messages == [
        "web configuration rejected, the one before stays in force: "
        f"{path}: basic_auth_users: expected a mapping, got a list"
    ]
    caplog.clear()
    path.unlink()
    with caplog.at_level(logging.INFO):
        assert [set(file.current.basic_auth_users) for _ in range(3)] == [{"alice"}] * 3
    assert caplog.messages == [
        "web configuration rejected, the one before stays in force: "
        f"{path}: No such file or directory"
    ]
    caplog.clear()
    path.write_text(f"basic_auth_users: {{bob: {HASH}}}\n")
    with caplog.at_level(logging.INFO):
        assert set(file.current.basic_auth_users) == {"bob"}
    assert caplog.messages == [f"web configuration read again: {path}"]


def test_tls_is_not_switched_without_restart(
    tls_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tls_path.write_text(TLS)
    file = WebConfigFile(tls_path)
    tls_path.write_text(f"basic_auth_users: {{alice: {HASH}}}\n")
    assert file.current.tls_server_config.context is not None
    assert file.current.basic_auth_users == {}
    assert caplog.messages == [
        "web configuration rejected, the one before stays in force: "
        f"{tls_path}: TLS can only be switched on or off by a restart"
    ]
