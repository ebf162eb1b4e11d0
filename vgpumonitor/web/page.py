"""Serves the page at / and what it is made of; it loads nothing from anywhere else."""

from __future__ import annotations

import hashlib
from importlib import resources

from aiohttp import web

# uPlot sets styles through the CSSOM, which the policy doesn't count as inline.
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_TYPES = {"css": "text/css", "html": "text/html", "js": "text/javascript", "svg": "image/svg+xml"}

#: Files of the directory ``page``, served as ``/page/<file>``; index.html is ``/``.
_FILES = (
    "index.html",
    "page.css",
    "icon.svg",
    "app.js",
    "gpus.js",
    "charts.js",
    "detail.js",
    "dom.js",
    "findings.js",
    "format.js",
    "history.js",
    "rows.js",
    "table.js",
    "xids.js",
    "uplot/uPlot.iife.min.js",
    "uplot/uPlot.min.css",
)


def page_routes() -> list[web.RouteDef]:
    """The page's routes; its files are read now, once."""
    directory = resources.files("vgpumonitor.web") / "page"
    return [
        web.get("/" if name == "index.html" else f"/page/{name}", _Asset(name, content).answer)
        for name in _FILES
        for content in [directory.joinpath(name).read_bytes()]
    ]


class _Asset:
    def __init__(self, name: str, content: bytes) -> None:
        self._content = content
        self._type = _TYPES[name.rpartition(".")[2]]
        self._etag = hashlib.sha256(content).hexdigest()[:16]

    async def answer(self, request: web.Request) -> web.Response:
        known = {tag.value for tag in request.if_none_match or ()}
        if self._etag in known or "*" in known:
            response = web.Response(status=304, headers=_HEADERS)
        else:
            response = web.Response(
                body=self._content, content_type=self._type, charset="utf-8", headers=_HEADERS
            )
        response.etag = self._etag
        return response
