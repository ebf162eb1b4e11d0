"""The web configuration file, in the format of Prometheus' exporter-toolkit.

Source: docs/web-configuration.md of prometheus/exporter-toolkit, and its web/tls_config.go and
web/handler.go for what the page leaves open. What can't be honoured here is an error, never
ignored: HTTP/2, TLS before 1.2, client certificates that nobody verifies, a choice among the
suites of TLS 1.3, and curve preferences other than a single NIST curve.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bcrypt
import msgspec
import yaml

from vgpumonitor.durations import parse_duration
from vgpumonitor.web.tls import TlsError, TlsSection, alternatives, server_context

#: The headers that exporter-toolkit permits, and the values where it permits only some.
HEADERS: Mapping[str, tuple[str, ...]] = {
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}

#: Variant, cost, salt and checksum.
_BCRYPT = re.compile(r"(\$2[aby]\$)(?:0[4-9]|[12]\d|3[01])(\$[./\w]{22})[./\w]{31}", re.ASCII)


class WebConfigError(Exception):
    """A web configuration that can't be used; the message names the file and the field."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket: ``burst`` requests at once, one more every ``interval`` seconds."""

    interval: float
    burst: int


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What the file says. ``tls`` None is plain HTTP; ``client_allowed_sans`` None allows every
    verified client; ``users`` has bcrypt hashes by name, empty for no authentication;
    ``rate_limit`` None is no limit."""

    tls: ssl.SSLContext | None = None
    client_allowed_sans: frozenset[str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    rate_limit: RateLimit | None = None


class _HttpSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    http2: bool | None = None
    headers: dict[str, object] | None = None


class _RateLimitSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    interval: str | None = None
    burst: int | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tls_server_config: TlsSection | None = None
    http_server_config: _HttpSection | None = None
    basic_auth_users: dict[str, object] | None = None
    rate_limit: _RateLimitSection | None = None


def parse(content: bytes, path: Path, read: Callable[[Path], bytes]) -> WebConfig:
    """The configuration in ``content``, which is that of the file ``path``. ``read`` gives the
    content of a file that it names, or raises OSError. Raises WebConfigError."""
    try:
        data = yaml.load(content, Loader=_Loader)
        file = _File() if data is None else msgspec.convert(data, _File, strict=False)
        tls = file.tls_server_config or TlsSection()
        sans = tls.client_allowed_sans
        return WebConfig(
            tls=_context(tls, lambda name: read(path.parent / name)),
            client_allowed_sans=None if sans is None else frozenset(sans),
            headers=_headers(file.http_server_config or _HttpSection()),
            users=_users(file.basic_auth_users or {}),
            rate_limit=_rate_limit(file.rate_limit or _RateLimitSection()),
        )
    except msgspec.ValidationError as error:
        problem = f": {_in_words(error)}"
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
        problem = f"{line}: {error.problem}"
    except KeyError as error:  # Of PyYAML, for text with the tag of a truth value.
        problem = f": expected true or false, not {error}"
    except (yaml.YAMLError, ValueError) as error:
        problem = f": {str(error).partition(chr(10))[0]}"
    except RecursionError:
        problem = ": is nested too deeply"
    raise WebConfigError(f"{path}{problem}")


_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """Reads mappings, lists, text, true, false and null: a number stays the text that it is, as
    in a text field of exporter-toolkit."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [one for one in resolvers if one[0] in (f"{_TAG}bool", f"{_TAG}null")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {  # noqa: RUF012
        tag: yaml.SafeLoader.yaml_constructors[tag]
        for tag in (None, *(f"{_TAG}{name}" for name in ("map", "seq", "str", "bool", "null")))
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            raise yaml.MarkedYAMLError(
                problem="a field is given twice", problem_mark=node.start_mark
            )
        return mapping


def _context(section: TlsSection, read: Callable[[str], bytes]) -> ssl.SSLContext | None:
    if section == TlsSection():
        return None
    try:
        return server_context(section, read)
    except TlsError as error:
        raise ValueError(f"tls_server_config.{error}") from error


def _headers(section: _HttpSection) -> dict[str, str]:
    if section.http2:
        raise ValueError("http_server_config.http2: expected false: HTTP/2 is not served")
    headers = {}
    for name, value in (section.headers or {}).items():
        where = f"http_server_config.headers.{name}"
        if name not in HEADERS:
            raise ValueError(
                f"{where}: not one of the headers that the format has: {alternatives(HEADERS)}"
            )
        if value is None or value == "":
            continue
        if not isinstance(value, str) or not value.isprintable():
            raise ValueError(f"{where}: expected one line of printable text")
        if HEADERS[name] and value not in HEADERS[name]:
            raise ValueError(f"{where}: expected {alternatives(HEADERS[name])}, not {value!r}")
        headers[name] = value
    return headers


def _users(section: Mapping[str, object]) -> dict[str, str]:
    users = {}
    for name, hashed in section.items():
        where = f"basic_auth_users.{name}"
        if ":" in name:
            raise ValueError(f"{where}: expected a user name without a colon")
        if not isinstance(hashed, str) or not is_bcrypt(hashed):
            raise ValueError(f"{where}: expected a bcrypt hash ($2a$, $2b$ or $2y$)")
        users[name] = hashed
    return users


def is_bcrypt(text: str) -> bool:
    """Whether the bcrypt library can compare a password with ``text``."""
    match = _BCRYPT.fullmatch(text)
    if match is None:
        return False
    try:
        # Some salts have the right form and can't be decoded: asked of the library, at the
        # lowest cost.
        bcrypt.hashpw(b"", f"{match[1]}04{match[2]}".encode())
    except ValueError:
        return False
    return True


def _rate_limit(section: _RateLimitSection) -> RateLimit | None:
    try:
        interval = parse_duration(section.interval or "0")
    except ValueError as error:
        raise ValueError(f"rate_limit.interval: {error}") from error
    if interval == 0:
        return None
    if section.burst is None or section.burst < 1:
        raise ValueError("rate_limit.burst: expected at least 1, or nothing would be answered")
    return RateLimit(interval, section.burst)


#: msgspec's words for what it expects and gets, in ours.
_WORDS = {
    "object": "a mapping",
    "array": "a list",
    "str": "text",
    "int": "a whole number",
    "bool": "true or false",
    "null": "nothing",
}


def _in_words(error: msgspec.ValidationError) -> str:
    """``Expected `object | null`, got `int` - at `$.rate_limit``` in the words of a person."""
    message, _, place = str(error).partition(" - at ")
    name = re.sub(r"^(`key` in )?`\$\.?|`$", "", place)
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", message, re.DOTALL):
        return f"{'.'.join(filter(None, (name, unknown[1])))}: not a field of the format"
    name = name or "the file"
    if place.startswith("`key`"):
        return f"{name}: expected text for the names of its fields"
    if message == "Expected `array` of length >= 1":
        return f"{name}: expected a list with at least one entry"
    if wrong := re.fullmatch(r"Expected `(\w+)[^`]*`, got `(\w+)`", message):
        expected, got = (_WORDS[word] for word in wrong.groups())
        return f"{name}: expected {expected}, not {got}"
    return f"{name}: {message}"
