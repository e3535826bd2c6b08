"""The figures of a site's training that may leave it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from minet_core.evaluation.metrics import bootstrap_interval
from minet_core.protocol import messages
from minet_core.seeds import numpy_generator
from minet_core.settings.adaptation import CANDIDATES, Candidate


def summary_figures(
    metrics: list[dict[str, dict[str, float]]], *, seed: int, intervals: bool = True
) -> dict[str, float]:
    """Mean and 95% bootstrap interval over volumes, for every method and score, under their agreed names.

    Parameters
    ----------
    metrics
        For each volume, by method ("global", "sinc", "bicubic") its psnr_db (dB), ssim and nmse.
    seed
        Of the bootstrap's resamples.
    intervals
        False gives the means alone.

    Returns
    -------
    dict
        "METHOD_SCORE", and its "_low" and "_high"; a single volume has no interval.

    Raises
    ------
    MetricInvalid
        For no volume or a score that is not finite, where intervals are asked for.
    """
    figures: dict[str, float] = {}
    for method in messages.METHODS:
        for score in messages.SCORES:
            values = [volume[method][score] for volume in metrics]
            figures[f"{method}_{score}"] = float(np.mean(values))
            if not intervals:
                continue
            interval = bootstrap_interval(values, generator=numpy_generator(seed, method, score, "bootstrap"))
            if interval is not None:
                figures[f"{method}_{score}_low"], figures[f"{method}_{score}_high"] = interval
    return figures


def adaptation_figures(
    by_model: Mapping[Candidate, Mapping[str, Mapping[str, Mapping[str, float]]]],
    *,
    chosen: Candidate,
    seed: int,
    intervals: bool = True,
) -> dict[str, int | float]:
    """What leaves of the models that a site compared, under the agreed names.

    Parameters
    ----------
    by_model
        By candidate, by test patient, by method ("global" for the model's own, "sinc") psnr_db (dB), ssim and nmse; the
        same patients for each, at least one.
    chosen
        By the validation patients.
    seed
        Of the bootstrap's resamples.
    intervals
        False gives the means alone.

    Returns
    -------
    dict
        `ADAPTATION_FIGURES`; a single patient has no interval.

    Raises
    ------
    MetricInvalid
        For a score that is not finite, where intervals are asked for.
    """
    patients = sorted(by_model["global"])
    scores: dict[str, dict[str, Mapping[str, float]]] = {
        **{model: {p: found[p]["global"] for p in patients} for model, found in by_model.items()},
        "sinc": {p: by_model["global"][p]["sinc"] for p in patients},
        "chosen": {p: by_model[chosen][p]["global"] for p in patients},
    }
    told: dict[str, list[float]] = {}
    for model in by_model:
        if model not in messages.METHODS:
            told |= {f"{model}_{s}": [scores[model][p][s] for p in patients] for s in messages.SCORES}
    for first, second in messages.COMPARED_PAIRS:
        if first in scores and second in scores:
            told[f"{first}_less_{second}_db"] = [
                scores[first][p]["psnr_db"] - scores[second][p]["psnr_db"] for p in patients
            ]
    figures: dict[str, int | float] = {"chosen": CANDIDATES.index(chosen)}
    for name, values in told.items():
        figures[name] = float(np.mean(values))
        if not intervals:
            continue
        interval = bootstrap_interval(values, generator=numpy_generator(seed, name, "bootstrap"))
        if interval is not None:
            figures[f"{name}_low"], figures[f"{name}_high"] = interval
    return figures
