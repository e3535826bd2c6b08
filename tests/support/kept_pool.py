"""The processes that make an experiment's sites, kept from one call to the next.

`make_sites` lets a process read torch and the readers of scans, and forks one for each site from it, for each command
anew. Here the same code runs in one process that stays, spawned.
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
    with (
        mock.patch.object(sites, "ProcessPoolExecutor", _kept),
        mock.patch.object(sites, "begin_site_workers", return_value=None),
    ):
        yield
