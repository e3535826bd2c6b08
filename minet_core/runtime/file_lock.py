"""Locks on files by flock: the kernel lets go of them when a process ends, however that was.

They belong to the file, not to its name, and know nothing of process numbers: two containers on one machine that have
the same file see each other's locks.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

_LOOK_AGAIN_S = 0.02


def locked_within(descriptor: int, patience_s: float) -> bool:
    """Take the lock if it is free within that time: whoever asks whether it is taken holds it for a moment."""
    ends = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > ends:
                return False
            time.sleep(_LOOK_AGAIN_S)
        else:
            return True


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock of the file; it may be on a file system that is read only here."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
