"""TLS as exporter-toolkit configures it, with Python's ssl module."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import msgspec

T = TypeVar("T")
Texts = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]

#: TLS versions by exporter-toolkit's names. TLS10 and TLS11 are missing: OpenSSL 3 negotiates
#: them only at security level 0.
VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}

#: OpenSSL's names of the TLS 1.2 suites that Go's ``crypto/tls.CipherSuites`` lists.
TLS12_SUITES = {
    f"TLS_ECDHE_{key}_WITH_{go}": f"ECDHE-{key}-{openssl}"
    for key in ("ECDSA", "RSA")
    for go, openssl in (
        ("AES_128_CBC_SHA", "AES128-SHA"),
        ("AES_256_CBC_SHA", "AES256-SHA"),
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
    )
}

#: The suites of TLS 1.3, among which neither Go nor Python's ssl lets a server choose.
TLS13_SUITES = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}

#: OpenSSL's names of the curves that ``SSLContext.set_ecdh_curve`` takes.
CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1"}

#: What is asked of a client, by the names of Go's ``ClientAuthType``. Those that accept a
#: certificate without verifying it are missing: Python's ssl can't.
CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}


def one_of(field: str, name: str, choices: Mapping[str, T]) -> T:
    """The choice called ``name``. Raises ValueError."""
    if name not in choices:
        raise ValueError(f"{field}: expected {' or '.join(choices)}, not {name!r}")
    return choices[name]


class Section(msgspec.Struct, dict=True, forbid_unknown_fields=True):
    """A mapping in the file. Its values aren't shown: keys and password hashes are among them."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class Content(bytes):
    """What is in a file whose path the configuration has."""


class TlsConfig(Section):
    """``tls_server_config``. ``context`` is what it describes, None where it says nothing."""

    cert: str | None = None
    cert_file: Content | None = None
    key: str | None = None
    key_file: Content | None = None
    client_ca: str | None = None
    client_ca_file: Content | None = None
    client_auth_type: str | None = None
    client_allowed_sans: Texts | None = None
    min_version: str | None = None
    max_version: str | None = None
    cipher_suites: Texts | None = None
    prefer_server_cipher_suites: bool | None = None
    curve_preferences: tuple[str] | None = None

    def __post_init__(self) -> None:
        self.context: ssl.SSLContext | None = None
        if any(value is not None for value in msgspec.structs.astuple(self)):
            self.context = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.options |= ssl.OP_NO_RENEGOTIATION
            context.set_alpn_protocols(["http/1.1"])
            self._choose_protocol(context)
            pair = "a PEM certificate, and its key in key or key_file"
            with self._pem("key", "a PEM key") as key, self._pem("cert", pair) as cert:
                context.load_cert_chain(cert, key, _no_password)
            self._verify_clients(context)

    def _choose_protocol(self, context: ssl.SSLContext) -> None:
        context.minimum_version = one_of("min_version", self.min_version or "TLS12", VERSIONS)
        context.maximum_version = one_of("max_version", self.max_version or "TLS13", VERSIONS)
        if context.minimum_version > context.maximum_version:
            raise ValueError("min_version: expected a version not above max_version")
        if self.prefer_server_cipher_suites is False:
            context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        if self.curve_preferences is not None:
            [curve] = self.curve_preferences
            context.set_ecdh_curve(one_of("curve_preferences", curve, CURVES))
        if self.cipher_suites is not None:
            if TLS13_SUITES.difference(self.cipher_suites) not in (set(), TLS13_SUITES):
                raise ValueError("cipher_suites: expected all three suites of TLS 1.3, or none")
            tls12 = [name for name in self.cipher_suites if name not in TLS13_SUITES]
            if tls12:
                names = (one_of("cipher_suites", name, TLS12_SUITES) for name in tls12)
                context.set_ciphers(":".join(names))
            elif context.minimum_version < ssl.TLSVersion.TLSv1_3:
                raise ValueError("cipher_suites: expected one for TLS 1.2, or TLS13 as min_version")

    def _verify_clients(self, context: ssl.SSLContext) -> None:
        asked = self.client_auth_type or "NoClientCert"
        context.verify_mode = one_of("client_auth_type", asked, CLIENT_AUTH)
        # As in Go, where every certificate of the pool is an anchor, even an intermediate one.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if self.client_allowed_sans is not None and context.verify_mode is not ssl.CERT_REQUIRED:
            needed = "client_auth_type RequireAndVerifyClientCert"
            raise ValueError(f"client_allowed_sans: expected only with {needed}")
        if self.client_ca is not None or self.client_ca_file is not None:
            if context.verify_mode is ssl.CERT_NONE:
                raise ValueError("client_ca: needs a client_auth_type that asks for certificates")
            with self._pem("client_ca", "PEM certificates") as authorities:
                context.load_verify_locations(authorities)
        elif context.verify_mode is not ssl.CERT_NONE:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)

    @contextmanager
    def _pem(self, name: str, expected: str) -> Iterator[str]:
        """The path of a file with what the field ``name`` or ``name``_file gives. Where OpenSSL
        can't use it in the block, the error is that of this field."""
        both = {field: getattr(self, field) for field in (name, f"{name}_file")}
        given = [(field, value) for field, value in both.items() if value is not None]
        if len(given) != 1:
            raise ValueError(f"{name}_file: expected either this field or {name}")
        [(field, value)] = given
        # The ssl module reads keys from files only; a memory file also works on a read-only root,
        # and leaves no key on a disk.
        with open(os.memfd_create(name), "wb", buffering=0) as file:
            file.write(value if isinstance(value, bytes) else value.encode(errors="replace"))
            try:
                yield f"/proc/self/fd/{file.fileno()}"
            except ssl.SSLError as error:
                # OpenSSL gives no reason where the PEM markers are missing.
                reason = (error.reason or "").replace("_", " ").lower() or "no such PEM text"
                raise ValueError(f"{field}: expected {expected}: {reason}") from error


def _no_password() -> str:
    # Without a callback OpenSSL asks at the terminal, and waits.
    raise ValueError("key or key_file: expected a key that is not encrypted")


def subject_alternative_names(peercert: Mapping[str, Any] | None) -> frozenset[str]:
    """The DNS names, IP addresses, e-mail addresses and URIs of a verified peer certificate,
    as ``SSLObject.getpeercert`` gives it; addresses in their canonical form."""
    return frozenset(
        str(ipaddress.ip_address(value.strip())) if kind == "IP Address" else value
        for kind, value in (peercert or {}).get("subjectAltName", ())
        if kind in ("DNS", "email", "IP Address", "URI")
    )
