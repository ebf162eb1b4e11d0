"""TLS as exporter-toolkit configures it, with Python's ssl module."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

#: TLS versions by exporter-toolkit's names. TLS10 and TLS11 are missing: OpenSSL 3 negotiates
#: them only at security level 0.
VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}

#: OpenSSL's names of the TLS 1.2 suites that Go's ``crypto/tls.CipherSuites`` lists.
TLS12_SUITES = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}

#: The suites of TLS 1.3, which neither Go nor Python's ssl lets a server choose from.
TLS13_SUITES = frozenset(
    ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
)

#: OpenSSL's names of the curves that ``SSLContext.set_ecdh_curve`` takes.
CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1"}

#: What is asked of a client, by the names of Go's ``ClientAuthType``. Those that take a
#: certificate without verifying it are missing: Python's ssl can't.
CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}


class TlsError(Exception):
    """A certificate or key that can't be used; the message says which, and where it is from."""


@dataclass(frozen=True, slots=True)
class Pem:
    """PEM text; ``where`` names the line of the configuration, and the file, that it is from."""

    where: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """The part ``tls_server_config``.

    ``client_ca`` None trusts the system's authorities. ``client_allowed_sans`` None allows
    every verified client. ``cipher_suites`` and ``curve`` have OpenSSL's names; empty and
    None leave OpenSSL's defaults.
    """

    cert: Pem
    key: Pem
    client_auth: ssl.VerifyMode = ssl.CERT_NONE
    client_ca: Pem | None = None
    client_allowed_sans: frozenset[str] | None = None
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    cipher_suites: tuple[str, ...] = ()
    prefer_server_cipher_suites: bool = True
    curve: str | None = None


def ssl_context(tls: TlsConfig) -> ssl.SSLContext:
    """The server context that ``tls`` describes. Raises TlsError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = tls.min_version
    context.maximum_version = tls.max_version
    context.options |= ssl.OP_NO_RENEGOTIATION
    if tls.prefer_server_cipher_suites:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if tls.cipher_suites:
        context.set_ciphers(":".join(tls.cipher_suites))
    if tls.curve is not None:
        context.set_ecdh_curve(tls.curve)
    context.set_alpn_protocols(["http/1.1"])
    _load_certificate(context, tls.cert, tls.key)
    context.verify_mode = tls.client_auth
    if tls.client_auth is not ssl.CERT_NONE:
        # As in Go, where every certificate of the pool is an anchor, also an intermediate one.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if tls.client_ca is None:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        else:
            _load_authorities(context, tls.client_ca)
    return context


def _load_certificate(context: ssl.SSLContext, cert: Pem, key: Pem) -> None:
    def no_password() -> str:
        # Without a callback OpenSSL asks at the terminal, and waits.
        raise TlsError(f"{key.where}: the key is encrypted, which the format has no password for")

    with _as_file(cert.data) as cert_path, _as_file(key.data) as key_path:
        try:
            context.load_cert_chain(cert_path, key_path, password=no_password)
        except ssl.SSLError as error:
            raise TlsError(
                f"{cert.where}: no certificate that fits {key.where}: {_reason(error)}"
            ) from error


def _load_authorities(context: ssl.SSLContext, authorities: Pem) -> None:
    with _as_file(authorities.data) as path:
        try:
            context.load_verify_locations(path)
        except ssl.SSLError as error:
            raise TlsError(f"{authorities.where}: no certificates: {_reason(error)}") from error


def _reason(error: ssl.SSLError) -> str:
    # OpenSSL gives no reason where the PEM markers are missing.
    return error.reason.replace("_", " ").lower() if error.reason else "no PEM text of that kind"


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    # The ssl module reads keys from files only; a memory file also works on a read-only root,
    # and leaves no key on a disk.
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


class ReloadingContext(ssl.SSLContext):
    """A server context for asyncio that takes each new connection's settings from ``current``.

    Changing one context in place isn't enough: an authority can't be taken out of its store,
    and ``sni_callback`` changes the certificate but not the versions or the verification.
    """

    _current: Callable[[], ssl.SSLContext]

    def __new__(cls, current: Callable[[], ssl.SSLContext]) -> Self:
        context = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        context._current = current
        return context

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """An SSLObject of the current context; asyncio calls this once a connection."""
        return self._current().wrap_bio(*args, **kwargs)


def subject_alternative_names(peercert: Mapping[str, Any] | None) -> frozenset[str]:
    """The DNS names, IP addresses, e-mail addresses and URIs of a verified peer certificate,
    as ``SSLObject.getpeercert`` gives it; addresses in their canonical form."""
    names = set()
    for kind, value in (peercert or {}).get("subjectAltName", ()):
        if kind in ("DNS", "email", "URI"):
            names.add(value)
        elif kind == "IP Address":
            names.add(str(ipaddress.ip_address(value.strip())))
    return frozenset(names)
