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

CHUNK_VALUES = 2**16
"""Of a tensor, taken at a time: no memory is asked for anew, and what a pass leaves the next one finds in a cache. Each
call of numpy costs a microsecond or two beside, so 2**14, which fit a core's own cache, take 1.15 times as long."""


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
    mean = _sum_of_shares(name, arrays_of, weight_of=weight_of, shape=shape, dtype=dtype)
    with np.errstate(over="ignore"):  # looked at below
        cast = mean.astype(dtype)
    if not np.isfinite(cast).all():
        _require_numbers(name, arrays_of, weight_of=weight_of, shape=shape, dtype=dtype)
        return cast_back(name, mean, dtype)
    return cast


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
    mean = _sum_of_shares(name, arrays_of, weight_of=weight_of, shape=shape, dtype=dtype, start=start)
    if not np.isfinite(mean).all():  # a value that is no number leaves none in the mean
        _require_numbers(name, arrays_of, weight_of=weight_of, shape=shape, dtype=dtype)
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


def _sum_of_shares(
    name: str,
    arrays_of: Mapping[str, Mapping[str, NDArray[Any]]],
    *,
    weight_of: Mapping[str, float],
    shape: tuple[int, ...],
    dtype: str,
    start: NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """As `float64_mean`, its values not looked at."""
    mean = np.empty(shape)
    scratch = np.empty(min(mean.size, CHUNK_VALUES))
    with np.errstate(invalid="ignore", over="ignore"):
        for number, (site, share) in enumerate(shares(weight_of).items()):
            array = arrays_of[site][name]
            check_form(name, array, shape=shape, dtype=dtype)
            _add_floats(mean, array, share, start=start, scratch=None if number == 0 else scratch)
            del array  # a site's tensor is given back before the next one is read
    return mean


def _add_floats(
    mean: NDArray[np.float64],
    array: NDArray[Any],
    share: float,
    *,
    start: NDArray[Any] | None,
    scratch: NDArray[np.float64] | None,
) -> None:
    """Add a site's share; without `scratch` it is the first, and becomes the sum."""
    total, own = mean.reshape(-1), array.reshape(-1)
    before = None if start is None else start.reshape(-1)
    for first in range(0, own.size, CHUNK_VALUES):
        chunk = slice(first, first + CHUNK_VALUES)
        moved = total[chunk] if scratch is None else scratch[: len(total[chunk])]
        moved[...] = own[chunk]
        if before is not None:
            moved -= before[chunk]
        moved *= share
        total[chunk] += 0.0 if scratch is None else moved  # 0 and -0 are 0


def _require_numbers(
    name: str,
    arrays_of: Mapping[str, Mapping[str, NDArray[Any]]],
    *,
    weight_of: Mapping[str, float],
    shape: tuple[int, ...],
    dtype: str,
) -> None:
    for site in weight_of:
        check_array(name, arrays_of[site][name], shape=shape, dtype=dtype)
