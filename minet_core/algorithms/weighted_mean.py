"""The mean over sites, one tensor at a time.

A site's tensors may be a lazy mapping, each read from a file when it is asked for: nothing here holds the
tensors of two sites at once. The sum runs in the order of the sites' names, so it has the same bytes whatever
the order in which replies arrived.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minet_core.errors import WeightsRefused
from minet_core.weights.array_check import check_array, check_form

CHUNK_VALUES = 2**14
"""Of a tensor, taken at a time: with the sum's own they fit a core's cache, and no memory is asked for anew."""


def weight_by_site(weights: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The weight of every site, in the order of their names.

    Parameters
    ----------
    weights
        Pairs of site and weight, such as its number of training slices.

    Returns
    -------
    dict of site to weight
        Not normalised.

    Raises
    ------
    WeightsRefused
        FM-M302, where there is no site, a site twice, or a weight that is not positive and finite.
    """
    ordered = sorted(weights, key=lambda pair: pair[0])
    if not ordered:
        raise WeightsRefused("there are no weights to average", got="0 replies", expected="at least one")
    sites = [site for site, _ in ordered]
    if len(set(sites)) != len(sites):
        raise WeightsRefused("a site replied twice", got=sites, expected="one reply a site")
    for site, weight in ordered:
        if not (math.isfinite(weight) and weight > 0):
            raise WeightsRefused(
                f"the reply of {site} has a wrong weight", got=weight, expected="a number above 0"
            )
    return dict(ordered)


def shares(weight_of: Mapping[str, float]) -> dict[str, float]:
    """The shares of the sites, p_s = n_s / sum_s n_s.

    Parameters
    ----------
    weight_of
        n_s by site, above 0.

    Returns
    -------
    dict of site to share
        In the order of names, of sum 1.
    """
    total = math.fsum(weight_of.values())
    return {site: weight_of[site] / total for site in sorted(weight_of)}


def mean_over_sites(
    name: str,
    arrays_of: Mapping[str, Mapping[str, NDArray[Any]]],
    *,
    weight_of: Mapping[str, float],
    shape: tuple[int, ...],
    dtype: str,
) -> NDArray[Any]:
    """sum_s n_s w_s / sum_s n_s of one tensor.

    They are summed in float64 and cast back. There is no mean of integers: only parameters that learn travel.

    Parameters
    ----------
    name
        Of the tensor.
    arrays_of
        By site its tensors, which may be read when they are asked for.
    weight_of
        n_s, as `weight_by_site` gives it.
    shape, dtype
        What each site's tensor must have; dtype as numpy writes it, "float32".

    Returns
    -------
    array
        Of `shape` and `dtype`.

    Raises
    ------
    WeightsRefused
        FM-M302, where a site's tensor is not of this shape and dtype, is not finite, or holds no floating
        numbers.
    """
    if np.dtype(dtype).kind != "f":
        raise WeightsRefused(f"{name} has no mean", got=dtype, expected="floating numbers")
    mean = float64_mean(name, arrays_of, weight_of=weight_of, shape=shape, dtype=dtype)
    return cast_back(name, mean, dtype)


def float64_mean(
    name: str,
    arrays_of: Mapping[str, Mapping[str, NDArray[Any]]],
    *,
    weight_of: Mapping[str, float],
    shape: tuple[int, ...],
    dtype: str,
    start: NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """sum_s p_s (w_s - start) of one tensor.

    Parameters
    ----------
    name
        Of the tensor.
    arrays_of
        By site its tensors, which may be read when they are asked for.
    weight_of
        n_s, as `weight_by_site` gives it.
    shape, dtype
        What each site's tensor must have.
    start : array of `shape` or None
        With it, the mean update, exactly zero where no site moved; None for zero.

    Returns
    -------
    float64 array of `shape`
        Summed in the order of the sites' names.

    Raises
    ------
    WeightsRefused
        FM-M302, where a site's tensor is not of this shape and dtype, or is not finite.
    """
    mean = np.zeros(shape, dtype=np.float64)
    scratch = np.empty(min(mean.size, CHUNK_VALUES))
    with np.errstate(invalid="ignore", over="ignore"):  # looked at below
        for site, share in shares(weight_of).items():
            _add_floats(mean, name, arrays_of[site][name], share, start=start, dtype=dtype, scratch=scratch)
    if not np.isfinite(mean).all():  # a value that is no number leaves none in the mean
        for site in weight_of:
            check_array(name, arrays_of[site][name], shape=mean.shape, dtype=dtype)
    return mean


def cast_back(name: str, values: NDArray[np.float64], dtype: DTypeLike) -> NDArray[Any]:
    """Values in the dtype of the weights.

    Parameters
    ----------
    name
        Of the tensor, for the message.
    values : float64 array
        Of any shape.
    dtype
        The number type to bring them to.

    Returns
    -------
    array
        Of the shape of `values`.

    Raises
    ------
    WeightsRefused
        FM-M302, where one of them is too large for it.
    """
    with np.errstate(over="ignore"):
        cast = np.asarray(values, dtype=np.float64).astype(dtype)
    if not np.isfinite(cast).all():
        raise WeightsRefused(f"the new {name} is not finite", got=f"a value beyond {cast.dtype}")
    return cast


def _add_floats(
    mean: NDArray[np.float64],
    name: str,
    array: NDArray[Any],
    share: float,
    *,
    start: NDArray[Any] | None,
    dtype: str,
    scratch: NDArray[np.float64],
) -> None:
    # A function of its own, so that a site's tensor is given back before the next one is read.
    check_form(name, array, shape=mean.shape, dtype=dtype)
    total, own = mean.reshape(-1), array.reshape(-1)
    before = None if start is None else start.reshape(-1)
    for first in range(0, own.size, CHUNK_VALUES):
        chunk = slice(first, first + CHUNK_VALUES)
        moved = scratch[: len(total[chunk])]
        moved[...] = own[chunk]
        if before is not None:
            moved -= before[chunk]
        moved *= share
        total[chunk] += moved
