"""XIDs as the exporter's users meet them: over the simulated library under the real pynvml."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import structs

from testing.exporter import Exporter, running, serve_arguments, wait_for_exit
from testing.nvml import simulated_nvml
from testing.polling import eventually
from testing.region_files import put
from testing.values import GIB, GPU, GPU_2, UID
from vgpumonitor.simulate.nvml.state import (
    Memory,
    SimulatedDevice,
    SimulatedEvent,
    SimulatedNvml,
)

XID = 0x08  # nvmlEventTypeXidCriticalError
#: An XID that stands for nothing here but that the events are registered.
MARK = 1

NODE = SimulatedNvml(
    devices=tuple(
        SimulatedDevice(
            uuid=uuid,
            name="NVIDIA L40S",
            minor=minor,
            memory=Memory(46 * GIB, GIB),
            event_types=XID,
        )
        for minor, uuid in enumerate((GPU, GPU_2))
    )
)


def event(device: int, code: int) -> SimulatedEvent:
    return SimulatedEvent(device=device, type=XID, data=code)


@contextmanager
def serving(directory: Path) -> Iterator[tuple[Exporter, list[SimulatedEvent]]]:
    """An exporter whose GPUs' events are registered, and the events so far."""
    put("hami-2.9.0-three-processes", directory / "containers" / f"{UID}_train" / "x.cache")
    arguments = [
        argument
        for argument in serve_arguments(directory / "containers")
        if not argument.startswith("--nvml")
    ]
    events: list[SimulatedEvent] = []
    with running(*arguments, env=simulated_nvml(NODE, directory)) as exporter:

        def registered() -> bool:
            raise_events(directory, events, event(1, MARK))
            return exporter.value("vgpu_device_xid_errors_total", xid=str(MARK)) is not None

        eventually(registered)
        yield exporter, events


def raise_events(directory: Path, events: list[SimulatedEvent], *more: SimulatedEvent) -> None:
    events += more
    structs.replace(NODE, events=tuple(events)).write(directory / "nvml.json")


def test_an_xid_is_counted_dated_explained_and_told_with_the_containers(tmp_path: Path) -> None:
    with serving(tmp_path) as (exporter, events):
        began = time.time()
        raise_events(tmp_path, events, event(0, 31), event(0, 31), event(1, 79))
        labels = {"node": "node-1", "device_uuid": GPU, "device_index": "0", "xid": "31"}
        eventually(lambda: exporter.value("vgpu_device_xid_errors_total", **labels) == 2)
        eventually(lambda: exporter.value("vgpu_device_xid_errors_total", xid="79") == 1)
        last = exporter.value("vgpu_device_last_xid_timestamp_seconds", **labels)
        assert last is not None
        assert began <= last <= time.time()
        told = json.loads(exporter.get("/api/v1/snapshot"))["xid_errors"]
        (found,) = [one for one in told if one["xid"] == 31]
        assert (found["device_uuid"], found["class"], found["count"]) == (GPU, "application", 2)
        assert found["containers"] == [{"namespace": "", "pod": UID, "container": "train"}]
        top = subprocess.run(
            [sys.executable, "-m", "vgpumonitor", "top", "--once", exporter.url],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "NO_COLOR": "1"},
        ).stdout
        assert "(2 times): a program accessed GPU memory that it does not have" in top
        assert f"On it then: {UID}/train. Restart the program." in top
        assert "XID 79 on GPU 1, " in top
        assert "reported XID 79" in exporter.log


def test_the_exporter_ends_while_it_waits_for_events(tmp_path: Path) -> None:
    with serving(tmp_path) as (exporter, _):
        exporter.process.send_signal(signal.SIGTERM)
        wait_for_exit(exporter.process, 10)
        assert exporter.process.returncode == 0
        assert "NVML's events can't be had" not in exporter.log


def test_the_exporter_ends_where_the_wait_hangs(tmp_path: Path) -> None:
    with serving(tmp_path) as (exporter, _):
        structs.replace(NODE, hangs={"nvmlEventSetWait": ("-",)}).write(tmp_path / "nvml.json")
        assert exporter.value("vgpu_device_info", device_uuid=GPU) == 1
        exporter.process.send_signal(signal.SIGTERM)
        wait_for_exit(exporter.process, 10)
        assert exporter.process.returncode == 0
