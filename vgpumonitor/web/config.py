"""The web configuration file, in the format of Prometheus' exporter-toolkit.

Source: docs/web-configuration.md of prometheus/exporter-toolkit, and its web/tls_config.go and
web/handler.go for what the page leaves open. What can't be honoured here is an error, never
ignored: HTTP/2, TLS before 1.2, client certificates that nobody verifies, a choice among the
suites of TLS 1.3, and curve preferences other than a single NIST curve.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import yaml

from vgpumonitor.web.tls import (
    CLIENT_AUTH,
    CURVES,
    TLS12_SUITES,
    TLS13_SUITES,
    VERSIONS,
    Pem,
    ReloadingContext,
    TlsConfig,
    TlsError,
    ssl_context,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

#: The headers that exporter-toolkit permits, and the values where it permits only some.
HEADERS: Mapping[str, tuple[str, ...]] = {
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}

TLS_FIELDS = (
    "cert",
    "key",
    "client_ca",
    "cert_file",
    "key_file",
    "client_ca_file",
    "client_auth_type",
    "client_allowed_sans",
    "min_version",
    "max_version",
    "cipher_suites",
    "prefer_server_cipher_suites",
    "curve_preferences",
)

BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}", re.ASCII)

#: Go's duration units, in seconds.
UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", re.ASCII)


class WebConfigError(Exception):
    """A web configuration that can't be used; the message has the file and the line."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket: ``burst`` requests at once, one more every ``interval`` seconds."""

    interval: float
    burst: int


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What the file says. ``tls`` None is plain HTTP; ``users`` has bcrypt hashes by name,
    empty for no authentication; ``rate_limit`` None is no limit."""

    tls: TlsConfig | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    rate_limit: RateLimit | None = None


class WebConfigFile:
    """A web configuration file, read again when it or a file that it names has changed.

    A version that can't be used is logged once, and the one before stays in force. Raises
    WebConfigError where the first can't be used. For use in one thread.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = _Files()
        self._current, self._context = _load(path, self._files)

    @property
    def current(self) -> WebConfig:
        """The configuration now in force."""
        self._refresh()
        return self._current

    def ssl_context(self) -> ssl.SSLContext | None:
        """The context for the listening sockets, None for plain HTTP. Each new connection has
        the TLS settings in force when it is opened."""
        if self._context is None:
            return None
        return ReloadingContext(self._current_context)

    def _current_context(self) -> ssl.SSLContext:
        self._refresh()
        assert self._context is not None
        return self._context

    def _refresh(self) -> None:
        if not self._files.changed():
            return
        files = _Files()
        try:
            config, context = _load(self._path, files)
            if (context is None) != (self._context is None):
                raise WebConfigError(
                    f"{self._path}: TLS can only be switched on or off by a restart"
                )
        except WebConfigError as error:
            log.error("web configuration can't be used, the one before stays: %s", error)
        else:
            self._current, self._context = config, context
            log.info("web configuration read again: %s", self._path)
        self._files = files


class _Files:
    """Reads files, and knows whether any of them has changed since."""

    def __init__(self) -> None:
        self._stamps: dict[Path, tuple[int, ...] | None] = {}

    def read(self, path: Path) -> bytes:
        # The stamp comes before the content: a change between the two is seen as one.
        self._stamps[path] = _stamp(path)
        return path.read_bytes()

    def changed(self) -> bool:
        return any(_stamp(path) != stamp for path, stamp in self._stamps.items())


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _load(path: Path, files: _Files) -> tuple[WebConfig, ssl.SSLContext | None]:
    try:
        content = files.read(path)
    except OSError as error:
        raise WebConfigError(f"{path}: {error.strerror}") from error
    config = _Parser(path, files).parse(content)
    try:
        return config, None if config.tls is None else ssl_context(config.tls)
    except TlsError as error:
        raise WebConfigError(str(error)) from error


@dataclass(frozen=True, slots=True)
class _Field:
    """A value of the file: its place, "FILE:LINE", and its dotted name."""

    at: str
    name: str
    node: yaml.Node

    @property
    def where(self) -> str:
        return f"{self.at}: {self.name}"


class _Parser:
    def __init__(self, path: Path, files: _Files) -> None:
        self._path = path
        self._files = files

    def parse(self, content: bytes) -> WebConfig:
        try:
            root = yaml.compose(content, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
            raise WebConfigError(f"{self._path}{line}: {error.problem}") from error
        except yaml.YAMLError as error:
            raise WebConfigError(f"{self._path}: {str(error).splitlines()[0]}") from error
        except RecursionError as error:
            raise WebConfigError(f"{self._path}: is nested too deeply") from error
        if root is None or _is_null(root):
            return WebConfig()
        parts = self._section(
            _Field(self._at(root), "", root),
            ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"),
        )
        return WebConfig(
            tls=self._tls(parts.get("tls_server_config")),
            headers=self._headers(parts.get("http_server_config")),
            users=self._users(parts.get("basic_auth_users")),
            rate_limit=self._rate_limit(parts.get("rate_limit")),
        )

    def _at(self, node: yaml.Node) -> str:
        return f"{self._path}:{node.start_mark.line + 1}"

    def _mapping(self, part: _Field) -> dict[str, _Field]:
        """The fields of a mapping, also those of value null."""
        if not isinstance(part.node, yaml.MappingNode):
            raise WebConfigError(f"{part.at}: {part.name or 'the file'} must be a mapping")
        fields: dict[str, _Field] = {}
        for key, value in part.node.value:
            at = self._at(key)
            if not isinstance(key, yaml.ScalarNode):
                raise WebConfigError(f"{at}: a key must be plain text")
            name = f"{part.name}.{key.value}" if part.name else key.value
            if key.value in fields:
                raise WebConfigError(f"{at}: {name} is given twice")
            fields[key.value] = _Field(at, name, value)
        return fields

    def _section(self, part: _Field | None, known: Collection[str]) -> dict[str, _Field]:
        """The fields that are set, each one of ``known``. Null is unset, as in Go."""
        if part is None:
            return {}
        fields = self._mapping(part)
        for name, value in fields.items():
            if name not in known:
                raise WebConfigError(
                    f"{value.where} is no field of the format; known here are {', '.join(known)}"
                )
        return {name: value for name, value in fields.items() if not _is_null(value.node)}

    def _tls(self, part: _Field | None) -> TlsConfig | None:
        fields = self._section(part, TLS_FIELDS)
        if part is None or not fields:
            return None
        cert, key = self._pem(fields, "cert"), self._pem(fields, "key")
        for name, pem in (("cert", cert), ("key", key)):
            if pem is None:
                raise WebConfigError(f"{part.where} needs one of {name} and {name}_file")
        assert cert is not None
        assert key is not None

        client_auth = ssl.CERT_NONE
        if auth := fields.get("client_auth_type"):
            if _text(auth) in ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert"):
                raise WebConfigError(
                    f"{auth.where}: {_text(auth)} takes certificates without verifying them, "
                    "which is not supported here; use RequireAndVerifyClientCert"
                )
            client_auth = _choice(auth, _text(auth), CLIENT_AUTH)
        client_ca = self._pem(fields, "client_ca")
        if client_ca is not None and client_auth is ssl.CERT_NONE:
            raise WebConfigError(f"{client_ca.where} is given, but client_auth_type asks for none")
        client_allowed_sans = None
        if sans := fields.get("client_allowed_sans"):
            if client_auth is not ssl.CERT_REQUIRED:
                raise WebConfigError(
                    f"{sans.where} needs client_auth_type RequireAndVerifyClientCert"
                )
            client_allowed_sans = frozenset(_texts(sans))

        min_version, max_version = VERSIONS["TLS12"], VERSIONS["TLS13"]
        if low := fields.get("min_version"):
            min_version = _choice(low, _text(low), VERSIONS)
        if high := fields.get("max_version"):
            max_version = _choice(high, _text(high), VERSIONS)
        if min_version > max_version:
            raise WebConfigError(f"{fields['min_version'].where} is above max_version")

        prefer = fields.get("prefer_server_cipher_suites")
        return TlsConfig(
            cert=cert,
            key=key,
            client_auth=client_auth,
            client_ca=client_ca,
            client_allowed_sans=client_allowed_sans,
            min_version=min_version,
            max_version=max_version,
            cipher_suites=_cipher_suites(fields.get("cipher_suites"), min_version),
            prefer_server_cipher_suites=True if prefer is None else _boolean(prefer),
            curve=_curve(fields.get("curve_preferences")),
        )

    def _pem(self, fields: Mapping[str, _Field], name: str) -> Pem | None:
        """The PEM text ``name``, or that of the file ``name``_file, relative to the
        configuration's directory."""
        inline, file = fields.get(name), fields.get(f"{name}_file")
        if inline is not None and file is not None:
            raise WebConfigError(f"{file.where} and {name} are both given")
        if inline is not None:
            try:
                return Pem(inline.where, _text(inline).encode())
            except UnicodeEncodeError as error:
                raise WebConfigError(f"{inline.where} must be text") from error
        if file is None:
            return None
        path = self._path.parent / _text(file)
        try:
            return Pem(f"{file.where} ({path})", self._files.read(path))
        except OSError as error:
            raise WebConfigError(f"{file.where}: {path}: {error.strerror}") from error
        except ValueError as error:  # A zero byte, or half of a surrogate pair.
            raise WebConfigError(f"{file.where} can't be a path: {error}") from error

    def _headers(self, part: _Field | None) -> dict[str, str]:
        http = self._section(part, ("http2", "headers"))
        if (http2 := http.get("http2")) and _boolean(http2):
            raise WebConfigError(f"{http2.where}: HTTP/2 is not served; leave it out or say false")
        headers = {}
        for name, value in self._section(http.get("headers"), HEADERS).items():
            text = _text(value)
            if HEADERS[name] and text not in HEADERS[name]:
                raise WebConfigError(f"{value.where} must be one of {', '.join(HEADERS[name])}")
            if not text.isprintable():
                raise WebConfigError(f"{value.where} must be one line of printable text")
            if text:
                headers[name] = text
        return headers

    def _users(self, part: _Field | None) -> dict[str, str]:
        users = {}
        for name, value in ({} if part is None else self._mapping(part)).items():
            if ":" in name:
                raise WebConfigError(f"{value.where}: a user name can't have a colon in it")
            if not BCRYPT.fullmatch(_text(value)):
                raise WebConfigError(f"{value.where} must be a bcrypt hash ($2a$, $2b$ or $2y$)")
            users[name] = _text(value)
        return users

    def _rate_limit(self, part: _Field | None) -> RateLimit | None:
        fields = self._section(part, ("interval", "burst"))
        burst = _integer(fields["burst"]) if "burst" in fields else 0
        if "interval" not in fields or (interval := _seconds(fields["interval"])) == 0:
            return None
        if burst < 1:
            where = fields.get("burst", fields["interval"]).where
            raise WebConfigError(f"{where}: without a burst of at least 1 nothing is answered")
        return RateLimit(interval, burst)


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")


def _text(value: _Field) -> str:
    if not isinstance(value.node, yaml.ScalarNode) or _is_null(value.node):
        raise WebConfigError(f"{value.where} must be text")
    return str(value.node.value)


def _texts(value: _Field) -> tuple[str, ...]:
    if not isinstance(value.node, yaml.SequenceNode) or not value.node.value:
        raise WebConfigError(f"{value.where} must be a list with at least one entry")
    return tuple(_text(replace(value, node=item)) for item in value.node.value)


def _boolean(value: _Field) -> bool:
    if value.node.tag != "tag:yaml.org,2002:bool":
        raise WebConfigError(f"{value.where} must be true or false")
    return bool(yaml.SafeLoader.bool_values[value.node.value.lower()])


def _integer(value: _Field) -> int:
    try:
        return int(_text(value))
    except ValueError as error:
        raise WebConfigError(f"{value.where} must be a whole number") from error


def _seconds(value: _Field) -> float:
    """A duration as Go writes it, for example "1m30s" or "0"."""
    text = _text(value)
    if text == "0":
        return 0.0
    parts = DURATION_PART.findall(text)
    if not parts or "".join(map("".join, parts)) != text:
        raise WebConfigError(f"{value.where} must be a duration with its unit, as in 500ms or 1s")
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def _choice(value: _Field, name: str, choices: Mapping[str, T]) -> T:
    if name not in choices:
        raise WebConfigError(f"{value.where}: {name!r} is not one of {', '.join(choices)}")
    return choices[name]


def _cipher_suites(value: _Field | None, min_version: ssl.TLSVersion) -> tuple[str, ...]:
    if value is None:
        return ()
    names = _texts(value)
    tls13 = TLS13_SUITES.intersection(names)
    if tls13 and tls13 != TLS13_SUITES:
        raise WebConfigError(
            f"{value.where}: the suites of TLS 1.3 can't be chosen one by one here; "
            "name all three of them, or none"
        )
    suites = tuple(_choice(value, name, TLS12_SUITES) for name in names if name not in TLS13_SUITES)
    if not suites and min_version < ssl.TLSVersion.TLSv1_3:
        raise WebConfigError(f"{value.where} has none for TLS 1.2; set min_version to TLS13")
    return suites


def _curve(value: _Field | None) -> str | None:
    if value is None:
        return None
    names = _texts(value)
    if len(names) > 1:
        raise WebConfigError(f"{value.where}: more than one curve is not supported here")
    return _choice(value, names[0], CURVES)
