"""Slices that are lost, empty, too dark, too bright, twice there or out of order.

Converters and archives leave them, and nothing in a header tells. A slice is judged against its neighbours, between the
first and the last slice that show anatomy: there the anatomy changes slowly.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sites.quality.scan_quality import ANATOMY_SHARE, foreground

NEIGHBOURS = 3
"""Slices to each side that one is compared with."""
LEVEL_LIMITS = (0.45, 2.2)
"""Intensity of a slice over the median of its neighbours, on the same voxels, in slices of at least half the
largest area. 10 real volumes: 0.84 to 1.11; 24 phantom volumes: 0.87 to 1.08; 40 tiny phantoms: 0.66 to 1.22."""
REPEATED = 0.12
"""Difference of two neighbouring slices over the upper quartile of such differences. 10 real volumes: at least 0.53;
24 phantom volumes: 0.40; 40 tiny phantoms: 0.45; a slice stored twice: 0."""
FOREIGN = 0.5
"""Correlation of a slice with the liker of its neighbours, over that of these two: 10 real volumes at least 1.01,
24 phantom volumes 1.01. Two neighbours exchanged are not found."""
FULL_AREA = 0.5
"""Of the largest slice's foreground: at the ends of the anatomy neighbours differ for good reasons."""


@dataclass(frozen=True)
class SliceFaults:
    """Numbers of slices, from 0 in the volume's order. lost: empty, dark or bright. wrong: repeated or foreign.

    anatomy: (slice,) whether it shows enough foreground.
    """

    anatomy: NDArray[np.bool_]
    empty: tuple[int, ...]
    dark: tuple[int, ...]
    bright: tuple[int, ...]
    repeated: tuple[int, ...]
    foreign: tuple[int, ...]

    @property
    def lost(self) -> tuple[int, ...]:
        return tuple(sorted({*self.empty, *self.dark, *self.bright}))

    def named(self) -> list[str]:
        """What is wrong, for a person: 'empty slice 9', each kind once; counted from 0."""
        kinds = ("empty", "dark", "bright", "repeated", "foreign")
        found = [(kind, getattr(self, kind)) for kind in kinds]
        return [f"{kind} slice {', '.join(map(str, slices))}" for kind, slices in found if slices]


def find_slice_faults(magnitude: NDArray[np.float32]) -> SliceFaults:
    """The faulty slices of (slice, row, column) magnitudes."""
    thinned = magnitude[:, ::2, ::2] if min(magnitude.shape[1:]) >= 128 else magnitude
    inside = foreground(thinned)
    area = inside.sum(axis=(1, 2))  # (slice,)
    typical = float(np.percentile(area, 90))
    anatomy = area >= max(1.0, ANATOMY_SHARE * typical)
    if anatomy.sum() < 3:
        return SliceFaults(anatomy, (), (), (), (), ())
    first, last = int(anatomy.argmax()), len(anatomy) - 1 - int(anatomy[::-1].argmax())
    levels = [_level(thinned, inside, index, first=first, last=last) for index in range(first, last + 1)]
    full = area >= FULL_AREA * typical
    interior = range(first + 1, last)
    around = {i: bool(full[i - 1] or full[i + 1]) for i in interior}
    empty = tuple(i for i in interior if not anatomy[i])
    dark = tuple(i for i in interior if i not in empty and around[i] and levels[i - first] < LEVEL_LIMITS[0])
    bright = tuple(i for i in interior if full[i] and levels[i - first] > LEVEL_LIMITS[1])
    skipped = {*empty, *dark, *bright}
    repeated = _repeated(thinned, [i for i in range(first, last + 1) if full[i] and i not in skipped])
    foreign = tuple(
        i
        for i in interior
        if not skipped & {i - 1, i, i + 1} and full[i - 1 : i + 2].all() and _is_foreign(thinned, i)
    )
    return SliceFaults(anatomy, empty, dark, bright, repeated, foreign)


def _level(
    volume: NDArray[np.float32], inside: NDArray[np.bool_], index: int, *, first: int, last: int
) -> float:
    """Mean of a slice over the median of its neighbours' means, where most of these have foreground."""
    near = [i for i in range(max(first, index - NEIGHBOURS), min(last, index + NEIGHBOURS) + 1) if i != index]
    where = inside[near].mean(axis=0) > 0.5
    if not where.any():
        return 1.0
    usual = float(np.median(volume[near][:, where].mean(axis=1)))
    return float(volume[index][where].mean()) / usual if usual > 0 else 1.0


def _repeated(volume: NDArray[np.float32], indices: list[int]) -> tuple[int, ...]:
    """The slices, of these, that are all but equal to the one before."""
    pairs = [(i, j) for i, j in itertools.pairwise(indices) if j == i + 1]
    if len(pairs) < 2:
        return ()
    change = np.array([float(np.abs(volume[j] - volume[i]).mean()) for i, j in pairs])
    usual = float(np.percentile(change, 75))
    return tuple(j for (_, j), one in zip(pairs, change, strict=True) if one < REPEATED * usual or usual == 0)


def _is_foreign(volume: NDArray[np.float32], index: int) -> bool:
    before, here, after = (volume[i].ravel() for i in (index - 1, index, index + 1))
    around = _correlation(before, after)
    return around > 0.3 and max(_correlation(before, here), _correlation(here, after)) < FOREIGN * around


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    a, b = one - one.mean(), other - other.mean()
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm > 0 else 0.0
