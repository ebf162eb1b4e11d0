"""Why a server that was asked gave no answer, in words for people."""

from __future__ import annotations

import os
import ssl

import aiohttp

#: OpenSSL's reasons where the other side does not speak TLS.
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")


def reason(error: Exception) -> str:
    """What went wrong, without the address, which whoever asked names."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        found = error.certificate_error
        return f"its certificate is not trusted: {getattr(found, 'verify_message', '') or found}"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return _of_tls(error.os_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        # Of several addresses asyncio tells in one text, without a number; names that nobody
        # knows have negative ones.
        number = error.errno or 0
        return os.strerror(number) if number > 0 else str(error.strerror)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection without an answer"
    if isinstance(error, ssl.SSLError):
        return _of_tls(error)
    return str(error)


def why(error: Exception) -> str:
    """The same of an exporter, and what to try."""
    text = reason(error)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"{text} (--ca-file)"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return f"{text}: does it expect https://?"
    if isinstance(error, aiohttp.ClientConnectorSSLError) and (
        getattr(error.os_error, "reason", None) in _NO_TLS
    ):
        return f"{text}: expected http:// in its URL"
    return text


def _of_tls(error: OSError) -> str:
    found = getattr(error, "reason", None)
    return "it does not speak TLS" if found in _NO_TLS else f"TLS failed: {found or error}"
