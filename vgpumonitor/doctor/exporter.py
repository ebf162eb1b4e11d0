"""Who answers at the exporter's port on this machine, and what it found."""

from __future__ import annotations

import ssl
from dataclasses import replace
from typing import Any

import aiohttp

from vgpumonitor.client_errors import why
from vgpumonitor.controllers import CleanupHealth, FeedbackHealth
from vgpumonitor.diagnosis import ExporterFound
from vgpumonitor.settings import Address
from vgpumonitor.snapshot import NodeSnapshot

#: Seconds for an answer.
TIMEOUT = 5.0

Document = dict[str, Any]


async def ask_here(address: Address, tls: ssl.SSLContext) -> tuple[ExporterFound, Document | None]:
    """Who answers at ``address``, and the snapshot of an exporter there, as its JSON has it."""
    host = "127.0.0.1" if address.host is None else address.host
    place = str(Address(host, address.port))
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for scheme in ("http", "https"):
            try:
                async with session.get(f"{scheme}://{place}/api/v1/snapshot", ssl=tls) as response:
                    return await _answer(place, response)
            except aiohttp.ClientConnectorCertificateError:
                text = "answers with TLS, and its certificate is not trusted (--ca-file)"
                return ExporterFound(place, "exporter", text), None
            except aiohttp.ClientConnectorError as error:
                if not isinstance(error, aiohttp.ClientSSLError):
                    return ExporterFound(place, "nobody", why(error)), None
            except TimeoutError:
                text = f"it does not answer within {TIMEOUT:g} s"
                return ExporterFound(place, "other", text), None
            except aiohttp.ClientError:
                # It speaks no HTTP, so perhaps TLS.
                if scheme == "https":
                    text = "answers with TLS, and wants a client's certificate (--cert-file)"
                    return ExporterFound(place, "exporter", text), None
    return ExporterFound(place, "other", "it speaks neither HTTP nor TLS"), None


async def _answer(
    place: str, response: aiohttp.ClientResponse
) -> tuple[ExporterFound, Document | None]:
    if response.status == 401:
        text = "asks for a password: `doctor URL` with one in it tells more"
        return ExporterFound(place, "exporter", text), None
    try:
        document = await response.json() if response.status == 200 else None
    except (aiohttp.ClientError, ValueError):
        document = None
    if not isinstance(document, dict) or document.get("version") != 1:
        text = f"it answers {response.status} to GET {response.url.path}"
        return ExporterFound(place, "other", text), None
    writes = document["feedback"] is not None or document["cleanup"] is not None
    text = f"vgpumonitor {document['exporter_version']} answers"
    return ExporterFound(place, "exporter", text, writes), document


def with_controllers(snapshot: NodeSnapshot, document: Document) -> NodeSnapshot:
    """The snapshot with what the exporter here says of its feedback and clean-up."""
    feedback, cleanup = document["feedback"], document["cleanup"]
    return replace(
        snapshot,
        health=replace(
            snapshot.health,
            feedback=feedback
            and FeedbackHealth(feedback["rounds"], last_round=feedback["last_round"]),
            cleanup=cleanup and CleanupHealth(cleanup["removed"], cleanup["last_round"]),
        ),
    )
