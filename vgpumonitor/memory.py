"""How glibc and Python hold memory: a scrape's is at hand for the next one, and that of many
containers goes back to the system when they are gone. Without glibc all is left as it is."""

from __future__ import annotations

import ctypes
import gc

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_MIB = 1 << 20

_libc = ctypes.CDLL(None)
_is_glibc = hasattr(_libc, "malloc_trim")


def set_up() -> None:
    """To be called before there are threads."""
    if _is_glibc:
        # Each thread has an arena of its own else, of which malloc_trim leaves the end alone.
        _libc.mallopt(_M_ARENA_MAX, 1)
        # The text of each scrape would be mapped, cleared by the kernel and unmapped else. The
        # highest that glibc takes, and twice it, as it does itself.
        _libc.mallopt(_M_MMAP_THRESHOLD, 32 * _MIB)
        _libc.mallopt(_M_TRIM_THRESHOLD, 64 * _MIB)


def start_is_over() -> None:
    """What is there is there to stay: no collection of cycles need look at it again."""
    gc.collect()
    gc.freeze()


def give_back() -> None:
    """A few milliseconds' work, for after much was freed."""
    gc.collect()  # Empties Python's free lists too.
    if _is_glibc:
        _libc.malloc_trim(0)
