"""What a federated algorithm is made of: the server's state, a site's reply, and the step between two states.

Every mapping of tensors may be lazy: `mapping[name]` reads one tensor from a file and keeps nothing. Whoever
works on one goes name by name and lets each tensor go before the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from minet_core.weights.manifest import Arrays

if TYPE_CHECKING:  # who reads the settings needs the names of the algorithms, and no torch
    from minet_core.training.gradient_rules import GradientRule


@dataclass(frozen=True, eq=False)
class ServerState:
    """What the server carries from round to round.

    weights: the shared tensors of the global model, by name. memory: the algorithm's own tensors, float32 and of
        the shape of the weights they belong to, under "PREFIX/NAME": "control/head.weight"; empty for FedAvg.
    """

    weights: Arrays
    memory: Arrays


@dataclass(frozen=True, eq=False)
class Reply:
    """What one site sends after its local training.

    n_training_slices: its number of training slices, n_s. weights: its trained shared tensors; the weights
        themselves and not their change. memory: what else the algorithm asks of it, under "PREFIX/NAME".
    """

    site: str
    n_training_slices: int
    weights: Arrays
    memory: Arrays = field(default_factory=dict)


@dataclass(frozen=True)
class Diagnostics:
    """Figures of one step of the server.

    site_shares: each site's share in the mean, p_s = n_s / sum_s n_s; they sum to one. update_norm: L2 norm of
        the change of the global weights. weights_norm: L2 norm of the new global weights.
    """

    site_shares: Mapping[str, float]
    update_norm: float
    weights_norm: float


class GradientRuleFactory(Protocol):
    """Makes the rule of one round at one site."""

    def __call__(self, *, weights: Arrays, memory: Arrays, site_memory: Arrays) -> GradientRule:
        """Make the rule.

        Parameters
        ----------
        weights
            The global weights that came down.
        memory
            The server's memory that came with them, under the prefixes of `Algorithm.downlink_state`.
        site_memory
            What the site kept with `GradientRule.kept` at the end of its last round; empty in its first.

        Returns
        -------
        GradientRule
            For this round alone.

        Raises
        ------
        WeightsRefused
            FM-M302, for a memory of other names.
        """


@dataclass(frozen=True)
class Algorithm:
    """A federated algorithm: pure functions, and the names of what travels.

    source: the citation. init: the state before the first round, from the model's weights. apply: one step of
        the server, from a state and the round's replies, in any order; inputs are left as they were, and the
        result has the same bytes whatever the order. Its peak memory is the new state and a few tensors. Raises
        WeightsRefused (FM-M302). shared: whether the tensor of this name travels. downlink_state: prefixes of the
        server's memory that is sent to the sites. uplink_state: prefixes of the memory that a reply must have, for
        every shared tensor. gradient_rule: makes what corrects the gradient during local training; None where
        nothing does.
    """

    name: str
    source: str
    init: Callable[[Arrays], ServerState]
    apply: Callable[[ServerState, Sequence[Reply]], tuple[ServerState, Diagnostics]]
    shared: Callable[[str], bool]
    downlink_state: tuple[str, ...] = ()
    uplink_state: tuple[str, ...] = ()
    gradient_rule: GradientRuleFactory | None = None


def everything_is_shared(name: str) -> bool:  # noqa: ARG001 - the signature of `Algorithm.shared`
    """Every tensor travels.

    Parameters
    ----------
    name
        Of a tensor.

    Returns
    -------
    bool
        True.
    """
    return True
