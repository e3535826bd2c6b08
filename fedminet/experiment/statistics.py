"""Means, intervals and paired tests over patients and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

N_RESAMPLES = 2000
EXACT_UP_TO = 12
"""Pairs up to which every one of the 2^n sign patterns is tried."""

Scores = Mapping[int, Sequence[float]]
"""By seed, one score for each patient."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval. n: patients times seeds. The interval is None where there is nothing to draw."""

    mean: float
    low: float | None
    high: float | None
    n: int


def estimate(scores: Scores) -> Estimate:
    """Mean over all, and a bootstrap that draws seeds first and then patients within each (percentiles).

    With phantoms a seed has patients of its own; with scans every seed has the same ones, and the interval says how
    the mean would move with other patients and other seeds alike.
    """
    groups = [np.asarray(values, dtype=np.float64) for values in scores.values() if len(values)]
    everything = np.concatenate(groups)
    if len(everything) < 2:
        return Estimate(float(everything.mean()), None, None, len(everything))
    generator = np.random.default_rng(0)
    means = np.empty(N_RESAMPLES)
    for index in range(N_RESAMPLES):
        chosen = generator.integers(len(groups), size=len(groups))
        drawn = [generator.choice(groups[group], size=len(groups[group])) for group in chosen]
        means[index] = np.concatenate(drawn).mean()
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(everything.mean()), float(low), float(high), len(everything))


def paired_differences(first: Scores, second: Scores) -> NDArray[np.float64]:
    """first - second of every patient and seed that both have, in one order."""
    pairs = [
        a - b
        for seed in sorted(set(first) & set(second))
        for a, b in zip(first[seed], second[seed], strict=True)
    ]
    return np.asarray(pairs, dtype=np.float64)


def paired_p(differences: NDArray[np.float64]) -> float | None:
    """Two-sided p of a sign-flip permutation test of the mean difference; None below six pairs, where no p can be
    under 0.05. Exact up to `EXACT_UP_TO` pairs."""
    n = len(differences)
    if n < 6 or not np.any(differences):
        return None
    resamples = np.inf if n <= EXACT_UP_TO else 9999
    found = stats.permutation_test(
        (differences,),
        lambda values, axis: np.mean(values, axis=axis),
        permutation_type="samples",
        n_resamples=resamples,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)
