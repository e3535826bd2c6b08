"""Training without a federation: one site alone, or the pooled data of several, and the scores that come of it.

The comparison every federation owes its members. Pooled training is the site's own recipe, batch size included, on
the data of all sites together, for as many optimizer steps as the federation's rounds give one site.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from client.site_home import SiteHome
from minet_core.checkpoint import load_model
from minet_core.runtime.progress import progress
from minet_core.settings.federation import FederationSettings
from minet_core.training.samples import SliceSource
from sites.scores import scores_on_test_split
from sites.store.dataset import StoreSlices
from sites.store.store import Store


class PooledSlices:
    """The slices of several sources, one after the other."""

    def __init__(self, sources: Sequence[SliceSource]) -> None:
        self._sources = sources
        self.shapes = [shape for source in sources for shape in source.shapes]
        self._ends = list(accumulate(len(source) for source in sources))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int, /) -> tuple[NDArray[Any], NDArray[Any]]:
        which = bisect.bisect_right(self._ends, index)
        return self._sources[which][index - (self._ends[which - 1] if which else 0)]


def steps_of_one_round(homes: Sequence[SiteHome], federation: FederationSettings) -> int:
    """Optimizer steps that a round of the federation gives one site: the one with the most."""
    training = federation.training
    return max(
        training.max_steps(
            n_slices=len(StoreSlices(Store(home.store), "training")), batch_size=training.batch_size
        )
        for home in homes
    )


def evaluate_file(model_path: Path, folder: Path, *, quiet: bool = False) -> dict[str, float]:
    """`fedminet evaluate`: a model's figures on a site's test split."""
    home = SiteHome.at(folder)
    model, manifest = load_model(model_path)
    with progress("Test volumes", quiet=quiet) as advance:
        return scores_on_test_split(model, Store(home.store), scale=manifest.scale, seed=0, progress=advance)
