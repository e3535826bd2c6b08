"""The federated algorithms by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from minet_core.algorithms.fedadam import fedadam
from minet_core.algorithms.fedavg import fedavg
from minet_core.algorithms.fedprox import fedprox
from minet_core.algorithms.influence import PLAIN, Combination
from minet_core.algorithms.interface import Algorithm
from minet_core.algorithms.personal_head import personal_head
from minet_core.algorithms.scaffold import scaffold
from minet_core.errors import InvalidSetting

__all__ = ["ALGORITHMS", "Algorithm", "Parameters", "make_algorithm"]


@dataclass(frozen=True)
class Parameters:
    """What the algorithms take; each takes its own part. See `make_algorithm`."""

    n_sites: int
    proximal_mu: float
    server_learning_rate: float
    beta1: float
    beta2: float
    tau: float
    personal: tuple[str, ...]
    combination: Combination


ALGORITHMS: dict[str, Callable[[Parameters], Algorithm]] = {
    "fedavg": lambda given: fedavg(combination=given.combination),
    "fedprox": lambda given: fedprox(proximal_mu=given.proximal_mu, combination=given.combination),
    "scaffold": lambda given: scaffold(
        server_learning_rate=given.server_learning_rate,
        n_sites=given.n_sites,
        combination=given.combination,
    ),
    "fedadam": lambda given: fedadam(
        server_learning_rate=given.server_learning_rate,
        beta1=given.beta1,
        beta2=given.beta2,
        tau=given.tau,
        combination=given.combination,
    ),
    "personal-head": lambda given: personal_head(personal=given.personal, combination=given.combination),
}


def make_algorithm(
    name: str,
    *,
    n_sites: int,
    proximal_mu: float,
    server_learning_rate: float,
    beta1: float,
    beta2: float,
    tau: float,
    personal: tuple[str, ...],
    combination: Combination = PLAIN,
) -> Algorithm:
    """The algorithm of this name.

    n_sites: member sites of the federation, at least 1 (SCAFFOLD's N). proximal_mu: FedProx's mu, 0 or more.
    server_learning_rate: above 0 (SCAFFOLD's eta_g, FedAdam's eta). beta1, beta2: FedAdam's, from 0 to below 1.
    tau: FedAdam's, above 0. personal: prefixes of the personal head's names; `personal-head` alone takes them,
    and any other algorithm shares every tensor. combination: how
    the sites' tensors become one. What an algorithm does not take is checked and not used.

    Raises InvalidSetting (FM-C102) for an unknown name or a number out of its range.
    """
    if name not in ALGORITHMS:
        raise InvalidSetting("there is no such federated algorithm", got=name, expected=sorted(ALGORITHMS))
    ranges = {
        "n_sites": (n_sites, n_sites >= 1, "at least 1"),
        "proximal_mu": (proximal_mu, 0 <= proximal_mu < float("inf"), "0 or more"),
        "server_learning_rate": (
            server_learning_rate,
            0 < server_learning_rate < float("inf"),
            "a number above 0",
        ),
        "beta1": (beta1, 0 <= beta1 < 1, "from 0 to below 1"),
        "beta2": (beta2, 0 <= beta2 < 1, "from 0 to below 1"),
        "tau": (tau, 0 < tau < float("inf"), "a number above 0"),
    }
    for setting, (got, is_right, expected) in ranges.items():
        if not is_right:
            raise InvalidSetting(f"{setting} is out of its range", got=got, expected=expected)
    return ALGORITHMS[name](
        Parameters(
            n_sites=n_sites,
            proximal_mu=proximal_mu,
            server_learning_rate=server_learning_rate,
            beta1=beta1,
            beta2=beta2,
            tau=tau,
            personal=personal,
            combination=combination,
        )
    )
