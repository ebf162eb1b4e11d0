"""The control words of a region file: two fields that a monitor writes while the container
uses them.

HAMi-core loads and stores them as aligned 32-bit words of its mapping, without a lock, so ours
must be a single store too. ``pwrite`` doesn't guarantee one (how it copies four bytes differs
between kernels and CPUs), and it extends a file that was truncated in the meantime. Storing into
a mapping ourselves is one, but kills this process with SIGBUS if the container has truncated the
file. So the kernel stores for us: ``futex(FUTEX_WAKE_OP)`` changes a word of a mapping in one
atomic operation and fails with EFAULT where a store would raise SIGBUS, and no store into a
mapping extends a file (futex(2), mmap(2)).
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from types import TracebackType
from typing import Literal, Self

from vgpumonitor.region.model import RegionError
from vgpumonitor.region.reader import RegionFile, io_error

ControlWord = Literal["recent_kernel", "utilization_switch"]

_WORD_BYTES = 4
# <asm/unistd.h>: x86-64 has its own numbers, aarch64 the generic ones.
_SYS_FUTEX = 202 if os.uname().machine == "x86_64" else 98
# <linux/futex.h>. Private: nobody waits on these words, so the kernel need not find other
# processes that do.
_FUTEX_WAKE_OP, _FUTEX_PRIVATE = 5, 128
_SET, _ADD = 0, 1

_libc = ctypes.CDLL(None, use_errno=True)


class ControlWords:
    """``recent_kernel`` and ``utilization_switch`` of one region file, open for writing."""

    def __init__(self, file: RegionFile, size: int) -> None:
        """Opens the inode that ``file`` has open, whatever is at its path now. ``size`` is the
        file's size in bytes when it was decoded. Raises RegionError: permission, descriptors,
        io."""
        region = file.layout.region
        self._offsets: dict[ControlWord, int] = {
            "recent_kernel": region.recent_kernel.offset,
            "utilization_switch": region.utilization_switch.offset,
        }
        self._size = size
        try:
            # O_NONBLOCK: a container can hold a lease on its file, and open would wait for it.
            self._fd = os.open(
                f"/proc/self/fd/{file.fileno()}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except OSError as error:
            raise io_error(error) from error

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def read(self, word: ControlWord) -> int:
        """Raises RegionError: truncated, io."""
        try:
            data = os.pread(self._fd, _WORD_BYTES, self._offsets[word])
        except OSError as error:
            raise io_error(error) from error
        if len(data) < _WORD_BYTES:
            raise RegionError("truncated", f"the file ends before {word}")
        return int.from_bytes(data, "little", signed=True)

    def store(self, word: ControlWord, value: int) -> None:
        """One atomic store of ``value``, -2048 to 2047. Raises RegionError: vanished (the file no
        longer has a name), truncated (its size has changed), io."""
        self._change(word, _SET, value)

    def add(self, word: ControlWord, value: int) -> None:
        """One atomic addition, which loses no store by the container; otherwise as ``store``."""
        self._change(word, _ADD, value)

    def _change(self, word: ControlWord, operation: int, operand: int) -> None:
        offset = self._offsets[word]
        start = offset - offset % mmap.ALLOCATIONGRANULARITY
        try:
            status = os.fstat(self._fd)
            if status.st_nlink == 0:
                raise RegionError("vanished", "the file was removed")
            if status.st_size != self._size:
                raise RegionError(
                    "truncated",
                    f"the file has {status.st_size} bytes, and had {self._size} when decoded",
                )
            with mmap.mmap(self._fd, offset - start + _WORD_BYTES, offset=start) as page:
                change_word(page, offset - start, operation, operand)
        except ValueError as error:  # Python checks the size before it maps.
            raise RegionError("truncated", f"the file ends before {word}") from error
        except OSError as error:
            raise io_error(error) from error


def change_word(page: mmap.mmap, at: int, operation: int, operand: int) -> None:
    """Sets the word at byte ``at`` of a mapping (operation 0), or adds to it (operation 1).

    Raises RegionError: truncated (the file ends before that page, or the disk has no room for
    it), io.
    """
    # Takes the address only: nothing here may touch the mapping.
    address = ctypes.addressof(ctypes.c_int32.from_buffer(page, at))
    encoded = operation << 28 | (operand & 0xFFF) << 12
    arguments = (_SYS_FUTEX, address, _FUTEX_WAKE_OP | _FUTEX_PRIVATE, 0, 0, address, encoded)
    if _libc.syscall(*map(ctypes.c_long, arguments)) < 0:
        number = ctypes.get_errno()
        if number == errno.EFAULT:
            raise RegionError("truncated", "the file was truncated before the control word")
        raise io_error(OSError(number, os.strerror(number)))
