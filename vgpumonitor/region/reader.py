"""Reads region files, which are hostile input: a container owns the directory that they are in.

The reader never maps a file (the container could truncate it under the mapping), never follows a
link, never blocks on a pipe, and never reads more bytes than the layout has.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from vgpumonitor.region.layouts import (
    MAX_DEVICES,
    MAX_PROCESSES,
    PROBE_BYTES,
    Layout,
    choose,
)
from vgpumonitor.region.model import (
    ProcessDevice,
    Region,
    RegionDevice,
    RegionError,
    RegionProcess,
)
from vgpumonitor.vendors import NVIDIA

#: How many times a half-written slot is read again before its last whole value stands in for it.
SLOT_RETRIES = 8
#: Seconds after which the same bytes are whole, whatever their seqlock says: a writer that has
#: to wait for a core in the middle of an update goes on sooner.
STILL = 0.1

_UUID_TEXT = re.compile(NVIDIA.uuid.encode())


def io_error(error: OSError) -> RegionError:
    """The RegionError for an error of the operating system."""
    reason = {
        errno.ENOENT: "vanished",
        errno.EACCES: "permission",
        errno.EPERM: "permission",
        errno.ELOOP: "symlink",
        errno.ENOTDIR: "not_regular",
        errno.EMFILE: "descriptors",
        errno.ENFILE: "descriptors",
    }.get(error.errno or 0, "io")
    return RegionError(reason, error.strerror or str(error))


def open_regular(directory: int, name: str) -> int:
    """A read-only descriptor of the regular file ``name`` in ``directory`` (a descriptor).

    Nothing but a regular file is opened, since opening alone can have an effect (a device) or
    block (a pipe): the entry is looked at through O_PATH, and what was looked at is opened.
    Raises RegionError: symlink, not_regular, vanished, permission, descriptors, io.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        if not hasattr(os, "O_PATH"):
            # Not Linux: whatever takes the file's place after the first look is opened, without
            # waiting, and not used.
            _check_regular(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
            fd = os.open(name, flags | os.O_NOFOLLOW, dir_fd=directory)
            try:
                _check_regular(os.fstat(fd).st_mode)
            except BaseException:
                os.close(fd)
                raise
            return fd
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            _check_regular(os.fstat(handle).st_mode)
            return os.open(f"/proc/self/fd/{handle}", flags)
        finally:
            os.close(handle)
    except OSError as error:
        raise io_error(error) from error


def _check_regular(mode: int) -> None:
    if stat.S_ISLNK(mode):
        raise RegionError("symlink", "it is a symbolic link")
    if not stat.S_ISREG(mode):
        raise RegionError("not_regular", f"it is {_kind(mode)}, expected a regular file")


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a character device",
        stat.S_IFBLK: "a block device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")


class RegionFile:
    """An open region file, which is read at every scrape.

    ``read`` returns the same object for as long as the bytes in use stay the same, so that what
    was derived from it can be kept.
    """

    __slots__ = (
        "_bytes",
        "_fd",
        "_half",
        "_head",
        "_missing",
        "_monotonic",
        "_region",
        "_torn",
        "identity",
        "layout",
    )

    def __init__(self, fd: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Takes ownership of ``fd``, even if it raises RegionError (as ``choose`` does). Tests
        pass a clock of their own."""
        self._fd = fd
        self._monotonic = monotonic
        try:
            status = os.fstat(fd)
            self.layout = choose(status.st_size, os.pread(fd, PROBE_BYTES, 0))
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise io_error(error) from error
            raise
        self.identity = (status.st_dev, status.st_ino)
        #: Head, slots and tail of the last read, the slots as they were last seen whole;
        #: ``_missing`` are the numbers of those that never were, ``_torn`` whether any was not.
        self._bytes = b""
        self._torn = False
        self._missing: frozenset[int] = frozenset()
        #: What a half-written slot's bytes were, and since when, by its number.
        self._half: dict[int, tuple[bytes, float]] = {}
        self._region: Region | None = None
        self._head: Head | None = None

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, size: int) -> Region:
        """The region now; ``size`` is the file's, in bytes.

        Takes two system calls, three if the layout has a seqlock, and one more for each retry of a
        half-written slot. Raises RegionError: truncated, bad_magic, io.
        """
        layout = self.layout
        try:
            tail = self._exactly(layout.tail_size, layout.tail_offset)
            count = min(max(int.from_bytes(tail[:4], "little", signed=True), 0), MAX_PROCESSES)
            used = self._exactly(layout.procs_offset + count * layout.slot_size, 0)
            torn = 0
            missing: frozenset[int] = frozenset()
            if layout.has_seqlock and count:
                used, torn, missing = self._settle(used, count)
        except OSError as error:
            raise io_error(error) from error
        both = used + tail
        region, head = self._region, self._head
        if region is not None and region.size != size:
            region = head = None
        if region is None or torn or self._torn or both != self._bytes:
            end = layout.procs_offset
            if head is None or used[:end] != self._bytes[:end]:
                head = decode_head(layout, size, used)
            region = decode(layout, head, size, used, tail, count, torn, missing)
            self._region, self._head, self._bytes = region, head, both
        self._torn, self._missing = bool(torn), missing
        return region

    def _exactly(self, length: int, offset: int) -> bytes:
        data = os.pread(self._fd, length, offset)
        if len(data) < length:
            raise RegionError(
                "truncated", f"the file ends before byte {offset + length} of its layout"
            )
        return data

    def _settle(self, used: bytes, count: int) -> tuple[bytes, int, frozenset[int]]:
        """``used`` with every slot whole, how many of them stayed half-written, and which of
        those were never seen whole.

        A slot is whole if two reads in a row agree on an even seqlock and on the bytes that it
        guards: then nothing was written between them. A single read can't tell, whatever
        seqlock it finds, since it isn't an atomic copy. A slot that stays half-written is taken
        as it was when it was last whole. A seqlock may also be odd for ever, since HAMi-core's
        compaction moves slots while they are written: bytes that stand still from one read to a
        later one are whole.
        """
        layout = self.layout
        slots = used[layout.procs_offset :]
        again = self._exactly(len(slots), layout.procs_offset)
        if slots == again and not _any_odd(layout, slots, count):
            self._half.clear()
            return used, 0, frozenset()
        size, torn, missing, parts = layout.slot_size, 0, [], []
        now, half = self._monotonic(), self._half
        self._half = {}
        for number in range(count):
            first, second = (look[number * size : (number + 1) * size] for look in (slots, again))
            before, since = half.get(number, (b"", now))
            for _ in range(SLOT_RETRIES):
                if _same_and_even(layout, first, second):
                    break
                if first == second == before and now - since >= STILL:
                    self._half[number] = before, since
                    break
                first = second
                second = self._exactly(size, layout.procs_offset + number * size)
            else:
                torn += 1
                self._half[number] = second, since if second == before else now
                whole = self._last_whole(number, second[:4])
                if whole is None:
                    missing.append(number)
                else:
                    second = whole
            parts.append(second)
        return used[: layout.procs_offset] + b"".join(parts), torn, frozenset(missing)

    def _last_whole(self, number: int, pid: bytes) -> bytes | None:
        """The slot of a process when it was last whole; it may have been another one's place."""
        size, start = self.layout.slot_size, self.layout.procs_offset
        count = (len(self._bytes) - self.layout.tail_size - start) // size
        for place in (number, *range(count)):
            if place < count and place not in self._missing:
                slot = self._bytes[start + place * size : start + (place + 1) * size]
                if slot[:4] == pid:
                    return slot
        return None


def _seqlock(layout: Layout, slot: bytes) -> int:
    at = layout.slot.seqlock.offset
    return int.from_bytes(slot[at : at + 8], "little")


def _any_odd(layout: Layout, slots: bytes, count: int) -> bool:
    at, size = layout.slot.seqlock.offset, layout.slot_size
    return any(slots[number * size + at] & 1 for number in range(count))


def _same_and_even(layout: Layout, first: bytes, second: bytes) -> bool:
    seqlock = _seqlock(layout, first)
    guarded = layout.slot.used
    within = slice(guarded.offset, guarded.offset + guarded.size)
    return (
        seqlock & 1 == 0 and seqlock == _seqlock(layout, second) and first[within] == second[within]
    )


class Head(Struct, frozen=True, gc=False):
    """The devices of a region, which hardly ever change. ``device_num`` is what the file says."""

    device_num: int
    devices: tuple[RegionDevice, ...]
    problems: tuple[tuple[str, str], ...]


def decode_head(layout: Layout, size: int, used: bytes) -> Head:
    """The head in ``used``, the first bytes of a file of ``size`` bytes.

    Raises RegionError as ``choose`` does, and unknown_layout if the header was overwritten after
    the layout was chosen.
    """
    if choose(size, used) is not layout:
        raise RegionError("unknown_layout", f"the header is no longer that of {layout.name}")
    head: Any = layout.head.from_buffer_copy(used)
    problems: list[tuple[str, str]] = []
    if head.device_num > MAX_DEVICES:
        problems.append(("bad_device_num", f"device_num is {head.device_num}"))
    devices = []
    seen: set[bytes] = set()
    for number in range(min(head.device_num, MAX_DEVICES)):
        text = bytes(head.uuids[number]).split(b"\0", 1)[0]
        valid = _UUID_TEXT.fullmatch(text) is not None
        if text and not valid:
            problems.append(("bad_uuid", f"the UUID of device {number} is {text[:48]!r}"))
        if valid and text in seen:
            problems.append(("bad_uuid", f"the UUID of device {number} is also another device's"))
            valid = False
        seen.add(text)
        devices.append(
            RegionDevice(
                text.decode("ascii") if valid else None,
                head.limit[number],
                head.sm_limit[number],
            )
        )
    return Head(head.device_num, tuple(devices), tuple(problems))


def decode(
    layout: Layout,
    head: Head,
    size: int,
    used: bytes,
    tail: bytes,
    count: int,
    torn: int = 0,
    missing: frozenset[int] = frozenset(),
) -> Region:
    """The region in ``used`` (head and ``count`` slots) and ``tail``.

    ``torn`` slots were half-written; ``missing`` are the numbers of those to leave out.
    """
    fields: Any = layout.tail.from_buffer_copy(tail)
    slots: Any = (layout.slot * count).from_buffer_copy(used, layout.procs_offset)
    problems = head.problems
    if not 0 <= fields.proc_num <= MAX_PROCESSES:
        problems = (("bad_proc_num", f"proc_num is {fields.proc_num}"), *problems)
    return Region(
        layout=layout.name,
        version=layout.major_minor,
        size=size,
        device_num=head.device_num,
        proc_num=fields.proc_num,
        devices=head.devices,
        processes=_processes(layout, slots, len(head.devices), missing),
        torn=torn,
        missing=len(missing),
        utilization_switch=fields.utilization_switch,
        recent_kernel=fields.recent_kernel,
        priority=fields.priority,
        last_kernel_time=fields.last_kernel_time if layout.has_kernel_time else None,
        problems=problems,
    )


def _processes(
    layout: Layout, slots: Any, device_num: int, missing: frozenset[int]
) -> tuple[RegionProcess, ...]:
    processes = []
    seen: set[int] = set()
    for number, slot in enumerate(slots):
        # A slot that HAMi-core moved to a freed place while we read is at both places.
        if number in missing or (slot.pid and slot.pid in seen):
            continue
        seen.add(slot.pid)
        processes.append(
            RegionProcess(
                slot.pid,
                slot.hostpid,
                slot.status,
                slot.seqlock if layout.has_seqlock else None,
                tuple(_process_device(slot, device) for device in range(device_num)),
            )
        )
    return tuple(processes)


def _process_device(slot: Any, device: int) -> ProcessDevice:
    memory, utilization = slot.used[device], slot.device_util[device]
    return ProcessDevice(
        memory.context,
        memory.module,
        memory.data,
        memory.offset,
        memory.total,
        slot.monitorused[device],
        utilization.dec,
        utilization.enc,
        utilization.sm,
    )
