"""What a region file says, as plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass

#: Process slot states; the source is HAMi-core's ``shrreg_proc_slot_t.status``.
GONE, RUNNING, SUSPENDED = 0, 1, 2


class RegionError(Exception):
    """A region file that can't be used.

    ``reason`` is a short constant word (a label value of
    ``vgpumonitor_region_errors_total``); the message says what was found.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RegionDevice:
    """One card as the container sees it; its place in the region is ``vdeviceid``.

    ``uuid`` is None while the slot holds no text of the form that NVML gives.
    ``memory_limit_bytes`` 0 is no limit; ``sm_limit_percent`` 0 and 100 are none.
    """

    uuid: str | None
    memory_limit_bytes: int
    sm_limit_percent: int


@dataclass(frozen=True, slots=True)
class ProcessDevice:
    """What one process accounts on one card: bytes, and percent for ``*_util``.

    ``monitor_used`` is what NVML says that the process holds, as HAMi-core wrote it.
    """

    context: int
    module: int
    data: int
    offset: int
    total: int
    monitor_used: int
    dec_util: int
    enc_util: int
    sm_util: int


@dataclass(frozen=True, slots=True)
class RegionProcess:
    """One slot of the first ``proc_num``; ``devices`` has one entry per region device.

    ``pid`` is in the container's PID namespace (0: free), ``hostpid`` in the host's
    (0: not found yet). ``seqlock`` is None where the layout has none.
    """

    pid: int
    hostpid: int
    status: int
    seqlock: int | None
    devices: tuple[ProcessDevice, ...]


@dataclass(frozen=True, slots=True)
class Region:
    """A decoded region file.

    ``device_num`` and ``proc_num`` are as the file says, and may be nonsense; the
    tuples hold what fits their arrays. ``torn`` counts the slots that stayed
    half-written through every retry and are left out of ``processes``.
    ``last_kernel_time`` is in Unix seconds, None in layout 0. ``problems`` are the
    fields that hold nonsense, as (reason, what was found); the rest is usable.
    """

    layout: str
    version: tuple[int, int] | None
    size: int
    device_num: int
    proc_num: int
    devices: tuple[RegionDevice, ...]
    processes: tuple[RegionProcess, ...]
    torn: int
    utilization_switch: int
    recent_kernel: int
    priority: int
    last_kernel_time: int | None
    problems: tuple[tuple[str, str], ...] = ()
