"""The processes that NVML has on a device: what they hold, and what they did lately."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from vgpumonitor.sources.devices.model import DeviceProcess, ProcessUtilization
from vgpumonitor.sources.devices.nvml.client import NvmlClient

#: Seconds that samples are asked back for at least: two who look shortly after each other see
#: the same, and nobody takes the samples away from anybody.
LEAST_WINDOW = 10.0


class UtilizationWindow:
    """Since when a look asks for samples: since the last look, or LEAST_WINDOW ago."""

    def __init__(self) -> None:
        self._last_look: float | None = None
        #: Microseconds since 1970, as NVML has the times of samples.
        self.since = 0

    def move(self) -> None:
        """A new look begins."""
        now = time.time()
        since = now - LEAST_WINDOW
        if self._last_look is not None:
            since = min(since, self._last_look)
        self._last_look = now
        self.since = max(0, int(since * 1_000_000))


def read_processes(
    client: NvmlClient, uuid: str, handle: Any, window: UtilizationWindow | None
) -> tuple[DeviceProcess, ...] | None:
    """Those that compute, directly or through MPS, and those that draw; one that is in several
    of NVML's lists has all its memory in each. None where those that compute are not known.
    ``window`` None asks for no samples: NVML has none of MIG devices."""
    computing, through_mps, drawing = (
        client.call(
            uuid,
            (f"nvmlDeviceGet{kind}RunningProcesses", handle),
            (f"nvmlDeviceGet{kind}RunningProcesses_v2", handle),
        )
        for kind in ("Compute", "MPSCompute", "Graphics")
    )
    if computing is None:
        return None
    memory: dict[int, int | None] = {}
    for process in (*computing, *(through_mps or ()), *(drawing or ())):
        if memory.get(process.pid) is None:
            memory[process.pid] = process.usedGpuMemory
    if not memory:
        return ()
    utilization = None if window is None else _utilization(client, uuid, handle, window.since)
    return tuple(
        [
            DeviceProcess(
                pid,
                held,
                None if utilization is None else utilization.get(pid, ProcessUtilization()),
            )
            for pid, held in memory.items()
        ]
    )


def _utilization(
    client: NvmlClient, uuid: str, handle: Any, since: int
) -> Mapping[int, ProcessUtilization | None] | None:
    """By PID, of the processes that did anything; None where the driver can't tell (MIG), of all
    or of one."""
    nvml = client.nvml
    samples = client.call(
        uuid,
        # Drivers of Blackwell have the newer one only (HAMi-core #218), those before 550 the
        # older one.
        ("nvmlDeviceGetProcessesUtilizationInfo", handle, since),
        ("nvmlDeviceGetProcessUtilization", handle, since),
        # pynvml raises success where there is nothing to give.
        expected_errors={nvml.NVML_ERROR_NOT_FOUND: (), nvml.NVML_SUCCESS: ()},
    )
    return None if samples is None else _means(samples)


def _means(samples: Iterable[Any]) -> Mapping[int, ProcessUtilization | None]:
    """None for a process of which no sample can be true: that it was idle is not known."""
    by_pid: defaultdict[int, list[tuple[int, int, int, int]]] = defaultdict(list)
    for sample in samples:
        values = sample.smUtil, sample.memUtil, sample.encUtil, sample.decUtil
        found = by_pid[sample.pid]
        # Some drivers leave memory that they did not initialise.
        if max(values) <= 100:
            found.append(values)
    return {
        pid: ProcessUtilization(
            *[round(sum(each) / len(each)) for each in zip(*found, strict=True)]
        )
        if found
        else None
        for pid, found in by_pid.items()
    }
