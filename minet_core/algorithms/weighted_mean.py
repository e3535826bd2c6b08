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
from minet_core.weights.array_check import check_array


def weight_by_site(weights: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The weight of every site, by name and in the order of names.

    Raises WeightsRefused (FM-M302) where there is no site, a site twice, or a weight that is not positive and
    finite.
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
    """p_s = n_s / sum_s n_s, by site and in the order of names."""
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
    """sum_s n_s w_s / sum_s n_s of the tensor `name`, with the given shape and dtype.

    arrays_of: the tensors of each site, by site; weight_of: n_s, as `weight_by_site` gives it. They are summed in
    float64 and cast back. Raises WeightsRefused (FM-M302) where a site's tensor is not of this shape and dtype, is
    not finite, or holds no floating numbers: only parameters that learn travel.
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
    """sum_s p_s (w_s - start) of the tensor `name` in float64; start: `shape`, or None for zero.

    With `start`, the mean update: exactly zero where no site moved. Raises as `mean_over_sites`.
    """
    mean = np.zeros(shape, dtype=np.float64)
    for site, share in shares(weight_of).items():
        _add_floats(mean, name, arrays_of[site][name], share=share, start=start, dtype=dtype)
    return mean


def cast_back(name: str, values: NDArray[np.float64], dtype: DTypeLike) -> NDArray[Any]:
    """`values` in `dtype`; WeightsRefused (FM-M302) where one of them is too large for it."""
    with np.errstate(over="ignore"):
        cast = np.asarray(values, dtype=np.float64).astype(dtype)
    if not np.isfinite(cast).all():
        raise WeightsRefused(f"the new {name} is not finite", got=f"a value beyond {cast.dtype}")
    return cast


def _add_floats(
    mean: NDArray[np.float64],
    name: str,
    array: NDArray[Any],
    *,
    share: float,
    start: NDArray[Any] | None,
    dtype: str,
) -> None:
    # A function of its own, so that a site's tensor is given back before the next one is read.
    check_array(name, array, shape=mean.shape, dtype=dtype)
    if start is None:
        mean += np.multiply(array, share, dtype=np.float64)
    else:
        moved = np.subtract(array, start, dtype=np.float64)
        moved *= share
        mean += moved
