"""Processes that compute with one thread each, where several share the processors. Imports nothing large."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes that are started meanwhile compute with one thread each.

    Two threads of OpenBLAS for small matrices wait for each other at work: a phantom costs five times as much of the
    processor. This process goes on with the threads that it has.
    """
    former = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
