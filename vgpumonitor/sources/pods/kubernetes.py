"""Pods of one node from the Kubernetes API: list and watch, nothing else.

Requests are lightkube's HTTP client, with its TLS, its tokens and its kubeconfig; the
answers are decoded here, one pod at a time, since lightkube's own watch splits lines at
more than ``\\n`` (U+0085 in an annotation breaks it) and knows no bookmarks, no Retry-After
and no end of a list that lasts.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vgpumonitor import __version__, memory
from vgpumonitor.sources.pods.model import PodsView
from vgpumonitor.sources.pods.objects import (
    PodList,
    PodReading,
    decode,
    pod_from_object,
    split_list,
)
from vgpumonitor.sources.pods.store import PodStore

if TYPE_CHECKING:
    import httpx2

log = logging.getLogger(__name__)

#: Where kubelet puts a pod's token and the cluster's CA.
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
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
    long a watch is asked to last, and, with ``answer``, how long it may be silent."""

    first_delay: float = 1.0
    longest_delay: float = 60.0
    answer: float = 30.0
    watch: float = 150.0
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


class _Status(msgspec.Struct):
    """Of Kubernetes' ``Status`` object what is needed."""

    code: int = 0
    message: str = ""


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class KubernetesPodSource:
    """``kubeconfig`` None is the service account of the pod that this runs in.

    ``view`` is up from a complete list on, as long as its watch goes on. After any failure
    it is down until the next complete list, so that no gap is taken for the truth.
    """

    name = "kubernetes"

    def __init__(
        self, node_name: str, kubeconfig: str | None = None, timing: Timing | None = None
    ) -> None:
        self._selector = f"spec.nodeName={node_name}"
        self._kubeconfig = kubeconfig
        self._timing = timing or Timing()
        self._table = PodStore(self.name)
        self._client: httpx2.AsyncClient | None = None
        self._version: str | None = None
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
                    self._table.mark_stale(_described(error))
                    if not isinstance(error, _RefusalError) or error.status == 401:
                        # A new client reads the kubeconfig, its tokens and the CA again.
                        await self._disconnect()
                    delay = self._timing.delay(self._failures)
                    if isinstance(error, _RefusalError) and error.retry_after is not None:
                        delay += min(error.retry_after, self._timing.longest_retry_after)
                self._version = None
                self._failures += 1
                await asyncio.sleep(delay)
        finally:
            await self._disconnect()

    async def _follow(self) -> None:
        """Lists once, then watches until something fails."""
        if self._client is None:
            self._client = await asyncio.to_thread(connect, self._kubeconfig)
        client = self._client
        self._version = await self._list(client)
        # A list of thousands of pods takes tens of megabytes, and comes once.
        await asyncio.to_thread(memory.give_back)
        while True:
            started = time.monotonic()
            if not await self._watch(client) and time.monotonic() - started < 1:
                raise ConnectionError("the API server ended a watch at once")
            self._failures = 0

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                await client.aclose()

    # List.

    async def _list(self, client: httpx2.AsyncClient) -> str:
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

    async def _page(self, client: httpx2.AsyncClient, params: dict[str, str]) -> PodList:
        request = client.build_request(
            "GET", "api/v1/pods", params=params, timeout=self._timing.answer
        )
        async with asyncio.timeout(self._timing.answer):
            response = await client.send(request, stream=True)
            try:
                await _check(response)
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > MAX_ANSWER:
                        raise ValueError(f"the API server's list has more than {MAX_ANSWER} bytes")
            finally:
                await response.aclose()
        return await asyncio.to_thread(split_list, body)

    # Watch.

    async def _watch(self, client: httpx2.AsyncClient) -> bool:
        """One watch, to its end; whether it gave any event."""
        seconds = self._timing.watch * random.uniform(0.8, 1.2)
        answer = self._timing.answer
        request = client.build_request(
            "GET",
            "api/v1/pods",
            params={
                "fieldSelector": self._selector,
                "watch": "true",
                "allowWatchBookmarks": "true",
                "resourceVersion": self._version or "",
                "timeoutSeconds": str(max(1, round(seconds))),
            },
            timeout=(answer, seconds + answer, answer, answer),
        )
        async with asyncio.timeout(answer):
            response = await client.send(request, stream=True)
        any_event = False
        try:
            await _check(response)
            async with aclosing(_lines(response)) as batches:
                async for lines in batches:
                    for line in lines:
                        self._take(line)
                    if lines:
                        any_event = True
                        self._failures = 0
                        self._table.mark_synced()
        finally:
            await response.aclose()
        # The server ends a watch only when all that happened up to then was sent.
        self._table.mark_synced()
        return any_event

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


def in_cluster() -> bool:
    """Whether this runs in a pod that has a service account."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and (SERVICE_ACCOUNT / "token").is_file()


def connect(kubeconfig: str | None) -> httpx2.AsyncClient:
    """lightkube's HTTP client for the kubeconfig, or for the service account. Reads files;
    raises ValueError and whatever lightkube does."""
    if kubeconfig is None and not in_cluster():
        raise ValueError(
            "no kubeconfig is given, and this is no pod of a cluster: KUBERNETES_SERVICE_HOST "
            f"or {SERVICE_ACCOUNT}/token is missing"
        )
    # 7 MB that only this source needs.
    from lightkube.config.client_adapter import AsyncClient, ConnectionParams
    from lightkube.config.kubeconfig import KubeConfig
    from lightkube.config.models import User

    config = (
        KubeConfig.from_service_account(SERVICE_ACCOUNT)
        if kubeconfig is None
        else KubeConfig.from_file(kubeconfig)
    ).get()
    assert config is not None  # lightkube gives None only where a default None was asked for.
    # lightkube's client insists on a user; a proxy of kubectl's needs none.
    client = AsyncClient(config._replace(user=config.user or User()), ConnectionParams())
    client.headers["User-Agent"] = f"vgpumonitor/{__version__}"
    # One line per request is too much at info.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    return client


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


async def _lines(response: httpx2.Response) -> AsyncGenerator[list[bytes], None]:
    """The complete lines of each chunk."""
    rest = bytearray()
    async for chunk in response.aiter_bytes():
        rest += chunk
        *lines, last = rest.split(b"\n")
        rest = last
        if len(rest) > MAX_LINE:
            raise ValueError(f"a line of the watch has more than {MAX_LINE} bytes")
        yield [bytes(line) for line in lines if line]
    if rest:
        raise ConnectionError("the watch ended within a line")


async def _check(response: httpx2.Response) -> None:
    """Raises _ExpiredError and _RefusalError."""
    if response.status_code == 200:
        return
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) >= MAX_ERROR:
            break
    try:
        message = msgspec.json.decode(body, type=_Status).message
    except ValueError:
        message = body[:200].decode(errors="replace")
    if response.status_code == 410:
        raise _ExpiredError(message)
    if response.status_code == 403:
        message += " (list and watch on pods are needed)"
    retry_after = response.headers.get("Retry-After", "")
    raise _RefusalError(
        response.status_code,
        message or response.reason_phrase,
        float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None,
    )


def _described(error: Exception) -> str:
    if isinstance(error, _RefusalError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "the API server did not answer in time"
    return f"{type(error).__name__}: {error}".rstrip(": ")
