"""Pods of one node from the Kubernetes API: list and watch, nothing else.

lightkube's own watch would not do: it splits lines at more than ``\\n`` (U+0085 in an
annotation breaks it) and knows no bookmarks, no Retry-After and no end of a list that lasts.
Objects are decoded one at a time.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from vgpumonitor import __version__
from vgpumonitor.client_errors import reason
from vgpumonitor.sources.pods.cluster import Cluster, service_account
from vgpumonitor.sources.pods.model import PodsView
from vgpumonitor.sources.pods.objects import (
    PodList,
    PodReading,
    decode,
    pod_from_object,
    split_list,
)
from vgpumonitor.sources.pods.store import PodStore

log = logging.getLogger(__name__)

#: Pods in one answer to a list: about 5 MB.
PAGE = 500
#: Bytes of one answer, and of one line of a watch; etcd holds no object above 1.5 MB.
MAX_ANSWER = 256 * 1024 * 1024
MAX_LINE = 16 * 1024 * 1024
#: Bytes of an error's body that are read.
MAX_ERROR = 4096
#: A list whose server goes on giving continue tokens ends here.
MAX_PODS = 100_000


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. ``first_delay`` doubles with each failure up to ``longest_delay``, and a
    random half of it is left out, so that a cluster's nodes don't come back together.
    ``answer`` bounds an answer to a list and the beginning of a watch; ``watch`` is how
    long a watch is asked to last. ``silence`` is how long it may send nothing before a list
    finds out whether it is only quiet: bookmarks come about every minute, but nothing
    guarantees them. A network that drops packets is so noticed after ``silence`` and
    ``answer`` together."""

    first_delay: float = 1.0
    longest_delay: float = 60.0
    answer: float = 30.0
    watch: float = 150.0
    silence: float = 65.0
    longest_retry_after: float = 300.0

    def delay(self, failures: int) -> float:
        longest = min(self.first_delay * 2 ** min(failures, 16), self.longest_delay)
        return random.uniform(longest / 2, longest)


class _RefusalError(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"the API server answered {status}: {message}")
        self.status = status
        self.retry_after = retry_after


class _ExpiredError(Exception):
    """410: the version to go on from is too old, so that only a new list helps."""


class _SilentError(Exception):
    """A watch sent nothing for a while: its connection may be dead."""


class _Status(msgspec.Struct):
    """Of Kubernetes' ``Status`` object what is needed."""

    code: int = 0
    message: str = ""


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class KubernetesPodSource:
    """``kubeconfig`` None is the service account of the pod that this runs in.

    ``view`` is up from a complete list on, as long as watches go on from its version. One that
    is cut, as load balancers do to idle connections, leaves no gap: the next one begins at its
    last version. One that falls silent may be quiet or dead: ``view`` stays up if a new list
    is answered. After any other failure it is down until the next complete list, so that no
    gap is taken for the truth.
    """

    name = "kubernetes"

    def __init__(
        self, node_name: str, kubeconfig: str | None = None, timing: Timing | None = None
    ) -> None:
        self._selector = f"spec.nodeName={node_name}"
        self._kubeconfig = kubeconfig
        self._timing = timing or Timing()
        self._table = PodStore(self.name, node_name)
        self._client: _Client | None = None
        self._version = ""
        # A list may come from the server's cache, if only it isn't older than what is
        # known; after a list that failed it has to be read from etcd.
        self._not_before = "0"
        self._failures = 0

    @property
    def view(self) -> PodsView:
        return self._table.view

    async def run(self) -> None:
        try:
            while True:
                try:
                    await self._follow()
                except _ExpiredError as error:
                    log.info("pods are listed again", extra={"reason": str(error)})
                    delay = self._timing.delay(self._failures)
                except Exception as error:
                    # Whatever a server, a proxy, a kubeconfig or its plugin came up with:
                    # tried again, with the pods that are known.
                    refused = isinstance(error, _RefusalError) and error.status in (401, 403)
                    self._table.mark_stale(_described(error), refused)
                    if not isinstance(error, _RefusalError) or error.status == 401:
                        # A new client reads the kubeconfig, its tokens and the CA again.
                        await self._disconnect()
                    delay = self._timing.delay(self._failures)
                    if isinstance(error, _RefusalError) and error.retry_after is not None:
                        delay += min(error.retry_after, self._timing.longest_retry_after)
                self._failures += 1
                await asyncio.sleep(delay)
        finally:
            await self._disconnect()

    async def _follow(self) -> None:
        """Lists and watches until something fails."""
        if self._client is None:
            self._client = _Client(await asyncio.to_thread(_cluster, self._kubeconfig))
        while True:
            self._version = await self._list(self._client)
            try:
                while True:
                    await self._watch(self._client)
            except _SilentError:
                # A list and not the next watch: a proxy that holds events back answers a watch.
                log.debug("pods are listed again after a silent watch")

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                await client.close()

    # List.

    async def _list(self, client: _Client) -> str:
        """Takes in all pods; the version at which they are so."""
        not_before, self._not_before = self._not_before, ""
        params = {"fieldSelector": self._selector, "limit": str(PAGE)}
        first = dict(params)
        if not_before:
            first |= {"resourceVersion": not_before, "resourceVersionMatch": "NotOlderThan"}
        page = await self._page(client, first)
        readings = await asyncio.to_thread(_readings, page)
        while page.next:
            if len(readings) > MAX_PODS:
                raise ValueError(f"the API server lists more than {MAX_PODS} pods")
            page = await self._page(client, params | {"continue": page.next})
            readings += await asyncio.to_thread(_readings, page)
        if not page.resource_version:
            raise ValueError("the API server's list has no resourceVersion")
        self._table.replace(readings)
        self._table.mark_synced()
        self._not_before = page.resource_version
        return page.resource_version

    async def _page(self, client: _Client, params: dict[str, str]) -> PodList:
        async with asyncio.timeout(self._timing.answer), client.pods(params) as response:
            await _check(response)
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_ANSWER:
                    raise ValueError(f"the API server's list has more than {MAX_ANSWER} bytes")
        return await asyncio.to_thread(split_list, body)

    # Watch.

    async def _watch(self, client: _Client) -> None:
        """One watch, until the server ends it or something cuts it: the next one goes on from
        ``_version``. Raises where it is refused, wrong or over at once, and _SilentError."""
        timing = self._timing
        params = {
            "fieldSelector": self._selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(max(1, round(timing.watch * random.uniform(0.8, 1.2)))),
        }
        async with asyncio.timeout(timing.answer) as starting:
            async with client.pods(params, timing.silence) as response:
                await _check(response)
                starting.reschedule(None)
                answered = time.monotonic()
                try:
                    await self._take_events(response)
                finally:
                    lasted = time.monotonic() - answered
                    # Not for an answer alone: a proxy gives one where no API server is.
                    if lasted >= timing.first_delay:
                        self._failures = 0
        if lasted < timing.first_delay:
            raise ConnectionError("the API server ended a watch at once")

    async def _take_events(self, response: aiohttp.ClientResponse) -> None:
        """Takes in what a watch sends, until it is over. Raises where it is wrong, and
        _SilentError."""
        try:
            async with aclosing(_lines(response)) as batches:
                async for lines in batches:
                    for line in lines:
                        self._take(line)
                    if lines:
                        self._table.mark_synced()
        except TimeoutError as error:
            raise _SilentError from error
        except aiohttp.ClientError as error:
            log.debug("a watch was cut", extra={"source": self.name, "error": str(error)})
        else:
            # The server ends a watch only when all that happened up to then was sent.
            self._table.mark_synced()

    def _take(self, line: bytes) -> None:
        """One event of a watch."""
        event = msgspec.json.decode(line, type=_Event)
        if event.type == "ERROR":
            status = msgspec.json.decode(event.object, type=_Status)
            if status.code == 410:
                raise _ExpiredError(status.message)
            raise _RefusalError(status.code, status.message)
        obj = decode(event.object)
        self._version = self._not_before = _version(obj)
        if event.type == "BOOKMARK":
            return
        try:
            reading = PodReading(*pod_from_object(obj))
        except ValueError as error:
            _log_unusable(error)
            return
        if event.type == "DELETED":
            self._table.remove(reading.pod.uid)
        else:
            self._table.put(reading)


class _Client:
    """Requests for pods. To be made within the event loop."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._session = aiohttp.ClientSession(
            # A list and a watch are never under way together.
            connector=aiohttp.TCPConnector(ssl=cluster.tls or True, limit=1),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=[("User-Agent", f"vgpumonitor/{__version__}"), *cluster.headers],
            proxy=cluster.proxy,
        )

    @asynccontextmanager
    async def pods(
        self, params: dict[str, str], silence: float | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer, of whatever status, that is never silent for longer than ``silence``."""
        authorization = await self._cluster.authorization()
        async with self._session.get(
            f"{self._cluster.server}/api/v1/pods",
            params=params,
            headers={} if authorization is None else {"Authorization": authorization},
            # Elsewhere nobody is to see the token.
            allow_redirects=False,
            server_hostname=self._cluster.server_name,
            timeout=aiohttp.ClientTimeout(sock_read=silence),
        ) as response:
            yield response

    async def close(self) -> None:
        await self._session.close()


def _cluster(kubeconfig: str | None) -> Cluster:
    """Reads files; raises OSError and ValueError."""
    if kubeconfig is None:
        return service_account()
    # Several MiB that only this needs.
    from vgpumonitor.sources.pods.kubeconfig import read_kubeconfig

    return read_kubeconfig(kubeconfig)


def _readings(page: PodList) -> list[PodReading]:
    readings = []
    for item in page.items:
        try:
            readings.append(PodReading(*pod_from_object(decode(item))))
        except ValueError as error:
            _log_unusable(error)
    return readings


def _log_unusable(error: ValueError) -> None:
    log.warning("a pod can't be used", extra={"source": "kubernetes", "error": str(error)})


def _version(obj: Any) -> str:
    metadata = obj.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    if not isinstance(version, str) or not version:
        raise ValueError("an event of the watch has no resourceVersion")
    return version


async def _lines(response: aiohttp.ClientResponse) -> AsyncGenerator[list[bytes], None]:
    """The complete lines of each chunk."""
    rest = bytearray()
    async for chunk in response.content.iter_any():
        rest += chunk
        *lines, last = rest.split(b"\n")
        rest = last
        if len(rest) > MAX_LINE:
            raise ValueError(f"a line of the watch has more than {MAX_LINE} bytes")
        yield [bytes(line) for line in lines if line]
    if rest:
        raise aiohttp.ClientPayloadError("the watch ended within a line")


async def _check(response: aiohttp.ClientResponse) -> None:
    """Raises _ExpiredError and _RefusalError."""
    if response.status == 200:
        return
    body = await response.content.read(MAX_ERROR)
    try:
        message = msgspec.json.decode(body, type=_Status).message
    except ValueError:
        message = body[:200].decode(errors="replace")
    if response.status == 410:
        raise _ExpiredError(message)
    if response.status == 403:
        message += " (list and watch on pods are needed)"
    retry_after = response.headers.get("Retry-After", "")
    raise _RefusalError(
        response.status,
        message or response.reason or "",
        float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None,
    )


def _described(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return str(error) or "the API server did not answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"the API server at {error.host}:{error.port} can't be reached: {reason(error)}"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, (_RefusalError, aiohttp.ClientError, OSError, ValueError)) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}".rstrip(": ")
