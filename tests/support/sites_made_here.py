"""An experiment's sites, made in the tests' own process.

`make_sites` lets a process read torch and the readers of scans, and forks one for each site from it, for each command
anew: 3 s of a processor before the first scan is read. Here the same code runs where all of that is read already.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

from fedminet.single_machine import sites


@contextmanager
def _no_pool(**_asked: object) -> Iterator[SimpleNamespace]:
    yield SimpleNamespace(map=map)


@contextmanager
def sites_made_here() -> Iterator[None]:
    """Within it, `make_sites` starts no process."""
    with (
        mock.patch.object(sites, "ProcessPoolExecutor", _no_pool),
        mock.patch.object(sites, "begin_site_workers", return_value=None),
    ):
        yield
