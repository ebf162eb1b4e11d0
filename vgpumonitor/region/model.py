"""What a region file says, as plain frozen values.

Structs of msgspec, as all values of which a scrape makes several for each container: they
cost a tenth of a frozen dataclass to make, and nothing to Python's collector of cycles.
"""

from __future__ import annotations

from msgspec import Struct

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


class RegionDevice(Struct, frozen=True, gc=False):
    """One card as the container sees it; its place in the region is ``vdeviceid``.

    ``uuid`` is None while the slot holds no text of the form that NVML gives.
    ``memory_limit_bytes`` 0 is no limit; ``sm_limit_percent`` 0 and 100 are none.
    """

    uuid: str | None
    memory_limit_bytes: int
    sm_limit_percent: int


class ProcessDevice(Struct, frozen=True, gc=False):
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


class RegionProcess(Struct, frozen=True, gc=False):
    """One slot of the first ``proc_num``; ``devices`` has one entry per region device.

    ``pid`` is in the container's PID namespace (0: free), ``hostpid`` in the host's
    (0: not found yet). ``seqlock`` is None where the layout has none.
    """

    pid: int
    hostpid: int
    status: int
    seqlock: int | None
    devices: tuple[ProcessDevice, ...]


class Region(Struct, frozen=True, gc=False):
    """A decoded region file.

    ``device_num`` and ``proc_num`` are as the file says, and may be nonsense; the
    tuples hold what fits their arrays. ``torn`` counts the slots that stayed half-written
    through every retry: in ``processes`` they are as they were when they were last whole, but
    for the ``missing`` ones, which were never seen whole.
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
    missing: int
    utilization_switch: int
    recent_kernel: int
    priority: int
    last_kernel_time: int | None
    problems: tuple[tuple[str, str], ...] = ()


#: Why a region file, or a value in it, can't be used: the reason, and what it means.
REASONS = {
    "bad_device_num": "device_num is beyond the 16 devices that fit",
    "bad_magic": "the magic number is another file's",
    "bad_memory": "a byte count above the card's memory",
    "bad_name": "an entry of the containers directory is not <pod UID>_<container>",
    "bad_proc_num": "proc_num is negative or beyond the 1024 slots that fit",
    "bad_utilization": "a process claims more than 100 percent of a card",
    "bad_uuid": "a device's UUID is not of the form that NVML gives, or another device's",
    "descriptors": "the exporter has no file descriptors left",
    "empty": "the file has no bytes",
    "io": "any other error of the system",
    "no_directory": "the containers directory can't be looked at",
    "not_directory": "an entry of the containers directory has the right name and is no directory",
    "not_regular": "a .cache that is a pipe, a socket, a directory or a device",
    "permission": "the exporter may not read the file or its directory",
    "several_files": "more than one .cache in a directory; the usual name or the newest counts",
    "symlink": "a .cache that is a symbolic link",
    "timeout": "the disk did not answer within the bound of a scrape",
    "too_many_entries": "a directory with so many entries that not all were looked at",
    "truncated": "the file ends before its layout does",
    "uninitialized": "HAMi-core has not finished making the file",
    "unknown_layout": "a version or size that no known release writes",
    "vanished": "the file went between the look and its opening",
}
