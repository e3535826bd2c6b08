"""FedProx: federated averaging of sites that are held near the global model while they train.

    site:    min_w F_s(w) + mu/2 |w - w_global|^2        (Eq. 2)
    server:  as FedAvg

Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith: "Federated Optimization in Heterogeneous Networks", MLSys 2020,
Algorithm 2.

Departures: a site takes its declared number of steps, where the paper asks for a gamma-inexact minimiser; every
site is asked and weighted by its slices, where the paper draws sites with probability p_k and takes their plain
mean.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from minet_core.algorithms.fedavg import average, no_memory
from minet_core.algorithms.interface import Algorithm, everything_is_shared
from minet_core.algorithms.server_step import combination_of
from minet_core.settings.algorithm import AlgorithmSettings
from minet_core.weights.manifest import Arrays

if TYPE_CHECKING:
    from minet_core.training.gradient_rules import Proximal

SOURCE = "Li et al. 2020, Algorithm 2"


def fedprox(settings: AlgorithmSettings, *, n_sites: int) -> Algorithm:  # noqa: ARG001 - as every algorithm
    """FedProx of a federation file: sites are held near the global model while they train.

    Parameters
    ----------
    settings
        proximal_mu (mu, per unit of weight squared; 0 is FedAvg), and how the sites' tensors become one.
    n_sites
        Taken as every algorithm takes it; not used.

    Returns
    -------
    Algorithm
        With a gradient rule, and without memory.

    References
    ----------
    Li et al.: "Federated Optimization in Heterogeneous Networks", MLSys 2020, Algorithm 2.
    """

    def proximal(*, weights: Arrays, memory: Arrays, site_memory: Arrays) -> Proximal:  # noqa: ARG001
        from minet_core.training.gradient_rules import Proximal  # a site that trains has loaded torch

        return Proximal(settings.proximal_mu, weights)

    return Algorithm(
        name="fedprox",
        source=SOURCE,
        init=no_memory,
        apply=partial(average, combination=combination_of(settings)),
        shared=everything_is_shared,
        gradient_rule=proximal,
    )
