"""Training without a federation: one site alone, or the pooled data of several, and the scores that come of it.

The comparison every federation owes its members. Pooled training takes as many optimizer steps as the
federation's rounds give one site, each on the slices that all sites together would have drawn in that step.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np

from client.round import steps_per_round, summary_figures
from client.site_home import SiteHome
from minet_core import wire
from minet_core.evaluation import evaluate_volume
from minet_core.federation import FederationSettings
from minet_core.models.minet import MINet
from minet_core.runtime.progress import Advance
from minet_core.samples import Slice, SliceSource, draw_batches
from minet_core.seeds import torch_generator
from minet_core.training import train_steps
from minet_core.weights import load_weights
from server.federated_run import initial_weights
from sites.dataset import StoreSlices
from sites.store import Store


class PooledSlices:
    """The slices of several sources, one after the other."""

    def __init__(self, sources: Sequence[SliceSource]) -> None:
        self._sources = sources
        self._ends = list(accumulate(len(source) for source in sources))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Slice:
        which = bisect.bisect_right(self._ends, index)
        return self._sources[which][index - (self._ends[which - 1] if which else 0)]


def train_alone(
    homes: Sequence[SiteHome], federation: FederationSettings, *, label: str, progress: Advance | None = None
) -> MINet:
    """Train on the training splits of `homes` together, from the same initial weights as the federation."""
    model, weights = initial_weights(federation)
    load_weights(model, weights)
    source = PooledSlices([StoreSlices(Store(home.store), "training") for home in homes])
    training = federation.training
    n_steps = federation.rounds * max(
        steps_per_round(federation, n_slices=len(StoreSlices(Store(home.store), "training"))) for home in homes
    )
    batches = draw_batches(
        source,
        scale=federation.scale,
        batch_size=training.batch_size * len(homes),
        patch_px=training.patch_px,
        generator=torch_generator(federation.seed, label, "batches"),
    )
    train_steps(
        model,
        batches,
        first_step=0,
        n_steps=n_steps,
        total_steps=n_steps,
        learning_rate=training.learning_rate,
        warmup_steps=training.warmup_steps,
        decay_fraction=training.decay_fraction,
        clip_norm=training.clip_norm,
        alpha=training.alpha,
        beta=training.beta,
        progress=progress,
    )
    return model


def test_scores(
    model: MINet, home: SiteHome, *, scale: int, seed: int, progress: Advance | None = None
) -> dict[str, float]:
    """Mean and interval over the site's test volumes for the model, sinc and bicubic, under their agreed names."""
    store = Store(home.store)
    volumes = list(store.volumes("test"))
    metrics = []
    for done, (_, target, reference) in enumerate(volumes):
        metrics.append(evaluate_volume(model, target, reference, scale=scale).metrics)
        if progress is not None:
            progress(done + 1, len(volumes))
    return {"n_test_volumes": len(volumes), **summary_figures(metrics, seed=seed)}


def by_method(figures: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """`{"global": {"psnr_db": ...}, "sinc": ..., "bicubic": ...}` from figures under their agreed names."""
    return {method: {score: figures[f"{method}_{score}"] for score in wire.SCORES} for method in wire.METHODS}


def worst_difference_db(ours: Mapping[str, Mapping[str, float]], theirs: Mapping[str, Mapping[str, float]]) -> float:
    """The smallest of `ours` minus `theirs` in PSNR over the sites, dB."""
    return float(np.min([ours[site]["psnr_db"] - theirs[site]["psnr_db"] for site in ours]))
