"""The structures against the table of measured offsets (HAMi-core's headers)."""

from __future__ import annotations

import ctypes
import struct

import pytest

from vgpumonitor.region.layouts import MAGIC, V0, V1_1, V1_1_POSTINIT, V1_2, Layout, choose
from vgpumonitor.region.model import RegionError

REGION_OFFSETS = {
    # field: offsets in 0, 1.1, 1.1-postinit, 1.2
    "initialized_flag": (0, 0, 0, 0),
    "major_version": (None, 4, 4, 4),
    "minor_version": (None, 8, 8, 8),
    "sm_init_flag": (4, 12, 12, 12),
    "owner_pid": (8, 16, 16, 16),
    "sem": (16, 24, 24, 24),
    "sem_postinit": (None, None, 56, 2008920),
    "device_num": (48, 56, 88, 56),
    "uuids": (56, 64, 96, 64),
    "limit": (1592, 1600, 1632, 1600),
    "sm_limit": (1720, 1728, 1760, 1728),
    "procs": (1848, 1856, 1888, 1856),
    "proc_num": (1197880, 2008896, 2008928, 2008896),
    "utilization_switch": (1197884, 2008900, 2008932, 2008900),
    "recent_kernel": (1197888, 2008904, 2008936, 2008904),
    "priority": (1197892, 2008908, 2008940, 2008908),
    "last_kernel_time": (None, 2008912, 2008944, 2008912),
}
SLOT_OFFSETS = {
    "pid": (0, 0, 0, 0),
    "hostpid": (4, 4, 4, 4),
    "seqlock": (None, None, 8, 1936),
    "used": (8, 8, 16, 8),
    "monitorused": (648, 1032, 1040, 1032),
    "device_util": (776, 1160, 1168, 1160),
    "status": (1160, 1928, 1936, 1928),
}
LAYOUTS = (V0, V1_1, V1_1_POSTINIT, V1_2)


def offset(structure: type[ctypes.Structure], field: str) -> int | None:
    return getattr(structure, field).offset if hasattr(structure, field) else None


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
class TestOffsets:
    def test_region(self, layout: Layout) -> None:
        column = LAYOUTS.index(layout)
        assert {field: offset(layout.region, field) for field in REGION_OFFSETS} == {
            field: offsets[column] for field, offsets in REGION_OFFSETS.items()
        }

    def test_slot(self, layout: Layout) -> None:
        column = LAYOUTS.index(layout)
        assert {field: offset(layout.slot, field) for field in SLOT_OFFSETS} == {
            field: offsets[column] for field, offsets in SLOT_OFFSETS.items()
        }

    def test_sizes(self, layout: Layout) -> None:
        column = LAYOUTS.index(layout)
        assert layout.size == (1197896, 2008952, 2008984, 2008952)[column]
        assert layout.slot_size == (1168, 1960, 1960, 1960)[column]
        slot = layout.slot
        assert slot.pid.size == slot.hostpid.size == slot.status.size == 4
        assert slot.used.size == 16 * (40 if layout is V0 else 64)
        assert slot.device_util.size == 16 * (24 if layout is V0 else 48)

    def test_parts_are_where_the_whole_has_them(self, layout: Layout) -> None:
        head = ctypes.sizeof(layout.head)
        assert head == layout.procs_offset
        for field, *_ in layout.head._fields_:
            assert offset(layout.head, field) == offset(layout.region, field)
        for field, *_ in layout.tail._fields_:
            assert layout.tail_offset + getattr(layout.tail, field).offset == offset(
                layout.region, field
            )


def head(major: int = 0, minor: int = 0, magic: int = MAGIC, text_at: int | None = None) -> bytes:
    probe = bytearray(128)
    struct.pack_into("<iII", probe, 0, magic, major, minor)
    if text_at is not None:
        probe[text_at : text_at + 4] = b"GPU-"
    return bytes(probe)


@pytest.mark.parametrize(
    ("size", "probe", "name"),
    [
        (1197896, head(), "0"),
        (1197897, head(), "0"),
        (2008951, head(), "0"),
        (2008952, head(1, 1), "1.1"),
        (2008953, head(1, 1), "1.1"),
        (2008983, head(1, 1), "1.1"),
        (2008984, head(1, 1), "1.1-postinit"),
        (2008985, head(1, 1), "1.1-postinit"),
        (2008952, head(1, 2), "1.2"),
        (2008953, head(1, 2), "1.2"),
    ],
)
def test_choose(size: int, probe: bytes, name: str) -> None:
    assert choose(size, probe).name == name


@pytest.mark.parametrize(
    ("size", "probe", "reason"),
    [
        (0, b"", "empty"),
        (1, b"\x10", "truncated"),
        (1197895, head(), "truncated"),
        (2008953, head(magic=0), "uninitialized"),
        (2008953, b"\xff" * 128, "bad_magic"),
        (2008953, head(1, 0), "unknown_layout"),
        (2008953, head(1, 3), "unknown_layout"),
        (2008953, head(2, 1), "unknown_layout"),
        (2008953, head(0, 2), "unknown_layout"),
        # A newer file, cut to a size that layout 0 may have: never read as layout 0.
        (1500000, head(1, 1, text_at=64), "truncated"),
        (1500000, head(1, 1, text_at=96), "truncated"),
        (2008951, head(1, 2, text_at=64), "truncated"),
    ],
)
def test_refused(size: int, probe: bytes, reason: str) -> None:
    with pytest.raises(RegionError) as caught:
        choose(size, probe)
    assert caught.value.reason == reason
