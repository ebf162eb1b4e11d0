"""The web configuration file, in the format of Prometheus' exporter-toolkit, and its changes.

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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import yaml

from vgpumonitor.durations import parse_duration
from vgpumonitor.web.tls import Content, Section, TlsConfig, one_of

log = logging.getLogger(__name__)

#: The headers that exporter-toolkit permits, and the values where it permits only some.
HEADERS: dict[str, dict[str, None]] = {
    "Strict-Transport-Security": {},
    "X-Content-Type-Options": {"nosniff": None},
    "X-Frame-Options": {"deny": None, "sameorigin": None},
    "X-XSS-Protection": {},
    "Content-Security-Policy": {},
}

#: A hash as the bcrypt library takes it: it refuses a salt whose last character has bits to spare.
_BCRYPT = r"(?a)\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z\d]{21}[.Oeu][./A-Za-z\d]{31}"


class WebConfigError(Exception):
    """A web configuration that can't be used; the message names the file and the field."""


class HttpConfig(Section):
    """``http_server_config``. ``sent`` are the headers that have a value."""

    http2: bool | None = None
    headers: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.http2:
            raise ValueError("http2: expected false: HTTP/2 is not served")
        self.sent: dict[str, str] = {}
        for name, value in (self.headers or {}).items():
            allowed = one_of("headers", name, HEADERS)
            if value in (None, ""):
                continue
            if not isinstance(value, str) or not value.isprintable():
                raise ValueError(f"headers: {name}: expected one line of printable text")
            if allowed:
                one_of(f"headers: {name}", value, allowed)
            self.sent[name] = value


class RateLimit(Section):
    """``rate_limit``, a token bucket: ``burst`` requests at once, one more every ``seconds``; 0
    is no limit."""

    interval: str | None = None
    burst: int = 0

    def __post_init__(self) -> None:
        try:
            self.seconds = parse_duration(self.interval or "0")
        except ValueError as error:
            raise ValueError(f"interval: {error}") from error
        if self.seconds and self.burst < 1:
            raise ValueError("burst: expected at least 1, or nothing would be answered")


class WebConfig(Section):
    """What the file says. ``basic_auth_users`` has bcrypt hashes by name."""

    tls_server_config: TlsConfig = msgspec.field(default_factory=TlsConfig)
    http_server_config: HttpConfig = msgspec.field(default_factory=HttpConfig)
    basic_auth_users: dict[str, Any] = msgspec.field(default_factory=dict)
    rate_limit: RateLimit = msgspec.field(default_factory=RateLimit)

    def __post_init__(self) -> None:
        for user, hashed in self.basic_auth_users.items():
            where = f"basic_auth_users: {user}"
            if ":" in user:
                raise ValueError(f"{where}: expected a user name without a colon")
            if not isinstance(hashed, str) or not re.fullmatch(_BCRYPT, hashed):
                raise ValueError(f"{where}: expected a bcrypt hash ($2a$, $2b$ or $2y$)")


class _Loader(yaml.BaseLoader):
    """Reads mappings, lists and text, and true, false and null where they are not in quotes. A
    number stays the text that it is, as in a text field of exporter-toolkit."""

    plain = {**yaml.SafeLoader.bool_values, "null": None, "~": None, "": None}  # noqa: RUF012

    def construct_scalar(self, node: yaml.ScalarNode) -> Any:
        text = super().construct_scalar(node)
        return text if node.style else self.plain.get(text.lower(), text)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            raise yaml.MarkedYAMLError(None, None, "a field is given twice", node.start_mark)
        return mapping


def parse(path: Path, read: Callable[[Path], bytes]) -> WebConfig:
    """The configuration in the file ``path``. ``read`` gives the content of this file and of
    those that it names, or raises OSError. Raises WebConfigError."""

    def content(_: type, name: object) -> Content:
        if not isinstance(name, str):
            raise ValueError("expected the path of a file")
        try:
            return Content(read(path.parent / name))
        except OSError as error:
            raise ValueError(f"expected a readable file: {name}: {error.strerror}") from error

    try:
        data = yaml.load(read(path), _Loader)
        if isinstance(data, dict | None):  # Null is unset.
            data = {name: {} if part is None else part for name, part in (data or {}).items()}
        return msgspec.convert(data, WebConfig, strict=False, dec_hook=content)
    except msgspec.ValidationError as error:
        problem = _in_words(error)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark and f"line {error.problem_mark.line + 1}: "
        problem = f"{line or ''}{error.problem}"
    except OSError as error:
        problem = str(error.strerror)
    except RecursionError:
        problem = "expected less nesting"
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        problem = str(error).partition("\n")[0]
    raise WebConfigError(f"{path}: {problem}")


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
    if error.__cause__ is None:  # msgspec's own
        message = re.sub(r"`(\w+)( \| null)?`", lambda word: _WORDS.get(word[1], word[1]), message)
        message = message.replace("Expected", "expected").removeprefix("Object contains ")
    fields = re.sub(r"`(\$\.)?", "", place).replace(".", ": ")
    return f"{fields}: {message}" if fields else message


class _ReloadingContext(ssl.SSLContext):
    """Gives each new connection the TLS settings that ``file`` has then.

    Changing one context in place isn't enough: an authority can't be taken out of its store,
    and ``sni_callback`` changes the certificate but not the versions or the verification.
    """

    file: WebConfigFile

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """An SSLObject of the current context; asyncio calls this once per connection."""
        context = self.file.current.tls_server_config.context
        assert context is not None  # Only a restart switches TLS off.
        return context.wrap_bio(*args, **kwargs)


class WebConfigFile:
    """A web configuration file, read again when it or a file that it names has changed.

    A version that can't be used is logged once, and the one before stays in force. Raises
    WebConfigError where the first can't be used. For use in one thread.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._current = self._load()

    @property
    def current(self) -> WebConfig:
        """The configuration now in force."""
        if any(_stamp(path) != stamp for path, stamp in self._stamps.items()):
            try:
                loaded, before = self._load(), self._current
                if bool(loaded.tls_server_config.context) != bool(before.tls_server_config.context):
                    problem = "TLS can only be switched on or off by a restart"
                    raise WebConfigError(f"{self._path}: {problem}")
                self._current = loaded
                log.info("web configuration read again: %s", self._path)
            except WebConfigError as error:
                log.error("web configuration rejected, the one before stays in force: %s", error)
        return self._current

    def ssl_context(self) -> ssl.SSLContext | None:
        """The context for the listening sockets, None for plain HTTP."""
        if self._current.tls_server_config.context is None:
            return None
        context = _ReloadingContext(ssl.PROTOCOL_TLS_SERVER)
        context.file = self
        return context

    def _load(self) -> WebConfig:
        stamps = self._stamps = dict[Path, tuple[int, ...] | None]()

        def read(path: Path) -> bytes:
            # The stamp comes before the content: a change between the two is seen as one.
            stamps[path] = _stamp(path)
            return path.read_bytes()

        return parse(self._path, read)


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
