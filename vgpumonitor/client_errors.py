"""Why an exporter that was asked gave no answer, in words for people."""

from __future__ import annotations

import os
import ssl

import aiohttp


def why(error: Exception) -> str:
    """What went wrong, without the address, which whoever asked names."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        found = error.certificate_error
        detail = getattr(found, "verify_message", "") or str(found)
        return f"its certificate is not trusted: {detail} (--ca-file)"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        found = error.os_error
        if getattr(found, "reason", None) in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
            return "it does not speak TLS: expected http:// in its URL"
        return f"TLS failed: {getattr(found, 'reason', None) or found}"
    if isinstance(error, aiohttp.ClientConnectorError):
        # Of several addresses asyncio tells in one text, without a number; names that nobody
        # knows have negative ones.
        number = error.errno or 0
        return os.strerror(number) if number > 0 else str(error.strerror)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection without an answer: does it expect https://?"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason}"
    return str(error)
