"""TLS as exporter-toolkit configures it, with Python's ssl module."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, NamedTuple, Self, TypeVar

import msgspec

T = TypeVar("T")
Texts = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]

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

#: The suites of TLS 1.3, among which neither Go nor Python's ssl lets a server choose.
TLS13_SUITES = frozenset(
    ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
)

#: OpenSSL's names of the curves that ``SSLContext.set_ecdh_curve`` takes.
CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1"}

#: What is asked of a client, by the names of Go's ``ClientAuthType``. Those that accept a
#: certificate without verifying it are missing: Python's ssl can't.
CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}


class TlsError(Exception):
    """TLS settings that can't be used; the message starts with the name of the field or file."""


class TlsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``tls_server_config`` as it is written. ``cert``, ``key`` and ``client_ca`` are PEM texts,
    the fields ending in ``_file`` are paths of such texts."""

    cert: str | None = None
    key: str | None = None
    client_ca: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    client_ca_file: str | None = None
    client_auth_type: str | None = None
    client_allowed_sans: Texts | None = None
    min_version: str | None = None
    max_version: str | None = None
    cipher_suites: Texts | None = None
    prefer_server_cipher_suites: bool | None = None
    curve_preferences: Texts | None = None


class _Pem(NamedTuple):
    """PEM text, and the field and file that it is from."""

    where: str
    data: bytes


def server_context(section: TlsSection, read: Callable[[str], bytes]) -> ssl.SSLContext:
    """The context that ``section`` describes; ``read`` gives the content of a file that it names,
    or raises OSError. Raises TlsError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    _choose_protocol(context, section)
    cert, key = _pem(section, "cert", read), _pem(section, "key", read)
    if cert is None or key is None:
        name = "cert" if cert is None else "key"
        raise TlsError(f"{name}_file: expected this field or {name}")
    _load_certificate(context, cert, key)
    _verify_clients(context, section, _pem(section, "client_ca", read))
    return context


def _choose_protocol(context: ssl.SSLContext, section: TlsSection) -> None:
    context.minimum_version = one_of("min_version", section.min_version or "TLS12", VERSIONS)
    context.maximum_version = one_of("max_version", section.max_version or "TLS13", VERSIONS)
    if context.minimum_version > context.maximum_version:
        raise TlsError("min_version: expected a version not above max_version")
    if section.prefer_server_cipher_suites is False:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    if section.cipher_suites is not None:
        tls13 = TLS13_SUITES.intersection(section.cipher_suites)
        if tls13 and tls13 != TLS13_SUITES:
            raise TlsError("cipher_suites: expected all three suites of TLS 1.3, or none of them")
        suites = [
            one_of("cipher_suites", name, TLS12_SUITES)
            for name in section.cipher_suites
            if name not in TLS13_SUITES
        ]
        if suites:
            context.set_ciphers(":".join(suites))
        elif context.minimum_version < ssl.TLSVersion.TLSv1_3:
            raise TlsError("cipher_suites: expected one for TLS 1.2, or TLS13 as min_version")
    if section.curve_preferences is not None:
        if len(section.curve_preferences) > 1:
            raise TlsError("curve_preferences: expected a single curve")
        context.set_ecdh_curve(one_of("curve_preferences", section.curve_preferences[0], CURVES))


def _verify_clients(context: ssl.SSLContext, section: TlsSection, ca: _Pem | None) -> None:
    context.verify_mode = one_of(
        "client_auth_type", section.client_auth_type or "NoClientCert", CLIENT_AUTH
    )
    if section.client_allowed_sans is not None and context.verify_mode is not ssl.CERT_REQUIRED:
        raise TlsError("client_allowed_sans: needs client_auth_type RequireAndVerifyClientCert")
    if context.verify_mode is ssl.CERT_NONE:
        if ca is not None:
            raise TlsError(f"{ca.where}: needs a client_auth_type that asks for certificates")
        return
    # As in Go, where every certificate of the pool is an anchor, even an intermediate one.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if ca is None:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        return
    with _as_file(ca.data) as path:
        try:
            context.load_verify_locations(path)
        except ssl.SSLError as error:
            raise TlsError(f"{ca.where}: expected PEM certificates: {reason(error)}") from error


def one_of(field: str, name: str, choices: Mapping[str, T]) -> T:
    """The choice called ``name``. Raises TlsError."""
    if name not in choices:
        raise TlsError(f"{field}: expected {alternatives(choices)}, not {name!r}")
    return choices[name]


def alternatives(names: Iterable[str]) -> str:
    """``a, b or c``"""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def _pem(section: TlsSection, name: str, read: Callable[[str], bytes]) -> _Pem | None:
    inline: str | None = getattr(section, name)
    file: str | None = getattr(section, f"{name}_file")
    if inline is not None and file is not None:
        raise TlsError(f"{name}_file: expected this field or {name}, not both")
    if inline is not None:
        return _Pem(name, inline.encode(errors="replace"))
    if file is None:
        return None
    try:
        return _Pem(f"{name}_file ({file})", read(file))
    except OSError as error:
        raise TlsError(f"{name}_file: {file}: {error.strerror}") from error
    except ValueError as error:  # A zero byte.
        raise TlsError(f"{name}_file: expected a path: {error}") from error


def _load_certificate(context: ssl.SSLContext, cert: _Pem, key: _Pem) -> None:
    def no_password() -> str:
        # Without a callback OpenSSL asks at the terminal, and waits.
        raise TlsError(f"{key.where}: expected a key that is not encrypted")

    with _as_file(cert.data) as cert_path, _as_file(key.data) as key_path:
        try:
            context.load_cert_chain(cert_path, key_path, password=no_password)
        except ssl.SSLError as error:
            raise TlsError(
                f"{cert.where}: expected a PEM certificate that fits {key.where}: {reason(error)}"
            ) from error


def reason(error: ssl.SSLError) -> str:
    """OpenSSL's reason in words; it gives none where the PEM markers are missing."""
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
        """An SSLObject of the current context; asyncio calls this once per connection."""
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
