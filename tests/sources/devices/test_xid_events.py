"""XIDs over the simulated NVML: with the real pynvml over the compiled library, and with the
library in Python."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from testing.polling import eventually
from tests.sources.devices.nvml_runs import Run, in_pynvml, in_python
from tests.sources.devices.test_nvml import A100, GPU, L40S, MIG_GPU, NODE
from vgpumonitor.simulate.nvml.python_library import SimulatedLibrary
from vgpumonitor.simulate.nvml.state import SimulatedEvent, SimulatedNvml
from vgpumonitor.sources.devices import XidErrors
from vgpumonitor.sources.devices.nvml import NvmlSource

FUNCTION_NOT_FOUND, GPU_IS_LOST, UNKNOWN = 13, 15, 999
ECC_DOUBLE_BIT, XID = 0x02, 0x08

TELLING = structs.replace(
    NODE,
    devices=(
        structs.replace(GPU, event_types=XID | ECC_DOUBLE_BIT),
        structs.replace(MIG_GPU, event_types=XID),
    ),
)
#: An XID that stands for nothing here but that the GPU is registered.
MARK = 1


class Events:
    """Writes events into the state of ``run``, which go on while the state changes."""

    def __init__(self, run: Run, state: SimulatedNvml = TELLING) -> None:
        self.run = run
        self.state = state

    def write(self, **changes: Any) -> None:
        """Changes the state, but for its events."""
        self.state = structs.replace(self.state, **changes)
        self.run.write(self.state)

    def add(self, *events: SimulatedEvent) -> None:
        self.write(events=(*self.state.events, *events))

    def xid(self, code: int, device: int = 0, times: int = 1) -> None:
        self.add(*[SimulatedEvent(device=device, type=XID, data=code)] * times)

    def registered(self, device: int = 0) -> None:
        """Waits until the GPU is registered: an event set has only what comes after that."""
        before = self.count(MARK, device)

        def told() -> bool:
            self.xid(MARK, device)
            return self.count(MARK, device) > before

        eventually(told)

    def count(self, code: int, device: int = 0) -> int:
        uuid = self.state.devices[device].uuid
        return sum(
            one.count for one in self.run.xids() if (one.device_uuid, one.xid) == (uuid, code)
        )

    def counted(self, code: int, count: int = 1, device: int = 0) -> XidErrors:
        eventually(lambda: self.count(code, device) == count)
        (found,) = [one for one in self.run.xids() if (one.device_index, one.xid) == (device, code)]
        return found


@pytest.fixture(params=["pynvml", "python"])
def events(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Events]:
    """Over a source whose two GPUs tell of XIDs, and which has sampled them."""
    state = tmp_path / "nvml.json"
    TELLING.write(state)
    if request.param == "python":
        running = in_python(state)
    else:
        running = in_pynvml(request.getfixturevalue("library"), state)
    with running as run:
        assert run.sample() is not None
        yield Events(run)


class TestCounts:
    def test_by_gpu_and_code_with_the_time_of_the_last(self, events: Events) -> None:
        events.registered(0)
        events.registered(1)
        began = time.time()
        events.xid(31)
        first = events.counted(31)
        events.xid(31)
        events.xid(79, device=1)
        assert events.counted(79, device=1).device_uuid == A100
        second = events.counted(31, 2)
        assert began <= first.last_time <= second.last_time <= time.time()
        assert second == XidErrors(0, L40S, 31, 2, second.last_time)
        assert events.run.health().errors == {}

    def test_other_events_are_none(self, events: Events) -> None:
        events.registered()
        events.add(
            SimulatedEvent(device=0, type=ECC_DOUBLE_BIT, data=7),
            SimulatedEvent(device=0, type=XID, data=48),
        )
        events.counted(48)
        assert events.count(7) == 0

    def test_one_of_a_mig_device_is_the_gpus_and_names_the_instances(self, events: Events) -> None:
        events.registered(1)
        events.add(
            SimulatedEvent(device=1, type=XID, data=13, gpu_instance_id=7, compute_instance_id=0)
        )
        found = events.counted(13, device=1)
        assert (found.device_uuid, found.gpu_instance_id, found.compute_instance_id) == (A100, 7, 0)

    def test_the_gpu_need_not_answer_any_more(self, events: Events) -> None:
        events.registered()
        lost = ("nvmlDeviceGetUUID", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetName")
        events.write(errors={call: {"0": GPU_IS_LOST} for call in lost})
        events.xid(79)
        assert events.counted(79).device_uuid == L40S
        assert [device.uuid for device in events.run.devices() if device.up] == [A100]

    def test_a_storm_is_counted_in_one_place(self, events: Events) -> None:
        events.registered()
        before = events.run.news()
        events.xid(31, times=600)
        events.counted(31, 600)
        assert len([one for one in events.run.xids() if one.xid == 31]) == 1
        assert events.run.news() == before + 1


class TestRegistration:
    ANOTHER = structs.replace(GPU, uuid="GPU-8664316c-6888-5063-1e4d-f2a09cfbf102")

    def test_again_after_the_driver_came_back(self, events: Events) -> None:
        events.registered()
        events.xid(31)
        events.counted(31)
        events.run.state.unlink()
        assert events.run.sample() is None
        assert events.count(31) == 1
        events.write(events=())
        assert events.run.sample() is not None
        events.registered()
        events.xid(31)
        events.counted(31, 2)

    def test_of_a_gpu_that_comes_later(self, events: Events) -> None:
        events.registered()
        new = structs.replace(self.ANOTHER, event_types=XID)
        events.write(devices=(*events.state.devices, new))
        assert len(events.run.devices()) == 3
        events.registered(2)
        events.registered(0)

    def test_of_a_gpu_that_was_lost_and_is_back(self, events: Events) -> None:
        events.registered()
        events.write(errors={"nvmlDeviceGetHandleByIndex": {"0": GPU_IS_LOST}})
        assert [device.up for device in events.run.devices()] == [False, True]
        events.write(errors={})
        assert [device.up for device in events.run.devices()] == [True, True]
        events.registered(0)
        events.registered(1)

    def test_after_a_failure_it_is_tried_again(self, events: Events) -> None:
        events.registered(1)
        events.write(errors={"nvmlEventSetWait_v2": {"-": UNKNOWN}})
        eventually(lambda: events.run.health().errors.get(("nvmlEventSetWait_v2", "")))
        events.write(errors={"nvmlDeviceRegisterEvents": {"0": UNKNOWN}})
        assert events.run.sample() is not None
        # The other GPU's are not lost for it.
        events.registered(1)
        events.write(errors={})
        events.registered(0)
        assert ("nvmlDeviceRegisterEvents", L40S) in events.run.health().errors

    def test_a_gpu_that_tells_of_none_costs_the_others_nothing(self, events: Events) -> None:
        events.write(devices=(events.state.devices[0], self.ANOTHER))
        assert events.run.sample() is not None
        events.registered(0)
        events.xid(31, device=1)
        events.xid(31, device=0)
        events.counted(31, device=0)
        assert events.count(31, device=1) == 0
        assert events.run.health().up


@pytest.mark.parametrize(
    "call",
    [
        "nvmlEventSetCreate",
        "nvmlDeviceGetSupportedEventTypes",
        "nvmlEventSetWait_v2",
    ],
)
def test_a_driver_without_events_lacks_nothing_else(tmp_path: Path, call: str) -> None:
    state = tmp_path / "nvml.json"
    without = structs.replace(TELLING, missing=(call,))
    without.write(state)
    library = SimulatedLibrary(state)
    with in_python(state, library=library) as run:
        assert len(run.devices()) == 2
        run.write(structs.replace(without, events=(SimulatedEvent(device=0, type=XID, data=31),)))
        run.sample()
        assert run.xids() == ()
        assert run.health().up
        assert run.health().errors == {}


class Watched(SimulatedLibrary):
    """Notes which calls about events are made while nobody has the library initialised, and how
    many hold it."""

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self.holders = 0
        self.too_late: list[str] = []

    def nvmlInit(self) -> None:  # noqa: N802
        super().nvmlInit()
        self.holders += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.holders -= 1
        super().nvmlShutdown()

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvmlEvent") and self.holders == 0:
            self.too_late.append(name)
        return super().__getattribute__(name)


class TestLettingGo:
    def test_while_the_mig_lock_is_there(self, tmp_path: Path) -> None:
        state, lock = tmp_path / "nvml.json", tmp_path / "mig.lock"
        TELLING.write(state)
        library = Watched(state)
        with in_python(state, lock_file=lock, library=library) as run:
            assert run.sample() is not None
            events = Events(run)
            events.registered()
            assert library.holders == 2
            lock.touch()
            # Nobody asks for a sample: the file alone is the reason.
            eventually(lambda: library.holders == 0)
            assert not run.health().up
            events.xid(31)
            lock.unlink()
            eventually(lambda: run.sample() is not None)
            events.registered()
            assert events.count(31) == 0
            assert library.holders == 2
        assert (library.holders, library.too_late) == (0, [])

    def test_a_wait_that_hangs_holds_nobody_up_and_keeps_what_it_uses(self, tmp_path: Path) -> None:
        state = tmp_path / "nvml.json"
        TELLING.write(state)
        library = Watched(state)
        source = NvmlSource(library)
        source.start()
        try:
            assert asyncio.run(source.sample(30)) is not None
            hanging = structs.replace(TELLING, hangs={"nvmlEventSetWait": ("-",)})
            hanging.write(state)
            sample = asyncio.run(source.sample(30))
            assert sample is not None
            assert [device.uuid for device in sample] == [L40S, A100]
            assert source.health().up
        finally:
            source.stop()
        assert library.holders == 1
        TELLING.write(state)
        eventually(lambda: library.holders == 0)
        assert library.too_late == []


def test_an_xid_is_logged_with_its_meaning_and_not_for_each_event(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = tmp_path / "nvml.json"
    TELLING.write(state)
    caplog.set_level(logging.WARNING, "vgpumonitor.sources.devices.nvml")
    with in_python(state) as run:
        assert run.sample() is not None
        events = Events(run)
        events.registered(1)
        events.xid(79, device=1, times=3)
        events.counted(79, 3, device=1)
    (record,) = [each for each in caplog.records if "XID 79" in each.getMessage()]
    assert record.getMessage() == (
        "GPU 1 reported XID 79: the GPU has fallen off the bus: the driver can't reach it any more"
    )
    assert record.__dict__["device_uuid"] == A100
    assert record.__dict__["action"].startswith("Drain the node")


class Mistaken(SimulatedLibrary):
    """Gives XID 79 as one of the second GPU, which nobody registered."""

    def nvmlEventSetWait_v2(self, events: Any, milliseconds: int) -> Any:  # noqa: N802
        event = super().nvmlEventSetWait_v2(events, milliseconds)
        if event.eventData == 79:
            event.device = self.nvmlDeviceGetHandleByIndex(1)
        return event


def test_an_xid_of_a_gpu_that_is_not_known_is_said_and_counted_and_takes_no_other_along(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = tmp_path / "nvml.json"
    silent = structs.replace(TELLING, devices=(TELLING.devices[0], MIG_GPU))
    silent.write(state)
    caplog.set_level(logging.WARNING, "vgpumonitor.sources.devices.nvml")
    with in_python(state, library=Mistaken(state)) as run:
        assert run.sample() is not None
        events = Events(run, silent)
        events.registered()
        events.add(
            *[SimulatedEvent(device=0, type=XID, data=79)] * 3,
            SimulatedEvent(device=0, type=XID, data=31),
        )
        events.counted(31)
        assert {one.xid for one in run.xids()} == {MARK, 31}
        assert run.health().errors == {("nvmlEventSetWait_v2", ""): 3}
    (record,) = [each for each in caplog.records if "XID 79" in each.getMessage()]
    assert record.getMessage() == (
        "a GPU that is not known reported XID 79: the GPU has fallen off the bus: the driver can't "
        "reach it any more"
    )
    assert record.__dict__["action"].startswith("Drain the node")
    assert not any(each.exc_info for each in caplog.records)
