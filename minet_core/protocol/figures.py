"""The figures of a site's training that may leave it."""

from __future__ import annotations

import numpy as np

from minet_core.evaluation.metrics import bootstrap_interval
from minet_core.protocol import messages
from minet_core.seeds import numpy_generator


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
