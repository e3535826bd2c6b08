"""FedAdam: Adam on the server, with the sites' mean update in place of a gradient.

    D = mean_s (w_s - x)
    m <- beta1 m + (1 - beta1) D
    v <- beta2 v + (1 - beta2) D^2
    x <- x + eta m / (sqrt(v) + tau)

Reddi, Charles, Zaheer, Garrett, Rush, Konečný, Kumar, McMahan: "Adaptive Federated Optimization", ICLR 2021,
Algorithm 2. As there, v starts from tau^2, m from zero, and no bias is corrected.

Departures: the mean weights a site by its slices, where Algorithm 2 has 1/|S|; every site is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minet_core.algorithms.interface import (
    Algorithm,
    Diagnostics,
    Reply,
    ServerState,
    everything_is_shared,
)
from minet_core.algorithms.server_state import filled_memory
from minet_core.algorithms.server_step import check_names, checked_cohort, combination_of, stepped
from minet_core.algorithms.weighted_mean import cast_back
from minet_core.settings.algorithm import AlgorithmSettings
from minet_core.weights.manifest import Arrays
from minet_core.weights.memory_names import memory_names

SOURCE = "Reddi et al. 2021, Algorithm 2 (FedAdam)"
FIRST, SECOND = "first_moment", "second_moment"


USUAL_STEP = 0.01
"""eta where the federation file leaves it open: a weight moves by about this much in a round."""


def fedadam(settings: AlgorithmSettings, *, n_sites: int) -> Algorithm:  # noqa: ARG001 - as every algorithm
    """FedAdam of a federation file: Adam on the server, with the sites' mean update in place of a gradient.

    Parameters
    ----------
    settings
        server_learning_rate (eta, in units of weight; `USUAL_STEP` where it is null), beta1, beta2, tau (in units of
        the sites' mean update), and how the sites' tensors become one.
    n_sites
        Taken as every algorithm takes it; not used.

    Returns
    -------
    Algorithm
        Its memory is "first_moment/NAME" and "second_moment/NAME", float32; none of it travels.

    References
    ----------
    Reddi et al.: "Adaptive Federated Optimization", ICLR 2021, Algorithm 2.
    """
    eta = settings.server_learning_rate or USUAL_STEP
    beta1, beta2, tau = settings.beta1, settings.beta2, settings.tau
    combination = combination_of(settings)

    def init(weights: Arrays) -> ServerState:
        return ServerState(weights, filled_memory(weights, {FIRST: 0.0, SECOND: tau**2}))

    def apply(state: ServerState, replies: Sequence[Reply]) -> tuple[ServerState, Diagnostics]:
        cohort = checked_cohort(state, replies, combination=combination)
        names = sorted(state.weights)
        expected = memory_names(FIRST, names) + memory_names(SECOND, names)
        check_names(state.memory, expected, what="the server's memory")

        def adapted(name: str, before: NDArray[Any]) -> tuple[NDArray[Any], Arrays]:
            update = cohort.mean_update(name, start=before)
            first, second = f"{FIRST}/{name}", f"{SECOND}/{name}"
            m = beta1 * state.memory[first].astype(np.float64) + (1 - beta1) * update
            v = beta2 * state.memory[second].astype(np.float64) + (1 - beta2) * update**2
            after = before + eta * m / (np.sqrt(v) + tau)
            moments = {first: cast_back(first, m, np.float32), second: cast_back(second, v, np.float32)}
            return cast_back(name, after, before.dtype), moments

        return stepped(state, cohort, adapted)

    return Algorithm(name="fedadam", source=SOURCE, init=init, apply=apply, shared=everything_is_shared)
