"""How much one site may move the global model: a bound on its share, and rules that one site does not steer.

    mean               sum_s p_s w_s, no p_s above `max_share`
    trimmed-mean       by coordinate, the mean without the k largest and the k smallest values
    median             by coordinate, the middle value
    geometric-median   the point with the least sum of distances to the sites' whole updates

Yin, Chen, Ramchandran, Bartlett: "Byzantine-Robust Distributed Learning", ICML 2018 (median, trimmed mean);
Pillutla, Kakade, Harchaoui: "Robust Aggregation for Federated Learning", IEEE TSP 2022 (geometric median).

Departures: the last three give each site one vote, whatever its slices: a weight is what a hostile site would claim.
Every value is computed in the order of the sites' names, so its bytes do not depend on the order of arrival.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from minet_core.errors import InvalidSetting, WeightsRefused
from minet_core.weights.array_check import check_array
from minet_core.weights.manifest import Arrays

Rule = Literal["mean", "trimmed-mean", "median", "geometric-median"]
RULES: tuple[Rule, ...] = ("mean", "trimmed-mean", "median", "geometric-median")

MIN_CAPPED = 3
"""Replies from which a share is bounded: of two, one has half or more whatever is done."""

AGREED, AGAINST = 0.3, 0.5
"""Mean cosine above which the others agree on a tensor, and the part of it by which a site must point the other way to
be against them: half as much as they agree, so that a site which differs from all is not taken for one that opposes."""

MIN_VALUES, MIN_TENSORS = 4, 5
"""A tensor of fewer values has a direction by chance, and of fewer tensors no share is said."""

_BLOCK_VALUES = 2**20
"""Values of all sites together that a rule holds at a time: 8 MB, beside one tensor of one site."""

_WEISZFELD_STEPS = 200
_SMOOTHING = 1e-6
"""Of the geometric median: steps (a fixed number gives fixed bytes), and the least distance, in median norms."""


@dataclass(frozen=True)
class Combination:
    """How the sites' tensors become one. max_share: above 0 to 1. trim: part cut off at either end, below 0.5."""

    rule: Rule = "mean"
    max_share: float = 1.0
    trim: float = 0.2

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise InvalidSetting("there is no such rule of aggregation", got=self.rule, expected=RULES)
        if not 0 < self.max_share <= 1:
            raise InvalidSetting("max_share is out of its range", got=self.max_share, expected="above 0 to 1")
        if not 0 <= self.trim < 0.5:
            raise InvalidSetting("trim is out of its range", got=self.trim, expected="0 to below 0.5")

    def n_trimmed(self, n_sites: int) -> int | None:
        """Values that are left out at either end of a coordinate.

        Parameters
        ----------
        n_sites
            Replies of the round, at least 1.

        Returns
        -------
        int or None
            At most (n_sites - 1) // 2, so that one value stays; None where the rule is no coordinate-wise one.
        """
        if self.rule == "median":
            return (n_sites - 1) // 2
        if self.rule == "trimmed-mean":
            return min(max(math.floor(self.trim * n_sites), 1), (n_sites - 1) // 2)
        return None


PLAIN = Combination()
"""The mean by slices, without a bound."""


def capped_weights(slices_of: Mapping[str, int], *, max_share: float) -> Mapping[str, float]:
    """The weights of the mean, such that no share is above a bound.

    What a site has above it goes to the others, in proportion to their slices; where that lifts another one above it,
    that one is bounded too. Where `max_share` is below 1/N, every site has 1/N.

    Parameters
    ----------
    slices_of
        Training slices by site, whole numbers above 0.
    max_share
        The largest part of the sum that one site may have, above 0 to 1.

    Returns
    -------
    mapping of site to weight
        Not normalised. `slices_of` itself where nobody is above the bound, and with fewer than `MIN_CAPPED` sites.
    """
    if len(slices_of) < MIN_CAPPED:
        return slices_of
    cap = max(Fraction(max_share), Fraction(1, len(slices_of)))
    capped: set[str] = set()
    while True:
        rest = {site: n for site, n in slices_of.items() if site not in capped}
        left = 1 - cap * len(capped)
        above = {site for site, n in rest.items() if n * left > cap * sum(rest.values())}
        if not above:
            break
        capped |= above
    if not capped:
        return slices_of
    of_capped = cap * sum(rest.values()) / left if rest else Fraction(1)
    return {site: float(of_capped if site in capped else n) for site, n in slices_of.items()}


def trimmed_mean(
    name: str,
    arrays_of: Mapping[str, Arrays],
    *,
    n_trimmed: int,
    shape: tuple[int, ...],
    dtype: str,
) -> NDArray[np.float64]:
    """The mean of a tensor by coordinate, without the largest and the smallest values.

    Parameters
    ----------
    name
        Of the tensor.
    arrays_of
        By site its tensors, which may be read when they are asked for.
    n_trimmed
        Values left out at either end; less than half of the sites.
    shape, dtype
        What each site's tensor must have; dtype as numpy writes it, a floating one.

    Returns
    -------
    float64 array of `shape`
        Each site has one vote.

    Raises
    ------
    WeightsRefused
        FM-M302, for a tensor of another shape or dtype, that is not finite or not of floats.

    References
    ----------
    Yin et al.: "Byzantine-Robust Distributed Learning", ICML 2018.
    """
    if np.dtype(dtype).kind != "f":
        raise WeightsRefused(f"{name} has no order to trim", got=dtype, expected="floating numbers")
    result = np.empty(math.prod(shape), dtype=np.float64)
    for start, block in _blocks(name, arrays_of, shape=shape, dtype=dtype):
        block.sort(axis=0)
        kept = block[n_trimmed : len(block) - n_trimmed]
        result[start : start + block.shape[1]] = kept.sum(axis=0) / len(kept)
    return result.reshape(shape)


def update_products(arrays_of: Mapping[str, Arrays], reference: Arrays) -> NDArray[np.float64]:
    """The products <u_s, u_t> of the sites' updates u_s = w_s - reference.

    Holds one tensor of one site and a block of all.

    Parameters
    ----------
    arrays_of
        By site its tensors, w_s.
    reference
        The global weights before the round.

    Returns
    -------
    (site, site) float64
        In the order of the sites' names.

    Raises
    ------
    WeightsRefused
        FM-M302, for a tensor of another shape or dtype than the reference's, or that is not finite.
    """
    return products_and_tensors(arrays_of, reference)[0]


def products_and_tensors(
    arrays_of: Mapping[str, Arrays], reference: Arrays
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`update_products`, and the same of each tensor alone.

    Parameters
    ----------
    arrays_of
        By site its tensors, w_s.
    reference
        The global weights before the round.

    Returns
    -------
    (site, site) and (tensor, site, site) float64
        Sites and tensors in the order of their names; tensors of fewer than `MIN_VALUES` values are left out of the
        second.

    Raises
    ------
    WeightsRefused
        FM-M302, as `update_products`.
    """
    products, of_tensors = np.zeros((len(arrays_of), len(arrays_of))), []
    for name in sorted(reference):
        before = reference[name]
        flat, own = before.reshape(-1).astype(np.float64), np.zeros_like(products)
        for start, block in _blocks(name, arrays_of, shape=before.shape, dtype=str(before.dtype)):
            block -= flat[start : start + block.shape[1]]
            of_block = _products(block)
            products += of_block
            own += of_block
        if flat.size >= MIN_VALUES:
            of_tensors.append(own)
    return products, np.reshape(of_tensors, (len(of_tensors), *products.shape))


def geometric_median_weights(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shares whose mean is the geometric median of the updates, by the smoothed Weiszfeld algorithm.

    Parameters
    ----------
    products : (site, site) float64
        From `update_products`.

    Returns
    -------
    (site,) float64
        Above 0, of sum 1.

    References
    ----------
    Pillutla, Kakade, Harchaoui: "Robust Aggregation for Federated Learning", IEEE TSP 2022.
    """
    n_sites = len(products)
    squares = np.diag(products)
    least = _SMOOTHING * float(np.sqrt(np.median(squares))) + np.finfo(np.float64).tiny
    shares = np.full(n_sites, 1 / n_sites)
    for _ in range(_WEISZFELD_STEPS):
        towards = np.einsum("ij,j->i", products, shares)
        distances = np.sqrt(np.maximum(squares - 2 * towards + float(np.sum(shares * towards)), 0.0))
        weights = 1 / np.maximum(distances, least)
        shares = weights / weights.sum()
    return shares


def agreements(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cosine of each site's update to the mean of the others' directions.

    Directions and not updates: the largest of the others must not speak for all of them.

    Parameters
    ----------
    products : (site, site) float64
        From `update_products`.

    Returns
    -------
    (site,) float64
        -1 to 1; 0 for an update of nothing, and where there are no others.
    """
    cosines = _cosines(products)
    found = [_agreement(cosines, site) for site in range(len(products))]
    return np.clip(found, -1.0, 1.0)


def turned_shares(of_tensors: NDArray[np.float64], among: Sequence[int] | None = None) -> NDArray[np.float64]:
    """The part of the tensors in which each site goes against the others, of those that the others agree on.

    The others agree on a tensor where the mean cosine between them is above `AGREED`; a site goes against them where
    its own to their mean direction is below minus `AGAINST` of that. It counts tensors, and so sees what the cosine
    of whole updates does not: a reversed part that is short.

    Parameters
    ----------
    of_tensors : (tensor, site, site) float64
        The second of `products_and_tensors`, of three sites or more.
    among
        The rows of the sites that are looked at, three or more; all where it is None.

    Returns
    -------
    (site,) float64
        Of those in `among`, in its order: 0 to 1; nan where the others agree on fewer than `MIN_TENSORS`.
    """
    sites = list(range(of_tensors.shape[1]) if among is None else among)
    n_agreed, n_against = np.zeros(len(sites)), np.zeros(len(sites))
    for products in of_tensors:
        of = _cosines(products[np.ix_(sites, sites)])
        rows, own = of.sum(axis=1), np.diag(of)
        squares = np.maximum(of.sum() - 2 * rows + own, 0.0)  # of the sum of the others' directions
        n_pairs = (len(of) - 1) * (len(of) - 2) / 2
        mean = (squares - (own.sum() - own)) / 2 / n_pairs
        towards = np.divide(rows - own, np.sqrt(squares), out=np.zeros(len(of)), where=squares > 0)
        n_agreed += mean > AGREED
        n_against += (mean > AGREED) & (towards < -AGAINST * mean)
    return np.where(n_agreed >= MIN_TENSORS, n_against / np.maximum(n_agreed, 1), np.nan)


def _products(block: NDArray[np.float64]) -> NDArray[np.float64]:
    """The products of the rows with each other, each pair once.

    einsum and not BLAS, whose sums depend on the number of its threads.
    """
    found = np.empty((len(block), len(block)))
    for row in range(len(block)):
        found[row, row:] = found[row:, row] = np.einsum("jk,k->j", block[row:], block[row])
    return found


def _cosines(products: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.sqrt(np.diag(products))
    safe = np.where(lengths > 0, lengths, 1.0)
    return np.asarray(products / np.outer(safe, safe))


def _agreement(cosines: NDArray[np.float64], site: int) -> float:
    """The cosine of one site to the mean of the others' directions; 0 where either has no length."""
    others = [other for other in range(len(cosines)) if other != site]
    length = math.sqrt(max(float(cosines[np.ix_(others, others)].sum()), 0.0))
    return float(cosines[site, others].sum()) / length if length > 0 else 0.0


class Shortened(Mapping[str, NDArray[Any]]):
    """Arrays whose distance from a reference is made `factor` times as long; read as they are asked for.

    Parameters
    ----------
    arrays
        By name.
    reference
        Of the same names; None for zero.
    factor
        0 to 1.
    """

    def __init__(self, arrays: Arrays, reference: Arrays | None, factor: float) -> None:
        self._arrays, self._reference, self._factor = arrays, reference, factor

    def __getitem__(self, name: str, /) -> NDArray[Any]:
        array = self._arrays[name]
        start = np.float64(0) if self._reference is None else self._reference[name].astype(np.float64)
        return np.asarray(start + self._factor * (array.astype(np.float64) - start), dtype=array.dtype)

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def _blocks(
    name: str, arrays_of: Mapping[str, Arrays], *, shape: tuple[int, ...], dtype: str
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """The first coordinate of each block of a tensor and its values, (site, coordinate), float64."""
    sites: Sequence[str] = sorted(arrays_of)
    size = math.prod(shape)
    length = max(_BLOCK_VALUES // len(sites), 1)
    for start in range(0, size, length):
        block = np.empty((len(sites), min(length, size - start)))
        for row, site in enumerate(sites):
            _read_into(block[row], name, arrays_of[site][name], start=start, shape=shape, dtype=dtype)
        yield start, block


def _read_into(
    row: NDArray[np.float64],
    name: str,
    array: NDArray[Any],
    *,
    start: int,
    shape: tuple[int, ...],
    dtype: str,
) -> None:
    # A function of its own, so that a site's tensor is given back before the next one is read.
    check_array(name, array, shape=shape, dtype=dtype)
    row[:] = array.reshape(-1)[start : start + len(row)]
