"""The processes that make an experiment's sites, kept from one call to the next.

`make_sites` starts a process for each site, and each reads torch and the readers of scans anew: some ten seconds of
processor for three patients of a few slices. Here the same code runs in one process that stays, spawned as theirs are.
"""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from unittest import mock

from fedminet.single_machine import sites


@functools.cache
def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn"))


@contextmanager
def _kept(**_asked: object) -> Iterator[ProcessPoolExecutor]:
    yield _pool()


@contextmanager
def kept_pool() -> Iterator[None]:
    """Within it, `make_sites` uses the one process. It ends with the tests' own."""
    with mock.patch.object(sites, "ProcessPoolExecutor", _kept):
        yield
