"""Writes samples of any time into a Prometheus: its remote-write protocol, as much as that needs.

The message is Protocol Buffers in Snappy's block format
(https://prometheus.io/docs/specs/prw/remote_write_spec/), here without compression.
"""

from __future__ import annotations

import struct
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence

#: Prometheus' mark that a series has ended (model/value in its source).
STALE = struct.pack("<Q", 0x7FF0000000000002)
#: Series in one request.
_BATCH = 500

Labels = Mapping[str, str]
#: A series' labels, and its samples: Unix seconds, and a value or None where the series ended.
Series = tuple[Labels, Sequence[tuple[float, float | None]]]


def write(url: str, series: Iterable[Series]) -> None:
    """To the Prometheus at ``url``, which has to run with --web.enable-remote-write-receiver."""
    _write(url, (_labels(labels) + _samples(samples) for labels, samples in series))


def write_constant(url: str, times: Iterable[int], series: Iterable[tuple[Labels, float]]) -> None:
    """As ``write``, with one value of each series at all ``times``."""
    mark = 0.5
    around = _samples([(when, mark) for when in times]).split(struct.pack("<d", mark))
    _write(
        url, (_labels(labels) + struct.pack("<d", value).join(around) for labels, value in series)
    )


def _write(url: str, series: Iterable[bytes]) -> None:
    batch: list[bytes] = []
    for one in series:
        batch.append(_field(1, one))
        if len(batch) == _BATCH:
            _post(url, b"".join(batch))
            batch.clear()
    if batch:
        _post(url, b"".join(batch))


def _post(url: str, message: bytes) -> None:
    request = urllib.request.Request(
        f"{url}/api/v1/write",
        _snappy(message),
        {
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "snappy",
            "X-Prometheus-Remote-Write-Version": "0.1.0",
        },
    )
    try:
        urllib.request.urlopen(request, timeout=60).close()
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read().decode()) from error


def _labels(labels: Labels) -> bytes:
    return b"".join(
        _field(1, _field(1, name.encode()) + _field(2, value.encode()))
        for name, value in sorted(labels.items())
    )


def _samples(samples: Iterable[tuple[float, float | None]]) -> bytes:
    parts = []
    for when, value in samples:
        number = STALE if value is None else struct.pack("<d", value)
        parts.append(_field(2, b"\x09" + number + b"\x10" + _varint(round(when * 1000))))
    return b"".join(parts)


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _snappy(content: bytes) -> bytes:
    """One literal."""
    return _varint(len(content)) + b"\xfc" + struct.pack("<I", len(content) - 1) + content
