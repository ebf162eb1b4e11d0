"""The released layouts of HAMi-core's ``shared_region_t``, as ctypes structures.

Every offset was taken with ``offsetof`` from the headers of the HAMi-core revision that the named
HAMi release pins. Integers are little-endian, the ABI is that of 64-bit Linux.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vgpumonitor.region.model import RegionError

MAGIC = 19920718
MAX_DEVICES = 16
MAX_PROCESSES = 1024
UUID_BYTES = 96
#: Bytes from the start of a file that are enough to tell which layout it has.
PROBE_BYTES = 128

_I32, _U32, _U64 = ctypes.c_int32, ctypes.c_uint32, ctypes.c_uint64
_SEM = ctypes.c_ubyte * 32
_UUID = ctypes.c_ubyte * UUID_BYTES

_Fields = Sequence[tuple[str, Any]]


def _structure(name: str, fields: _Fields) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": list(fields)})


_MEMORY: _Fields = [(f, _U64) for f in ("context", "module", "data", "offset", "total")]
_UTILIZATION: _Fields = [(f, _U64) for f in ("dec", "enc", "sm")]
_UNUSED: _Fields = [("unused", _U64 * 3)]


def _slot(
    memory: _Fields, utilization: _Fields, before: _Fields = (), after: _Fields = ()
) -> type[ctypes.Structure]:
    return _structure(
        "Slot",
        [
            ("pid", _I32),
            ("hostpid", _I32),
            *before,
            ("used", _structure("DeviceMemory", memory) * MAX_DEVICES),
            ("monitorused", _U64 * MAX_DEVICES),
            ("device_util", _structure("Utilization", utilization) * MAX_DEVICES),
            ("status", _I32),
            *after,
        ],
    )


_VERSION: _Fields = [("major_version", _U32), ("minor_version", _U32)]
_POSTINIT: _Fields = [("sem_postinit", _SEM)]
_DEVICES: _Fields = [
    ("device_num", _U64),
    ("uuids", _UUID * MAX_DEVICES),
    ("limit", _U64 * MAX_DEVICES),
    ("sm_limit", _U64 * MAX_DEVICES),
]
_WORDS: _Fields = [
    (f, _I32) for f in ("proc_num", "utilization_switch", "recent_kernel", "priority")
]
_KERNEL_TIME: _Fields = [("last_kernel_time", _U64)]


def _head(version: _Fields, postinit: _Fields = ()) -> _Fields:
    return [
        ("initialized_flag", _I32),
        *version,
        ("sm_init_flag", _I32),
        ("owner_pid", ctypes.c_size_t),
        ("sem", _SEM),
        *postinit,
        *_DEVICES,
    ]


@dataclass(frozen=True)
class Layout:
    """One layout. ``region`` is the whole structure; ``head``, ``slot`` and ``tail`` are its
    parts, so that a reader can decode one without reading all of its two megabytes.

    ``major_minor`` is None for the layout that has no version fields.
    """

    name: str
    shipped_in: str
    major_minor: tuple[int, int] | None
    region: type[ctypes.Structure]
    head: type[ctypes.Structure]
    slot: type[ctypes.Structure]
    tail: type[ctypes.Structure]

    @cached_property
    def size(self) -> int:
        """Bytes of the structure; the file that HAMi-core creates is one byte longer."""
        return ctypes.sizeof(self.region)

    @cached_property
    def procs_offset(self) -> int:
        return int(self.region.procs.offset)

    @cached_property
    def slot_size(self) -> int:
        return ctypes.sizeof(self.slot)

    @cached_property
    def tail_offset(self) -> int:
        return int(self.region.proc_num.offset)

    @cached_property
    def tail_size(self) -> int:
        return ctypes.sizeof(self.tail)

    @cached_property
    def has_seqlock(self) -> bool:
        return hasattr(self.slot, "seqlock")

    @cached_property
    def has_kernel_time(self) -> bool:
        return hasattr(self.tail, "last_kernel_time")

    @property
    def late_order(self) -> bool:
        """Whether launches look at the limit before they wait (see ``region.launches``): since
        HAMi 2.8.1, the release that brought the first layout with a seqlock."""
        return self.has_seqlock


def _layout(
    name: str,
    shipped_in: str,
    major_minor: tuple[int, int] | None,
    head: _Fields,
    slot: type[ctypes.Structure],
    tail: _Fields,
    after: _Fields = (),
) -> Layout:
    region = _structure("Region", [*head, ("procs", slot * MAX_PROCESSES), *tail, *after])
    return Layout(
        name,
        shipped_in,
        major_minor,
        region,
        _structure("Head", head),
        slot,
        _structure("Tail", tail),
    )


_MEMORY_64, _UTILIZATION_48 = [*_MEMORY, *_UNUSED], [*_UTILIZATION, *_UNUSED]
_SEQLOCK: _Fields = [("seqlock", _U64)]

V0 = _layout("0", "HAMi up to 2.4", None, _head(()), _slot(_MEMORY, _UTILIZATION), _WORDS)
V1_1 = _layout(
    "1.1",
    "HAMi 2.5.0 to 2.8.0",
    (1, 1),
    _head(_VERSION),
    # Later layouts have the seqlock in these unused bytes.
    _slot(_MEMORY_64, _UTILIZATION_48, after=[("unused", _U32 * 7)]),
    [*_WORDS, *_KERNEL_TIME],
    after=[("unused", _U64 * 4)],
)
V1_1_POSTINIT = _layout(
    "1.1-postinit",
    "HAMi 2.8.1",
    (1, 1),
    _head(_VERSION, _POSTINIT),
    _slot(_MEMORY_64, _UTILIZATION_48, before=_SEQLOCK, after=[("unused", _U32 * 5)]),
    [*_WORDS, *_KERNEL_TIME],
    after=[("unused", _U64 * 4)],
)
V1_2 = _layout(
    "1.2",
    "HAMi 2.8.2 on, 2.9",
    (1, 2),
    _head(_VERSION),
    _slot(_MEMORY_64, _UTILIZATION_48, after=[*_SEQLOCK, ("unused", _U64 * 2)]),
    [*_WORDS, *_KERNEL_TIME],
    after=_POSTINIT,
)
LAYOUTS = (V0, V1_1, V1_1_POSTINIT, V1_2)


def choose(size: int, probe: bytes) -> Layout:
    """The layout of a file of ``size`` bytes that begins with ``probe`` (``PROBE_BYTES`` bytes, or
    the whole file if it is shorter).

    Raises RegionError: empty, truncated, uninitialized, bad_magic, unknown_layout.
    """
    if size == 0:
        raise RegionError("empty", "the file is empty")
    if size < V0.size or len(probe) < PROBE_BYTES:
        raise RegionError(
            "truncated", f"the file has {size} bytes, and the smallest layout {V0.size}"
        )
    magic = int.from_bytes(probe[:4], "little")
    if magic == 0:
        raise RegionError("uninitialized", "HAMi-core has not written its magic number yet")
    if magic != MAGIC:
        raise RegionError("bad_magic", f"the magic number is {magic}, expected {MAGIC}")
    if size < V1_1.size:
        # Layout 0 never has these letters where a newer layout has its first UUID.
        for layout in (V1_1, V1_1_POSTINIT):
            at = layout.region.uuids.offset
            if probe[at : at + 4] in (b"GPU-", b"MIG-"):
                raise RegionError(
                    "truncated", f"the file has {size} bytes, and its layout at least {layout.size}"
                )
        return V0
    version = (int.from_bytes(probe[4:8], "little"), int.from_bytes(probe[8:12], "little"))
    if version == V1_2.major_minor:
        return V1_2
    if version == V1_1.major_minor:
        return V1_1 if size < V1_1_POSTINIT.size else V1_1_POSTINIT
    raise RegionError(
        "unknown_layout", f"no known layout has version {version[0]}.{version[1]} and {size} bytes"
    )
