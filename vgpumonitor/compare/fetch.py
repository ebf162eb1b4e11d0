"""Two exporters' /metrics, both asked at the same time."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator

import aiohttp

from vgpumonitor.client_errors import why
from vgpumonitor.compare.exposition import CompareError, Exposition, parse

#: Seconds that a whole /metrics may take.
TIMEOUT = 30.0
#: Seconds between two scrapes.
INTERVAL = 1.0


async def scrapes(
    url_a: str, url_b: str, tls: ssl.SSLContext, wait: float
) -> AsyncIterator[tuple[Exposition, Exposition]]:
    """One scrape of both, and one each INTERVAL until ``wait`` seconds are over. Raises
    CompareError."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    headers = {"Accept": "text/plain;version=0.0.4"}
    connector = aiohttp.TCPConnector(ssl=tls)
    begin = time.monotonic()
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers=headers
    ) as session:
        while True:
            # Parsed only once both are there: it takes long enough to hold the other one up.
            texts = await asyncio.gather(_text(session, url_a), _text(session, url_b))
            a, b = (
                parse(text, without_login(url), at)
                for url, (text, at) in zip((url_a, url_b), texts, strict=True)
            )
            yield a, b
            if time.monotonic() - begin + INTERVAL > wait:
                return
            await asyncio.sleep(INTERVAL)


async def _text(session: aiohttp.ClientSession, url: str) -> tuple[str, float]:
    """The text, and when it came."""
    shown = without_login(url)
    try:
        async with session.get(_metrics_at(url)) as response:
            if response.status != 200:
                raise CompareError(
                    f"{shown}: status {response.status} {response.reason}, expected 200"
                )
            if response.content_type != "text/plain":
                raise CompareError(
                    f"{shown}: content type {response.content_type}, expected text/plain"
                )
            at = time.monotonic()
            return await response.text("utf-8"), at
    except TimeoutError as error:
        raise CompareError(f"{shown}: no complete answer within {TIMEOUT:g} s") from error
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
        raise CompareError(
            f"{shown}: invalid URL: expected http:// or https:// and a host"
        ) from error
    except UnicodeDecodeError as error:
        raise CompareError(
            f"{shown}: not UTF-8 at byte {error.start}: expected Prometheus's text format"
        ) from error
    except aiohttp.ClientError as error:
        raise CompareError(f"{shown}: {why(error)}") from error


def _metrics_at(url: str) -> str:
    """An exporter's address stands for its /metrics; any other path is taken as it is."""
    return re.sub(r"^(https?://[^/?#]+)/?(?=\?|$)", r"\1/metrics", url)


def without_login(url: str) -> str:
    return re.sub(r"(?<=//)[^/@]*@", "", url)
