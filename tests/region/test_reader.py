"""Decoding of real files, and what bad ones get."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from testing.region_files import NAMES, put, recorded_bytes, recorded_content
from vgpumonitor.region.layouts import LAYOUTS, V1_1_POSTINIT, V1_2, Layout
from vgpumonitor.region.model import REASONS, Region, RegionDevice, RegionError
from vgpumonitor.region.reader import SLOT_RETRIES, RegionFile, decode, decode_head, open_regular


def read(path: Path) -> Region:
    file = open_file(path)
    try:
        return file.read(path.stat().st_size)
    finally:
        file.close()


def open_file(path: Path, monotonic: Callable[[], float] = time.monotonic) -> RegionFile:
    directory = os.open(path.parent, os.O_PATH)
    try:
        return RegionFile(open_regular(directory, path.name), monotonic)
    finally:
        os.close(directory)


def content(region: Region) -> dict[str, Any]:
    """A region in the form of the recorded JSON."""
    return {
        "layout": region.layout,
        "version": None if region.version is None else list(region.version),
        "size": region.size,
        "device_num": region.device_num,
        "proc_num": region.proc_num,
        "utilization_switch": region.utilization_switch,
        "recent_kernel": region.recent_kernel,
        "priority": region.priority,
        "last_kernel_time": region.last_kernel_time,
        "devices": [
            {
                "uuid": device.uuid,
                "memory_limit_bytes": device.memory_limit_bytes,
                "sm_limit_percent": device.sm_limit_percent,
            }
            for device in region.devices
        ],
        "processes": [
            {
                "pid": process.pid,
                "hostpid": process.hostpid,
                "status": process.status,
                "seqlock": process.seqlock,
                "devices": [
                    {
                        field: getattr(use, field)
                        for field in (
                            "context",
                            "module",
                            "data",
                            "offset",
                            "total",
                            "monitor_used",
                            "dec_util",
                            "enc_util",
                            "sm_util",
                        )
                    }
                    for use in process.devices
                ],
            }
            for process in region.processes
        ],
    }


def test_every_release_and_scenario_is_recorded() -> None:
    expected = [
        f"hami-{release}-{scenario}"
        for release in ("2.4.0", "2.6.0", "2.8.1", "2.9.0")
        for scenario in ("mixed-exits", "three-processes")
    ]
    assert expected == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_decodes_what_the_real_hami_core_wrote(name: str, tmp_path: Path) -> None:
    region = read(put(name, tmp_path / "x.cache"))
    assert content(region) == recorded_content(name)
    assert region.problems == ()
    assert region.torn == 0


def test_the_same_bytes_give_the_same_object(tmp_path: Path) -> None:
    path = put("hami-2.9.0-three-processes", tmp_path / "x.cache")
    file = open_file(path)
    first = file.read(path.stat().st_size)
    assert file.read(path.stat().st_size) is first
    poke(path, V1_2.region.priority.offset, b"\x05")
    changed = file.read(path.stat().st_size)
    assert changed == replace(first, priority=5)
    file.close()


def poke(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize(
    ("proc_num", "processes"), [(-1, 0), (1025, 1024), (2**31 - 1, 1024), (2, 2)]
)
def test_proc_num_is_clamped(proc_num: int, processes: int, tmp_path: Path) -> None:
    path = put("hami-2.9.0-three-processes", tmp_path / "x.cache")
    poke(path, V1_2.tail_offset, proc_num.to_bytes(4, "little", signed=True))
    region = read(path)
    assert region.proc_num == proc_num
    assert len(region.processes) == processes
    assert [reason for reason, _ in region.problems] == ["bad_proc_num"] * (proc_num != 2)


@pytest.mark.parametrize("device_num", [17, 2**64 - 1])
def test_device_num_is_clamped(device_num: int, tmp_path: Path) -> None:
    path = put("hami-2.9.0-three-processes", tmp_path / "x.cache")
    poke(path, V1_2.region.device_num.offset, device_num.to_bytes(8, "little"))
    region = read(path)
    assert region.device_num == device_num
    assert [device.uuid is None for device in region.devices] == [False] * 2 + [True] * 14
    assert region.problems == (("bad_device_num", f"device_num is {device_num}"),)


@pytest.mark.parametrize(
    "uuid",
    [
        b"GPU-8664316c-6888-5063-1e4d-f2a09cfbf10\n",
        b"GPU-8664316c-6888-5063-1e4d-f2a09cfbf10",
        b'GPU-8664316c-6888-5063-1e4d-f2a09cfbf10"} 1\n',
        b"\x01\x02\x03\x1b[2J",
        "ГПУ-8664316c-6888-5063-1e4d-f2a09cfbf100".encode(),
        b"\xff" * 96,
        # The second device's: two of one UUID would make one series twice.
        b"GPU-8664316c-6888-5063-1e4d-f2a09cfbf101",
    ],
)
def test_a_uuid_that_is_none_costs_its_device_alone(uuid: bytes, tmp_path: Path) -> None:
    path = put("hami-2.9.0-three-processes", tmp_path / "x.cache")
    poke(path, V1_2.region.uuids.offset, uuid.ljust(96, b"\0"))
    region = read(path)
    bad = [reason for reason, _ in region.problems]
    assert bad == ["bad_uuid"]
    known = [device.uuid for device in region.devices]
    assert "GPU-8664316c-6888-5063-1e4d-f2a09cfbf101" in known
    assert None in known
    assert len(region.processes) == 3


def test_an_empty_uuid_is_no_error_yet(tmp_path: Path) -> None:
    path = put("hami-2.9.0-three-processes", tmp_path / "x.cache")
    poke(path, V1_2.region.uuids.offset, bytes(96))
    region = read(path)
    assert [device.uuid for device in region.devices] == [
        None,
        "GPU-8664316c-6888-5063-1e4d-f2a09cfbf101",
    ]
    assert region.problems == ()


@pytest.mark.parametrize(
    "uuid",
    [
        "MIG-8664316c-6888-5063-1e4d-f2a09cfbf100",
        "MIG-GPU-8664316c-6888-5063-1e4d-f2a09cfbf100/7/0",
    ],
)
def test_mig_uuids_are_uuids(uuid: str, tmp_path: Path) -> None:
    path = put("hami-2.9.0-mixed-exits", tmp_path / "x.cache")
    poke(path, V1_2.region.uuids.offset, uuid.encode().ljust(96, b"\0"))
    assert [device.uuid for device in read(path).devices] == [uuid]


def test_a_slot_that_was_moved_while_we_read_counts_once(tmp_path: Path) -> None:
    path = put("hami-2.6.0-mixed-exits", tmp_path / "x.cache")
    layout = LAYOUTS[1]
    data = recorded_bytes("hami-2.6.0-mixed-exits")
    first = data[layout.procs_offset : layout.procs_offset + layout.slot_size]
    poke(path, layout.procs_offset + layout.slot_size, first)
    assert [process.pid for process in read(path).processes] == [7316]


def fifo(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def link_outside(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def unreadable_bytes(data: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(data)

    return make


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (fifo, "not_regular"),
        (a_socket, "not_regular"),
        (Path.mkdir, "not_regular"),
        (link_outside, "symlink"),
        (link_to_itself, "symlink"),
        (sparse, "uninitialized"),
        (unreadable_bytes(b""), "empty"),
        (unreadable_bytes(b"\xff" * 2008953), "bad_magic"),
        (unreadable_bytes(recorded_bytes("hami-2.9.0-mixed-exits")[:1000]), "truncated"),
        (unreadable_bytes(recorded_bytes("hami-2.9.0-mixed-exits")[:1500000]), "truncated"),
        (lambda _: None, "vanished"),
    ],
)
def test_what_is_no_region_file(make: Callable[[Path], None], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.cache"
    make(path)
    with pytest.raises(RegionError) as caught:
        read(path)
    assert caught.value.reason == reason
    assert reason in REASONS


def test_truncated_while_it_is_served(tmp_path: Path) -> None:
    path = put("hami-2.8.1-three-processes", tmp_path / "x.cache")
    file = open_file(path)
    file.read(path.stat().st_size)
    os.truncate(path, 100)
    with pytest.raises(RegionError, match="ends before byte") as caught:
        file.read(100)
    assert caught.value.reason == "truncated"
    file.close()


def test_a_header_that_is_overwritten_while_it_is_served(tmp_path: Path) -> None:
    path = put("hami-2.9.0-mixed-exits", tmp_path / "x.cache")
    file = open_file(path)
    before = file.read(path.stat().st_size)
    poke(path, 8, (1).to_bytes(4, "little"))
    with pytest.raises(RegionError, match=r"no longer that of 1\.2") as caught:
        file.read(path.stat().st_size)
    assert caught.value.reason == "unknown_layout"
    poke(path, 8, (2).to_bytes(4, "little"))
    assert file.read(path.stat().st_size) == before
    file.close()


def test_a_limit_that_changes_while_it_is_served(tmp_path: Path) -> None:
    path = put("hami-2.9.0-mixed-exits", tmp_path / "x.cache")
    file = open_file(path)
    before = file.read(path.stat().st_size)
    poke(path, V1_2.region.limit.offset, (123 << 20).to_bytes(8, "little"))
    after = file.read(path.stat().st_size)
    file.close()
    assert after.devices[0] == RegionDevice(
        before.devices[0].uuid, 123 << 20, before.devices[0].sm_limit_percent
    )
    assert after.devices[1:] == before.devices[1:]
    assert after.processes == before.processes


class TestWithoutOPath:
    """As on macOS: what isn't a regular file is seen before it is opened, and what took its
    place since then is opened without waiting, and not used."""

    @pytest.fixture(autouse=True)
    def no_o_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "O_PATH")

    def open(self, path: Path) -> int:
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            return open_regular(directory, path.name)
        finally:
            os.close(directory)

    def test_a_regular_file(self, tmp_path: Path) -> None:
        (tmp_path / "x.cache").write_bytes(b"content")
        fd = self.open(tmp_path / "x.cache")
        assert os.read(fd, 100) == b"content"
        os.close(fd)

    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (os.mkfifo, "not_regular"),
            (Path.mkdir, "not_regular"),
            (lambda path: path.symlink_to("/etc/passwd"), "symlink"),
            (lambda path: None, "vanished"),
        ],
        ids=["fifo", "directory", "symlink", "nothing"],
    )
    @pytest.mark.parametrize("when", ["before", "meanwhile"])
    def test_anything_else(
        self,
        make: Callable[[Path], object],
        reason: str,
        when: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        path = tmp_path / "x.cache"
        if when == "before":
            make(path)
        else:
            path.touch()
            real = os.stat

            def then_changed(*arguments: Any, **options: Any) -> os.stat_result:
                status = real(*arguments, **options)
                if arguments == (path.name,):
                    path.unlink()
                    make(path)
                return status

            monkeypatch.setattr(os, "stat", then_changed)
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(RegionError) as caught:
            self.open(path)
        assert caught.value.reason == reason
        assert len(os.listdir("/proc/self/fd")) == before


def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    (tmp_path / "x.cache").write_bytes(b"\xff" * 2008953)
    for _ in range(3):
        with pytest.raises(RegionError):
            read(tmp_path / "x.cache")
    assert descriptors() == before


class TestSeqlock:
    """A half-written slot is read again; one that stays so is as it was when it was last whole,
    or left out where it never was; the others are not touched."""

    @pytest.mark.parametrize("layout", [V1_1_POSTINIT, V1_2], ids=lambda layout: layout.name)
    def test_a_writer_that_died_halfway(self, layout: Layout, tmp_path: Path) -> None:
        release = "2.8.1" if layout is V1_1_POSTINIT else "2.9.0"
        path = put(f"hami-{release}-three-processes", tmp_path / "x.cache")
        second = layout.procs_offset + layout.slot_size + layout.slot.seqlock.offset
        poke(path, second, (21).to_bytes(8, "little"))
        region = read(path)
        assert [process.hostpid for process in region.processes] == [100000, 100002]
        assert (region.torn, region.missing) == (1, 1)

    def test_what_stays_half_written_has_its_last_whole_value(self, tmp_path: Path) -> None:
        path = put("hami-2.9.0-three-processes", tmp_path / "x.cache")
        size = path.stat().st_size
        slot = V1_2.procs_offset + V1_2.slot_size
        file = open_file(path)
        whole = file.read(size)
        poke(path, slot + V1_2.slot.seqlock.offset, (21).to_bytes(8, "little"))
        poke(path, slot + V1_2.slot.used.offset + 32, (99 << 30).to_bytes(8, "little"))
        torn = file.read(size)
        file.close()
        assert (torn.torn, torn.missing) == (1, 0)
        assert torn.processes == whole.processes

    def test_a_slot_that_moved_has_the_value_of_its_old_place(self, tmp_path: Path) -> None:
        path = put("hami-2.9.0-three-processes", tmp_path / "x.cache")
        size = path.stat().st_size
        first, third = V1_2.procs_offset, V1_2.procs_offset + 2 * V1_2.slot_size
        file = open_file(path)
        whole = file.read(size)
        # Compaction: the last slot over the first one, in the middle of an update.
        poke(path, first, path.read_bytes()[third : third + V1_2.slot_size])
        poke(path, first + V1_2.slot.seqlock.offset, (21).to_bytes(8, "little"))
        poke(path, V1_2.region.proc_num.offset, (2).to_bytes(4, "little"))
        moved = file.read(size)
        file.close()
        assert (moved.torn, moved.missing) == (1, 0)
        assert moved.processes == (whole.processes[2], whole.processes[1])

    def test_bytes_that_stand_still_are_whole(self, tmp_path: Path) -> None:
        path = put("hami-2.9.0-three-processes", tmp_path / "x.cache")
        size = path.stat().st_size
        poke(path, V1_2.procs_offset + V1_2.slot.seqlock.offset, (21).to_bytes(8, "little"))
        now = [100.0]
        file = open_file(path, lambda: now[0])
        seen = []
        for seconds in (0.0, 0.06, 0.06, 15.0):
            now[0] += seconds
            region = file.read(size)
            seen.append((region.torn, region.missing, len(region.processes)))
        file.close()
        assert seen == [(1, 1, 2), (1, 1, 2), (0, 0, 3), (0, 0, 3)]

    def test_bytes_that_changed_again_are_not(self, tmp_path: Path) -> None:
        path = put("hami-2.9.0-three-processes", tmp_path / "x.cache")
        size = path.stat().st_size
        now = [100.0]
        file = open_file(path, lambda: now[0])
        seen = []
        for seqlock in (21, 23, 23, 25):
            now[0] += 15
            poke(path, V1_2.procs_offset + V1_2.slot.seqlock.offset, seqlock.to_bytes(8, "little"))
            region = file.read(size)
            seen.append((region.torn, region.missing))
        file.close()
        assert seen == [(1, 1), (1, 1), (0, 0), (1, 0)]

    def test_one_that_ends_meanwhile_is_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = put("hami-2.9.0-three-processes", tmp_path / "x.cache")
        seqlock = V1_2.procs_offset + V1_2.slot.seqlock.offset
        data = V1_2.procs_offset + V1_2.slot.used.offset + 16
        poke(path, seqlock, (21).to_bytes(8, "little"))
        looks = 0
        pread = os.pread

        def writer_ends_after_the_third_look(fd: int, length: int, offset: int) -> bytes:
            nonlocal looks
            found = pread(fd, length, offset)
            if offset == V1_2.procs_offset or length > V1_2.procs_offset:
                looks += 1
                if looks == 3:
                    poke(path, data, (4096).to_bytes(8, "little"))
                    poke(path, seqlock, (22).to_bytes(8, "little"))
            return found

        file = open_file(path)
        monkeypatch.setattr(os, "pread", writer_ends_after_the_third_look)
        region = file.read(path.stat().st_size)
        file.close()
        assert region.torn == 0
        assert region.processes[0].seqlock == 22
        assert region.processes[0].devices[0].data == 4096

    def test_a_change_between_the_looks_is_never_half_seen(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A whole update between two looks: both have an even seqlock, and differ."""
        path = put("hami-2.9.0-three-processes", tmp_path / "x.cache")
        seqlock = V1_2.procs_offset + V1_2.slot.seqlock.offset
        total = V1_2.procs_offset + V1_2.slot.used.offset + 32
        pread = os.pread
        looks = 0

        def always_another_update(fd: int, length: int, offset: int) -> bytes:
            nonlocal looks
            found = pread(fd, length, offset)
            if length >= V1_2.slot_size:
                looks += 1
                poke(path, seqlock, (20 + 2 * looks).to_bytes(8, "little"))
                poke(path, total, looks.to_bytes(8, "little"))
            return found

        file = open_file(path)
        monkeypatch.setattr(os, "pread", always_another_update)
        region = file.read(path.stat().st_size)
        file.close()
        assert (region.torn, region.missing) == (1, 1)
        assert [process.hostpid for process in region.processes] == [100001, 100002]
        assert looks == 2 + SLOT_RETRIES


@settings(max_examples=300)
@given(st.sampled_from(LAYOUTS), st.data())
def test_arbitrary_bytes_raise_nothing_but_the_readers_error(
    layout: Layout, data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, 3))
    head = bytearray(data.draw(st.binary(min_size=0, max_size=layout.procs_offset)))
    head.extend(bytes(layout.procs_offset - len(head)))
    if data.draw(st.booleans()):
        # Past the magic number and the version, so that the rest is decoded.
        real = recorded_bytes(
            "hami-2.4.0-mixed-exits" if layout.name == "0" else "hami-2.9.0-mixed-exits"
        )
        head[:12] = real[:12]
        if layout.major_minor:
            head[8:12] = layout.major_minor[1].to_bytes(4, "little")
    slots = data.draw(st.binary(max_size=200)).ljust(count * layout.slot_size, b"\xff")
    tail = data.draw(st.binary(min_size=layout.tail_size, max_size=layout.tail_size))
    used = bytes(head) + slots[: count * layout.slot_size]
    region, reason = outcome(
        lambda: decode(
            layout, decode_head(layout, layout.size, used), layout.size, used, tail, count
        )
    )
    if region is None:
        assert reason in REASONS
    else:
        assert len(region.devices) <= 16
        assert all(
            device.uuid is None or device.uuid[:4] in ("GPU-", "MIG-") for device in region.devices
        )


def outcome(reading: Callable[[], Region]) -> tuple[Region | None, str | None]:
    """The region, or the reason that the reader's own error gives; others pass."""
    try:
        return reading(), None
    except RegionError as error:
        return None, error.reason


@settings(max_examples=50)
@given(st.binary(max_size=4096), st.sampled_from([0, 100, 1197897, 2008953, 2008985, 1 << 30]))
def test_arbitrary_files_raise_nothing_but_the_readers_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, size: int
) -> None:
    path = tmp_path_factory.mktemp("any") / "x.cache"
    with path.open("wb") as file:
        file.write(data)
        file.truncate(size)
    region, reason = outcome(lambda: read(path))
    assert (region is None) == (reason in REASONS)
    path.unlink()
