"""What a process does with the memory that it frees: keep it, or give it back to the operating system."""

from __future__ import annotations

import ctypes
import gc
import os
from functools import cache

from minet_core.runtime.cpu_threading import cpu_threading_environment

WORTH_IT_BYTES = 8_000_000
"""Below it the look through every object of the process, a fifth of a second with torch in it, costs more."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""The names of mallopt's settings, of glibc's malloc.h."""
MIN_MAPPED_BYTES = (2**30, 2**25)
"""A block below it lies on the heap, where what is freed is kept; a larger one is mapped by itself and given back at
once. The first that the allocator takes: glibc before 2.35 takes no more than 32 MiB."""
MAX_KEPT_BYTES = 2**31 - 1
"""Free at the heap's end before it is given back; mallopt takes no larger number."""


def keep_freed_memory() -> bool:
    """Let this process's allocator keep what it frees, for work that frees and asks for the same megabytes.

    What `minet_core.runtime.cpu_threading` asks for by variables of the environment, which act before a process begins;
    this acts now, in a command that computes by itself. A slice of 320 px takes some ten thousand page faults without
    it and none with it, a fifth of its time (docs/results/speed.md). The pages stay those of 4 kB.

    Returns
    -------
    bool
        Whether glibc was told. Nothing is done without glibc, nor where the environment asks for other thresholds, as
        for a machine of little memory. Another allocator that was loaded in glibc's place goes on as it does.
    """
    libc = _glibc()
    if libc is None or _environment_says_otherwise():
        return False
    on_heap = any(libc.mallopt(M_MMAP_THRESHOLD, n_bytes) for n_bytes in MIN_MAPPED_BYTES)
    return on_heap and bool(libc.mallopt(M_TRIM_THRESHOLD, MAX_KEPT_BYTES))


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


def _environment_says_otherwise() -> bool:
    """Whether whoever began the process set the thresholds; mallopt would override that."""
    ours = cpu_threading_environment()
    thresholds = [name for name in ours if name.startswith("MALLOC_")]
    return "_threshold=" in os.environ.get("GLIBC_TUNABLES", "") or any(
        os.environ.get(name, ours[name]) != ours[name] for name in thresholds
    )


@cache
def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # another operating system, or another C library
        return None
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None
