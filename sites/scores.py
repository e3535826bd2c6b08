"""How well a model does on a site's own patients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import nn

from minet_core.evaluation.volume_scores import evaluate_volume, score_slices
from minet_core.models.base import SuperResolver
from minet_core.protocol import messages
from minet_core.protocol.figures import summary_figures
from minet_core.runtime.progress import Advance
from minet_core.settings.federation import FederationSettings
from minet_core.training.device import autocast_dtype_for, device_of
from sites.store.dataset import StoreSlices
from sites.store.store import Store


def validation_scores(model: nn.Module, store: Store, federation: FederationSettings) -> dict[str, float]:
    """The model's scores on as many slices of the validation split as the federation file says, evenly spread."""
    slices = StoreSlices(store, "validation")
    limit = federation.training.validation_slices or len(slices)
    indices = np.unique(np.linspace(0, len(slices) - 1, min(limit, len(slices))).round().astype(int))
    return score_slices(
        model,
        slices,
        [int(index) for index in indices],
        scale=federation.scale,
        autocast_dtype=autocast_dtype_for(device_of(model)),
    )


def scores_on_test_split(
    model: SuperResolver, store: Store, *, scale: int, seed: int, progress: Advance | None = None
) -> dict[str, float]:
    """Mean and interval over the site's test volumes for the model, sinc and bicubic, under their agreed names."""
    precision = autocast_dtype_for(device_of(model))
    volumes = list(store.volumes("test"))
    metrics = []
    for done, (_, target, reference) in enumerate(volumes):
        scores = evaluate_volume(model, target, reference, scale=scale, autocast_dtype=precision)
        metrics.append(scores.metrics)
        if progress is not None:
            progress(done + 1, len(volumes))
    return {"n_test_volumes": len(volumes), **summary_figures(metrics, seed=seed)}


def by_method(figures: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """`{"global": {"psnr_db": ...}, "sinc": ..., "bicubic": ...}` from figures under their agreed names."""
    return {
        method: {score: figures[f"{method}_{score}"] for score in messages.SCORES}
        for method in messages.METHODS
    }


def scores_as_text(figures: Mapping[str, float]) -> str:
    """One line a method."""
    lines = [f"{int(figures['n_test_volumes'])} test volumes"]
    for method, scores in by_method(figures).items():
        lines.append(
            f"{method:8s} PSNR {scores['psnr_db']:6.2f} dB  SSIM {scores['ssim']:.4f}  NMSE {scores['nmse']:.5f}"
        )
    return "\n".join(lines)
