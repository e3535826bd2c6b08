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
FOREIGN = 0.7
"""Correlation of a slice with the liker of its neighbours, over that of these two: 10 real volumes at least 1.01,
24 phantom volumes 1.01; where all even slices moved by 3 mm 0.76 to 0.94, one slice by 6 mm 0.74 to 0.87: not found."""
WITHIN = 0.75
"""What two exchanged neighbours differ, of what they differ from those around: they are one step apart, not two. Where
the patient moved between even and odd slices all of these are alike."""
EXCHANGED = 0.3
"""By how much slices are liker to the one after the next than to the next, on both sides of two neighbours, over what
these two differ: 10 real volumes and 36 phantom volumes at most -0.4, two neighbours exchanged 0.8 to 2.9."""
BLENDED = 0.12
"""What is left of a slice without the mean of its neighbours, over the median of all slices."""
MANY_BLENDED = 0.2
"""From this share of the slices on the whole scan was interpolated: that is measured and said elsewhere."""
INTERLEAVED = 0.8
"""Share of slices that are liker to the one a half, a third or a quarter of the stack away than to the next."""
STRIDES = (2, 3, 4)
MIN_COMPARED = 6
SAID = 3
"""Pairs of exchanged slices that are named."""
FULL_AREA = 0.5
"""Of the largest slice's foreground: at the ends of the anatomy neighbours differ for good reasons."""


@dataclass(frozen=True)
class SliceFaults:
    """Numbers of slices, from 0 in the volume's order. lost: empty, dark or bright; the others refuse the scan.

    anatomy: (slice,) whether it shows enough foreground. blended: the mean of the neighbours. exchanged: the first of
    two neighbours. interleaved: the stack holds every second (third, fourth) slice first, then those between.
    """

    anatomy: NDArray[np.bool_]
    empty: tuple[int, ...]
    dark: tuple[int, ...]
    bright: tuple[int, ...]
    repeated: tuple[int, ...]
    foreign: tuple[int, ...]
    blended: tuple[int, ...] = ()
    exchanged: tuple[int, ...] = ()
    interleaved: bool = False

    @property
    def wrong(self) -> bool:
        return bool(self.repeated or self.foreign or self.blended or self.exchanged or self.interleaved)

    @property
    def lost(self) -> tuple[int, ...]:
        return tuple(sorted({*self.empty, *self.dark, *self.bright}))

    def named(self) -> list[str]:
        """What is wrong, for a person: 'empty slice 9', each kind once.

        Returns
        -------
        list[str]
            Slices counted from 0; empty where nothing is wrong.
        """
        kinds = ("empty", "dark", "bright", "repeated", "foreign", "blended")
        found = [(kind, getattr(self, kind)) for kind in kinds]
        said = [f"{kind} slice {', '.join(map(str, slices))}" for kind, slices in found if slices]
        said += [f"slices {i} and {i + 1} exchanged" for i in self.exchanged[:SAID]]
        if len(self.exchanged) > SAID:
            said.append(f"and {len(self.exchanged) - SAID} more such pairs")
        if self.interleaved:
            said.append("slices in the order of their acquisition (every second, third or fourth one first)")
        return said


def find_slice_faults(magnitude: NDArray[np.float32]) -> SliceFaults:
    """The slices that were lost, repeated, replaced or put out of order.

    Parameters
    ----------
    magnitude
        (slice, row, column).

    Returns
    -------
    SliceFaults
        Without a fault where fewer than three slices show anatomy; of an interleaved stack this alone is said.
    """
    thinned = magnitude[:, ::2, ::2] if min(magnitude.shape[1:]) >= 128 else magnitude
    inside = foreground(thinned)
    area = inside.sum(axis=(1, 2))  # (slice,)
    typical = float(np.percentile(area, 90))
    anatomy = area >= max(1.0, ANATOMY_SHARE * typical)
    if anatomy.sum() < 3:
        return SliceFaults(anatomy, (), (), (), (), ())
    units = _units(thinned)
    interleaved = _interleaved(units, anatomy)
    if interleaved:
        return SliceFaults(anatomy, (), (), (), (), (), interleaved=True)
    first, last = int(anatomy.argmax()), len(anatomy) - 1 - int(anatomy[::-1].argmax())
    levels = _levels(thinned, inside, first=first, last=last)
    full = area >= FULL_AREA * typical
    interior = range(first + 1, last)
    around = {i: bool(full[i - 1] or full[i + 1]) for i in interior}
    empty = tuple(i for i in interior if not anatomy[i])
    dark = tuple(i for i in interior if i not in empty and around[i] and levels[i - first] < LEVEL_LIMITS[0])
    bright = tuple(i for i in interior if full[i] and levels[i - first] > LEVEL_LIMITS[1])
    skipped = {*empty, *dark, *bright}
    good = full & ~np.isin(np.arange(len(full)), list(skipped))
    return SliceFaults(
        anatomy,
        empty,
        dark,
        bright,
        repeated=_repeated(thinned, [int(i) for i in np.flatnonzero(good)]),
        foreign=_foreign(units, good),
        blended=_blended(thinned, good),
        exchanged=_exchanged(units, good),
    )


def _levels(volume: NDArray[np.float32], inside: NDArray[np.bool_], *, first: int, last: int) -> list[float]:
    """Mean of each slice over the median of its neighbours' means, where most of these have foreground."""
    n_slices = last - first + 1
    voxels = volume[first : last + 1].reshape(n_slices, -1)
    shown = inside[first : last + 1].reshape(n_slices, -1).astype(np.int8)
    levels = []
    for index in range(n_slices):
        low, high = max(0, index - NEIGHBOURS), min(n_slices, index + NEIGHBOURS + 1)
        n_shown = shown[low:high].sum(axis=0, dtype=np.int8) - shown[index]
        where = np.flatnonzero(2 * n_shown > high - low - 1)
        if not len(where):
            levels.append(1.0)
            continue
        means = voxels[low:high].take(where, axis=1).mean(axis=1)
        usual = float(np.median(np.delete(means, index - low)))
        levels.append(float(means[index - low]) / usual if usual > 0 else 1.0)
    return levels


def _repeated(volume: NDArray[np.float32], indices: list[int]) -> tuple[int, ...]:
    """The slices, of these, that are all but equal to the one before."""
    pairs = [(i, j) for i, j in itertools.pairwise(indices) if j == i + 1]
    if len(pairs) < 2:
        return ()
    change = np.array([float(np.abs(volume[j] - volume[i]).mean()) for i, j in pairs])
    usual = float(np.percentile(change, 75))
    return tuple(j for (_, j), one in zip(pairs, change, strict=True) if one < REPEATED * usual or usual == 0)


def _units(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """(slice, voxel): each slice about its mean and of length 1, so that products are correlations."""
    units = volume.reshape(len(volume), -1) - volume.mean(axis=(1, 2))[:, None]
    units /= np.maximum(np.linalg.norm(units, axis=1), 1e-12)[:, None]
    return np.asarray(units, np.float32)


def _likeness(units: NDArray[np.float32], distance: int) -> NDArray[np.float32]:
    """The correlation of every slice with the one `distance` after it."""
    return np.asarray(np.einsum("iv,iv->i", units[:-distance], units[distance:]), np.float32)


def _foreign(units: NDArray[np.float32], good: NDArray[np.bool_]) -> tuple[int, ...]:
    """The slices that their neighbours are liker to each other than to."""
    if len(units) < 3:
        return ()
    beside, around = _likeness(units, 1), _likeness(units, 2)
    liker = np.maximum(beside[:-1], beside[1:])
    wrong = (around > 0.3) & (liker < FOREIGN * around) & good[:-2] & good[1:-1] & good[2:]
    return tuple(int(i) + 1 for i in np.flatnonzero(wrong))


def _exchanged(units: NDArray[np.float32], good: NDArray[np.bool_]) -> tuple[int, ...]:
    """The first of two exchanged neighbours: a c b d, where a and d are liker to the farther one."""
    if len(units) < 4:
        return ()
    beside, around = _likeness(units, 1), _likeness(units, 2)
    before, within, after = beside[:-2], beside[1:-1], beside[2:]
    gain = np.minimum(around[:-1] - before, around[1:] - after)
    wrong = (gain > EXCHANGED * (1 - within)) & (1 - within < WITHIN * (1 - np.maximum(before, after)))
    wrong &= good[:-3] & good[1:-2] & good[2:-1] & good[3:]
    return tuple(int(i) + 1 for i in np.flatnonzero(wrong))


def _blended(volume: NDArray[np.float32], good: NDArray[np.bool_]) -> tuple[int, ...]:
    """The slices that are their neighbours' mean: a converter filled a gap."""
    places = [i for i in range(1, len(good) - 1) if good[i - 1 : i + 2].all()]
    if len(places) < MIN_COMPARED:
        return ()
    left = np.array([np.abs(volume[i] - (volume[i - 1] + volume[i + 1]) / 2).mean() for i in places])
    blended = left < BLENDED * float(np.median(left))
    if blended.mean() > MANY_BLENDED:
        return ()
    return tuple(i for i, one in zip(places, blended, strict=True) if one)


def _interleaved(units: NDArray[np.float32], anatomy: NDArray[np.bool_]) -> bool:
    """Whether the slices lie in the order in which several passes acquired them."""
    for stride in STRIDES:
        distance = -(-len(units) // stride)
        seen = np.flatnonzero(anatomy[:-distance] & anatomy[distance:])
        if len(seen) < MIN_COMPARED or distance < 3:
            continue
        far, near = _likeness(units, distance), _likeness(units, 1)[: len(units) - distance]
        if float((far > near)[seen].mean()) > INTERLEAVED:
            return True
    return False
