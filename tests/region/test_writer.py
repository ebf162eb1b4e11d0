"""Regions written as HAMi-core writes them, against files that HAMi-core wrote."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from testing.polling import eventually
from testing.region_files import NAMES, recorded_bytes, recorded_content
from testing.values import MIB
from vgpumonitor.region.layouts import LAYOUTS, V0, V1_1, V1_2, Layout
from vgpumonitor.region.model import SUSPENDED, ProcessDevice, Region, RegionDevice
from vgpumonitor.region.reader import RegionFile
from vgpumonitor.region.writer import RegionWriter

UUID = "GPU-8664316c-6888-5063-1e4d-f2a09cfbf100"
DEVICES = [RegionDevice(UUID, 20 << 30, 30)]


def decoded(path: Path) -> Region:
    fd = os.open(path, os.O_RDONLY)
    file = RegionFile(fd)
    try:
        return file.read(os.fstat(fd).st_size)
    finally:
        file.close()


def layout_of(name: str) -> Layout:
    return next(layout for layout in LAYOUTS if layout.name == name)


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.name)
def writer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RegionWriter]:
    with RegionWriter(tmp_path / "x.cache", request.param, DEVICES, now=1000) as made:
        yield made


def replay(path: Path, recorded: dict[str, Any]) -> RegionWriter:
    """What the processes of a recorded file did. Processes that left through the exit
    handler are in the recording only where their slot stays, with PID 0."""
    writer = RegionWriter(
        path,
        layout_of(recorded["layout"]),
        [RegionDevice(**device) for device in recorded["devices"]],
        now=0,
        priority=recorded["priority"],
    )
    for number, process in enumerate(recorded["processes"]):
        pid = process["pid"] or 7000 + number
        writer.register(pid)
        writer.set_hostpid(pid, process["hostpid"])
        for device, use in enumerate(process["devices"]):
            writer.allocate(pid, device, "context", use["context"])
            writer.allocate(pid, device, "module", use["module"])
            # The recorded seqlocks count five changes on each device.
            writer.allocate(pid, device, "data", use["data"] + MIB)
            writer.allocate(pid, device, "data", 4096)
            writer.free(pid, device, "data", MIB + 4096)
            writer.set_monitor_used(pid, device, use["monitor_used"])
            writer.set_utilization(pid, device, use["sm_util"], use["dec_util"], use["enc_util"])
        if process["pid"] == 0:
            writer.exit(pid)
    writer.mark_launch(recorded["last_kernel_time"] or 0)
    return writer


@pytest.mark.parametrize("name", NAMES)
def test_the_same_steps_give_the_recorded_file(name: str, tmp_path: Path) -> None:
    recorded = recorded_content(name)
    with replay(tmp_path / "x.cache", recorded):
        found = json.loads(msgspec.json.encode(decoded(tmp_path / "x.cache")))
    assert found.pop("torn") == found.pop("missing") == 0
    assert found.pop("problems") == []
    assert found == recorded


def test_there_are_recorded_files_of_all_layouts() -> None:
    names = [recorded_content(name)["layout"] for name in NAMES]
    assert sorted(names) == sorted(2 * [layout.name for layout in LAYOUTS])


@pytest.mark.parametrize("name", NAMES)
def test_the_same_steps_give_the_recorded_bytes(name: str, tmp_path: Path) -> None:
    recorded = recorded_content(name)
    layout = layout_of(recorded["layout"])
    with replay(tmp_path / "x.cache", recorded):
        written = (tmp_path / "x.cache").read_bytes()
    real = recorded_bytes(name)
    assert len(written) == len(real)
    ours, theirs = (layout.region.from_buffer_copy(data) for data in (written, real))
    # HAMi-core gives its limit to the places that no GPU has as well.
    for number in range(recorded["device_num"], 16):
        ours.sm_limit[number] = theirs.sm_limit[number]
        ours.limit[number] = theirs.limit[number]
    if not layout.has_seqlock:
        # Behind the last slot lies what was moved from there, which the replay never had.
        for number in range(recorded["proc_num"], 1024):
            ours.procs[number] = theirs.procs[number]
    assert bytes(ours) == bytes(theirs)


def test_the_file_is_sparse_and_open_to_all(writer: RegionWriter) -> None:
    status = writer.path.stat()
    assert status.st_size == writer.layout.size + 1
    assert status.st_blocks * 512 < 100_000
    assert status.st_mode & 0o777 == 0o666


def test_a_new_region_is_as_hami_core_begins(writer: RegionWriter) -> None:
    region = decoded(writer.path)
    assert region.devices == tuple(DEVICES)
    assert (region.proc_num, region.processes) == (0, ())
    assert (region.recent_kernel, region.utilization_switch, region.priority) == (2, 1, 1)
    assert region.last_kernel_time == (1000 if writer.layout is not V0 else None)
    assert not writer.blocked
    assert writer.core_limit_enforced


def test_memory_is_added_and_freed(writer: RegionWriter) -> None:
    writer.register(7)
    writer.allocate(7, 0, "context", 300 * MIB)
    writer.allocate(7, 0, "module", 8 * MIB)
    writer.allocate(7, 0, "data", 64 * MIB)
    writer.free(7, 0, "data", 60 * MIB)
    [process] = decoded(writer.path).processes
    [use] = process.devices
    assert (use.context, use.module, use.data) == (300 * MIB, 8 * MIB, 4 * MIB)
    assert use.total == 312 * MIB
    assert process.seqlock == (8 if writer.layout.has_seqlock else None)
    assert (process.pid, process.hostpid, process.status) == (7, 0, 1)


def test_exit_frees_the_slot_as_the_layout_does(writer: RegionWriter) -> None:
    for pid in (7, 8, 9):
        writer.register(pid)
        writer.allocate(pid, 0, "data", pid * MIB)
    writer.exit(7)
    slots = [(p.pid, p.status, p.devices[0].total) for p in decoded(writer.path).processes]
    if writer.layout in (V0, V1_1):
        assert slots == [(9, 1, 9 * MIB), (8, 1, 8 * MIB)]
    else:
        assert slots == [(0, 0, 7 * MIB), (8, 1, 8 * MIB), (9, 1, 9 * MIB)]


def test_what_was_killed_stays_until_another_process_clears_it(writer: RegionWriter) -> None:
    for pid in (7, 8, 9):
        writer.register(pid)
    writer.exit(9)
    # 7 gets SIGKILL.
    assert [p.pid for p in decoded(writer.path).processes if p.status] == [7, 8]
    writer.register(10)
    writer.clear({7})
    region = decoded(writer.path)
    assert sorted(p.pid for p in region.processes) == [8, 10]
    assert region.proc_num == 2


def test_suspend_and_resume(writer: RegionWriter) -> None:
    writer.register(7)
    writer.set_status(7, SUSPENDED)
    assert decoded(writer.path).processes[0].status == 2
    writer.set_status(7, 1)
    assert decoded(writer.path).processes[0].status == 1


def test_a_launch_is_noted(writer: RegionWriter) -> None:
    at = writer.layout.region.recent_kernel.offset
    with writer.path.open("r+b") as file:
        file.seek(at)
        file.write((-1).to_bytes(4, "little", signed=True))
        file.seek(writer.layout.region.utilization_switch.offset)
        file.write(bytes(4))
    assert writer.blocked
    assert not writer.core_limit_enforced
    writer.mark_launch(2000)
    region = decoded(writer.path)
    assert region.recent_kernel == 2
    assert region.last_kernel_time == (2000 if writer.layout is not V0 else None)


def test_a_reader_sees_only_whole_slots(tmp_path: Path) -> None:
    """The writer's seqlock against the reader's, both at full speed."""
    layout = V1_2
    stop = threading.Event()
    with RegionWriter(tmp_path / "x.cache", layout, DEVICES, now=0) as writer:
        writer.register(7)

        def write() -> None:
            while not stop.is_set():
                writer.allocate(7, 0, "data", MIB)
                writer.free(7, 0, "data", MIB)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            file = RegionFile(os.open(writer.path, os.O_RDONLY))
            uses: list[ProcessDevice] = []

            def both_states_seen() -> bool:
                for _ in range(20):
                    processes = file.read(layout.size + 1).processes
                    uses.extend(process.devices[0] for process in processes)
                return {use.total for use in uses} >= {0, MIB}

            eventually(both_states_seen)
            file.close()
        finally:
            stop.set()
            thread.join()
    assert {(use.total, use.data) for use in uses} == {(0, 0), (MIB, MIB)}


def test_total_is_written_before_its_part_within_the_seqlock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trace of the stores, since between two of them nobody looks."""
    stores: list[tuple[str, int]] = []

    class Traced:
        def __init__(self) -> None:
            self.__dict__.update(total=5, data=5, seqlock=2)

        def __setattr__(self, name: str, value: int) -> None:
            stores.append((name, value))
            self.__dict__[name] = value

    slot = Traced()
    slot.__dict__["used"] = [slot]
    with RegionWriter(tmp_path / "x.cache", V1_2, DEVICES, now=0) as writer:
        monkeypatch.setattr(writer, "_slot", lambda _pid: slot)
        writer.allocate(7, 0, "data", 3)
    assert stores == [("seqlock", 3), ("total", 8), ("data", 8), ("seqlock", 4)]


def test_what_a_region_has_no_room_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="17 devices, but a region has room for 16"):
        RegionWriter(tmp_path / "x.cache", V1_2, 17 * DEVICES, now=0)
    with RegionWriter(tmp_path / "x.cache", V1_2, DEVICES, now=0) as writer:
        with pytest.raises(FileExistsError):
            RegionWriter(writer.path, V1_2, DEVICES, now=0)
        with pytest.raises(LookupError, match=r"x\.cache: no process 7 is registered"):
            writer.exit(7)
        for pid in range(1, 1025):
            writer.register(pid)
        with pytest.raises(ValueError, match="process 7 "):
            writer.register(7)
        with pytest.raises(OverflowError, match="all 1024 process slots"):
            writer.register(2000)
