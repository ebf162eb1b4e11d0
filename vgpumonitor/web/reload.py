"""The web configuration in force: read again when a file that it is made of has changed."""

from __future__ import annotations

import logging
import os
import ssl
from pathlib import Path

from vgpumonitor.web.config import WebConfig, WebConfigError, parse
from vgpumonitor.web.tls import ReloadingContext

log = logging.getLogger(__name__)

_Stamp = tuple[int, ...] | None


class WebConfigFile:
    """A web configuration file, read again when it or a file that it names has changed.

    A version that can't be used is logged once, and the one before stays in force. Raises
    WebConfigError where the first can't be used. For use in one thread.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamps: dict[Path, _Stamp] = {}
        self._current = self._load()

    @property
    def current(self) -> WebConfig:
        """The configuration now in force."""
        if any(_stamp(path) != stamp for path, stamp in self._stamps.items()):
            try:
                loaded = self._load()
                if (loaded.tls is None) != (self._current.tls is None):
                    raise WebConfigError(
                        f"{self._path}: TLS can only be switched on or off by a restart"
                    )
            except WebConfigError as error:
                log.error("web configuration rejected, the one before stays in force: %s", error)
            else:
                self._current = loaded
                log.info("web configuration read again: %s", self._path)
        return self._current

    def ssl_context(self) -> ssl.SSLContext | None:
        """The context for the listening sockets, None for plain HTTP. Each new connection has
        the TLS settings in force when it is opened."""
        return None if self._current.tls is None else ReloadingContext(self._current_context)

    def _current_context(self) -> ssl.SSLContext:
        context = self.current.tls
        assert context is not None
        return context

    def _load(self) -> WebConfig:
        self._stamps = {}
        try:
            return parse(self._read(self._path), self._path, self._read)
        except OSError as error:
            raise WebConfigError(f"{self._path}: {error.strerror}") from error

    def _read(self, path: Path) -> bytes:
        # The stamp comes before the content: a change between the two is seen as one.
        self._stamps[path] = _stamp(path)
        return path.read_bytes()


def _stamp(path: Path) -> _Stamp:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
