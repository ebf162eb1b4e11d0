"""What is read of a GPU that tells everything, and of those that tell less, over both forms of
the simulated NVML."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pynvml
import pytest
from msgspec import structs

from testing.devices import ALL_LINKS, FULL, GIB
from tests.sources.devices.nvml_runs import Run, in_pynvml, in_python
from vgpumonitor.simulate.nvml.python_library import SimulatedLibrary
from vgpumonitor.simulate.nvml.state import SimulatedDevice, SimulatedNvml
from vgpumonitor.sources.devices import Device, DeviceProcess, ProcessUtilization
from vgpumonitor.sources.devices.nvml import fields

NOT_SUPPORTED, NO_PERMISSION, TIMEOUT, FUNCTION_NOT_FOUND, UNKNOWN = 3, 4, 10, 13, 999
FIELDS = "nvmlDeviceGetFieldValues"
NODE = SimulatedNvml(devices=(FULL,))

IDLE = ProcessUtilization()
READ = Device(
    vendor="NVIDIA",
    index=0,
    uuid=FULL.uuid,
    minor=3,
    name="NVIDIA H100 80GB HBM3",
    driver_version="570.124.06",
    cuda_version="12.8",
    serial="1654922001234",
    vbios_version="96.00.74.00.01",
    pci_bus_id="00000000:3B:00.0",
    memory_total=80 * GIB,
    memory_used=20 * GIB,
    memory_reserved=GIB,
    core_utilization=75,
    memory_utilization=30,
    encoder_utilization=12,
    decoder_utilization=3,
    power_watts=250.5,
    power_limit_watts=650.0,
    energy_joules=1234.5,
    temperature_celsius=61,
    memory_temperature_celsius=55,
    temperature_thresholds={"slowdown": 92, "shutdown": 95},
    clocks={
        "graphics": 1_980_000_000,
        "sm": 1_981_000_000,
        "memory": 2_619_000_000,
        "video": 1_545_000_000,
    },
    max_clocks={
        "graphics": 1_990_000_000,
        "sm": 1_991_000_000,
        "memory": 2_620_000_000,
        "video": 1_546_000_000,
    },
    fan_speeds={0: 44, 1: 46},
    performance_state=2,
    throttled={
        "sw_power_cap": True,
        "hw_slowdown": False,
        "sync_boost": False,
        "sw_thermal_slowdown": False,
        "hw_thermal_slowdown": True,
        "hw_power_brake_slowdown": False,
    },
    throttled_seconds={
        "power": 5.0,
        "thermal": 1.5,
        "sync_boost": 0.0,
        "board_limit": 4e-9,
        "low_utilization": 6e-9,
        "reliability": 8e-9,
        "app_clocks": 1e-8,
        "base_clocks": 1.2e-8,
        "sw_thermal_slowdown": 1.0,
        "hw_thermal_slowdown": 2.0,
        "hw_power_brake_slowdown": 3.0,
    },
    ecc_errors={"corrected": 3, "uncorrected": 1},
    remapped_rows={"corrected": 8, "uncorrected": 9},
    row_remap_pending=True,
    row_remap_failed=False,
    retired_pages={"single_bit": 6, "double_bit": 7},
    page_retirement_pending=True,
    pcie_generation=4,
    pcie_width=8,
    max_pcie_generation=5,
    max_pcie_width=16,
    pcie_replays=17,
    pcie_bytes={"transmit": 1 << 45, "receive": 1 << 44},
    nvlink_bytes={"transmit": 1 << 40, "receive": 1 << 39},
    nvlink_errors={"crc_flit": 1, "crc_data": 2, "replay": 3, "recovery": 4, "ecc_data": 5},
    processes=(
        DeviceProcess(100, 8 * GIB, ProcessUtilization(40, 20, 0, 0)),
        DeviceProcess(101, 12 * GIB, IDLE),
        DeviceProcess(102, GIB, IDLE),
    ),
)

#: What is missing without each call.
CALLS: dict[str, dict[str, Any]] = {
    "nvmlDeviceGetSerial": {"serial": None},
    "nvmlDeviceGetVbiosVersion": {"vbios_version": None},
    "nvmlDeviceGetPciInfo": {"pci_bus_id": None},
    "nvmlDeviceGetEncoderUtilization": {"encoder_utilization": None},
    "nvmlDeviceGetDecoderUtilization": {"decoder_utilization": None},
    "nvmlDeviceGetEnforcedPowerLimit": {"power_limit_watts": None},
    "nvmlDeviceGetTemperatureThreshold": {"temperature_thresholds": {}},
    "nvmlDeviceGetClockInfo": {"clocks": {}},
    "nvmlDeviceGetMaxClockInfo": {"max_clocks": {}},
    "nvmlDeviceGetFanSpeed": {"fan_speeds": {}},
    "nvmlDeviceGetPerformanceState": {"performance_state": None},
    "nvmlDeviceGetCurrPcieLinkGeneration": {"pcie_generation": None},
    "nvmlDeviceGetCurrPcieLinkWidth": {"pcie_width": None},
    "nvmlDeviceGetMaxPcieLinkGeneration": {"max_pcie_generation": None},
    "nvmlDeviceGetMaxPcieLinkWidth": {"max_pcie_width": None},
    FIELDS: {
        "energy_joules": None,
        "memory_temperature_celsius": None,
        "throttled_seconds": {},
        "remapped_rows": {},
        "row_remap_pending": None,
        "row_remap_failed": None,
        "retired_pages": {},
        "page_retirement_pending": None,
        "pcie_replays": None,
        "pcie_bytes": {},
        "nvlink_bytes": {},
        "nvlink_errors": {},
    },
}


def without(readings: dict[str, Any], part: str) -> dict[str, Any]:
    return {name: value for name, value in readings.items() if name != part}


#: What is missing without each field.
FIELD_VALUES: dict[int, dict[str, Any]] = {
    82: {"memory_temperature_celsius": None},
    83: {"energy_joules": None},
    94: {"pcie_replays": None},
    31: {"page_retirement_pending": None},
    144: {"row_remap_pending": None},
    145: {"row_remap_failed": None},
    **{
        field.number: {reading: without(dict(getattr(READ, reading)), part)}
        for reading, wanted in (
            ("throttled_seconds", fields.VIOLATIONS),
            ("pcie_bytes", fields.PCIE_BYTES),
            ("nvlink_bytes", fields.NVLINK_KIB),
            ("retired_pages", fields.RETIRED_PAGES),
            ("remapped_rows", fields.REMAPPED_ROWS),
        )
        for part, field in wanted.items()
    },
    **{
        number: {"nvlink_errors": without(dict(READ.nvlink_errors), kind)}
        for number, kind in ((38, "crc_flit"), (45, "crc_data"), (160, "ecc_data"))
    },
}


@pytest.fixture(scope="module", params=["pynvml", "python"])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    """One for all tests, which asks for everything at each look."""
    state = tmp_path_factory.mktemp("state") / "nvml.json"
    NODE.write(state)
    if request.param == "python":
        started = in_python(state, rare_interval=0.0)
    else:
        library = request.getfixturevalue("library")
        started = in_pynvml(library, state, rare_interval=0.0)
    with started as run:
        yield run


@pytest.fixture
def nvml(running: Run) -> Run:
    """It, with NVML initialised anew at the next look."""
    running.state.unlink(missing_ok=True)
    assert running.sample() is None
    return running


class TestEverything:
    def test_is_read(self, nvml: Run) -> None:
        nvml.write(NODE)
        assert nvml.devices() == (READ,)

    def test_counters_and_sensors_are_fresh(self, nvml: Run) -> None:
        nvml.write(NODE)
        nvml.devices()
        later = structs.replace(
            FULL,
            encoder=(90, 1),
            clocks=(210, 210, 405, None),
            fan_speeds=(30, 0),
            performance_state=8,
            pcie_generation=1,
            field_values={**(FULL.field_values or {}), 83: 2_000_000, 139: {ALL_LINKS: 1 << 30}},
        )
        nvml.write(structs.replace(NODE, devices=(later,)))
        assert nvml.devices() == (
            replace(
                READ,
                encoder_utilization=90,
                clocks={"graphics": 210_000_000, "sm": 210_000_000, "memory": 405_000_000},
                fan_speeds={0: 30, 1: 0},
                performance_state=8,
                pcie_generation=1,
                energy_joules=2000.0,
                nvlink_bytes={"transmit": 1 << 40, "receive": 1 << 40},
            ),
        )

    def test_field_numbers_are_those_of_nvml_h(self) -> None:
        assert {
            fields.MEMORY_TEMPERATURE.number: pynvml.NVML_FI_DEV_MEMORY_TEMP,
            fields.ENERGY.number: pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION,
            fields.PCIE_REPLAYS.number: pynvml.NVML_FI_DEV_PCIE_REPLAY_COUNTER,
            fields.PAGE_RETIREMENT_PENDING.number: pynvml.NVML_FI_DEV_RETIRED_PENDING,
            fields.ROW_REMAP_PENDING.number: pynvml.NVML_FI_DEV_REMAPPED_PENDING,
            fields.ROW_REMAP_FAILED.number: pynvml.NVML_FI_DEV_REMAPPED_FAILURE,
        } == {number: number for number in (82, 83, 94, 31, 144, 145)}
        for wanted, names in (
            (
                fields.VIOLATIONS,
                {
                    "power": "PERF_POLICY_POWER",
                    "thermal": "PERF_POLICY_THERMAL",
                    "sync_boost": "PERF_POLICY_SYNC_BOOST",
                    "board_limit": "PERF_POLICY_BOARD_LIMIT",
                    "low_utilization": "PERF_POLICY_LOW_UTILIZATION",
                    "reliability": "PERF_POLICY_RELIABILITY",
                    "app_clocks": "PERF_POLICY_TOTAL_APP_CLOCKS",
                    "base_clocks": "PERF_POLICY_TOTAL_BASE_CLOCKS",
                    "sw_thermal_slowdown": "CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN",
                    "hw_thermal_slowdown": "CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN",
                    "hw_power_brake_slowdown": "CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN",
                },
            ),
            (
                fields.PCIE_BYTES,
                {"transmit": "PCIE_COUNT_TX_BYTES", "receive": "PCIE_COUNT_RX_BYTES"},
            ),
            (
                fields.NVLINK_KIB,
                {"transmit": "NVLINK_THROUGHPUT_DATA_TX", "receive": "NVLINK_THROUGHPUT_DATA_RX"},
            ),
            (
                fields.NVLINK_BYTES,
                {"transmit": "NVLINK_COUNT_XMIT_BYTES", "receive": "NVLINK_COUNT_RCV_BYTES"},
            ),
            (
                fields.NVLINK_ERRORS,
                {
                    "crc_flit": "NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL",
                    "crc_data": "NVLINK_CRC_DATA_ERROR_COUNT_TOTAL",
                    "replay": "NVLINK_REPLAY_ERROR_COUNT_TOTAL",
                    "recovery": "NVLINK_RECOVERY_ERROR_COUNT_TOTAL",
                    "ecc_data": "NVLINK_ECC_DATA_ERROR_COUNT_TOTAL",
                    "malformed_packet": "NVLINK_COUNT_MALFORMED_PACKET_ERRORS",
                    "buffer_overrun": "NVLINK_COUNT_BUFFER_OVERRUN_ERRORS",
                    "receive": "NVLINK_COUNT_RCV_ERRORS",
                    "link_integrity": "NVLINK_COUNT_LOCAL_LINK_INTEGRITY_ERRORS",
                    "link_recovery_failed": "NVLINK_COUNT_LINK_RECOVERY_FAILED_EVENTS",
                },
            ),
            (fields.RETIRED_PAGES, {"single_bit": "RETIRED_SBE", "double_bit": "RETIRED_DBE"}),
            (fields.REMAPPED_ROWS, {"corrected": "REMAPPED_COR", "uncorrected": "REMAPPED_UNC"}),
        ):
            assert {name: field.number for name, field in wanted.items()} == {
                name: getattr(pynvml, f"NVML_FI_DEV_{constant}") for name, constant in names.items()
            }


class TestAlone:
    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize("code", [NOT_SUPPORTED, NO_PERMISSION, TIMEOUT, UNKNOWN])
    def test_each_call_fails(self, nvml: Run, call: str, code: int) -> None:
        before = nvml.health().errors.get((call, FULL.uuid), 0)
        nvml.write(structs.replace(NODE, errors={call: {"0": code}}))
        assert nvml.devices() == (replace(READ, **CALLS[call]),)
        counted = nvml.health().errors
        name = "nvmlDeviceGetFanSpeed_v2" if call == "nvmlDeviceGetFanSpeed" else call
        if code == NOT_SUPPORTED:
            assert counted.get((name, FULL.uuid), 0) == before
        else:
            assert counted[name, FULL.uuid] > before
        assert nvml.health().up
        nvml.write(NODE)
        # One that the driver will never do is not asked for again; all else is.
        if code != NOT_SUPPORTED:
            assert nvml.devices() == (READ,)

    @pytest.mark.parametrize("number", FIELD_VALUES)
    @pytest.mark.parametrize("code", [NOT_SUPPORTED, UNKNOWN])
    def test_each_field_fails(self, nvml: Run, number: int, code: int) -> None:
        before = nvml.health().errors.get((FIELDS, FULL.uuid), 0)
        failing = structs.replace(FULL, field_errors={number: code})
        nvml.write(structs.replace(NODE, devices=(failing,)))
        assert nvml.devices() == (replace(READ, **FIELD_VALUES[number]),)
        after = nvml.health().errors.get((FIELDS, FULL.uuid), 0)
        assert after == before + (code == UNKNOWN)
        nvml.write(NODE)
        assert nvml.devices() == (READ,)

    def test_a_number_that_means_unknown(self, nvml: Run) -> None:
        values = {**(FULL.field_values or {}), 82: 0xFFFF}
        odd = structs.replace(FULL, performance_state=32, field_values=values)
        nvml.write(structs.replace(NODE, devices=(odd,)))
        assert nvml.devices() == (
            replace(READ, performance_state=None, memory_temperature_celsius=None),
        )

    def test_one_threshold_one_clock_and_one_fan(self, nvml: Run) -> None:
        less = structs.replace(
            FULL,
            temperature_thresholds=(None, 92),
            clocks=(None, 1981, None, None),
            max_clocks=(None, None, 2620, None),
            fan_speeds=(44,),
        )
        nvml.write(structs.replace(NODE, devices=(less,)))
        assert nvml.devices() == (
            replace(
                READ,
                temperature_thresholds={"slowdown": 92},
                clocks={"sm": 1_981_000_000},
                max_clocks={"memory": 2_620_000_000},
                fan_speeds={0: 44},
            ),
        )

    def test_nvlink_5_counts_other_kinds_and_bytes(self, nvml: Run) -> None:
        values = {
            **{number: {ALL_LINKS: number} for number in (202, 204, 206, 207, 208, 211, 214)},
            # One link's counter is not the sum over all.
            138: {0: 1},
        }
        blackwell = structs.replace(FULL, field_values=values)
        nvml.write(structs.replace(NODE, devices=(blackwell,)))
        (device,) = nvml.devices()
        assert device.nvlink_bytes == {"transmit": 202, "receive": 204}
        assert device.nvlink_errors == {
            "malformed_packet": 206,
            "buffer_overrun": 207,
            "receive": 208,
            "link_integrity": 211,
            "link_recovery_failed": 214,
        }

    def test_unified_memory(self, nvml: Run) -> None:
        """GB10, Grace, Jetson: the GPU's memory is the machine's."""
        unified = structs.replace(
            FULL,
            name="NVIDIA GB10",
            memory=None,
            compute={100: None, 101: 12 * GIB},
            graphics={},
            fan_speeds=None,
            enforced_power_limit_milliwatts=None,
            ecc=None,
            field_values={83: 1_234_500},
        )
        nvml.write(structs.replace(NODE, devices=(unified,)))
        nothing = {
            name: value
            for name, value in CALLS[FIELDS].items()
            if name not in ("energy_joules", "memory_temperature_celsius")
        }
        assert nvml.devices() == (
            replace(
                READ,
                **nothing,
                name="NVIDIA GB10",
                memory_total=None,
                memory_used=None,
                memory_reserved=None,
                memory_temperature_celsius=None,
                power_limit_watts=None,
                fan_speeds={},
                ecc_errors={},
                processes=(
                    DeviceProcess(100, None, ProcessUtilization(40, 20, 0, 0)),
                    DeviceProcess(101, 12 * GIB, IDLE),
                ),
            ),
        )


#: What drivers lacked, by the lists of functions and fields in the releases of nvidia-ml-py for
#: them (11.470.66, 12.535.133, 12.570.86): the functions that are called here, and the first
#: number of a field that was not there yet.
GENERATIONS: dict[str, tuple[tuple[str, ...], int]] = {
    "470.256.02": (
        (
            "nvmlDeviceGetMemoryInfo_v2",
            "nvmlDeviceGetComputeRunningProcesses_v3",
            "nvmlDeviceGetGraphicsRunningProcesses_v3",
            "nvmlDeviceGetMPSComputeRunningProcesses_v3",
            "nvmlDeviceGetProcessesUtilizationInfo",
            "nvmlDeviceGetCurrentClocksEventReasons",
            "nvmlDeviceGetNumFans",
        ),
        161,
    ),
    "535.183.01": (("nvmlDeviceGetProcessesUtilizationInfo",), 197),
    "570.124.06": ((), 269),
}
_NEWER = ("sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown")
_OLDER_TIMES = {
    reason: seconds for reason, seconds in READ.throttled_seconds.items() if reason not in _NEWER
}


class TestGenerations:
    @pytest.mark.parametrize(
        ("version", "otherwise"),
        [
            (
                "470.256.02",
                {
                    # Only the second version of the call tells the driver's reserve apart.
                    "memory_used": 21 * GIB,
                    "memory_reserved": None,
                    # The number of fans is not known: the first is there.
                    "fan_speeds": {0: 44},
                    "pcie_bytes": {},
                    "throttled_seconds": _OLDER_TIMES,
                },
            ),
            ("535.183.01", {"pcie_bytes": {}, "throttled_seconds": _OLDER_TIMES}),
            ("570.124.06", {"throttled_seconds": _OLDER_TIMES}),
        ],
    )
    def test_give_what_they_have(self, nvml: Run, version: str, otherwise: dict[str, Any]) -> None:
        missing, first_unknown = GENERATIONS[version]
        values = {
            number: value
            for number, value in (FULL.field_values or {}).items()
            if number < first_unknown
        }
        device = structs.replace(FULL, field_values=values)
        nvml.write(SimulatedNvml(driver_version=version, devices=(device,), missing=missing))
        before = nvml.health().errors
        assert nvml.devices() == (replace(READ, driver_version=version, **otherwise),)
        assert nvml.health().errors == before


class Counting(SimulatedLibrary):
    """Counts the calls about devices, and the fields that are asked for, without those of the
    thread that waits for events."""

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self.calls: Counter[str] = Counter()

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvmlDeviceGet") and threading.current_thread().name == "nvml":
            self.calls[name] += 1
        return super().__getattribute__(name)

    def nvmlDeviceGetFieldValues(self, handle: Any, fields: list[Any]) -> Any:  # noqa: N802
        self.calls.update(f"field {field.number}" for field in fields)
        return super().nvmlDeviceGetFieldValues(handle, fields)

    def taken(self) -> Counter[str]:
        calls, self.calls = self.calls, Counter()
        return calls


class TestHowOften:
    def test_what_never_changes_is_asked_once_and_what_rarely_does_rarely(
        self, tmp_path: Path
    ) -> None:
        state = tmp_path / "nvml.json"
        NODE.write(state)
        library = Counting(state)
        with in_python(state, library=library, rare_interval=3600.0) as run:
            # The first may be start's own.
            assert run.devices() == (READ,)
            first = library.taken()
            assert run.devices() == (READ,)
            ordinary = library.taken()
            assert set(first) - set(ordinary) == {
                "nvmlDeviceGetMinorNumber",
                "nvmlDeviceGetName",
                "nvmlDeviceGetSerial",
                "nvmlDeviceGetVbiosVersion",
                "nvmlDeviceGetPciInfo",
                "nvmlDeviceGetMaxClockInfo",
                "nvmlDeviceGetTemperatureThreshold",
                "nvmlDeviceGetNumFans",
                "nvmlDeviceGetMaxPcieLinkGeneration",
                "nvmlDeviceGetMaxPcieLinkWidth",
                "nvmlDeviceGetEnforcedPowerLimit",
                # Memory that fails, and what this GPU lacks: NVLink 5.
                *(f"field {number}" for number in (29, 30, 31, 142, 143, 144, 145)),
                *(f"field {number}" for number in (202, 204, 206, 207, 208, 211, 214)),
            }
            assert ordinary[FIELDS] == 1
            assert "nvmlDeviceGetPcieThroughput" not in first

    def test_what_the_driver_will_never_do_is_asked_once(self, tmp_path: Path) -> None:
        state = tmp_path / "nvml.json"
        plain = SimulatedDevice(uuid=FULL.uuid)
        structs.replace(NODE, devices=(plain,)).write(state)
        library = Counting(state)
        with in_python(state, library=library) as run:
            run.devices()
            library.taken()
            run.devices()
            assert not {
                "nvmlDeviceGetSerial",
                "nvmlDeviceGetMaxClockInfo",
                "nvmlDeviceGetNumFans",
                "nvmlDeviceGetFanSpeed_v2",
                "nvmlDeviceGetMaxPcieLinkWidth",
                FIELDS,
            } & set(library.taken())

    def test_all_is_asked_again_after_the_driver_came_back(self, tmp_path: Path) -> None:
        state = tmp_path / "nvml.json"
        NODE.write(state)
        with in_python(state, rare_interval=3600.0) as run:
            assert run.devices() == (READ,)
            state.unlink()
            assert run.sample() is None
            flashed = structs.replace(
                FULL,
                vbios_version="96.00.99.00.01",
                enforced_power_limit_milliwatts=300_000,
                field_values={**(FULL.field_values or {}), 144: 0},
            )
            run.write(structs.replace(NODE, driver_version="580.65", devices=(flashed,)))
            assert run.devices() == (
                replace(
                    READ,
                    driver_version="580.65",
                    vbios_version="96.00.99.00.01",
                    power_limit_watts=300.0,
                    row_remap_pending=False,
                ),
            )


class Odd(SimulatedLibrary):
    """Gives fields as the type ``value_type``."""

    value_type = pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG

    def nvmlDeviceGetFieldValues(self, handle: Any, fields: list[Any]) -> Any:  # noqa: N802
        answers = super().nvmlDeviceGetFieldValues(handle, fields)
        for answer in answers:
            answer.valueType = self.value_type
        return answers


class TestTypes:
    @pytest.mark.parametrize(
        ("value_type", "otherwise"),
        [
            # A byte counter of 32 bits wraps within a second.
            (pynvml.NVML_VALUE_TYPE_UNSIGNED_INT, {"pcie_bytes": {}}),
            (pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG, {}),
            (pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG, {}),
        ],
    )
    def test_integers(self, tmp_path: Path, value_type: int, otherwise: dict[str, Any]) -> None:
        state = tmp_path / "nvml.json"
        values = {**(FULL.field_values or {}), 74: 0, 138: {ALL_LINKS: 1}, 139: {ALL_LINKS: 2}}
        small = structs.replace(FULL, field_values=values)
        structs.replace(NODE, devices=(small,)).write(state)
        library = Odd(state)
        library.value_type = value_type
        with in_python(state, library=library) as run:
            expected = replace(
                READ,
                nvlink_bytes={"transmit": 1024, "receive": 2048},
                throttled_seconds={**READ.throttled_seconds, "power": 0.0},
                **otherwise,
            )
            assert run.devices() == (expected,)

    def test_a_memory_temperature_that_claims_to_be_a_fraction(self, tmp_path: Path) -> None:
        """Drivers of release 545."""
        state = tmp_path / "nvml.json"
        structs.replace(NODE, devices=(structs.replace(FULL, field_values={82: 55}),)).write(state)
        library = Odd(state)
        library.value_type = pynvml.NVML_VALUE_TYPE_DOUBLE
        with in_python(state, library=library) as run:
            assert run.devices()[0].memory_temperature_celsius == 55

    def test_a_type_that_is_not_known(self, tmp_path: Path) -> None:
        state = tmp_path / "nvml.json"
        NODE.write(state)
        library = Odd(state)
        library.value_type = 42
        with in_python(state, library=library) as run:
            assert run.devices() == (replace(READ, **CALLS[FIELDS]),)
