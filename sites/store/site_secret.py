"""What a site draws at random, so that nobody outside can know which patches a round is of.

Derived from the store's key, which is made at the first ingest and never leaves: the same after a kill, a restart or a
restore, and unknown to whoever writes the federation file. The run's name is not in it: the same round of another run
draws the same patches, so that another name for the same question teaches nothing new. Phantoms have a key that is
made of their public seed, so that a seeded simulation repeats to the bit.
"""

from __future__ import annotations

from pathlib import Path

from sites.store.pseudonym import keyed, site_key

_BITS = 63


def patch_seed(store: Path, *, federation_seed: int) -> int:
    """The seed by which this site draws its patches.

    Parameters
    ----------
    store
        The folder of the store.
    federation_seed
        The seed of the federation file.

    Returns
    -------
    int
        0 to 2**63 - 1.

    Raises
    ------
    StoreDamaged
        FM-D207: the store has no key, or a damaged one.
    """
    digest = keyed(site_key(store, may_make=False), "patches", str(federation_seed))
    return int(digest[:16], 16) >> (64 - _BITS)
