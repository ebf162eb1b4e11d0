"""Reads region files, which are hostile input: a container owns the directory they are in.

Never maps a file (a container could truncate it under the mapping), never follows a link,
never blocks on a pipe, never reads more than its layout's bytes.
"""

from __future__ import annotations

import errno
import os
import re
import stat
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

#: How often a half-written slot is read again before it is left out.
SLOT_RETRIES = 8

_UUID_TEXT = re.compile(
    rb"(?:GPU|MIG)-[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
    # The form of MIG devices before driver 470.
    rb"|MIG-GPU-[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}/\d{1,3}/\d{1,3}"
)


def io_error(error: OSError) -> RegionError:
    """The reader's own error for what the system said about a path."""
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
    """A descriptor, read-only, of the regular file ``name`` in ``directory`` (a descriptor).

    What isn't a regular file is not opened at all, since opening alone can do something
    (a device) or wait (a pipe): O_PATH first, and only what was looked at is opened.
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
        raise RegionError("symlink", "a symbolic link")
    if not stat.S_ISREG(mode):
        raise RegionError("not_regular", f"not a regular file but {_kind(mode)}")


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
    """An open region file, read again and again.

    ``region`` stays the same object while the bytes in use stay the same, so that
    what was derived from it can be kept.
    """

    __slots__ = ("_bytes", "_fd", "_head", "_region", "identity", "layout")

    def __init__(self, fd: int) -> None:
        """Takes ``fd`` over, also when it raises RegionError (as ``choose`` does)."""
        self._fd = fd
        try:
            status = os.fstat(fd)
            self.layout = choose(status.st_size, os.pread(fd, PROBE_BYTES, 0))
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise io_error(error) from error
            raise
        self.identity = (status.st_dev, status.st_ino)
        self._bytes = b""
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

        Two system calls, three where the layout has a seqlock, and one more per
        half-written slot and retry. Raises RegionError: truncated, bad_magic, io.
        """
        layout = self.layout
        try:
            tail = self._exactly(layout.tail_size, layout.tail_offset)
            count = min(max(int.from_bytes(tail[:4], "little", signed=True), 0), MAX_PROCESSES)
            used = self._exactly(layout.procs_offset + count * layout.slot_size, 0)
            torn: list[int] = []
            if layout.has_seqlock and count:
                used, torn = self._settle(used, count)
        except OSError as error:
            raise io_error(error) from error
        both = used + tail
        region, head = self._region, self._head
        if region is not None and region.size != size:
            region = head = None
        if region is None or torn or both != self._bytes:
            end = layout.procs_offset
            if head is None or used[:end] != self._bytes[:end]:
                head = decode_head(layout, size, used)
            region = decode(layout, head, size, used, tail, count, frozenset(torn))
            self._region, self._head, self._bytes = region, head, b"" if torn else both
        return region

    def _exactly(self, length: int, offset: int) -> bytes:
        data = os.pread(self._fd, length, offset)
        if len(data) < length:
            raise RegionError(
                "truncated", f"the file ends before byte {offset + length} of its layout"
            )
        return data

    def _settle(self, used: bytes, count: int) -> tuple[bytes, list[int]]:
        """``used`` with every slot whole, and the slots that were never seen whole.

        A slot is whole if two looks, one after the other, agree on an even seqlock and on
        the bytes that it guards: nothing was written between them. One look can't tell,
        whatever seqlock it finds, since it isn't one atomic copy.
        """
        layout = self.layout
        slots = used[layout.procs_offset :]
        again = self._exactly(len(slots), layout.procs_offset)
        if slots == again and not _any_odd(layout, slots, count):
            return used, []
        size, torn, parts = layout.slot_size, [], []
        for number in range(count):
            first, second = (look[number * size : (number + 1) * size] for look in (slots, again))
            for _ in range(SLOT_RETRIES):
                if _same_and_even(layout, first, second):
                    break
                first = second
                second = self._exactly(size, layout.procs_offset + number * size)
            else:
                torn.append(number)
            parts.append(second)
        return used[: layout.procs_offset] + b"".join(parts), torn


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
    """The devices of a region, which mostly stay the same. ``device_num`` is as the file
    says."""

    device_num: int
    devices: tuple[RegionDevice, ...]
    problems: tuple[tuple[str, str], ...]


def decode_head(layout: Layout, size: int, used: bytes) -> Head:
    """The head in ``used``, a region's bytes from the first on, of a file of ``size`` bytes.

    Raises RegionError as ``choose``, and unknown_layout, where the header was overwritten
    since the layout was chosen.
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
            problems.append(("bad_uuid", f"the UUID of device {number} is another device's"))
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
    torn: frozenset[int] = frozenset(),
) -> Region:
    """The region in ``used`` (head and ``count`` slots) and ``tail``.

    ``torn`` are the slots to leave out.
    """
    words: Any = layout.tail.from_buffer_copy(tail)
    slots: Any = (layout.slot * count).from_buffer_copy(used, layout.procs_offset)
    problems = head.problems
    if not 0 <= words.proc_num <= MAX_PROCESSES:
        problems = (("bad_proc_num", f"proc_num is {words.proc_num}"), *problems)
    return Region(
        layout=layout.name,
        version=layout.major_minor,
        size=size,
        device_num=head.device_num,
        proc_num=words.proc_num,
        devices=head.devices,
        processes=_processes(layout, slots, len(head.devices), torn),
        torn=len(torn),
        utilization_switch=words.utilization_switch,
        recent_kernel=words.recent_kernel,
        priority=words.priority,
        last_kernel_time=words.last_kernel_time if layout.has_kernel_time else None,
        problems=problems,
    )


def _processes(
    layout: Layout, slots: Any, device_num: int, torn: frozenset[int]
) -> tuple[RegionProcess, ...]:
    processes = []
    seen: set[int] = set()
    for number, slot in enumerate(slots):
        # A slot that was moved to a freed place while we read stands at both places.
        if number in torn or (slot.pid and slot.pid in seen):
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
