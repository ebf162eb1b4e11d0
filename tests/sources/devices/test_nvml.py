"""NvmlSource, over both forms of the simulated NVML: every test that takes ``nvml`` runs
with the real pynvml over the compiled library, and with the library in Python."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pynvml
import pytest
from msgspec import structs

from testing.polling import eventually
from testing.values import GIB
from tests.sources.devices.nvml_runs import Run, in_pynvml, in_python
from vgpumonitor.simulate.nvml.python_library import SimulatedLibrary
from vgpumonitor.simulate.nvml.state import (
    Memory,
    ProcessSample,
    SimulatedDevice,
    SimulatedMig,
    SimulatedNvml,
)
from vgpumonitor.sources.devices import Device, DeviceProcess, MigDevice, ProcessUtilization
from vgpumonitor.sources.devices.nvml import NvmlSource

L40S = "GPU-8664316c-6888-5063-1e4d-f2a09cfbf100"
A100 = "GPU-8664316c-6888-5063-1e4d-f2a09cfbf101"
MIG_1 = "MIG-9c6d2b39-4b8b-5c1c-8d60-3a2f3b8d1a01"
MIG_2 = "MIG-9c6d2b39-4b8b-5c1c-8d60-3a2f3b8d1a02"

NOT_SUPPORTED, TIMEOUT, FUNCTION_NOT_FOUND, GPU_IS_LOST, UNKNOWN = 3, 10, 13, 15, 999

#: The time of a sample that is new to every look, in microseconds.
LATE = 1 << 52

GPU = SimulatedDevice(
    uuid=L40S,
    name="NVIDIA L40S",
    minor=1,
    memory=Memory(48 * GIB, 20 * GIB, GIB),
    utilization=(75, 30),
    power_milliwatts=250_500,
    temperature=61,
    ecc=(3, 1),
    throttle=0x01 | 0x04 | 0x40,
    compute={100: 8 * GIB, 101: 12 * GIB},
    graphics={102: GIB},
    process_samples=(
        ProcessSample(pid=100, timestamp=LATE, sm=40, memory=20, encoder=2, decoder=1),
    ),
)
MIG_GPU = SimulatedDevice(
    uuid=A100,
    name="NVIDIA A100-SXM4-80GB",
    minor=0,
    memory=Memory(80 * GIB, 30 * GIB, GIB),
    power_milliwatts=90_000,
    temperature=40,
    ecc=(0, 0),
    throttle=0,
    mig_devices=(
        SimulatedMig(
            uuid=MIG_1,
            profile="1g.10gb",
            gpu_instance_id=7,
            memory=Memory(10 * GIB, 4 * GIB),
            compute={200: 4 * GIB},
        ),
        SimulatedMig(
            uuid=MIG_2,
            profile="3g.40gb",
            gpu_instance_id=2,
            compute_instance_id=1,
            memory=Memory(40 * GIB, 26 * GIB),
            compute={201: 26 * GIB},
        ),
    ),
)
NODE = SimulatedNvml(driver_version="570.124.06", cuda_version=12080, devices=(GPU, MIG_GPU))

IDLE = ProcessUtilization()
COMPUTING = (
    DeviceProcess(100, 8 * GIB, ProcessUtilization(40, 20, 2, 1)),
    DeviceProcess(101, 12 * GIB, IDLE),
)
DEVICE = Device(
    vendor="NVIDIA",
    index=0,
    uuid=L40S,
    minor=1,
    name="NVIDIA L40S",
    driver_version="570.124.06",
    cuda_version="12.8",
    memory_total=48 * GIB,
    memory_used=20 * GIB,
    memory_reserved=GIB,
    core_utilization=75,
    memory_utilization=30,
    power_watts=250.5,
    temperature_celsius=61,
    ecc_errors={"corrected": 3, "uncorrected": 1},
    throttled={
        "sw_power_cap": True,
        "hw_slowdown": False,
        "sync_boost": False,
        "sw_thermal_slowdown": False,
        "hw_thermal_slowdown": True,
        "hw_power_brake_slowdown": False,
    },
    processes=(*COMPUTING, DeviceProcess(102, GIB, IDLE)),
    mig_devices=(),
)
MIG_DEVICE = Device(
    vendor="NVIDIA",
    index=1,
    uuid=A100,
    minor=0,
    name="NVIDIA A100-SXM4-80GB",
    driver_version="570.124.06",
    cuda_version="12.8",
    memory_total=80 * GIB,
    memory_used=30 * GIB,
    memory_reserved=GIB,
    core_utilization=None,
    memory_utilization=None,
    power_watts=90.0,
    temperature_celsius=40,
    ecc_errors={"corrected": 0, "uncorrected": 0},
    throttled=dict.fromkeys(DEVICE.throttled, False),
    processes=(DeviceProcess(200, 4 * GIB), DeviceProcess(201, 26 * GIB)),
    mig_devices=(
        MigDevice(
            MIG_1, "1g.10gb", 7, 0, 10 * GIB, 4 * GIB, processes=(DeviceProcess(200, 4 * GIB),)
        ),
        MigDevice(
            MIG_2, "3g.40gb", 2, 1, 40 * GIB, 26 * GIB, processes=(DeviceProcess(201, 26 * GIB),)
        ),
    ),
)
LOST, LOST_MIG = DEVICE.without_readings(), MIG_DEVICE.without_readings()


@pytest.fixture(params=["pynvml", "python"])
def nvml(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Run]:
    """A source over the state of NODE, which it has sampled."""
    state = tmp_path / "nvml.json"
    NODE.write(state)
    if request.param == "python":
        running = in_python(state)
    else:
        running = in_pynvml(request.getfixturevalue("library"), state)
    with running as run:
        # Not before start's own sample is over: a test would share it, or not.
        assert run.sample() is not None
        yield run


class TestSample:
    def test_everything_that_nvml_tells(self, nvml: Run) -> None:
        assert nvml.sample() == (DEVICE, MIG_DEVICE)
        assert nvml.known() == (DEVICE, MIG_DEVICE)
        # That these devices lack much is no failure.
        assert nvml.health().up
        assert nvml.health().errors == {}

    def test_each_sample_is_fresh(self, nvml: Run) -> None:
        assert nvml.devices()[0].core_utilization == 75
        changed = structs.replace(GPU, utilization=(12, 3))
        nvml.write(structs.replace(NODE, devices=(changed,)))
        device = nvml.devices()[0]
        assert (device.core_utilization, device.memory_utilization) == (12, 3)

    def test_a_node_without_gpus(self, tmp_path: Path) -> None:
        state = tmp_path / "nvml.json"
        SimulatedNvml().write(state)
        with in_python(state) as nvml:
            assert nvml.sample() == ()
            assert nvml.health().up

    def test_a_process_that_computes_and_draws_counts_once(self, nvml: Run) -> None:
        both = structs.replace(GPU, compute={7: None, 8: GIB, 9: None}, graphics={7: GIB, 8: None})
        nvml.write(structs.replace(NODE, devices=(both,)))
        device = nvml.devices()[0]
        assert device.processes == (
            DeviceProcess(7, GIB, IDLE),
            DeviceProcess(8, GIB, IDLE),
            DeviceProcess(9, None, IDLE),
        )

    def test_more_processes_than_pynvml_first_expects(self, nvml: Run) -> None:
        many = {pid: pid * 1024 for pid in range(1000, 1300)}
        nvml.write(
            structs.replace(NODE, devices=(structs.replace(GPU, compute=many, graphics={}),))
        )
        device = nvml.devices()[0]
        assert device.processes == tuple(DeviceProcess(*item, IDLE) for item in many.items())


class TestProcesses:
    def test_those_that_compute_through_mps_too(self, nvml: Run) -> None:
        client = structs.replace(GPU, compute={}, graphics={}, mps={7: GIB}, process_samples=())
        nvml.write(structs.replace(NODE, devices=(client,)))
        device = nvml.devices()[0]
        assert device.processes == (DeviceProcess(7, GIB, IDLE),)

    def test_without_a_sample_a_process_is_idle(self, nvml: Run) -> None:
        """NVML says "not found" where no process did anything."""
        idle = structs.replace(GPU, process_samples=())
        nvml.write(structs.replace(NODE, devices=(idle,)))
        device = nvml.devices()[0]
        assert [each.utilization for each in device.processes or ()] == [IDLE] * 3
        assert nvml.health().errors.get(("nvmlDeviceGetProcessesUtilizationInfo", L40S), 0) == 0

    def test_where_the_driver_can_not_tell_nobody_is_idle(self, nvml: Run) -> None:
        unable = structs.replace(GPU, process_samples=None)
        nvml.write(structs.replace(NODE, devices=(unable,)))
        device = nvml.devices()[0]
        assert [each.utilization for each in device.processes or ()] == [None] * 3

    def test_several_samples_of_a_process_are_averaged(self, nvml: Run) -> None:
        samples = tuple(
            ProcessSample(pid=100, timestamp=LATE + number, sm=sm)
            for number, sm in enumerate((90, 30, 60))
        )
        nvml.write(structs.replace(NODE, devices=(structs.replace(GPU, process_samples=samples),)))
        device = nvml.devices()[0]
        assert device.processes is not None
        assert device.processes[0].utilization == ProcessUtilization(60, 0, 0, 0)

    def test_memory_that_the_driver_did_not_initialise_is_no_sample(self, nvml: Run) -> None:
        wild = ProcessSample(pid=100, timestamp=LATE, sm=3_000_000, memory=5)
        true = ProcessSample(pid=100, timestamp=LATE + 1, sm=40)
        for samples, expected in (
            # That it was idle is not known.
            ((wild,), None),
            ((wild, true), ProcessUtilization(40, 0, 0, 0)),
        ):
            nvml.write(
                structs.replace(NODE, devices=(structs.replace(GPU, process_samples=samples),))
            )
            device = nvml.devices()[0]
            assert device.processes is not None
            assert [each.utilization for each in device.processes] == [expected, IDLE, IDLE]

    def test_nobody_takes_the_samples_away_from_anybody(self, nvml: Run) -> None:
        seconds_ago = int((time.time() - 4) * 1_000_000)
        sample = ProcessSample(pid=100, timestamp=seconds_ago, sm=70)
        nvml.write(
            structs.replace(NODE, devices=(structs.replace(GPU, process_samples=(sample,)),))
        )
        for _ in range(3):
            device = nvml.devices()[0]
            assert device.processes is not None
            assert device.processes[0].utilization == ProcessUtilization(70, 0, 0, 0)

    def test_what_was_long_ago_is_over(self, nvml: Run) -> None:
        sample = ProcessSample(pid=100, timestamp=int((time.time() - 60) * 1_000_000), sm=70)
        nvml.write(
            structs.replace(NODE, devices=(structs.replace(GPU, process_samples=(sample,)),))
        )
        device = nvml.devices()[0]
        assert device.processes is not None
        assert device.processes[0].utilization == IDLE


class TestErrors:
    """HAMi #1089 and #1637: one NVML call fails, and the scrape is empty."""

    @pytest.mark.parametrize(
        ("call", "without"),
        [
            ("nvmlDeviceGetMinorNumber", {"minor": None}),
            ("nvmlDeviceGetName", {"name": None}),
            (
                "nvmlDeviceGetMemoryInfo",
                {"memory_total": None, "memory_used": None, "memory_reserved": None},
            ),
            (
                "nvmlDeviceGetUtilizationRates",
                {"core_utilization": None, "memory_utilization": None},
            ),
            ("nvmlDeviceGetPowerUsage", {"power_watts": None}),
            ("nvmlDeviceGetTemperature", {"temperature_celsius": None}),
            ("nvmlDeviceGetTotalEccErrors", {"ecc_errors": {}}),
            ("nvmlDeviceGetCurrentClocksEventReasons", {"throttled": {}}),
            ("nvmlDeviceGetComputeRunningProcesses", {"processes": None}),
            ("nvmlDeviceGetGraphicsRunningProcesses", {"processes": COMPUTING}),
            ("nvmlDeviceGetMPSComputeRunningProcesses", {}),
            (
                "nvmlDeviceGetProcessesUtilizationInfo",
                {
                    "processes": tuple(
                        structs.replace(each, utilization=None)
                        for each in (*COMPUTING, DeviceProcess(102, GIB))
                    )
                },
            ),
            ("nvmlDeviceGetMigMode", {}),
        ],
    )
    def test_a_call_fails_alone(self, tmp_path: Path, call: str, without: dict[str, Any]) -> None:
        state = tmp_path / "nvml.json"
        failing = structs.replace(NODE, errors={call: {"0": UNKNOWN}})
        failing.write(state)
        with in_python(state) as nvml:
            assert nvml.devices() == (replace(DEVICE, **without), MIG_DEVICE)
            first = nvml.health().errors[call, L40S]
            nvml.sample()
            # ECC is asked twice, for both kinds. The first sample may be start's own.
            each = 2 if call == "nvmlDeviceGetTotalEccErrors" else 1
            assert first in (each, 2 * each)
            assert nvml.health().errors[call, L40S] == first + each
            assert nvml.health().up

    def test_unknown_error_hides_nothing_else(self, nvml: Run) -> None:
        nvml.write(structs.replace(NODE, errors={"nvmlDeviceGetMemoryInfo": {"0": UNKNOWN}}))
        failing = replace(DEVICE, memory_total=None, memory_used=None, memory_reserved=None)
        assert nvml.devices() == (failing, MIG_DEVICE)
        assert nvml.devices() == (failing, MIG_DEVICE)
        assert nvml.health().errors["nvmlDeviceGetMemoryInfo", L40S] == 2

    def test_what_a_gpu_is_known_for_stays(self, nvml: Run) -> None:
        nvml.write(structs.replace(NODE, errors={"nvmlDeviceGetMemoryInfo": {"0": UNKNOWN}}))
        for _ in range(2):
            assert nvml.devices()[0].memory_total is None
        assert [(gpu.uuid, gpu.minor, gpu.memory_total) for gpu in nvml.known()] == [
            (L40S, 1, 48 * GIB),
            (A100, 0, 80 * GIB),
        ]

    def test_not_supported_is_no_failure(self, nvml: Run) -> None:
        power = "nvmlDeviceGetPowerUsage"
        counts = []
        for code in (NOT_SUPPORTED, UNKNOWN, NOT_SUPPORTED, UNKNOWN, UNKNOWN, None):
            nvml.write(structs.replace(NODE, errors={} if code is None else {power: {"0": code}}))
            watts = nvml.devices()[0].power_watts
            assert watts == (250.5 if code is None else None)
            counts.append(nvml.health().errors.get(("nvmlDeviceGetPowerUsage", L40S), 0))
        assert counts == [0, 1, 1, 2, 3, 3]

    def test_when_it_was_last_is_known(self, nvml: Run) -> None:
        call = "nvmlDeviceGetPowerUsage", L40S
        assert nvml.devices()
        assert nvml.health().failed_at == {}
        nvml.write(structs.replace(NODE, errors={call[0]: {"0": UNKNOWN}}))
        before = time.time()
        assert nvml.devices()
        assert before <= nvml.health().failed_at[call] <= time.time()
        nvml.write(NODE)
        after = time.time()
        assert nvml.devices()
        assert nvml.health().failed_at[call] <= after

    def test_a_geforce_without_ecc_and_mig(self, tmp_path: Path) -> None:
        state = tmp_path / "nvml.json"
        plain = SimulatedDevice(uuid=L40S, name="NVIDIA GeForce RTX 4090", memory=Memory(24, 7))
        structs.replace(NODE, devices=(plain,)).write(state)
        with in_python(state) as nvml:
            (device,) = nvml.devices()
            assert device == Device(
                vendor="NVIDIA",
                index=0,
                uuid=L40S,
                name="NVIDIA GeForce RTX 4090",
                driver_version="570.124.06",
                cuda_version="12.8",
                memory_total=24,
                memory_used=7,
                memory_reserved=0,
                processes=(),
            )
            assert nvml.health().errors == {}

    @pytest.mark.parametrize("call", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID"])
    def test_a_gpu_that_cannot_be_named_is_left_out(self, nvml: Run, call: str) -> None:
        nvml.write(structs.replace(NODE, errors={call: {"0": UNKNOWN}}))
        assert nvml.devices() == (MIG_DEVICE,)
        assert nvml.health().errors[call, ""] == 1
        assert nvml.health().up
        assert nvml.known() == (DEVICE, MIG_DEVICE)

    def test_a_call_about_no_gpu_fails_alone(self, tmp_path: Path) -> None:
        state = tmp_path / "nvml.json"
        calls = ("nvmlSystemGetDriverVersion", "nvmlSystemGetCudaDriverVersion")
        structs.replace(NODE, errors={call: {"-": UNKNOWN} for call in calls}).write(state)
        with in_python(state) as nvml:
            assert nvml.sample() == tuple(
                replace(device, driver_version=None, cuda_version=None)
                for device in (DEVICE, MIG_DEVICE)
            )
            assert {call for call, _ in nvml.health().errors} == set(calls)

    def test_a_call_of_a_mig_device_fails_alone(self, nvml: Run) -> None:
        nvml.write(structs.replace(NODE, errors={"nvmlDeviceGetMemoryInfo": {"1.0": UNKNOWN}}))
        first, second = MIG_DEVICE.mig_devices
        assert nvml.devices()[1].mig_devices == (
            replace(first, memory_total=None, memory_used=None),
            second,
        )
        assert nvml.health().errors["nvmlDeviceGetMemoryInfo", MIG_1] == 1

    @pytest.mark.parametrize(
        ("call", "counted"),
        [
            ("nvmlDeviceGetMigDeviceHandleByIndex", A100),
            ("nvmlDeviceGetUUID", A100),
            ("nvmlDeviceGetGpuInstanceId", MIG_1),
            ("nvmlDeviceGetComputeInstanceId", MIG_1),
        ],
    )
    def test_a_mig_device_that_cannot_be_named_is_left_out(
        self, tmp_path: Path, call: str, counted: str
    ) -> None:
        state = tmp_path / "nvml.json"
        NODE.write(state)
        with in_python(state) as nvml:
            nvml.sample()
            nvml.write(structs.replace(NODE, errors={call: {"1.0": UNKNOWN}}))
            assert nvml.devices()[1].mig_devices == MIG_DEVICE.mig_devices[1:]
            assert nvml.health().errors[call, counted] == 1

    def test_each_failure_is_logged_once_and_again_after_it_changed(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        state = tmp_path / "nvml.json"
        NODE.write(state)
        caplog.set_level(logging.INFO, "vgpumonitor.sources.devices.nvml")
        power = "nvmlDeviceGetPowerUsage"
        with in_python(state) as nvml:
            nvml.sample()
            caplog.clear()
            for code in (UNKNOWN, UNKNOWN, TIMEOUT, None, TIMEOUT, TIMEOUT):
                nvml.write(
                    structs.replace(NODE, errors={} if code is None else {power: {"0": code}})
                )
                nvml.sample()
            assert [record.getMessage() for record in caplog.records] == [
                f"nvmlDeviceGetPowerUsage of {L40S} failed: Unknown Error",
                f"nvmlDeviceGetPowerUsage of {L40S} failed: Timeout",
                f"nvmlDeviceGetPowerUsage of {L40S} failed: Timeout",
            ]
            assert {record.levelno for record in caplog.records} == {logging.WARNING}


class TestOlderDrivers:
    def test_memory_of_the_first_version_counts_what_is_reserved(self, nvml: Run) -> None:
        nvml.write(structs.replace(NODE, missing=("nvmlDeviceGetMemoryInfo_v2",)))
        assert nvml.devices()[0] == replace(DEVICE, memory_used=21 * GIB, memory_reserved=None)
        assert ("nvmlDeviceGetMemoryInfo", L40S) not in nvml.health().errors

    def test_older_functions_give_the_same(self, nvml: Run) -> None:
        newer = (
            "nvmlDeviceGetComputeRunningProcesses_v3",
            "nvmlDeviceGetGraphicsRunningProcesses_v3",
            "nvmlDeviceGetCurrentClocksEventReasons",
            "nvmlDeviceGetProcessesUtilizationInfo",
        )
        nvml.write(structs.replace(NODE, missing=newer))
        assert nvml.devices() == (DEVICE, MIG_DEVICE)
        assert nvml.health().errors == {}

    def test_a_function_that_no_version_has_fails_alone(self, nvml: Run) -> None:
        nvml.write(
            structs.replace(
                NODE,
                errors={"nvmlDeviceGetComputeRunningProcesses": {"0": FUNCTION_NOT_FOUND}},
            )
        )
        for _ in range(2):
            assert nvml.devices()[0] == replace(DEVICE, processes=None)
        assert nvml.health().errors == {}


class TestDriver:
    def test_comes_and_goes_and_comes_again(self, nvml: Run) -> None:
        everything = nvml.sample()
        assert everything is not None
        nvml.state.unlink()
        assert nvml.sample() is None
        assert nvml.sample() is None
        health = nvml.health()
        assert not health.up
        assert health.errors["nvmlInit", ""] == 1
        assert nvml.known() == (DEVICE, MIG_DEVICE)
        nvml.write(NODE)
        assert nvml.sample() == everything
        assert nvml.health().up

    @pytest.mark.parametrize("code", [4, 9, 12, 18, UNKNOWN])
    def test_cannot_be_initialised(self, tmp_path: Path, code: int) -> None:
        state = tmp_path / "nvml.json"
        structs.replace(NODE, errors={"nvmlInitWithFlags": {"-": code}}).write(state)
        with in_python(state) as nvml:
            assert nvml.sample() is None
            assert not nvml.health().up
            assert nvml.health().error
            assert set(nvml.health().errors) == {("nvmlInit", "")}
            assert nvml.known() == ()
            nvml.write(NODE)
            assert nvml.devices() == (DEVICE, MIG_DEVICE)

    @pytest.mark.parametrize("code", [1, 9, 18])
    def test_goes_in_the_middle_of_a_sample(self, nvml: Run, code: int) -> None:
        nvml.write(structs.replace(NODE, errors={"nvmlDeviceGetPowerUsage": {"1": code}}))
        assert nvml.sample() is None
        assert not nvml.health().up
        assert (nvml.health().error or "").startswith("nvmlDeviceGetPowerUsage: ")
        nvml.write(NODE)
        assert nvml.devices() == (DEVICE, MIG_DEVICE)
        assert nvml.health().error is None

    def test_attempts_to_initialise_are_bounded(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        state = tmp_path / "nvml.json"
        caplog.set_level(logging.INFO, "vgpumonitor.sources.devices.nvml")
        with in_python(state, retry_seconds=3600) as nvml:
            for _ in range(5):
                assert nvml.sample() is None
            NODE.write(state)
            assert nvml.sample() is None
            assert nvml.health().errors == {("nvmlInit", ""): 1}
        assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
            (logging.INFO, "nvmlInit failed: Driver Not Loaded")
        ]

    def test_has_no_library_on_this_machine(self) -> None:
        try:
            ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            pass
        else:
            pytest.skip("this machine has the driver's libnvidia-ml.so.1")
        source = NvmlSource()
        source.start()
        assert asyncio.run(source.sample(30)) is None
        assert not source.health().up
        assert source.health().errors == {("nvmlInit", ""): 1}
        source.stop()

    def test_pynvml_is_not_imported_without_need(self) -> None:
        code = "import sys, vgpumonitor.sources.devices.nvml; sys.exit('pynvml' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestDown:
    """GPUs that were there and are lost, or are not there any more."""

    @pytest.mark.parametrize(
        "call", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID", "nvmlDeviceGetPowerUsage"]
    )
    def test_one_that_is_lost_hides_no_other(self, nvml: Run, call: str) -> None:
        nvml.write(structs.replace(NODE, errors={call: {"0": GPU_IS_LOST}}))
        assert nvml.devices() == (LOST, MIG_DEVICE)
        assert nvml.health().up
        # What it is known for is there still: its containers are named by it.
        assert nvml.known() == (DEVICE, MIG_DEVICE)
        nvml.write(NODE)
        assert nvml.devices() == (DEVICE, MIG_DEVICE)

    def test_one_that_is_lost_is_not_asked_for_all_else(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        state = tmp_path / "nvml.json"
        NODE.write(state)
        caplog.set_level(logging.INFO, "vgpumonitor.sources.devices.nvml")
        with in_python(state) as nvml:
            nvml.sample()
            caplog.clear()
            calls = [name for name in vars(SimulatedLibrary) if name.startswith("nvmlDeviceGet")]
            lost = {call: {"0": GPU_IS_LOST} for call in calls if "Handle" not in call}
            del lost["nvmlDeviceGetUUID"]
            # Asked by the thread that waits for XIDs, when it comes to that.
            del lost["nvmlDeviceGetSupportedEventTypes"]
            nvml.write(structs.replace(NODE, errors=lost))
            for _ in range(2):
                assert nvml.devices() == (LOST, MIG_DEVICE)
            nvml.write(NODE)
            assert nvml.devices() == (DEVICE, MIG_DEVICE)
            assert [record.getMessage() for record in caplog.records] == [
                f"nvmlDeviceGetMemoryInfo of {L40S} failed: GPU is lost",
                "GPU is lost",
                "GPU is back",
            ]
            assert {uuid for _, uuid in nvml.health().errors} == {L40S}

    def test_one_that_is_not_there_any_more(self, nvml: Run) -> None:
        moved = replace(MIG_DEVICE, index=0)
        nvml.write(structs.replace(NODE, devices=(MIG_GPU,)))
        for _ in range(2):
            assert nvml.devices() == (LOST, moved)
        # Where two have the same number, that of the one which is there counts.
        assert nvml.known() == (DEVICE, moved)
        nvml.write(NODE)
        assert nvml.devices() == (DEVICE, MIG_DEVICE)

    def test_one_that_cannot_be_named_is_not_known_to_be_down(self, nvml: Run) -> None:
        nvml.write(
            structs.replace(
                NODE, devices=(GPU,), errors={"nvmlDeviceGetHandleByIndex": {"0": UNKNOWN}}
            )
        )
        assert nvml.sample() == ()
        assert nvml.health().up

    def test_a_count_that_fails_takes_no_gpu_away(self, nvml: Run) -> None:
        nvml.write(structs.replace(NODE, errors={"nvmlDeviceGetCount": {"-": UNKNOWN}}))
        assert nvml.sample() == ()
        nvml.write(NODE)
        assert nvml.devices() == (DEVICE, MIG_DEVICE)

    def test_when_all_are_lost_nvml_is_initialised_again(self, nvml: Run) -> None:
        lost = {"nvmlDeviceGetMemoryInfo": {str(index): GPU_IS_LOST for index in (0, 1)}}
        nvml.write(structs.replace(NODE, errors=lost))
        assert nvml.sample() == (LOST, LOST_MIG)
        assert not nvml.health().up
        nvml.write(NODE)
        assert nvml.devices() == (DEVICE, MIG_DEVICE)

    def test_stay_down_while_the_driver_is_away_or_hangs(self, nvml: Run) -> None:
        lost = {"nvmlDeviceGetMemoryInfo": {"0": GPU_IS_LOST}}
        nvml.write(structs.replace(NODE, errors=lost))
        assert nvml.devices() == (LOST, MIG_DEVICE)
        nvml.write(
            structs.replace(NODE, errors=lost, hangs={"nvmlDeviceGetUtilizationRates": ("1",)})
        )
        assert nvml.sample(timeout=3.0) == (LOST,)
        assert nvml.sample(timeout=3600) == (LOST,)
        nvml.state.unlink()
        # What hung has ended with it.
        assert eventually(lambda: not nvml.health().up)
        assert nvml.sample() == (LOST,)
        nvml.write(NODE)
        assert eventually(lambda: nvml.devices() == (DEVICE, MIG_DEVICE))

    def test_a_driver_that_went_says_nothing_of_its_gpus(self, nvml: Run) -> None:
        nvml.state.unlink()
        assert nvml.sample() is None


class Enumerating(SimulatedLibrary):
    """As NVML does: it knows the GPUs that were there when it was initialised by the first who
    holds it, and one that was lost since then stays so."""

    enumerated = 0
    initialised = 0
    holders = 0

    def nvmlInit(self) -> None:  # noqa: N802
        super().nvmlInit()
        self.holders += 1
        if self.holders == 1:
            self.enumerated = super().nvmlDeviceGetCount()
            self.initialised += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.holders -= 1
        super().nvmlShutdown()

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return min(self.enumerated, super().nvmlDeviceGetCount())


class TestComing:
    """GPUs that come: hot plug, a reset."""

    def test_one_that_the_kernel_gives_to_the_driver(self, tmp_path: Path) -> None:
        state, pci_driver = tmp_path / "nvml.json", tmp_path / "nvidia"
        for name in ("bind", "new_id", "0000:3b:00.0"):
            pci_driver.mkdir(exist_ok=True)
            (pci_driver / name).touch()
        structs.replace(NODE, devices=(GPU,)).write(state)
        library = Enumerating(state)
        with in_python(state, library=library, pci_driver=pci_driver) as nvml:
            assert nvml.devices() == (DEVICE,)
            nvml.write(NODE)
            assert nvml.devices() == (DEVICE,)
            assert library.initialised == 1
            (pci_driver / "0000:5e:00.0").touch()
            assert nvml.devices() == (DEVICE, MIG_DEVICE)
            assert nvml.devices() == (DEVICE, MIG_DEVICE)
            assert library.initialised == 2
            nvml.write(structs.replace(NODE, devices=(GPU,)))
            (pci_driver / "0000:5e:00.0").unlink()
            assert nvml.devices() == (DEVICE, LOST_MIG)
            assert library.initialised == 3

    def test_one_that_was_reset(self, tmp_path: Path) -> None:
        state = tmp_path / "nvml.json"
        NODE.write(state)
        library = Enumerating(state)
        with in_python(state, library=library, revival_interval=0.0) as nvml:
            assert nvml.devices() == (DEVICE, MIG_DEVICE)
            assert library.initialised == 1
            nvml.write(structs.replace(NODE, devices=(GPU,)))
            assert nvml.devices() == (DEVICE, LOST_MIG)
            library.enumerated = 1
            nvml.write(NODE)
            assert nvml.devices() == (DEVICE, MIG_DEVICE)
            assert library.initialised == 2

    def test_a_gpu_that_stays_down_is_not_tried_at_each_look(self, tmp_path: Path) -> None:
        state = tmp_path / "nvml.json"
        NODE.write(state)
        library = Enumerating(state)
        with in_python(state, library=library, revival_interval=3600.0) as nvml:
            assert nvml.devices() == (DEVICE, MIG_DEVICE)
            nvml.write(structs.replace(NODE, devices=(GPU,)))
            for _ in range(3):
                assert nvml.devices() == (DEVICE, LOST_MIG)
            assert library.initialised == 1


class TestMigLock:
    """HAMi's lock file, which comes and goes."""

    def test_nvml_is_let_go_while_it_is_there(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        state, lock = tmp_path / "nvml.json", tmp_path / "hami" / "mig.lock"
        lock.parent.mkdir()
        NODE.write(state)
        caplog.set_level(logging.INFO, "vgpumonitor.sources.devices.nvml")
        with in_python(state, retry_seconds=3600, lock_file=lock) as nvml:
            assert nvml.devices() == (DEVICE, MIG_DEVICE)
            errors = nvml.health().errors
            lock.touch()
            # Nobody asks for a sample: the file alone is the reason.
            eventually(lambda: not nvml.health().up)
            assert nvml.health().lock_file == str(lock)
            assert nvml.sample() is None
            assert nvml.known() == (DEVICE, MIG_DEVICE)
            assert nvml.health().errors == errors
            lock.unlink()
            eventually(lambda: nvml.sample() is not None)
            assert nvml.devices() == (DEVICE, MIG_DEVICE)
            assert nvml.health().up
            # A directory that was removed and made again has no watch: each sample looks, too.
            lock.parent.rmdir()
            lock.parent.mkdir()
            lock.touch()
            assert nvml.sample() is None
            assert not nvml.health().up
        assert [each.getMessage() for each in caplog.records if "lock" in each.getMessage()] == [
            "NVML is released: a change of MIG devices holds the lock file",
            "NVML is asked again: the lock file of a change of MIG devices is gone",
            "NVML is released: a change of MIG devices holds the lock file",
        ]

    def test_it_is_not_taken_where_the_file_is_there_first(self, tmp_path: Path) -> None:
        state, lock = tmp_path / "nvml.json", tmp_path / "mig.lock"
        NODE.write(state)
        lock.touch()
        with in_python(state, lock_file=lock) as nvml:
            assert nvml.sample() is None
            assert nvml.known() == ()
            lock.unlink()
            assert nvml.devices() == (DEVICE, MIG_DEVICE)

    def test_where_one_cannot_look_there_is_none(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        # The kernel refuses to look for such a name to root, too.
        state, lock = tmp_path / "nvml.json", tmp_path / ("long" * 100)
        NODE.write(state)
        caplog.set_level(logging.WARNING, "vgpumonitor.sources.devices.nvml")
        with in_python(state, lock_file=lock) as nvml:
            assert nvml.devices() == (DEVICE, MIG_DEVICE)
            assert nvml.health().up
            eventually(lambda: caplog.records)
        (record,) = caplog.records
        assert record.getMessage() == (
            "can't look for the lock file of MIG changes, so none holds NVML off"
        )
        assert (record.__dict__["path"], record.__dict__["error"]) == (
            str(lock),
            "File name too long",
        )


class TestHang:
    def test_costs_one_wait_and_what_came_before_is_served(self, nvml: Run) -> None:
        everything = nvml.sample()
        nvml.write(structs.replace(NODE, hangs={"nvmlDeviceGetPowerUsage": ("1",)}))
        assert nvml.sample(timeout=3.0) == (DEVICE,)
        assert not nvml.health().up
        assert (
            nvml.health().error == f"nvmlDeviceGetPowerUsage of {MIG_DEVICE.uuid} does not return"
        )
        assert nvml.health().errors["timeout", ""] == 1
        # It would have to wait for much longer than this test does for its result.
        assert nvml.sample(timeout=3600) is None
        assert nvml.health().errors["timeout", ""] == 2
        assert nvml.known() == (DEVICE, MIG_DEVICE)
        nvml.write(NODE)
        assert eventually(lambda: nvml.sample()) == everything
        assert nvml.health().up

    @pytest.mark.parametrize(
        ("call", "target"), [("nvmlInitWithFlags", "-"), ("nvmlDeviceGetCount", "-")]
    )
    def test_before_the_first_gpu_gives_nothing(
        self, tmp_path: Path, call: str, target: str
    ) -> None:
        state = tmp_path / "nvml.json"
        structs.replace(NODE, hangs={call: (target,)}).write(state)
        with in_python(state) as nvml:
            assert nvml.sample(timeout=0.2) is None
            assert nvml.sample(timeout=3600) is None
            assert nvml.health().errors == {("timeout", ""): 2}
            assert not nvml.health().up
            nvml.write(NODE)
            assert eventually(lambda: nvml.devices()) == (DEVICE, MIG_DEVICE)

    def test_is_logged_with_the_call_that_hangs(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        state = tmp_path / "nvml.json"
        NODE.write(state)
        caplog.set_level(logging.INFO, "vgpumonitor.sources.devices.nvml")
        with in_python(state) as nvml:
            nvml.sample()
            caplog.clear()
            nvml.write(structs.replace(NODE, hangs={"nvmlDeviceGetPowerUsage": ("0",)}))
            nvml.sample(timeout=3.0)
            nvml.sample()
            nvml.write(NODE)
            eventually(lambda: nvml.sample())
            assert [record.getMessage() for record in caplog.records] == [
                f"NVML does not answer within 3 s: nvmlDeviceGetPowerUsage of {L40S}",
                "NVML answers again",
            ]


class TestThread:
    def test_alone_calls_nvml_and_looks_again_for_each_sample(self, tmp_path: Path) -> None:
        class Watched(SimulatedLibrary):
            def nvmlDeviceGetCount(self) -> int:  # noqa: N802
                threads.append(threading.current_thread().name)
                return super().nvmlDeviceGetCount()

        threads: list[str] = []
        state = tmp_path / "nvml.json"
        NODE.write(state)
        source = NvmlSource(Watched(state))
        source.start()
        for looks in (2, 3, 4):  # The first is start's.
            assert asyncio.run(source.sample(60)) is not None
            assert threads == ["nvml"] * looks
        source.stop()

    def test_stop_shuts_nvml_down(self, tmp_path: Path) -> None:
        state = tmp_path / "nvml.json"
        NODE.write(state)
        library = SimulatedLibrary(state)
        source = NvmlSource(library)
        source.start()
        assert asyncio.run(source.sample(60)) is not None
        assert library.nvmlDeviceGetCount() == 2
        source.stop()
        assert not source.health().up
        with pytest.raises(pynvml.NVMLError, match="Uninitialized"):
            library.nvmlDeviceGetCount()

    def test_a_mistake_does_not_end_it(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Odd(SimulatedLibrary):
            odd = True

            def nvmlDeviceGetCount(self) -> int:  # noqa: N802
                return "?" if self.odd else super().nvmlDeviceGetCount()  # type: ignore[return-value]

        state = tmp_path / "nvml.json"
        NODE.write(state)
        library = Odd(state)
        source = NvmlSource(library)
        source.start()
        try:
            assert asyncio.run(source.sample(60)) is None
            assert "NVML can't be sampled" in caplog.text
            library.odd = False
            assert asyncio.run(source.sample(60)) == (DEVICE, MIG_DEVICE)
        finally:
            source.stop()
