"""The processes that NVML has on a device."""

from __future__ import annotations

from typing import Any

from vgpumonitor.sources.devices.model import DeviceProcess
from vgpumonitor.sources.devices.nvml.client import NvmlClient


def read_processes(client: NvmlClient, uuid: str, handle: Any) -> tuple[DeviceProcess, ...] | None:
    """Those that compute and those that draw; one that does both is in both of NVML's lists,
    each time with all its memory. None where those that compute are not known."""
    computing = client.call(
        uuid,
        ("nvmlDeviceGetComputeRunningProcesses", handle),
        ("nvmlDeviceGetComputeRunningProcesses_v2", handle),
    )
    drawing = client.call(
        uuid,
        ("nvmlDeviceGetGraphicsRunningProcesses", handle),
        ("nvmlDeviceGetGraphicsRunningProcesses_v2", handle),
    )
    if computing is None:
        return None
    memory: dict[int, int | None] = {}
    for process in (*computing, *(drawing or ())):
        if memory.get(process.pid) is None:
            memory[process.pid] = process.usedGpuMemory
    return tuple(DeviceProcess(pid, held) for pid, held in memory.items())
