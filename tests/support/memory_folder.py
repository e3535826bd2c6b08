"""Where tests write: a folder in memory, where the machine has one and room in it.

Every record of a run, every ingested scan and every commit of the SuperLink's database waits for the disk (some 8 ms on
a rented machine, thousands of times a suite). What is asked is that the files are whole after a kill, which memory
answers as a disk does; that the disk is waited for at all is asked by tests/minet_core/runtime/test_atomic_write.py.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
MIN_FREE_BYTES = 6 * 2**30
"""The suites leave about a gigabyte at most; the rest is for the processes that share the memory."""


def write_in_memory() -> None:
    """Let temporary files of this process and its children lie in memory. A TMPDIR that was given is kept."""
    if "TMPDIR" in os.environ or not _has_room(MEMORY):
        return
    os.environ["TMPDIR"] = str(MEMORY)
    tempfile.tempdir = None  # it is looked up again


def _has_room(folder: Path) -> bool:
    try:
        found = os.statvfs(folder)
        memory = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return False
    # Some tests start programs that they write.
    if found.f_flag & os.ST_NOEXEC or not os.access(folder, os.W_OK):
        return False
    (available,) = (line.split()[1] for line in memory.splitlines() if line.startswith("MemAvailable:"))
    return min(found.f_bavail * found.f_frsize, int(available) * 1024) >= MIN_FREE_BYTES
