"""A site's training slices, degraded and normalised once and not in every round.

Where a process serves one message it makes no difference. Where it serves the rounds of a whole run (`fedminet
simulate`, an experiment's cells) it spares a quarter of a short round on a processor.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path

from minet_core.training.batches import DEFAULT_CACHE_BYTES, PreparedSlices
from sites.store.dataset import StoreSlices
from sites.store.store import Store

MOST_STORES = 4
"""Stores whose slices a process keeps; all of them together keep no more than one training run does by itself."""


@dataclass(frozen=True)
class _OneCohort:
    """A store by the cohort that was read of it: another one, ingested into the same folder since, is another store."""

    path: Path
    digest: str
    store: Store = field(compare=False)


def prepared_training_slices(store: Store, *, scale: int) -> PreparedSlices:
    """The samples of the training split, of the cohort that `store` has read and no later one."""
    return _prepared(_OneCohort(store.path, store.cohort.digest, store), scale)


@functools.lru_cache(maxsize=MOST_STORES)
def _prepared(cohort: _OneCohort, scale: int) -> PreparedSlices:
    slices = StoreSlices(cohort.store, "training")
    return PreparedSlices(slices, scale=scale, cache_bytes=DEFAULT_CACHE_BYTES // MOST_STORES)
