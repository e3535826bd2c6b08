"""Federated averaging.

    w <- sum_s n_s w_s / sum_s n_s

McMahan, Moore, Ramage, Hampson, Agüera y Arcas: "Communication-Efficient Learning of Deep Networks from
Decentralized Data", AISTATS 2017, Algorithm 1.

Departures: every member site is asked in every round, where the paper draws a fraction C of them; n_s counts
training slices; a site may train with Adam, where the paper has SGD.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from numpy.typing import NDArray

from minet_core.algorithms.influence import PLAIN, Combination
from minet_core.algorithms.interface import Algorithm, Diagnostics, Reply, ServerState, everything_is_shared
from minet_core.algorithms.server_step import checked_cohort, combination_of, stepped
from minet_core.settings.algorithm import AlgorithmSettings
from minet_core.weights.manifest import Arrays

SOURCE = "McMahan et al. 2017, Algorithm 1"


def no_memory(weights: Arrays) -> ServerState:
    """The state of an algorithm that has no tensors of its own.

    Parameters
    ----------
    weights
        The model's shared tensors, by name.

    Returns
    -------
    ServerState
        With these weights and an empty memory.
    """
    return ServerState(weights=weights, memory={})


def average(
    state: ServerState, replies: Sequence[Reply], *, combination: Combination = PLAIN
) -> tuple[ServerState, Diagnostics]:
    """One step of federated averaging: the mean of the sites' weights.

    Parameters
    ----------
    state
        Before the round; left as it is.
    replies
        In any order, at least one.
    combination
        How the sites' weights become one.

    Returns
    -------
    tuple of ServerState and Diagnostics
        The state after the round, of the same names, shapes and dtypes, and the figures of the step.

    Raises
    ------
    WeightsRefused
        FM-M302, for replies that do not agree with the state (`checked_cohort`), or a tensor that does not.

    References
    ----------
    McMahan et al.: "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017,
    Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from minet_core.algorithms.fedavg import average, no_memory
    >>> from minet_core.algorithms.interface import Reply
    >>> zero, one = np.zeros(2, np.float32), np.ones(2, np.float32)
    >>> replies = [Reply("north", 300, {"bias": one}), Reply("south", 100, {"bias": zero})]
    >>> state, figures = average(no_memory({"bias": zero}), replies)
    >>> state.weights["bias"], figures.site_shares
    (array([0.75, 0.75], dtype=float32), {'north': 0.75, 'south': 0.25})
    """
    cohort = checked_cohort(state, replies, combination=combination)

    def averaged(name: str, before: NDArray[Any]) -> tuple[NDArray[Any], Arrays]:
        return cohort.mean(name, like=before), {}

    return stepped(state, cohort, averaged)


def averaging(combination: Combination = PLAIN) -> Algorithm:
    """FedAvg under a rule of combination.

    Parameters
    ----------
    combination
        How the sites' weights become one.

    Returns
    -------
    Algorithm
        Every tensor travels, and it has no memory.
    """
    return Algorithm(
        name="fedavg",
        source=SOURCE,
        init=no_memory,
        apply=partial(average, combination=combination),
        shared=everything_is_shared,
    )


def fedavg(settings: AlgorithmSettings, *, n_sites: int) -> Algorithm:  # noqa: ARG001 - as every algorithm
    """FedAvg of a federation file.

    Parameters
    ----------
    settings
        How the sites' tensors become one: rule, max_share and trim.
    n_sites
        Taken as every algorithm takes it; not used.

    Returns
    -------
    Algorithm
        As `averaging`.
    """
    return averaging(combination_of(settings))


FEDAVG = averaging()
