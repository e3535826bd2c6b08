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
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from minet_core.algorithms.influence import PLAIN, Combination
from minet_core.algorithms.interface import Algorithm, Diagnostics, Reply, ServerState, everything_is_shared
from minet_core.algorithms.server_step import checked_cohort, combination_of, stepped
from minet_core.weights.manifest import Arrays

if TYPE_CHECKING:
    from minet_core.settings.federation import AlgorithmSettings

SOURCE = "McMahan et al. 2017, Algorithm 1"


def no_memory(weights: Arrays) -> ServerState:
    """The state of an algorithm that has no tensors of its own."""
    return ServerState(weights=weights, memory={})


def average(
    state: ServerState, replies: Sequence[Reply], *, combination: Combination = PLAIN
) -> tuple[ServerState, Diagnostics]:
    """The mean of the sites' weights. Raises WeightsRefused (FM-M302)."""
    cohort = checked_cohort(state, replies, combination=combination)

    def averaged(name: str, before: NDArray[Any]) -> tuple[NDArray[Any], Arrays]:
        return cohort.mean(name, like=before), {}

    return stepped(state, cohort, averaged)


def averaging(combination: Combination = PLAIN) -> Algorithm:
    """FedAvg; combination: how the sites' weights become one."""
    return Algorithm(
        name="fedavg",
        source=SOURCE,
        init=no_memory,
        apply=partial(average, combination=combination),
        shared=everything_is_shared,
    )


def fedavg(settings: AlgorithmSettings, *, n_sites: int) -> Algorithm:  # noqa: ARG001 - as every algorithm
    """FedAvg of a federation file."""
    return averaging(combination_of(settings))


FEDAVG = averaging()
