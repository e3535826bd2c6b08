"""Giving memory back to the operating system, where a process is to need no more than it holds."""

from __future__ import annotations

import ctypes
import gc
from functools import cache

WORTH_IT_BYTES = 8_000_000
"""Below it the look through every object of the process, a fifth of a second with torch in it, costs more."""


def give_back_memory(n_bytes: int) -> None:
    """Collect what holds itself in cycles, and return free pages of the heap, where `n_bytes` are worth it.

    Arrays of some ten kilobytes lie on the heap, where one small allocation behind them keeps the pages of all of them
    in the process: as much as a whole model, now and then. Without glibc only the first half is done.

    Parameters
    ----------
    n_bytes
        That were freed, about; below `WORTH_IT_BYTES` nothing is done.
    """
    if n_bytes < WORTH_IT_BYTES:
        return
    gc.collect()
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # another operating system, or another C library
        return None
    return libc if hasattr(libc, "malloc_trim") else None
