"""Which model a site keeps: the global one, the one adapted there, the one trained there alone, or their ensemble.

By the PSNR of validation patients, paired by patient, and by nothing else: no figure of a test patient comes in here.
The ensemble averages the pictures of those networks that are not plainly worse than the best of them. The rule is that
of one standard error: of the models whose mean is less than one standard error of the paired difference below the best
one's, the one that a wrong choice costs least. That is the ensemble, whose squared error is never above the mean of its
networks'; then what rests on most patients: the global model, the adapted one, the one alone. Where no patient judges
the first of these is kept too. Why, and what so few patients can say: docs/decisions/0021.

References
----------
Breiman, Friedman, Olshen, Stone: "Classification and Regression Trees", 1984, section 3.4.3 (the 1 SE rule).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minet_core.errors import MetricInvalid
from minet_core.settings.adaptation import ENSEMBLED, Candidate

PREFERRED: tuple[Candidate, ...] = ("ensemble", "global", "adapted", "alone")
"""Of models that the validation patients cannot tell apart, the first of these is kept."""

PATIENT_SPREAD_DB = 0.2
"""Standard deviation between patients of the difference of two models, where nothing else is known: 0.04 to 0.27 dB in
the cells of docs/results/table1-training.md, between patients of one site and seed."""

ENSEMBLE_SPREAD_DB = 1.0
"""The same of the ensemble and another model, the upper end of what phantoms that differ as patients do have: 0.0 to
1.3 dB. At this figure one patient leaves the ensemble for a model that is ahead by 1 dB; at 0.2 or 0.5 dB the next
patient lost up to 0.9 dB by it (docs/results/worth-recipe.md)."""

MEMORY_DB = 1.5
"""How much better than on others a network is on the one patient whom the site trained it on, beside the global model:
0.5 to 2.4 dB, 1.5 in the mean of six sites; with two patients 0.9, with seven 0.1 (docs/results/worth-recipe.md)."""

SPREAD_WEIGHT = 3
"""Degrees of freedom that such a figure counts for: with one validation patient it stands alone, with four as much as
what they show."""


@dataclass(frozen=True)
class Behind:
    """How far a model is behind the best one: mean of the paired differences, and its standard error, in dB."""

    mean_db: float
    standard_error_db: float


@dataclass(frozen=True)
class Choice:
    """What was chosen, and by what.

    means_db: PSNR over the validation patients. behind: each against the best. n_patients: that judged; none where the
    site has no validation patient apart from those it trained on: see `keep_unjudged`.
    """

    chosen: Candidate
    n_patients: int
    means_db: Mapping[Candidate, float]
    behind: Mapping[Candidate, Behind]


def choose_model(psnr_db: Mapping[Candidate, Mapping[str, float]]) -> Choice:
    """Choose by the validation patients' PSNR.

    Parameters
    ----------
    psnr_db
        By candidate, by patient, in dB; the same patients for each. The global model is among the candidates. No
        patient may have been trained on at the site: a model remembers them.

    Returns
    -------
    Choice
        The first by `PREFERRED` of those within one standard error of the best.

    Raises
    ------
    MetricInvalid
        Where the global model is missing, there is no patient, the patients differ, or a figure is not finite.
    """
    if "global" not in psnr_db:
        raise MetricInvalid(
            "models cannot be compared", got=", ".join(psnr_db), expected="the global model among them"
        )
    figures = _paired({name: psnr_db[name] for name in PREFERRED if name in psnr_db})
    n_patients = len(figures["global"])
    means = {name: float(values.mean()) for name, values in figures.items()}
    best = max(means, key=lambda name: means[name])  # of equals the preferred, which comes first
    behind = {
        name: Behind(
            float((figures[best] - values).mean()),
            0.0 if name == best else standard_error(figures[best] - values, spread_db=_spread_db(name)),
        )
        for name, values in figures.items()
    }
    chosen = next(
        name for name in figures if name == best or behind[name].mean_db < behind[name].standard_error_db
    )
    return Choice(chosen, n_patients, means, behind)


def choose_ensembled(psnr_db: Mapping[Candidate, Mapping[str, float]]) -> tuple[Candidate, ...]:
    """Choose the networks whose pictures the ensemble averages, among `ENSEMBLED`.

    One that is behind the best of them by a standard error or more is left out, as the knees' site has a global model
    that learnt mostly from heads. The spread is the ensemble's own, so one patient leaves out what is 1 dB behind and
    nothing that is nearer (docs/results/worth-recipe.md).

    Parameters
    ----------
    psnr_db
        By candidate, by validation patient, in dB; the same patients for each.

    Returns
    -------
    tuple of str
        In the order of `ENSEMBLED`; empty where fewer than two are left, or one of them has no figures: a mean of one
        is no ensemble.

    Raises
    ------
    MetricInvalid
        Where there is no patient, the patients differ, or a figure is not finite.
    """
    if not set(ENSEMBLED) <= set(psnr_db):
        return ()
    figures = _paired({name: psnr_db[name] for name in ENSEMBLED})
    best = max(figures.values(), key=lambda values: float(values.mean()))
    found = tuple(
        name
        for name, values in figures.items()
        if values is best
        or float((best - values).mean()) < standard_error(best - values, spread_db=ENSEMBLE_SPREAD_DB)
    )
    return found if len(found) > 1 else ()


def choose_unjudged(trained_on_db: Mapping[Candidate, float]) -> tuple[Candidate, ...]:
    """Choose the networks to keep where no patient judges but those that the site trains on.

    A network remembers the patients that it was trained on, those of the site most. So one that was trained here and is
    plainly worse than the global model even on them learnt less than that knew before, and is left out. The global
    model is left out where it is behind by more than memory explains: it is of another kind of scans, or of few rounds.

    Parameters
    ----------
    trained_on_db
        By candidate, PSNR over slices of the site's training patients, dB; the global model among them.

    Returns
    -------
    tuple of str
        In the order of `ENSEMBLED`; one or more.

    Raises
    ------
    MetricInvalid
        Where the global model is missing, or a figure is not finite.
    """
    if "global" not in trained_on_db or not all(map(math.isfinite, trained_on_db.values())):
        raise MetricInvalid(
            "models cannot be compared",
            got=dict(trained_on_db),
            expected="the global model, and figures that are finite",
        )
    given = [name for name in ENSEMBLED if name in trained_on_db]
    limits = dict.fromkeys(given, trained_on_db["global"] - ENSEMBLE_SPREAD_DB)
    limits["global"] = max(trained_on_db.values()) - ENSEMBLE_SPREAD_DB - MEMORY_DB
    return tuple(name for name in given if trained_on_db[name] > limits[name])


def keep_unjudged(trained_on_db: Mapping[Candidate, float], *, ensembled: bool) -> Choice:
    """The choice where no patient judges: the ensemble; else the global model, or what memory does not explain.

    Parameters
    ----------
    trained_on_db
        As of `choose_unjudged`.
    ensembled
        Whether an ensemble is made of what that chose.

    Returns
    -------
    Choice
        By no patient.
    """
    if ensembled:
        return Choice("ensemble", 0, {}, {})
    best = max(trained_on_db, key=lambda name: trained_on_db[name])
    explained = trained_on_db[best] - trained_on_db["global"] <= MEMORY_DB
    return Choice("global" if explained else best, 0, {}, {})


def choose_rate(psnr_db: Mapping[float, Mapping[str, float]]) -> float:
    """Choose among models that were adapted in the same way at several learning rates.

    They rest on the same patients, so none is the simpler one, and the best mean decides. Whether an adapted model is
    kept at all is then for `choose_model`.

    Parameters
    ----------
    psnr_db
        By learning rate, by validation patient, in dB; the same patients for each, at least one rate.

    Returns
    -------
    float
        The rate of the best mean; of equals, and where no patient judges, the lowest: that which changes least.

    Raises
    ------
    MetricInvalid
        Where there is no rate, the patients differ, or a figure is not finite.
    """
    rates = sorted(psnr_db)
    patients = sorted(psnr_db[rates[0]]) if rates else []
    if not rates or any(sorted(found) != patients for found in psnr_db.values()):
        raise MetricInvalid(
            "rates cannot be compared",
            got={rate: len(found) for rate, found in psnr_db.items()},
            expected="a rate or more, and figures of the same patients for each",
        )
    if not patients:
        return rates[0]
    means = {rate: float(np.mean([psnr_db[rate][patient] for patient in patients])) for rate in rates}
    if not all(math.isfinite(mean) for mean in means.values()):
        raise MetricInvalid("rates cannot be compared", got="a figure that is not finite")
    return max(rates, key=lambda rate: means[rate])


def _paired(psnr_db: Mapping[Candidate, Mapping[str, float]]) -> dict[Candidate, NDArray[np.float64]]:
    """Each candidate's figures in one order of the patients. Raises MetricInvalid."""
    patients = [sorted(found) for found in psnr_db.values()]
    if any(found != patients[0] for found in patients):
        raise MetricInvalid(
            "models cannot be compared",
            got={name: len(found) for name, found in psnr_db.items()},
            expected="figures of the same patients for each",
        )
    if not patients[0]:
        raise MetricInvalid("models cannot be compared", got="no patient", expected="one or more")
    figures = {name: np.array([found[patient] for patient in patients[0]]) for name, found in psnr_db.items()}
    if not all(np.isfinite(values).all() for values in figures.values()):
        raise MetricInvalid("models cannot be compared", got="a figure that is not finite")
    return figures


def _spread_db(candidate: Candidate) -> float:
    return ENSEMBLE_SPREAD_DB if candidate == "ensemble" else PATIENT_SPREAD_DB


def standard_error(
    differences: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]],
    *,
    spread_db: float = PATIENT_SPREAD_DB,
) -> float:
    """Standard error of the mean of paired differences between patients, with what is known of patients before.

    The variance is the mean of the differences' own and of `spread_db` squared, weighed by degrees of freedom:
    that of a scaled inverse chi-squared prior. So one patient has an error, and two that happen to agree have no error
    of nothing.

    Parameters
    ----------
    differences
        One a patient, dB; at least one.
    spread_db
        Standard deviation between patients where nothing else is known, dB.

    Returns
    -------
    float
        dB, above 0.

    Raises
    ------
    MetricInvalid
        For no difference.

    References
    ----------
    Gelman et al.: "Bayesian Data Analysis", 3rd edition, 2013, section 2.6.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.size == 0:
        raise MetricInvalid("there is no difference", got=0, expected="one patient or more")
    own = float(((values - values.mean()) ** 2).sum())
    known = SPREAD_WEIGHT * spread_db**2
    variance = (known + own) / (SPREAD_WEIGHT + values.size - 1)
    return math.sqrt(variance / values.size)
