"""Several scrapes at once, and readers that are slow."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from benchmarks.node import cpu_seconds, serving, simulated
from benchmarks.table import Row
from testing.exporter import Exporter
from testing.resources import Held
from testing.values import MIB
from vgpumonitor.web.server import REQUESTS

#: Two pairs of Prometheus servers, which accept gzip, and a curl, which doesn't.
_SCRAPERS: tuple[dict[str, str], ...] = ({"Accept-Encoding": "gzip"},) * 4 + ({},)


def rows(containers: int = 1000, times: int = 15, readers: int = REQUESTS - 10) -> list[Row]:
    with simulated(containers) as node, serving(node) as exporter:
        exporter.get("/metrics")
        alone = sum(_cpu(exporter, _SCRAPERS[:1]) for _ in range(times)) / times
        together = sum(_cpu(exporter, _SCRAPERS) for _ in range(times)) / times
        before = Held.by(exporter.process.pid).memory / MIB
        held, size = _slow_readers(exporter, readers)
    return [
        Row(
            f"CPU of {len(_SCRAPERS)} scrapes at once, {containers} containers",
            f"{together / alone:.1f} times one",
            f"one {alone * 1000:.0f} ms with gzip, {len(_SCRAPERS)} at once "
            f"{together * 1000:.0f} ms, one of them without; means of {times}",
        ),
        Row(
            f"memory taken by {readers} slow readers, {containers} containers",
            f"{(held - before) / readers:.2f} MiB each",
            f"resident {before:.0f} and {held:.0f} MiB; an answer has {size / 2**20:.1f} MiB",
        ),
    ]


def _cpu(exporter: Exporter, scrapers: tuple[dict[str, str], ...]) -> float:
    """CPU seconds that the exporter takes for one scrape by each scraper, all at once."""
    before = cpu_seconds(exporter.process.pid)
    with ThreadPoolExecutor(len(scrapers)) as threads:
        list(threads.map(lambda headers: exporter.get("/metrics", headers), scrapers))
    return cpu_seconds(exporter.process.pid) - before


def _slow_readers(exporter: Exporter, count: int) -> tuple[float, int]:
    """Resident MiB while ``count`` clients have asked and not read yet, and the bytes of an
    answer."""
    with ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", exporter.port))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(3)
        size = len(exporter.get("/metrics"))
        return Held.by(exporter.process.pid).memory / MIB, size
