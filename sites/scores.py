"""How well a model does on a site's own patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from minet_core.evaluation.volume_scores import evaluate_volume, score_slices
from minet_core.models.base import SuperResolver
from minet_core.protocol import messages
from minet_core.protocol.figures import summary_figures
from minet_core.runtime.progress import Advance
from minet_core.settings.federation import FederationSettings
from minet_core.training.device import autocast_dtype_for, device_of
from sites.store.dataset import StoreSlices
from sites.store.split import Split
from sites.store.store import Store


def validation_scores(model: nn.Module, store: Store, federation: FederationSettings) -> dict[str, float]:
    """The model's scores on the validation split.

    Parameters
    ----------
    model
        On its device.
    store
        The site's.
    federation
        Says the scale, and how many slices (`training.validation_slices`, evenly spread; None: all).

    Returns
    -------
    dict[str, float]
        By score, as `minet_core.evaluation.volume_scores.score_slices` names them.
    """
    slices = StoreSlices(store, "validation")
    return score_slices(
        model,
        slices,
        _evenly_spread(len(slices), federation.training.validation_slices).tolist(),
        scale=federation.scale,
        autocast_dtype=autocast_dtype_for(device_of(model)),
    )


def scores_on_test_split(
    model: SuperResolver, store: Store, *, scale: int, seed: int, progress: Advance | None = None
) -> dict[str, float]:
    """Scores of the model, sinc and bicubic over the site's test volumes.

    Parameters
    ----------
    model
        On its device.
    store
        The site's; its test volumes are held in memory together.
    scale
        Super-resolution factor.
    seed
        Of the intervals' resampling.
    progress
        Called with (volumes done, volumes in all).

    Returns
    -------
    dict[str, float]
        `n_test_volumes`, and mean and interval of every score under their agreed names.
    """
    precision = autocast_dtype_for(device_of(model))
    volumes = list(store.volumes("test"))
    metrics = []
    for done, (_, target, reference) in enumerate(volumes):
        scores = evaluate_volume(model, target, reference, scale=scale, autocast_dtype=precision)
        metrics.append(scores.metrics)
        if progress is not None:
            progress(done + 1, len(volumes))
    return {"n_test_volumes": len(volumes), **summary_figures(metrics, seed=seed)}


def scores_by_patient(
    model: SuperResolver, store: Store, split: Split, *, scale: int, n_slices: int | None = None
) -> dict[str, dict[str, dict[str, float]]]:
    """Scores of the model, sinc and bicubic for every patient of a split whom the site does not train on.

    Parameters
    ----------
    model
        On its device.
    store
        The site's.
    split
        "validation" or "test".
    scale
        Super-resolution factor.
    n_slices
        Of each volume, evenly spread, that count; None: all.

    Returns
    -------
    dict
        By the patient's pseudonym, then as `VolumeScores.metrics`: means over the patient's examinations. Empty where
        the split is of slices of training patients.
    """
    trained_on = {pair.patient for pair, _ in store.cohort.pairs_of("training")}
    patient_of = {pair.name: pair.patient for pair, _ in store.cohort.pairs_of(split)}
    if trained_on.issuperset(patient_of.values()):
        return {}
    precision = autocast_dtype_for(device_of(model))
    metrics = {}
    for name, target, reference in store.volumes(split):
        if patient_of[name] not in trained_on:
            # A list of all slices would copy the volume.
            chosen = slice(None) if n_slices is None else _evenly_spread(len(target), n_slices)
            metrics[name] = evaluate_volume(
                model, target[chosen], reference[chosen], scale=scale, autocast_dtype=precision
            ).metrics
    return means_by_patient(store, metrics)


def _evenly_spread(n_slices: int, limit: int | None) -> NDArray[np.intp]:
    """Numbers of `limit` of the slices, first and last among them; None: of all."""
    places = np.linspace(0, n_slices - 1, n_slices if limit is None else min(limit, n_slices))
    return np.unique(places.round().astype(np.intp))


def means_by_patient(
    store: Store, metrics: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> dict[str, dict[str, dict[str, float]]]:
    """Means of the scores over each patient's examinations.

    Parameters
    ----------
    store
        The site's.
    metrics
        By the pair's name, as `VolumeScores.metrics`.

    Returns
    -------
    dict
        By the patient's pseudonym, of the same form.
    """
    patient_of = {pair.name: pair.patient for pair in store.cohort.pairs}
    volumes: dict[str, list[Mapping[str, Mapping[str, float]]]] = {}
    for name, found in metrics.items():
        volumes.setdefault(patient_of[name], []).append(found)
    return {patient: mean_metrics(found) for patient, found in volumes.items()}


def mean_metrics(volumes: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Means of the scores of some volumes.

    Parameters
    ----------
    volumes
        Each as `VolumeScores.metrics`; at least one.

    Returns
    -------
    dict
        Of the same form.
    """
    return {
        method: {score: float(np.mean([volume[method][score] for volume in volumes])) for score in scores}
        for method, scores in volumes[0].items()
    }


def by_method(figures: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """The means of the scores, a method at a time.

    Parameters
    ----------
    figures
        Under their agreed names, `METHOD_SCORE`.

    Returns
    -------
    dict[str, dict[str, float]]
        `{"global": {"psnr_db": ...}, "sinc": ..., "bicubic": ...}`; PSNR in dB.
    """
    return {
        method: {score: figures[f"{method}_{score}"] for score in messages.SCORES}
        for method in messages.METHODS
    }


def scores_as_text(figures: Mapping[str, float]) -> str:
    """The means of the scores, for a person.

    Parameters
    ----------
    figures
        As `scores_on_test_split` gives them.

    Returns
    -------
    str
        The number of volumes, then one line a method.
    """
    lines = [f"{int(figures['n_test_volumes'])} test volumes"]
    for method, scores in by_method(figures).items():
        lines.append(
            f"{method:8s} PSNR {scores['psnr_db']:6.2f} dB  SSIM {scores['ssim']:.4f}  NMSE {scores['nmse']:.5f}"
        )
    return "\n".join(lines)
