"""SCAFFOLD: control variates take the drift out of long local training.

    site:    y <- y - eta_l (g_i(y) - c_i + c)                     (line 10)
             c_i+ = c_i - c + (x - y) / (K eta_l)                  (line 12, option II)
    server:  x <- x + eta_g mean_s (y_s - x)                       (line 16-17)
             c <- c + |S|/N mean_s (c_s+ - c_s)

Karimireddy, Kale, Mohri, Reddi, Stich, Suresh: "SCAFFOLD: Stochastic Controlled Averaging for Federated
Learning", ICML 2020, Algorithm 1.

Departures: the means weight a site by its slices, p_s = n_s / sum_s n_s, where the paper has 1/|S|; the two are
equal where the sites are. A site's new control is the mean of its raw gradients, which is option II under plain
SGD (see `ControlVariates`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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
from minet_core.errors import WeightsRefused
from minet_core.settings.algorithm import AlgorithmSettings
from minet_core.weights.manifest import Arrays
from minet_core.weights.memory_names import CONTROL, memory_names

if TYPE_CHECKING:
    from minet_core.training.gradient_rules import ControlVariates

SOURCE = "Karimireddy et al. 2020, Algorithm 1"


USUAL_STEP = 1.0
"""eta_g where the federation file leaves it open: the plain mean."""


def scaffold(settings: AlgorithmSettings, *, n_sites: int) -> Algorithm:
    """SCAFFOLD of a federation file: control variates take the drift out of long local training.

    Parameters
    ----------
    settings
        server_learning_rate (eta_g; `USUAL_STEP` where it is null), and how the sites' tensors become one.
    n_sites
        N, the member sites.

    Returns
    -------
    Algorithm
        Its memory is "control/NAME", float32, which travels both ways; a step raises WeightsRefused (FM-M302) where
        more sites replied than are members.

    References
    ----------
    Karimireddy et al.: "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020, Algorithm 1.
    """
    eta = settings.server_learning_rate or USUAL_STEP
    combination = combination_of(settings)

    def init(weights: Arrays) -> ServerState:
        return ServerState(weights, filled_memory(weights, {CONTROL: 0.0}))

    def apply(state: ServerState, replies: Sequence[Reply]) -> tuple[ServerState, Diagnostics]:
        cohort = checked_cohort(state, replies, combination=combination, uplink_state=(CONTROL,))
        check_names(state.memory, memory_names(CONTROL, sorted(state.weights)), what="the server's memory")
        if cohort.n_sites > n_sites:
            raise WeightsRefused("more sites replied than are members", got=cohort.n_sites, expected=n_sites)

        def controlled(name: str, before: NDArray[Any]) -> tuple[NDArray[Any], Arrays]:
            update = cohort.mean_update(name, start=before)
            after = cast_back(name, before + eta * update, before.dtype)
            key = f"{CONTROL}/{name}"
            control = state.memory[key]
            change = cohort.mean_memory(key, like=control)
            participation = cohort.n_sites / n_sites
            return after, {key: cast_back(key, control + participation * change, np.float32)}

        return stepped(state, cohort, controlled)

    return Algorithm(
        name="scaffold",
        source=SOURCE,
        init=init,
        apply=apply,
        shared=everything_is_shared,
        downlink_state=(CONTROL,),
        uplink_state=(CONTROL,),
        gradient_rule=_control_variates,
    )


def _control_variates(*, weights: Arrays, memory: Arrays, site_memory: Arrays) -> ControlVariates:
    """The rule of a site: memory and site_memory hold "control/NAME"."""
    from minet_core.training.gradient_rules import ControlVariates  # a site that trains has loaded torch

    names = sorted(weights)
    kept = names if site_memory else []
    check_names(memory, memory_names(CONTROL, names), what="the server's memory")
    check_names(site_memory, memory_names(CONTROL, kept), what="the site's memory")
    return ControlVariates(
        {name: memory[f"{CONTROL}/{name}"] for name in names},
        {name: site_memory[f"{CONTROL}/{name}"] for name in kept},
    )
