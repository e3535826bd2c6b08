"""A folder that is made once for all processes of a run of tests, and copied by whoever changes it."""

from __future__ import annotations

import atexit
import fcntl
import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

VARIABLE = "FEDMINET_TESTS_MADE"
"""The folder that the processes of a run of tests share, set by tests/conftest.py. Without it each has its own."""


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of this name that `make` filled, in this process or in another one of the same run."""
    shared = Path(os.environ[VARIABLE]) if VARIABLE in os.environ else _own()
    shared.mkdir(parents=True, exist_ok=True)
    folder = shared / name
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = Path(tempfile.mkdtemp(dir=shared))
            make(partial)
            partial.rename(folder)
    return folder


@functools.cache
def _own() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="made-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
