"""The snapshot document of an exporter."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
from yarl import URL

from vgpumonitor.client_errors import why

#: What /api/v1/snapshot gives.
Document = dict[str, Any]

#: Gives a document, or raises FetchError.
Fetch = Callable[[], Document]

#: Seconds that an exporter may take to answer.
TIMEOUT = 10.0

#: What some statuses mean here.
_HINTS = {
    401: ": expected the user and password of the exporter, as in http://USER:PASSWORD@HOST:PORT",
    404: ": expected the address of a vgpumonitor",
}


class FetchError(Exception):
    """There is no document; the message says why."""


def from_url(url: str, tls: ssl.SSLContext) -> Fetch:
    """Asks the exporter at ``http(s)://[user:password@]host:port``. Raises FetchError if that is
    not a URL."""
    try:
        base = URL(url)
        valid = base.scheme in ("http", "https") and bool(base.host)
    except ValueError:
        valid = False
    if not valid:
        raise FetchError(f"invalid URL {url!r}: expected http:// or https:// and a host")
    address = base / "api/v1/snapshot"
    shown_address = address.with_user(None)

    async def ask() -> object:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with (
            aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session,
            session.get(address, ssl=tls) as response,
        ):
            return await response.json()

    def fetch() -> Document:
        try:
            document = asyncio.run(ask())
        except aiohttp.ClientResponseError as error:
            hint = _HINTS.get(error.status, "")
            raise FetchError(
                f"{shown_address} answered with status {error.status}{hint}"
            ) from error
        except TimeoutError as error:
            raise FetchError(f"{shown_address} did not answer within {TIMEOUT:g} s") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise FetchError(f"can't get a snapshot from {shown_address}: {why(error)}") from error
        if not isinstance(document, dict) or document.get("version") != 1:
            raise FetchError(
                f"{shown_address} answered with something other than a snapshot of version 1"
            )
        return document

    return fetch
