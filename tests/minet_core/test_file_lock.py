"""A lock is seen by whoever has the file, and ends with its process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from minet_core.runtime.file_lock import is_locked, locked_within

ROOT = Path(__file__).parents[2]


def test_a_lock_is_free_when_its_process_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    holder = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import os, sys, time; from minet_core.runtime.file_lock import locked_within\n"
            "print(locked_within(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), 0), flush=True); time.sleep(600)",
            str(path),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    path.chmod(0o400)
    assert is_locked(path)
    descriptor = os.open(path, os.O_RDONLY)
    assert not locked_within(descriptor, 0.05)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert not is_locked(path)
    assert locked_within(descriptor, 0.05)
    os.close(descriptor)
