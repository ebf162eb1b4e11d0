"""The two forms of the simulated NVML, and the file that both read."""

from __future__ import annotations

import ctypes
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import msgspec
import pytest
from msgspec import structs

from testing.nvml import STATE_VARIABLE, BuildError, build
from testing.tools import require
from tests.sources.devices.nvml_runs import Run, in_pynvml, in_python
from vgpumonitor.simulate.nvml.python_library import SimulatedLibrary
from vgpumonitor.simulate.nvml.state import (
    Memory,
    ProcessSample,
    SimulatedDevice,
    SimulatedEvent,
    SimulatedMig,
    SimulatedNvml,
    read,
)

T = TypeVar("T")

#: Seconds in which anything that does not hang has happened.
SOON = 30.0

INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND, TIMEOUT, FUNCTION_NOT_FOUND = 2, 3, 6, 10, 13
ECC_DOUBLE_BIT, XID = 0x02, 0x08

MIG = SimulatedMig(
    uuid="MIG-1",
    profile="1g.10gb",
    gpu_instance_id=7,
    compute_instance_id=1,
    memory=Memory(10, 4),
    compute={300: 3},
)
#: A device that tells everything.
FULL = SimulatedDevice(
    uuid='GPU-1 "\\ é',
    name="NVIDIA H100 80GB HBM3",
    minor=2,
    serial="1654922001234",
    vbios_version="96.00.74.00.01",
    pci_bus_id="00000001:3B:00.0",
    memory=Memory(1 << 36, 1 << 35, 1 << 29),
    compute={100: 1 << 34, 101: None},
    graphics={102: 7},
    mps={103: 1 << 40},
    utilization=(75, 30),
    encoder=(12, 167_000),
    decoder=(3, 1_000_000),
    process_samples=(
        ProcessSample(pid=100, timestamp=1_700_000_000_000_001, sm=40, memory=20),
        ProcessSample(pid=101, timestamp=1_700_000_000_000_009, sm=35, encoder=5, decoder=1),
    ),
    power_milliwatts=250_500,
    enforced_power_limit_milliwatts=650_000,
    temperature=61,
    temperature_thresholds=(95, 92, None, 87),
    clocks=(1980, 1981, 2619, None),
    max_clocks=(1990, 1991, 2620, 1545),
    fan_speeds=(44, 46),
    performance_state=0,
    throttle=1 << 33,
    ecc=(3, 1 << 40),
    pcie_generation=4,
    pcie_width=8,
    max_pcie_generation=5,
    max_pcie_width=16,
    field_values={82: 55, 90: 1 << 40, 91: -3, 92: 1.5, 94: 17, 138: {0: 11, 17: 12}},
    field_errors={94: 999, 95: 15},
    event_types=XID,
    mig_devices=(MIG,),
)
STATE = SimulatedNvml(devices=(FULL, SimulatedDevice(uuid="GPU-2")))


class TestState:
    def test_what_was_written_is_read(self, tmp_path: Path) -> None:
        state = structs.replace(
            STATE,
            driver_version="1",
            events=(SimulatedEvent(device=0, type=XID, data=79),),
            errors={"nvmlDeviceGetName": {"0": 3}},
            hangs={"nvmlDeviceGetName": ("1", "0.0")},
            missing=("nvmlDeviceGetFanSpeed_v2",),
        )
        state.write(tmp_path / "nvml.json")
        assert read(tmp_path / "nvml.json") == state

    def test_is_replaced_as_a_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "nvml.json"
        SimulatedNvml(driver_version="1").write(path)
        with path.open() as before:
            SimulatedNvml(driver_version="2").write(path)
            assert msgspec.json.decode(before.read())["driver_version"] == "1"
        assert read(path).driver_version == "2"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"devices": [{"uuid": "GPU-1", "temprature": 7}]}', r"field `temprature`.*devices"),
            ('{"devices": [{"uuid": "GPU-1", "temperature": "7"}]}', r"Expected `int.*temperature"),
            ('{"devices": [{}]}', "missing required field `uuid`"),
            ('{"devices": [', "truncated"),
        ],
    )
    def test_what_is_wrong_in_it_is_named(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "nvml.json"
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read(path)


class Library:
    """The simulated library in one of its forms, called in ``executor``."""

    def __init__(self, executor: Executor, state: Path) -> None:
        self._executor = executor
        self._state = state

    def write(self, state: SimulatedNvml) -> None:
        state.write(self._state)

    def run(self, function: Callable[..., T], *arguments: object) -> T:
        return self._executor.submit(function, *arguments).result(SOON)

    def ask(self, call: str, *arguments: Any, target: tuple[int, ...] = (0,)) -> Any:
        """What NVML answers for the device ``(index,)`` or the MIG device ``(index, place)``:
        plain values, or an error's number in a string, or ``wrong version``, which is pynvml's
        own error where the driver lacks the newest version of a function."""
        return self.run(_ask, call, target, arguments)


@pytest.fixture(scope="module", params=["pynvml", "python"])
def library(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Library]:
    state = tmp_path_factory.mktemp("nvml") / "nvml.json"
    STATE.write(state)
    with pytest.MonkeyPatch.context() as patch:
        executor: Executor
        if request.param == "python":
            executor, module = ThreadPoolExecutor(1), SimulatedLibrary(state)
        else:
            require("cc")
            # A process's loader reads LD_LIBRARY_PATH when it starts, and never again.
            patch.setenv("LD_LIBRARY_PATH", str(build(state.parent).parent))
            patch.setenv(STATE_VARIABLE, str(state))
            executor, module = ProcessPoolExecutor(1, multiprocessing.get_context("spawn")), None
        with executor:
            executor.submit(_initialise, module).result(SOON)
            yield Library(executor, state)


@pytest.fixture
def full(library: Library) -> Library:
    """The library, with the state ``STATE``."""
    library.write(STATE)
    return library


_library: Any


def _initialise(library: object) -> None:
    global _library
    if library is None:
        import pynvml as library  # type: ignore[no-redef]
    _library = library
    _library.nvmlInit()


def _ask(call: str, target: tuple[int, ...], arguments: tuple[object, ...]) -> Any:
    handle = _library.nvmlDeviceGetHandleByIndex(target[0])
    for place in target[1:]:
        handle = _library.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
    try:
        return _plain(getattr(_library, call)(handle, *arguments))
    except _library.NVMLError as error:
        return f"error {error.value}"
    except _library.NVMLLibraryMismatchError:
        return "wrong version"


def _plain(value: Any) -> Any:
    """``value`` of builtin types, so that answers of both forms compare and can be sent."""
    if isinstance(value, str | int | float) or value is None:
        return value
    if hasattr(value, "nvmlReturn"):
        attribute = {0: "dVal", 3: "ullVal", 4: "sllVal"}[value.valueType]
        return f"error {value.nvmlReturn}" if value.nvmlReturn else getattr(value.value, attribute)
    if isinstance(value, list | tuple | ctypes.Array):
        return [_plain(each) for each in value]
    if isinstance(value, ctypes.Structure):
        return {name: getattr(value, name) for name, *_ in value._fields_}
    return vars(value)


READINGS: list[tuple[str, tuple[Any, ...], Any]] = [
    ("nvmlDeviceGetUUID", (), 'GPU-1 "\\ é'),
    ("nvmlDeviceGetName", (), "NVIDIA H100 80GB HBM3"),
    ("nvmlDeviceGetSerial", (), "1654922001234"),
    ("nvmlDeviceGetVbiosVersion", (), "96.00.74.00.01"),
    ("nvmlDeviceGetMinorNumber", (), 2),
    (
        "nvmlDeviceGetPciInfo",
        (),
        {"busId": "00000001:3B:00.0", "domain": 1, "bus": 0x3B, "device": 0},
    ),
    (
        "nvmlDeviceGetMemoryInfo",
        (),
        {
            "total": 1 << 36,
            "used": (1 << 35) + (1 << 29),
            "free": (1 << 35) - (1 << 29),
        },
    ),
    (
        "nvmlDeviceGetMemoryInfo",
        (0x02000028,),
        {
            "total": 1 << 36,
            "used": 1 << 35,
            "reserved": 1 << 29,
            "free": (1 << 35) - (1 << 29),
        },
    ),
    ("nvmlDeviceGetUtilizationRates", (), {"gpu": 75, "memory": 30}),
    ("nvmlDeviceGetEncoderUtilization", (), [12, 167_000]),
    ("nvmlDeviceGetDecoderUtilization", (), [3, 1_000_000]),
    ("nvmlDeviceGetPowerUsage", (), 250_500),
    ("nvmlDeviceGetEnforcedPowerLimit", (), 650_000),
    ("nvmlDeviceGetTemperature", (0,), 61),
    ("nvmlDeviceGetTemperatureV", (0,), 61),
    ("nvmlDeviceGetTemperatureThreshold", (1,), 92),
    ("nvmlDeviceGetTemperatureThreshold", (2,), f"error {NOT_SUPPORTED}"),
    ("nvmlDeviceGetTemperatureThreshold", (3,), 87),
    ("nvmlDeviceGetTemperatureThreshold", (4,), f"error {INVALID_ARGUMENT}"),
    ("nvmlDeviceGetClockInfo", (2,), 2619),
    ("nvmlDeviceGetClockInfo", (3,), f"error {NOT_SUPPORTED}"),
    ("nvmlDeviceGetMaxClockInfo", (3,), 1545),
    ("nvmlDeviceGetNumFans", (), 2),
    ("nvmlDeviceGetFanSpeed_v2", (1,), 46),
    ("nvmlDeviceGetPerformanceState", (), 0),
    ("nvmlDeviceGetCurrentClocksEventReasons", (), 1 << 33),
    ("nvmlDeviceGetCurrentClocksThrottleReasons", (), 1 << 33),
    ("nvmlDeviceGetTotalEccErrors", (0, 1), 3),
    ("nvmlDeviceGetTotalEccErrors", (1, 1), 1 << 40),
    ("nvmlDeviceGetTotalEccErrors", (2, 1), f"error {INVALID_ARGUMENT}"),
    ("nvmlDeviceGetCurrPcieLinkGeneration", (), 4),
    ("nvmlDeviceGetCurrPcieLinkWidth", (), 8),
    ("nvmlDeviceGetMaxPcieLinkGeneration", (), 5),
    ("nvmlDeviceGetMaxPcieLinkWidth", (), 16),
    ("nvmlDeviceGetSupportedEventTypes", (), XID),
    ("nvmlDeviceGetMigMode", (), [1, 1]),
    ("nvmlDeviceGetMaxMigDeviceCount", (), 7),
    (
        "nvmlDeviceGetProcessUtilization",
        (1_700_000_000_000_001,),
        [{"pid": 101, "timeStamp": 1_700_000_000_000_009, "smUtil": 35, "memUtil": 0}],
    ),
    (
        "nvmlDeviceGetProcessUtilization",
        (0,),
        [
            {"pid": 100, "smUtil": 40, "memUtil": 20, "encUtil": 0, "decUtil": 0},
            {"pid": 101, "smUtil": 35, "memUtil": 0, "encUtil": 5, "decUtil": 1},
        ],
    ),
    (
        "nvmlDeviceGetProcessesUtilizationInfo",
        (0,),
        [
            {"pid": 100, "timeStamp": 1_700_000_000_000_001, "smUtil": 40, "memUtil": 20},
            {"pid": 101, "timeStamp": 1_700_000_000_000_009, "encUtil": 5, "decUtil": 1},
        ],
    ),
    (
        "nvmlDeviceGetProcessUtilization",
        (1_700_000_000_000_009,),
        f"error {NOT_FOUND}",
    ),
    (
        "nvmlDeviceGetComputeRunningProcesses",
        (),
        [
            {"pid": 100, "usedGpuMemory": 1 << 34, "gpuInstanceId": 0xFFFFFFFF},
            {"pid": 101, "usedGpuMemory": None, "computeInstanceId": 0xFFFFFFFF},
            {"pid": 300, "usedGpuMemory": 3, "gpuInstanceId": 7, "computeInstanceId": 1},
        ],
    ),
    ("nvmlDeviceGetGraphicsRunningProcesses", (), [{"pid": 102, "usedGpuMemory": 7}]),
    ("nvmlDeviceGetMPSComputeRunningProcesses", (), [{"pid": 103, "usedGpuMemory": 1 << 40}]),
    (
        "nvmlDeviceGetFieldValues",
        ([82, 90, 91, 92, 93, (138, 17), (138, 3), 138, 94, 95],),
        [55, 1 << 40, -3, 1.5, "error 3", 12, "error 3", 11, "error 999", "error 15"],
    ),
]


def _of(expected: Any, answer: Any) -> Any:
    """``answer``, with those members alone that ``expected`` has."""
    if isinstance(expected, dict) and isinstance(answer, dict):
        return {name: answer[name] for name in expected}
    if isinstance(expected, list) and isinstance(answer, list):
        return [*map(_of, expected, answer), *answer[len(expected) :]]
    return answer


class TestReadings:
    @pytest.mark.parametrize(("call", "arguments", "expected"), READINGS)
    def test_what_a_full_device_tells(
        self, full: Library, call: str, arguments: tuple[Any, ...], expected: Any
    ) -> None:
        assert _of(expected, full.ask(call, *arguments)) == expected

    @pytest.mark.parametrize(
        ("call", "arguments"), {call: arguments for call, arguments, _ in READINGS}.items()
    )
    def test_a_device_that_tells_nothing(
        self, full: Library, call: str, arguments: tuple[Any, ...]
    ) -> None:
        expected = {
            "nvmlDeviceGetUUID": "GPU-2",
            "nvmlDeviceGetMaxMigDeviceCount": 7,
            "nvmlDeviceGetComputeRunningProcesses": [],
            "nvmlDeviceGetGraphicsRunningProcesses": [],
            "nvmlDeviceGetMPSComputeRunningProcesses": [],
            "nvmlDeviceGetFieldValues": ["error 3"] * 10,
        }
        answer = full.ask(call, *arguments, target=(1,))
        assert answer == expected.get(call, f"error {NOT_SUPPORTED}")

    @pytest.mark.parametrize(
        ("call", "expected"),
        [
            ("nvmlDeviceGetUUID", "MIG-1"),
            ("nvmlDeviceGetName", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"),
            ("nvmlDeviceGetGpuInstanceId", 7),
            ("nvmlDeviceGetComputeInstanceId", 1),
            ("nvmlDeviceGetMemoryInfo", {"total": 10, "used": 4, "free": 6}),
            ("nvmlDeviceGetComputeRunningProcesses", [{"pid": 300, "usedGpuMemory": 3}]),
            ("nvmlDeviceGetPowerUsage", f"error {NOT_SUPPORTED}"),
            ("nvmlDeviceGetMigMode", f"error {NOT_SUPPORTED}"),
        ],
    )
    def test_what_a_mig_device_tells(self, full: Library, call: str, expected: Any) -> None:
        assert _of(expected, full.ask(call, target=(0, 0))) == expected

    def test_whose_a_mig_device_is(self, full: Library) -> None:
        assert full.run(_parent_of, 0, 0) == STATE.devices[0].uuid


def _parent_of(index: int, place: int) -> str:
    device = _library.nvmlDeviceGetHandleByIndex(index)
    mig = _library.nvmlDeviceGetMigDeviceHandleByIndex(device, place)
    parent = _library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig)
    uuid: str = _library.nvmlDeviceGetUUID(parent)
    return uuid


class TestFaults:
    def test_a_call_goes_by_its_name_with_or_without_a_version(self, library: Library) -> None:
        fan, any_fan = "nvmlDeviceGetFanSpeed_v2", "nvmlDeviceGetFanSpeed"
        for errors, expected in (
            ({any_fan: {"0": 15}}, "error 15"),
            ({fan: {"0": 15}}, "error 15"),
            ({any_fan: {"0": 15}, fan: {"0": 999}}, "error 999"),
            ({any_fan: {"1": 15}}, 44),
        ):
            library.write(structs.replace(STATE, errors=errors))
            assert library.ask(fan, 0) == expected

    def test_functions_that_the_driver_lacks(self, library: Library) -> None:
        missing = ("nvmlDeviceGetFanSpeed_v2", "nvmlDeviceGetMPSComputeRunningProcesses_v3")
        library.write(structs.replace(STATE, missing=missing))
        gone = f"error {FUNCTION_NOT_FOUND}"
        assert library.ask("nvmlDeviceGetFanSpeed_v2", 0) == gone
        assert library.ask("nvmlDeviceGetMPSComputeRunningProcesses") == "wrong version"
        older = library.ask("nvmlDeviceGetMPSComputeRunningProcesses_v2")
        assert [process["pid"] for process in older] == [103]


class TestEvents:
    def test_each_is_given_once_to_those_who_registered(self, library: Library) -> None:
        before = SimulatedEvent(device=0, type=XID, data=31)
        library.write(structs.replace(STATE, events=(before,)))
        library.run(_register, 0, XID)
        assert library.run(_wait) == f"error {TIMEOUT}"
        other_type = SimulatedEvent(device=0, type=ECC_DOUBLE_BIT, data=1)
        other_device = SimulatedEvent(device=1, type=XID, data=2)
        wanted = [SimulatedEvent(device=0, type=XID, data=xid) for xid in (79, 79)]
        library.write(
            structs.replace(STATE, events=(before, other_type, wanted[0], other_device, wanted[1]))
        )
        assert [library.run(_wait) for _ in range(3)] == [
            (FULL.uuid, XID, 79),
            (FULL.uuid, XID, 79),
            f"error {TIMEOUT}",
        ]
        library.run(_free)

    def test_only_what_the_device_can_tell_of(self, full: Library) -> None:
        assert full.run(_register, 0, XID | ECC_DOUBLE_BIT) == f"error {NOT_SUPPORTED}"
        full.run(_free)
        assert full.run(_register, 1, XID) == f"error {NOT_SUPPORTED}"
        full.run(_free)


_events: Any


def _register(index: int, types: int) -> str | None:
    global _events
    _events = _library.nvmlEventSetCreate()
    device = _library.nvmlDeviceGetHandleByIndex(index)
    try:
        _library.nvmlDeviceRegisterEvents(device, types, _events)
    except _library.NVMLError as error:
        return f"error {error.value}"
    return None


def _wait() -> Any:
    try:
        event = _library.nvmlEventSetWait(_events, 30)
    except _library.NVMLError as error:
        return f"error {error.value}"
    return _library.nvmlDeviceGetUUID(event.device), event.eventType, event.eventData


def _free() -> None:
    _library.nvmlEventSetFree(_events)


def scenario(random: Random) -> SimulatedNvml:
    """Devices that tell much or little, with errors here and there."""

    def maybe(value: object) -> object:
        return value if random.random() < 0.8 else None

    def processes(first: int) -> dict[int, int | None]:
        held = (None, 7, 1 << 34)
        return {first + place: random.choice(held) for place in range(random.randrange(4))}

    def memory() -> Memory:
        return Memory(1 << 36, random.randrange(1 << 35), random.randrange(1 << 30))

    devices = []
    for index in range(random.randrange(1, 6)):
        migs = tuple(
            SimulatedMig(
                uuid=f"MIG-{index}-{place}",
                profile=random.choice(["1g.10gb", "2g.20gb+me"]),
                gpu_instance_id=7 + place,
                compute_instance_id=place,
                memory=memory() if maybe(True) else None,
                compute=processes(10_000 * (index + 1) + 100 * place),
                graphics=processes(50),
            )
            for place in range(random.choice([0, 0, 0, 2, 7]))
        )
        values = {
            "name": maybe("NVIDIA A100-SXM4-80GB"),
            "minor": maybe(7 - index),
            "memory": maybe(memory()),
            "utilization": maybe((random.randrange(101), random.randrange(101))),
            "power_milliwatts": maybe(random.randrange(700_000)),
            "temperature": maybe(random.randrange(100)),
            "ecc": maybe((random.randrange(9), 1 << 40)),
            "throttle": maybe(random.randrange(512)),
            "serial": maybe("1654922001234"),
            "pci_bus_id": maybe(f"00000000:{0x3B + index:02X}:00.0"),
            "encoder": maybe((random.randrange(101), 1_000_000)),
            "enforced_power_limit_milliwatts": maybe(random.randrange(700_000)),
            "temperature_thresholds": maybe((maybe(95), maybe(92))),
            "clocks": maybe(tuple(maybe(random.randrange(2000)) for _ in range(4))),
            "max_clocks": maybe(tuple(maybe(2000) for _ in range(4))),
            "fan_speeds": maybe((random.randrange(101),) * random.randrange(3)),
            "performance_state": maybe(random.choice((0, 8, 32))),
            "pcie_generation": maybe(random.randrange(1, 6)),
            "pcie_width": maybe(8),
            "max_pcie_width": maybe(16),
            "field_values": maybe(
                {
                    number: {0xFFFFFFFF: 1 << 40} if number in (138, 139, 206) else number
                    for number in (29, 31, 38, 74, 82, 83, 94, 138, 139, 144, 197, 206, 269)
                    if maybe(True)
                }
            ),
            "field_errors": {random.choice((38, 82, 83)): 999} if not maybe(True) else {},
        }
        devices.append(
            SimulatedDevice(
                uuid=f"GPU-{index}",
                compute=processes(100),
                graphics=processes(101),
                mig_devices=migs,
                **values,  # type: ignore[arg-type]
            )
        )
    calls = [name for name in vars(SimulatedLibrary) if name.startswith("nvmlDeviceGet")]
    targets = ["0", "1", "2.0", "0.1", "-"]
    errors = {
        random.choice(calls) + random.choice(["", "", "_v2", "_v3"]): {random.choice(targets): code}
        for code in random.sample([3, 6, 13, 15, 25, 999], random.randrange(6))
    }
    return SimulatedNvml(cuda_version=12040, devices=tuple(devices), errors=errors)


def _errors(run: Run) -> dict[tuple[str, str], int]:
    """Without those of the events, whose thread may see a state or not."""
    of_events = ("nvmlDeviceGetHandleByUUID", "nvmlDeviceGetSupportedEventTypes")
    return {key: count for key, count in run.health().errors.items() if key[0] not in of_events}


class TestForms:
    def test_tell_the_same(self, tmp_path: Path) -> None:
        require("cc")
        library = build(tmp_path).parent
        random = Random(1)
        states = [tmp_path / "pynvml.json", tmp_path / "python.json"]
        for state in states:
            SimulatedNvml().write(state)
        with in_pynvml(library, states[0]) as pynvml, in_python(states[1]) as python:
            # With that, start's own samples are over, and found nothing that is counted.
            assert pynvml.sample() == python.sample()
            assert python.sample() == ()
            for _ in range(60):
                simulated = scenario(random)
                for run in (pynvml, python):
                    run.write(simulated)
                assert pynvml.sample() == python.sample(), simulated
                assert pynvml.known() == python.known(), simulated
                assert _errors(pynvml) == _errors(python), simulated

    def test_both_take_a_wrong_state_for_no_driver(self, tmp_path: Path) -> None:
        require("cc")
        library = build(tmp_path).parent
        states = [tmp_path / "pynvml.json", tmp_path / "python.json"]
        for state in states:
            state.write_text('{"driver_version": "1", ')
        with in_pynvml(library, states[0]) as pynvml, in_python(states[1]) as python:
            for run in (pynvml, python):
                assert run.sample() is None
                assert not run.health().up
                run.write(SimulatedNvml(driver_version="1"))
                assert run.sample() == ()
                assert run.health().up

    def test_what_pynvml_has_and_the_simulation_has_not_is_never_asked_of_the_machine(
        self, tmp_path: Path
    ) -> None:
        library = SimulatedLibrary(tmp_path / "nvml.json")
        with pytest.raises(AttributeError, match="no nvmlDeviceGetFanSpeed"):
            library.nvmlDeviceGetFanSpeed(0)


class TestBuild:
    def test_without_a_compiler(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(BuildError, match="there is no cc in PATH"):
            build(tmp_path)

    def test_an_error_of_the_compiler_is_told(self, tmp_path: Path) -> None:
        require("cc")
        with pytest.raises(BuildError, match=r"can't compile .*absent"):
            build(tmp_path / "absent")
