"""Writes a region file as HAMi-core does, for the simulator and for tests.

What the C code does under its lock is one call here. The fields that it writes without a lock
are plain stores into the shared mapping, so that a reader can see the same intermediate states.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from vgpumonitor.region.launches import is_limit
from vgpumonitor.region.layouts import MAGIC, MAX_DEVICES, MAX_PROCESSES, Layout
from vgpumonitor.region.model import GONE, RUNNING, RegionDevice

MemoryKind = Literal["context", "module", "data"]
#: What becomes of a launch: it runs without a limit, within the core limit, or has to wait.
Launch = Literal["free", "limited", "waits"]

#: Each launch sets recent_kernel to this; the monitor counts it down.
RECENT = 2
#: glibc's ``sem_init(sem, 1, 1)``: value 1, shared between processes.
_SEM_SHARED_ONE = (1).to_bytes(8, "little") + (0x80).to_bytes(8, "little") + bytes(16)


class RegionWriter:
    """The region file of one container, mapped as its processes map it.

    A process is identified by ``pid``, its PID in the container's namespace; methods raise
    LookupError for one that is not registered. A process that is killed needs no call: its slot
    stays as it is until another process calls ``clear``.
    """

    def __init__(
        self,
        path: Path,
        layout: Layout,
        devices: Sequence[RegionDevice],
        now: int,
        priority: int = 1,
    ) -> None:
        """Creates ``path`` as the container's first CUDA call at ``now`` (Unix seconds) does. A
        device without a UUID is one that is not fully initialised. Raises ValueError for more
        devices than a region has room for, OSError (FileExistsError if there is a file)."""
        if len(devices) > MAX_DEVICES:
            raise ValueError(f"{len(devices)} devices, but a region has room for {MAX_DEVICES}")
        self.path = path
        self.layout = layout
        self._waiting: set[int] = set()
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            os.fchmod(fd, 0o666)  # HAMi-core clears the umask before it creates the file.
            os.pwrite(fd, b"\0", layout.size)
            # The first store into a hole takes milliseconds on some file systems.
            os.pwrite(fd, bytes(mmap.PAGESIZE), 0)
            self._map = mmap.mmap(fd, layout.size, mmap.MAP_SHARED)
        finally:
            os.close(fd)
        self._region: Any = layout.region.from_buffer(self._map)
        self._initialise(devices, now, priority)

    def _initialise(self, devices: Sequence[RegionDevice], now: int, priority: int) -> None:
        region = self._region
        region.sem[:] = _SEM_SHARED_ONE
        if hasattr(region, "sem_postinit"):
            region.sem_postinit[:] = _SEM_SHARED_ONE
        if self.layout.major_minor is not None:
            region.major_version, region.minor_version = self.layout.major_minor
        for number, device in enumerate(devices):
            uuid = (device.uuid or "").encode("ascii")
            region.uuids[number][: len(uuid)] = uuid
            region.limit[number] = device.memory_limit_bytes
            region.sm_limit[number] = device.sm_limit_percent
        region.device_num = len(devices)
        region.utilization_switch = self._seen_switch = 1
        region.priority = priority
        self.mark_launch(now)
        region.initialized_flag = MAGIC

    def close(self) -> None:
        """Unmaps the file and leaves it in place."""
        self._region = None  # A mapping can't be closed while a structure refers to it.
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # What a process does.

    def register(self, pid: int) -> None:
        """Takes the next slot for ``pid``; its host PID is not known yet. Raises ValueError for
        an invalid PID or one that is registered already, OverflowError if no slot is left."""
        region = self._region
        if pid <= 0 or any(region.procs[number].pid == pid for number in range(region.proc_num)):
            raise ValueError(
                f"{self.path}: process {pid} is registered already, or is not a valid PID"
            )
        if region.proc_num >= MAX_PROCESSES:
            raise OverflowError(f"{self.path}: all {MAX_PROCESSES} process slots are in use")
        self._put(region.proc_num, self.layout.slot(pid=pid, status=RUNNING))
        region.proc_num += 1

    def set_hostpid(self, pid: int, hostpid: int) -> None:
        self._slot(pid).hostpid = hostpid

    def allocate(self, pid: int, device: int, kind: MemoryKind, size: int) -> None:
        """Adds ``size`` bytes on ``device`` (its place in the region)."""
        self._account(pid, device, kind, size)

    def free(self, pid: int, device: int, kind: MemoryKind, size: int) -> None:
        """Takes ``size`` bytes off again."""
        self._account(pid, device, kind, -size)

    def _account(self, pid: int, device: int, kind: MemoryKind, difference: int) -> None:
        slot = self._slot(pid)
        used = slot.used[device]
        with self._seqlock(slot):
            used.total += difference
            setattr(used, kind, getattr(used, kind) + difference)

    @contextmanager
    def _seqlock(self, slot: Any) -> Iterator[None]:
        if not self.layout.has_seqlock:
            yield
            return
        slot.seqlock += 1
        yield
        slot.seqlock += 1

    def set_monitor_used(self, pid: int, device: int, size: int) -> None:
        """What NVML says that the process holds, in bytes."""
        self._slot(pid).monitorused[device] = size

    def set_utilization(self, pid: int, device: int, sm: int, dec: int = 0, enc: int = 0) -> None:
        """Percent of the device's SMs, decoders and encoders."""
        utilization = self._slot(pid).device_util[device]
        utilization.dec, utilization.enc, utilization.sm = dec, enc, sm

    def launch(self, pid: int, now: int) -> Launch:
        """A kernel launch of ``pid`` at ``now`` (Unix seconds), in its layout's order (see
        ``region.launches``): what becomes of it by the core limit of the first device."""
        region = self._region
        # A launch that waits leaves its time once, before it begins to wait.
        if self.layout.has_kernel_time and pid not in self._waiting:
            region.last_kernel_time = now
        self._waiting.discard(pid)
        if self._slot(pid).hostpid <= 0:
            return "free"
        limited = is_limit(region.sm_limit[0]) and self._seen_switch != 0
        if self.layout.late_order and not limited:
            return "free"
        if region.recent_kernel < 0:
            self._waiting.add(pid)
            return "waits"
        region.recent_kernel = RECENT
        return "limited" if limited else "free"

    def watch(self) -> None:
        """A pass of HAMi-core's watcher thread, about each 120 ms: launches know the switch from
        its last one."""
        self._seen_switch = self._region.utilization_switch

    def mark_launch(self, now: int) -> None:
        """What an unhindered launch at ``now`` (Unix seconds) leaves in the region, or a process
        that attaches."""
        self._region.recent_kernel = RECENT
        if self.layout.has_kernel_time:
            self._region.last_kernel_time = now

    def set_status(self, pid: int, status: int) -> None:
        """SUSPENDED after the process was swapped out, RUNNING once it is back."""
        self._slot(pid).status = status

    def exit(self, pid: int) -> None:
        """Runs the exit handler. In layouts with a seqlock it keeps the slot with its byte counts;
        in the others it moves the last slot into its place."""
        if self.layout.has_seqlock:
            slot = self._slot(pid)
            slot.status, slot.pid = GONE, 0
        else:
            self._remove(self._place(pid))

    def clear(self, dead: Collection[int]) -> None:
        """Removes the slots of ``dead`` processes and those that were freed in place, as every
        starting process does."""
        for number in reversed(range(self._region.proc_num)):
            pid = self._region.procs[number].pid
            if pid == 0 or pid in dead:
                self._remove(number)

    def _remove(self, number: int) -> None:
        region = self._region
        region.proc_num -= 1
        self._put(number, region.procs[region.proc_num])

    def _put(self, number: int, slot: Any) -> None:
        # An assignment would make the region keep a reference to the slot for ever.
        place = self._region.procs[number]
        ctypes.memmove(ctypes.addressof(place), ctypes.addressof(slot), self.layout.slot_size)

    # What the processes read.

    @property
    def blocked(self) -> bool:
        """Whether launches have to wait."""
        return bool(self._region.recent_kernel < 0)

    @property
    def core_limit_enforced(self) -> bool:
        return bool(self._region.utilization_switch)

    def _slot(self, pid: int) -> Any:
        return self._region.procs[self._place(pid)]

    def _place(self, pid: int) -> int:
        for number in range(self._region.proc_num):
            if self._region.procs[number].pid == pid:
                return number
        raise LookupError(f"{self.path}: no process {pid} is registered")
