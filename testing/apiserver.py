"""A Kubernetes API server that lists and watches pods as a real one does, and fails as real
ones do."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from testing.tools import require

#: Answers a request in the server's place.
Fault = Callable[[web.Request], Awaitable[web.StreamResponse]]


def status(code: int, reason: str, message: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def refuse(code: int, reason: str, message: str, **headers: str) -> Fault:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(
            status(code, reason, message),
            status=code,
            headers={key.replace("_", "-"): value for key, value in headers.items()},
        )

    return answer


async def silence(_: web.Request) -> web.StreamResponse:
    """Accepts and never answers."""
    await asyncio.Event().wait()
    raise AssertionError


def streamed(*chunks: bytes, then: str = "end") -> Fault:
    """A watch that sends ``chunks`` and then ends, aborts its connection, or is silent."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if then == "silence":
            await asyncio.Event().wait()
        if then == "abort":
            assert request.transport is not None
            # The bytes leave first; the chunked body's end never comes.
            await asyncio.sleep(0.05)
            request.transport.close()
        return response

    return answer


def event(kind: str, obj: Mapping[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


@dataclass
class Seen:
    """A request that came."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    token: str | None
    at: float

    @property
    def verb(self) -> str:
        return "watch" if self.query.get("watch") == "true" else "list"


@dataclass
class ApiServer:
    """An async context manager. ``faults`` answer the coming lists and watches in turn, in
    the server's place; a list from the cache (resourceVersion=0) is whole, as with real
    servers, unless ``pages_from_cache``."""

    port: int = 0
    tls: ssl.SSLContext | None = None
    tokens: set[str] | None = None
    pages_from_cache: bool = False
    faults: dict[str, list[Fault]] = field(default_factory=lambda: {"list": [], "watch": []})
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._version = 100
        self._oldest = 0
        self._history: list[tuple[int, bytes]] = []
        self._changed = asyncio.Event()
        self._snapshots: dict[str, tuple[int, list[dict[str, Any]]]] = {}
        self._runner: web.AppRunner | None = None
        self._watches: set[asyncio.Transport] = set()

    async def __aenter__(self) -> ApiServer:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, "127.0.0.1", self.port, ssl_context=self.tls, reuse_address=True
        )
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        if self._runner is not None:
            self.cut()
            await self._runner.cleanup()
            self._runner = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def of(self, verb: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.verb == verb]

    # What happens in the cluster.

    def put(self, pod: dict[str, Any]) -> None:
        uid = pod["metadata"]["uid"]
        kind = "MODIFIED" if uid in self.pods else "ADDED"
        self._version += 1
        stored = {**pod, "metadata": {**pod["metadata"], "resourceVersion": str(self._version)}}
        self.pods[uid] = stored
        self._happened(event(kind, stored))

    def delete(self, uid: str) -> None:
        pod = self.pods.pop(uid)
        self._version += 1
        pod["metadata"]["resourceVersion"] = str(self._version)
        self._happened(event("DELETED", pod))

    def bookmark(self) -> str:
        """The version that the bookmark names: other objects than pods moved it on."""
        self._version += 10
        mark = {"kind": "Pod", "metadata": {"resourceVersion": str(self._version)}}
        self._happened(event("BOOKMARK", mark))
        return str(self._version)

    def send(self, line: bytes) -> None:
        """To all watches, as it is."""
        self._version += 1
        self._happened(line)

    def compact(self) -> None:
        """Forgets the history: no watch goes on from before."""
        self._version += 1
        self._oldest = self._version
        self._history.clear()

    def cut(self) -> None:
        """Cuts the connections of all watches, as a load balancer does."""
        for transport in list(self._watches):
            transport.abort()

    def _happened(self, line: bytes) -> None:
        self._history.append((self._version, line))
        self._changed.set()
        self._changed = asyncio.Event()

    # Requests.

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        authorization = request.headers.get("Authorization")
        seen = Seen(
            request.method,
            request.path,
            query,
            request.headers,
            authorization.removeprefix("Bearer ") if authorization else None,
            time.monotonic(),
        )
        self.seen.append(seen)
        if self.tokens is not None and seen.token not in self.tokens:
            return await refuse(401, "Unauthorized", "Unauthorized")(request)
        if self.faults[seen.verb]:
            return await self.faults[seen.verb].pop(0)(request)
        if request.method != "GET" or request.path != "/api/v1/pods":
            return await refuse(403, "Forbidden", f"{request.method} {request.path}")(request)
        return await (self._watch if seen.verb == "watch" else self._list)(request, query)

    async def _list(self, request: web.Request, query: dict[str, str]) -> web.StreamResponse:
        token, asked = query.get("continue"), query.get("resourceVersion")
        if "resourceVersionMatch" in query and (token or not asked):
            return await refuse(400, "BadRequest", "resourceVersionMatch is forbidden")(request)
        if token is not None:
            if token not in self._snapshots:
                return await refuse(410, "Expired", "The provided continue parameter is too old")(
                    request
                )
            version, pods = self._snapshots.pop(token)
        else:
            if asked and int(asked) > self._version:
                return await refuse(504, "Timeout", "Too large resource version")(request)
            key, _, node = query.get("fieldSelector", "").partition("=")
            assert key == "spec.nodeName", query
            pods = [pod for pod in self.pods.values() if pod["spec"].get("nodeName") == node]
            version = self._version
        limit = int(query.get("limit", "0"))
        if asked == "0" and not self.pages_from_cache:
            limit = 0
        metadata = {"resourceVersion": str(version)}
        if limit and len(pods) > limit:
            metadata["continue"] = f"after-{len(self._snapshots)}-{len(pods)}"
            self._snapshots[metadata["continue"]] = version, pods[limit:]
            pods = pods[:limit]
        return web.json_response(
            {"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": pods or None}
        )

    async def _watch(self, request: web.Request, query: dict[str, str]) -> web.StreamResponse:
        version = int(query["resourceVersion"])
        if version < self._oldest:
            gone = status(410, "Expired", f"too old resource version: {version} ({self._oldest})")
            return await streamed(event("ERROR", gone))(request)
        deadline = time.monotonic() + int(query["timeoutSeconds"])
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        assert request.transport is not None
        transport = request.transport
        self._watches.add(transport)
        try:
            while True:
                changed = self._changed
                for at, line in list(self._history):
                    if at > version:
                        await response.write(line)
                        version = at
                try:
                    async with asyncio.timeout(deadline - time.monotonic()):
                        await changed.wait()
                except TimeoutError:
                    return response
        except ConnectionResetError:
            return response  # It was cut.
        finally:
            self._watches.discard(transport)


def kubeconfig(
    path: Path, server: str, cluster: Mapping[str, Any] | None = None, **user: Any
) -> str:
    """Writes a kubeconfig for ``server``; JSON is YAML."""
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [{"name": "test", "cluster": {"server": server, **(cluster or {})}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                "users": [{"name": "test", "user": user}],
            }
        )
    )
    return str(path)


def make_certificate(directory: Path, name: str = "IP:127.0.0.1") -> tuple[Path, Path]:
    """A self-signed certificate for ``name``, and its key."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    subprocess.run(
        [
            *(require("openssl"), "req", "-x509", "-newkey", "ec"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
            *("-subj", "/CN=test", "-addext", f"subjectAltName={name}"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def server_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    return tls
