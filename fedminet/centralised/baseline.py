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
from minet_core.models.base import SuperResolver
from minet_core.protocol.exchange_plan import initial_weights
from minet_core.runtime.progress import Advance, progress
from minet_core.seeds import torch_generator
from minet_core.settings.federation import FederationSettings
from minet_core.training.batches import DEFAULT_CACHE_BYTES, PreparedSlices, SliceSource, draw_batches
from minet_core.training.device import autocast_dtype_for, device_of, preferred_device
from minet_core.training.local_work import steps_per_round
from minet_core.training.loop import train_steps
from minet_core.weights.manifest import load_weights
from sites.scores import scores_on_test_split
from sites.store.dataset import StoreSlices, require_patch
from sites.store.store import Store


class PooledSlices:
    """The slices of several sources, one after the other."""

    def __init__(self, sources: Sequence[SliceSource]) -> None:
        self._sources = sources
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
        steps_per_round(
            training,
            n_slices=len(StoreSlices(Store(home.store), "training")),
            batch_size=training.batch_size,
        )
        for home in homes
    )


def train_alone(
    homes: Sequence[SiteHome], federation: FederationSettings, *, label: str, progress: Advance | None = None
) -> SuperResolver:
    """Train on the training splits of `homes` together, from the same initial weights as the federation."""
    model, weights = initial_weights(federation)
    load_weights(model, weights)
    model.to(preferred_device())
    for home in homes:
        require_patch(Store(home.store), federation.training.patch_px)
    source = PooledSlices([StoreSlices(Store(home.store), "training") for home in homes])
    training = federation.training
    n_steps = federation.rounds * steps_of_one_round(homes, federation)
    batches = draw_batches(
        PreparedSlices(source, scale=federation.scale, cache_bytes=DEFAULT_CACHE_BYTES),
        batch_size=training.batch_size,
        patch_px=training.patch_px,
        generator=torch_generator(federation.seed, label, "batches"),
    )
    train_steps(
        model,
        batches,
        first_step=0,
        n_steps=n_steps,
        total_steps=n_steps,
        **training.step_recipe,
        autocast_dtype=autocast_dtype_for(device_of(model)),
        progress=progress,
    )
    return model


def evaluate_file(model_path: Path, folder: Path, *, quiet: bool = False) -> dict[str, float]:
    """`fedminet evaluate`: a model's figures on a site's test split."""
    home = SiteHome.at(folder)
    model, manifest = load_model(model_path)
    with progress("Test volumes", quiet=quiet) as advance:
        return scores_on_test_split(model, Store(home.store), scale=manifest.scale, seed=0, progress=advance)
