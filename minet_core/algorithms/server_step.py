"""The replies of one round, checked together, and their means tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minet_core.algorithms.influence import (
    PLAIN,
    Combination,
    capped_weights,
    geometric_median_weights,
    trimmed_mean,
    update_products,
)
from minet_core.algorithms.interface import Diagnostics, Reply, ServerState
from minet_core.algorithms.weighted_mean import (
    cast_back,
    float64_mean,
    mean_over_sites,
    shares,
    weight_by_site,
)
from minet_core.errors import WeightsRefused
from minet_core.settings.algorithm import AlgorithmSettings
from minet_core.weights.manifest import Arrays
from minet_core.weights.memory_names import memory_names

MAX_SLICES = 2**53
"""Largest number of training slices of one site: whole numbers up to here are exact in float64."""


@dataclass(frozen=True, eq=False)
class Cohort:
    """A round's replies by site: what each counts for in the mean, its weights and its memory.

    n_trimmed: values that a coordinate-wise rule leaves out at either end; None for a mean.
    """

    n_slices_of: Mapping[str, float]
    site_shares: Mapping[str, Arrays]
    memory_of: Mapping[str, Arrays]
    n_trimmed: int | None = None

    @property
    def n_sites(self) -> int:
        return len(self.n_slices_of)

    def mean(self, name: str, *, like: NDArray[Any]) -> NDArray[Any]:
        """Combine one tensor of the sites' weights: their mean, or a coordinate-wise rule.

        Parameters
        ----------
        name
            Of the tensor.
        like
            The global tensor; each site's must have its shape and dtype.

        Returns
        -------
        array
            Of the shape and dtype of `like`.

        Raises
        ------
        WeightsRefused
            FM-M302, for a site's tensor that differs from `like`, or a value that is not finite.
        """
        if self.n_trimmed is not None:
            return cast_back(name, self._trimmed(name, self.site_shares, like=like), like.dtype)
        return mean_over_sites(
            name, self.site_shares, weight_of=self.n_slices_of, shape=like.shape, dtype=str(like.dtype)
        )

    def mean_update(self, name: str, *, start: NDArray[Any]) -> NDArray[np.float64]:
        """sum_s p_s (w_s - start): the mean change of one tensor over the round.

        Parameters
        ----------
        name
            Of the tensor.
        start
            The global tensor before the round.

        Returns
        -------
        float64 array
            Of the shape of `start`.

        Raises
        ------
        WeightsRefused
            FM-M302, for a site's tensor that differs from `start`, or a value that is not finite.
        """
        if self.n_trimmed is not None:
            return self._trimmed(name, self.site_shares, like=start) - start.astype(np.float64)
        return float64_mean(
            name,
            self.site_shares,
            weight_of=self.n_slices_of,
            shape=start.shape,
            dtype=str(start.dtype),
            start=start,
        )

    def mean_memory(self, name: str, *, like: NDArray[Any]) -> NDArray[np.float64]:
        """The mean of one tensor of the memory that the sites sent.

        Parameters
        ----------
        name
            "PREFIX/NAME".
        like
            The server's own tensor of that name; each site's must have its shape and dtype.

        Returns
        -------
        float64 array
            Of the shape of `like`.

        Raises
        ------
        WeightsRefused
            FM-M302, for a site's tensor that differs from `like`, or a value that is not finite.
        """
        if self.n_trimmed is not None:
            return self._trimmed(name, self.memory_of, like=like)
        return float64_mean(
            name, self.memory_of, weight_of=self.n_slices_of, shape=like.shape, dtype=str(like.dtype)
        )

    def _trimmed(
        self, name: str, arrays_of: Mapping[str, Arrays], *, like: NDArray[Any]
    ) -> NDArray[np.float64]:
        assert self.n_trimmed is not None
        return trimmed_mean(
            name, arrays_of, n_trimmed=self.n_trimmed, shape=like.shape, dtype=str(like.dtype)
        )


def combination_of(settings: AlgorithmSettings) -> Combination:
    """How the federation file lets the sites' tensors become one.

    Parameters
    ----------
    settings
        The file's section `algorithm`.

    Returns
    -------
    Combination
        Of its rule, max_share and trim.
    """
    return Combination(settings.rule, settings.max_share, settings.trim)


def checked_cohort(
    state: ServerState,
    replies: Sequence[Reply],
    *,
    combination: Combination = PLAIN,
    uplink_state: Sequence[str] = (),
) -> Cohort:
    """The replies as a cohort, if their names and numbers agree with the state.

    No tensor is read, but for the geometric median: its shares follow from the updates.

    Parameters
    ----------
    state
        Of the server before the round; it names the weights.
    replies
        Of the round, in any order.
    combination
        How the sites' tensors become one.
    uplink_state
        Prefixes of the memory that each reply must have, for every weight.

    Returns
    -------
    Cohort
        What each site counts for, and its tensors.

    Raises
    ------
    WeightsRefused
        FM-M302, where there is no reply, a site twice, a number of slices that is no whole number above 0, or other
        tensors than those of the state and of `uplink_state`.
    """
    n_slices_of = weight_by_site((reply.site, reply.n_training_slices) for reply in replies)
    names = sorted(state.weights)
    if not names:
        raise WeightsRefused("the server's state names no weights", got="0 names", expected="at least one")
    for reply in replies:
        count = reply.n_training_slices
        if isinstance(count, bool) or not isinstance(count, int) or count > MAX_SLICES:
            raise WeightsRefused(
                f"the reply of {reply.site} has a wrong weight",
                got=count,
                expected=f"a whole number from 1 to {MAX_SLICES}",
            )
        check_names(reply.weights, names, what=f"the weights of {reply.site}")
        expected = [memory for prefix in uplink_state for memory in memory_names(prefix, names)]
        check_names(reply.memory, expected, what=f"the memory of {reply.site}")
    site_shares = {reply.site: reply.weights for reply in replies}
    return Cohort(
        n_slices_of=_weights(combination, n_slices_of, site_shares, state.weights),
        site_shares=site_shares,
        memory_of={reply.site: reply.memory for reply in replies},
        n_trimmed=combination.n_trimmed(len(replies)),
    )


def _weights(
    combination: Combination,
    n_slices_of: Mapping[str, float],
    site_shares: Mapping[str, Arrays],
    reference: Arrays,
) -> Mapping[str, float]:
    """What each site counts for; see `minet_core.algorithms.influence`."""
    if combination.rule == "mean":
        whole = {site: int(n_slices) for site, n_slices in n_slices_of.items()}
        return capped_weights(whole, max_share=combination.max_share)
    if combination.rule == "geometric-median":
        found = geometric_median_weights(update_products(site_shares, reference))
        return {site: float(share) for site, share in zip(sorted(site_shares), found, strict=True)}
    return dict.fromkeys(n_slices_of, 1.0)


def check_names(arrays: Arrays, expected: Sequence[str], *, what: str) -> None:
    """Refuse a mapping of other names than expected.

    Parameters
    ----------
    arrays
        Of which no tensor is read.
    expected
        All the names, in any order.
    what
        Whose names they are, for the message.

    Raises
    ------
    WeightsRefused
        FM-M302, where a name is missing or unknown.
    """
    # Sets of names, for `in` on a lazy mapping may read the tensor.
    differing = sorted(set(arrays) ^ set(expected))
    if differing:
        raise WeightsRefused(
            f"the names of {what} differ from what was expected",
            got=f"a difference in {differing[:3]}",
            expected=f"{len(expected)} names",
        )


def stepped(
    state: ServerState,
    cohort: Cohort,
    new_tensors: Callable[[str, NDArray[Any]], tuple[NDArray[Any], Arrays]],
) -> tuple[ServerState, Diagnostics]:
    """The next state, tensor by tensor, and the figures of the step.

    Parameters
    ----------
    state
        Before the round; left as it is.
    cohort
        Of the round; its shares go into the figures.
    new_tensors
        From a name and the global tensor before the round, the one after it, and the algorithm's own new tensors that
        belong to it.

    Returns
    -------
    tuple of ServerState and Diagnostics
        The state after the round, and L2 norms of the change and of the new weights.
    """
    weights: dict[str, NDArray[Any]] = {}
    memory: dict[str, NDArray[Any]] = {}
    squares = np.zeros(2)

    def step(name: str) -> None:
        # A function of its own, so that the old tensor is given back before the next one is read.
        before = state.weights[name]
        weights[name], own = new_tensors(name, before)
        memory.update(own)
        squares[0] += _square_of_norm(np.subtract(weights[name], before, dtype=np.float64))
        squares[1] += _square_of_norm(weights[name])

    for name in sorted(state.weights):
        step(name)
    update_norm, weights_norm = (float(norm) for norm in np.sqrt(squares))
    figures = Diagnostics(
        site_shares=shares(cohort.n_slices_of), update_norm=update_norm, weights_norm=weights_norm
    )
    return ServerState(weights, memory), figures


def _square_of_norm(array: NDArray[Any]) -> float:
    return float(np.sum(np.square(array, dtype=np.float64)))
