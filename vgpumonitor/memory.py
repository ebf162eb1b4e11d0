"""Memory goes back to the system once it is free; glibc and Python keep it where they are left
to themselves."""

from __future__ import annotations

import ctypes
import gc

#: From glibc's malloc.h.
_M_ARENA_MAX = -8

_libc = ctypes.CDLL(None)


def use_one_arena() -> None:
    """To be called before there are threads: each gets an arena of its own else, whose free
    end malloc_trim leaves alone. Without glibc nothing is done."""
    if hasattr(_libc, "malloc_trim"):
        _libc.mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """A few milliseconds' work, for after much was freed."""
    gc.collect()  # Empties Python's free lists too.
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
