"""What a region file says, as plain frozen values.

They are msgspec Structs, like every value that a scrape makes several of per container: one
costs a tenth of what a frozen dataclass costs to make, and the garbage collector ignores it.
"""

from __future__ import annotations

from msgspec import Struct

#: Process slot states; the source is HAMi-core's ``shrreg_proc_slot_t.status``.
GONE, RUNNING, SUSPENDED = 0, 1, 2


def wrapped(size: int) -> int:
    """A sum of HAMi-core's byte counts as its own 64 bits have it."""
    return size & ((1 << 64) - 1)


class RegionError(Exception):
    """A region file can't be used.

    ``reason`` is a key of ``REASONS`` (a label value of ``vgpumonitor_region_errors_total``);
    the message says what was found.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class RegionDevice(Struct, frozen=True, gc=False):
    """One device as the container sees it; its place in the region is ``vdeviceid``.

    ``uuid`` is None unless the region holds text of the form that NVML gives. There is no limit
    where ``memory_limit_bytes`` is 0, or ``sm_limit_percent`` 0 or 100.
    """

    uuid: str | None
    memory_limit_bytes: int
    sm_limit_percent: int


class ProcessDevice(Struct, frozen=True, gc=False):
    """What HAMi-core counts for one process on one device: bytes; percent for ``*_util``.

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

    ``size`` is the file's, in bytes. ``device_num`` and ``proc_num`` are what the file says and may
    be invalid; the tuples hold as many as fit. ``torn`` counts the slots that stayed half-written
    through every retry: ``processes`` has them as they were when they were last whole, except
    for the ``missing`` ones, which were never seen whole. ``last_kernel_time`` is in Unix
    seconds, None in layout 0. ``problems`` are the invalid fields, as (reason, what was found);
    everything else is usable.
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


#: Reasons why a region file or a value in it can't be used, and what they mean.
REASONS = {
    "bad_device_num": "device_num is beyond the 16 devices that fit",
    "bad_magic": "the magic number is not HAMi-core's",
    "bad_memory": "a byte count is above the GPU's memory and the container's limit",
    "bad_name": "the name of an entry of the containers directory is not <pod UID>_<container>",
    "bad_proc_num": "proc_num is negative or beyond the 1024 slots that fit",
    "bad_utilization": "a process claims more than 100 percent of a GPU",
    "bad_uuid": "a device's UUID does not have the form that NVML gives, or is another device's",
    "descriptors": "the exporter has no file descriptors left",
    "empty": "the file is empty",
    "io": "any other error of the operating system",
    "no_directory": "the containers directory can't be read",
    "not_directory": "an entry of the containers directory has a valid name but is not a directory",
    "not_regular": "the .cache file is a pipe, a socket, a directory or a device",
    "permission": "the exporter may not read the file or its directory",
    "several_files": "a directory has several .cache files; the usual name or the newest counts",
    "symlink": "the .cache file is a symbolic link",
    "timeout": "the disk did not answer in the time that a scrape allows",
    "too_many_entries": "a directory has so many entries that not all were looked at",
    "truncated": "the file ends before its layout does",
    "uninitialized": "HAMi-core has not finished creating the file",
    "unknown_layout": "no known release writes this version or size",
    "vanished": "the file disappeared before it could be opened",
}
