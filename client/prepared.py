"""A site's training slices, degraded and normalised once and not in every round.

Where a process serves one message it makes no difference. Where it serves the rounds of a whole run (`fedminet
simulate`, an experiment's cells) it spares a quarter of a short round on a processor.
"""

from __future__ import annotations

import functools
from pathlib import Path

from minet_core.samples import DEFAULT_CACHE_BYTES, PreparedSlices
from sites.dataset import StoreSlices
from sites.store import Store

MOST_STORES = 4
"""Stores whose slices a process keeps; all of them together keep no more than one training run does by itself."""


def prepared_training_slices(store: Store, *, scale: int) -> PreparedSlices:
    """The samples of the training split. Another cohort of the same folder is another one's."""
    return _prepared(store.path, store.cohort.digest, scale)


@functools.lru_cache(maxsize=MOST_STORES)
def _prepared(path: Path, digest: str, scale: int) -> PreparedSlices:
    del digest  # the store's own, by which it is kept apart
    slices = StoreSlices(Store(path), "training")
    return PreparedSlices(slices, scale=scale, cache_bytes=DEFAULT_CACHE_BYTES // MOST_STORES)
