"""Means, intervals and paired tests over patients and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import stats

N_RESAMPLES = 2000
MIN_PATIENTS = 6
"""Below it there is neither an interval nor a p: a bootstrap of two patients reaches from the one to the other, which
holds the mean of all patients in half of the cases, and no pattern of five signs has a p under 0.05."""

EXACT_UP_TO = 12
"""Patients up to which every one of the 2^n sign patterns is tried."""

Key = TypeVar("Key")

Scores = Mapping[int, Sequence[float]]
"""By seed, one score for each patient; NaN where a patient has none."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval, which is None for fewer than `MIN_PATIENTS`. n: different patients."""

    mean: float
    low: float | None
    high: float | None
    n: int


def mean(scores: Scores) -> float:
    """Mean over all patients of all seeds that have a score; NaN where none has."""
    found = _present(np.concatenate([np.asarray(values, dtype=np.float64) for values in scores.values()]))
    return float(found.mean()) if len(found) else float("nan")


def estimate(scores: Scores, *, same_patients: bool) -> Estimate:
    """Mean over all, and a bootstrap that draws seeds and patients (percentiles).

    same_patients: whether every seed was tested on the same patients in the same order, as scans are. Then patients
    are drawn once for all seeds. Phantoms are new with each seed, and drawn within it.
    """
    groups = [np.asarray(values, dtype=np.float64) for values in scores.values() if len(values)]
    there = [~np.isnan(group) for group in groups]
    n = int(np.any(there, axis=0).sum()) if same_patients else sum(int(group.sum()) for group in there)
    if n < MIN_PATIENTS:
        return Estimate(mean(scores), None, None, n)
    generator = np.random.default_rng(0)
    if same_patients:
        table = np.stack(groups)  # (seed, patient)
        n_seeds, n_patients = table.shape
        seeds = generator.integers(n_seeds, size=(N_RESAMPLES, n_seeds))
        patients = generator.integers(n_patients, size=(N_RESAMPLES, n_patients))
        means = np.nanmean(table[seeds[:, :, None], patients[:, None, :]], axis=(1, 2))
        return Estimate(mean(scores), *_interval(means), n)
    groups = [present for group in groups if len(present := _present(group))]
    means = np.empty(N_RESAMPLES)
    for index in range(N_RESAMPLES):
        chosen = generator.integers(len(groups), size=len(groups))
        drawn = [generator.choice(groups[group], size=len(groups[group])) for group in chosen]
        means[index] = np.concatenate(drawn).mean()
    return Estimate(mean(scores), *_interval(means), n)


def _present(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[~np.isnan(values)]


def _interval(means: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.nanpercentile(means, [2.5, 97.5])
    return float(low), float(high)


def paired_differences(first: Scores, second: Scores, *, same_patients: bool) -> NDArray[np.float64]:
    """first - second of every patient who has both, over the seeds that both have.

    same_patients: as in `estimate`; a patient's differences are averaged over the seeds, since a patient who is tested
    three times is one patient.
    """
    seeds = sorted(set(first) & set(second))
    differences = [np.subtract(first[seed], second[seed]) for seed in seeds]
    if not differences:
        return np.empty(0)
    together = np.stack(differences).mean(axis=0) if same_patients else np.concatenate(differences)
    return _present(np.asarray(together, dtype=np.float64))


def paired_p(differences: NDArray[np.float64]) -> float | None:
    """Two-sided p of a sign-flip permutation test of the mean difference; None below `MIN_PATIENTS`. Exact up to
    `EXACT_UP_TO` patients. It is of patients and of the models as they are: what another training would give is not
    in it."""
    n = len(differences)
    if n < MIN_PATIENTS or not np.any(differences):
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


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """The p of each comparison, corrected for all of them by Holm's step-down method (Holm 1979): the smallest times
    their number, the next times one less, none below a smaller one's and none above 1."""
    corrected: dict[Key, float] = {}
    least, n = 0.0, len(p_values)
    for place, key in enumerate(sorted(p_values, key=p_values.__getitem__)):
        least = max(least, min(1.0, (n - place) * p_values[key]))
        corrected[key] = least
    return corrected
