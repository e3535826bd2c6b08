"""The figures of a site's training that may leave it."""

from __future__ import annotations

import numpy as np

from minet_core.evaluation.metrics import bootstrap_interval
from minet_core.protocol import messages
from minet_core.seeds import numpy_generator


def summary_figures(
    metrics: list[dict[str, dict[str, float]]], *, seed: int, intervals: bool = True
) -> dict[str, float]:
    """Mean and 95% bootstrap interval over volumes, for every method and score, under their agreed names."""
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
