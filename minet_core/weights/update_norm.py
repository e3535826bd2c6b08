"""When an update is not believed: its norm and its direction against the others', and the fall of a validation score.

The median, since one site's number must not move the bound that it is held to. In a round of two sites the median of
the round is the smaller norm: a bound that is too low is raised again by the run's own history, one that a hostile
site made too high is not lowered by anything. With fewer than three replies and no history there is nothing to hold
an update against, and no bound.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SUSPECT_FACTOR, NORM_FACTOR = 1.7, 4.0
"""Multiples of the usual norm from which an update is reported and refused. Honest ones reach 1.23 with equal work and
1.4 with unequal (docs/results/robustness.md, as for the bounds below)."""

OPPOSED_AT_ONCE, SUSPECT_AGREEMENT, OPPOSED_AGREEMENT = -0.4, 0.05, -0.25
"""Cosines of an update to the others' mean direction. Below the first a single update is reported (least of an honest
site: -0.36); a site whose median is below the second is reported, and below the third refused (least honest median over
nine rounds: 0.02 with equal work, -0.19 for one of 2, 5 and 20 steps). Noise has 0, a reversed update the opposite of
the honest median, which is 0.12 to 0.75."""

TURNED_TOLD, TURNED_REFUSED = 0.22, 0.4
"""Share of the tensors that the others agree on in which a site goes against them, by its median: reported and refused
from. Of 99 honest sites the largest is 0.19 and the next 0.13, also with 2, 5 and 20 steps; all tensors reversed gives
0.57 and more (docs/results/robustness.md)."""

FALL_DB = 1.0
"""Fall of the validation PSNR in a round that counts, dB. Of honest federations the second largest fall is 0.05."""

MIN_REPLIES = 3
"""Replies from which a median of the round alone means something: of two, either may be the odd one."""

HARM_DB = 0.2
"""Fall of the validation PSNR below its best, by the medians of `lasting`. Where it fell at most of the other sites,
what goes against them costs them something. Single rounds of an honest run vary by 0.6 dB
(docs/results/robustness.md)."""

SUDDEN = 0.25
"""Fall of a site's median agreement from one round to the next. The median of an honest site that drifts apart from the
others falls by 0.06 at most; of one that turns its updates round, by 0.4 and more (docs/results/robustness.md)."""

HISTORY_ROUNDS = 50
"""How far back the run's median looks: norms fall as a run converges."""


AGREEMENT_ROUNDS, MIN_AGREEMENTS = 9, 3
"""Rounds whose median direction decides, at most and at least: one round's noise does not."""

MAX_NORM = 1e18
"""An update of a larger norm is refused whatever the settings say: squares of its values leave the range of float32,
and with them FedAdam's second moment."""


def update_norm(weights: Mapping[str, NDArray[Any]], reference: Mapping[str, NDArray[Any]]) -> float:
    """L2 norm of an update, summed in float64 and tensor by tensor.

    Parameters
    ----------
    weights
        After the local training.
    reference
        Before it; it has at least their names.

    Returns
    -------
    float
        Of `weights` minus `reference`.
    """
    squares = []
    for name in sorted(weights):
        difference = weights[name].astype(np.float64) - reference[name].astype(np.float64)
        squares.append(float(np.vdot(difference, difference)))
    return math.sqrt(math.fsum(squares))


def norm(arrays: Mapping[str, NDArray[Any]]) -> float:
    """L2 norm of all the arrays together, summed in float64 and tensor by tensor.

    Parameters
    ----------
    arrays
        By name.

    Returns
    -------
    float
        0 or more.
    """
    squares = (arrays[name].astype(np.float64) for name in sorted(arrays))
    return math.sqrt(math.fsum(float(np.vdot(values, values)) for values in squares))


def lasting(history: Sequence[float]) -> float | None:
    """The median of a site's figures of this round and the last ones (`AGREEMENT_ROUNDS`).

    Parameters
    ----------
    history
        One figure a round, this round's last.

    Returns
    -------
    float or None
        None of fewer than `MIN_AGREEMENTS`.
    """
    recent = history[-AGREEMENT_ROUNDS:]
    return statistics.median(recent) if len(recent) >= MIN_AGREEMENTS else None


def opposed(agreements: Sequence[float], turned: Sequence[float], *, below: float) -> bool:
    """Whether a site goes against the others for long enough to be refused.

    A cosine alone does not decide where there are shares: an honest site that trains longer than the others comes
    near the bound.

    Parameters
    ----------
    agreements
        The site's cosines to the others' mean direction, one a round, this round's last.
    turned
        Its shares of tensors against the others', 0 to 1, in the same order.
    below
        Bound of the cosines, -1 to 1.

    Returns
    -------
    bool
        By the medians of the last rounds; False of fewer than `MIN_AGREEMENTS`.
    """
    cosine, share = lasting(agreements), lasting(turned)
    if share is not None and share > TURNED_REFUSED:
        return True
    return cosine is not None and cosine < below and (share is None or share > TURNED_TOLD)


def drifted_apart(agreements: Sequence[float], *, above: float) -> bool:
    """Whether a site agreed with the others at first and came to go against them by little and little.

    The mean of the updates goes to nothing as a run converges, and then a site whose patients are unlike the others'
    is opposed to them by what is left. Who turns round does so at once.

    Parameters
    ----------
    agreements
        The site's cosines to the others' mean direction, one a round, the run's first round first.
    above
        Bound of the median of the first `MIN_AGREEMENTS`, -1 to 1.

    Returns
    -------
    bool
        False of fewer than `MIN_AGREEMENTS`, and where its median of `lasting` ever fell by more than `SUDDEN`.
    """
    medians = _lasting_each(agreements)
    steps = [before - after for before, after in itertools.pairwise(medians)]
    return bool(medians) and medians[0] >= above and max(steps, default=0.0) <= SUDDEN


def lasting_fall(scores: Sequence[float]) -> float:
    """How far a score is below its best of the run, both as medians of `lasting`.

    Parameters
    ----------
    scores
        One a round, this round's last, dB.

    Returns
    -------
    float
        0 or more, dB; 0 of fewer than `MIN_AGREEMENTS`.
    """
    medians = _lasting_each(scores)
    return max(medians) - medians[-1] if medians else 0.0


def _lasting_each(history: Sequence[float]) -> list[float]:
    """`lasting` after each round, from the first that it has one of."""
    medians = [lasting(history[:end]) for end in range(MIN_AGREEMENTS, len(history) + 1)]
    return [median for median in medians if median is not None]


def fallen_sites(
    before: Mapping[str, float], now: Mapping[str, float], *, fall_db: float
) -> tuple[list[str], bool]:
    """The sites whose score fell in a round, and whether they are most.

    One site alone is never most: its word is not enough to take a round back.

    Parameters
    ----------
    before, now
        By site the validation PSNR of two global models, dB.
    fall_db
        A fall of more than this counts, dB.

    Returns
    -------
    tuple of list and bool
        The sites in the order of their names; whether they are most of those that gave both scores.
    """
    both = sorted(set(before) & set(now))
    fell = [site for site in both if before[site] - now[site] > fall_db]
    return fell, len(fell) > max(len(both) / 2, 1)


def norm_bound(of_round: Sequence[float], of_run: Sequence[float], *, factor: float) -> float | None:
    """The norm beyond which an update of this round is suspect.

    Parameters
    ----------
    of_round
        The norms of this round's replies.
    of_run
        Those of the replies that counted in former rounds.
    factor
        Multiple of the usual norm.

    Returns
    -------
    float or None
        None where nothing can be said.
    """
    if len(of_round) < MIN_REPLIES and not of_run:
        return None
    others = [low_median(of_round)] if len(of_round) > 1 else []  # a lone reply must not set its own bound
    past = [low_median(of_run)] if of_run else []
    return factor * max([*others, *past])


def low_median(norms: Sequence[float]) -> float:
    """The middle value, of an even number the smaller of the two in the middle.

    Parameters
    ----------
    norms
        At least one.

    Returns
    -------
    float
        One of them.
    """
    return sorted(norms)[(len(norms) - 1) // 2]
