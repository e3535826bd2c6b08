# mypy: disallow-untyped-calls=False
"""Whether target and reference agree slice by slice: a slice that is missing, doubled or out of order.

A converter that meets a gap may pack the slices as if there were none, and says so on a screen that nobody sees. The
pair still registers, by the half that fits, and every slice of the other half is guided by its neighbour's anatomy.

Each slice of the target is therefore looked for in the registered reference along the slice axis alone, by all its
blocks together. Along a whole stack these offsets lie near zero; where a slice is missing they step by a spacing.

S slice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # noqa: N813 (the name its own manual uses)
from numpy.typing import NDArray

from sites.registration.block_matching import compare_blocks

REACH = 1.6
"""Spacings of the slices to either side: a slice that is missing or doubled is one away."""
MIN_REACH_MM = 4.0
MAX_BLOCKS = 4000
MIN_BLOCKS = 4
MIN_BLOCK_SHARE = 0.15
"""A slice of fewer blocks, or of a smaller share of the fullest slice's, says nothing."""
MIN_CONTRAST = 0.05
"""By how much the best place of a slice agrees better than its median place."""
WINDOW_MM = 12.0
MIN_WINDOW_MM = 5.0
"""What is taken together on each side of a step; nearer to an end of the stack no step is looked for."""
MIN_WINDOW, MAX_WINDOW = 3, 8
"""Of three slices one may lie: the outermost have little anatomy."""
MAX_STEP = 0.45
"""In spacings: a larger one is a fault. The five real pairs of open_ms_data step by 0.08 to 0.21; with one slice of the
target left out or doubled, at three places of each, by 0.64 to 1.27."""
MIN_GAIN = 0.35
"""By how much the slices about a step agree better at their own side's offset than at the other side's, over how much
they agree better at their best place than at a usual one: the evidence that the step is one. A noisy slice is liker to
the mean of two noisy ones, half a spacing away, and its offset then steps where no slice is missing. Whole pairs of
phantoms, with noise of up to 20%, have at most 0.28 where their offsets step the most; with a slice left out or
doubled, with noise of up to 10%, 0.41 to 1.0. Real pairs: 0.03 and 0.44 to 1.1."""
MAX_OUT_OF_ORDER = 0.1
"""0 in the five real pairs."""


@dataclass(frozen=True)
class SliceOffsets:
    """Where each slice is found.

    offsets: (S,) along the slice axis, in spacings of the target; NaN where the slice says nothing. agreement: (S,)
    mean squared correlation of its blocks where registration puts them; NaN likewise. spacing_mm: between slices.
    curves: (S, places) the same at every place that was tried; NaN likewise. places: (places,) in spacings.
    """

    offsets: NDArray[np.float64]
    agreement: NDArray[np.float64]
    spacing_mm: float
    curves: NDArray[np.float64]
    places: NDArray[np.float64]

    def gain(self, before: NDArray[np.int_], after: NDArray[np.int_]) -> float:
        """How much better slices agree at their own side's offset than at the other side's: see `MIN_GAIN`.

        Parameters
        ----------
        before, after
            Slices on the two sides of a step.

        Returns
        -------
        float
            About 1 where they agree at their own side's offset alone; 0 where it makes no difference.
        """
        here, there = (float(np.median(self.offsets[side])) for side in (before, after))
        own = [*self._at(before, here), *self._at(after, there)]
        other = [*self._at(before, there), *self._at(after, here)]
        curves = self.curves[np.concatenate([before, after])]
        best = float((curves.max(axis=1) - np.median(curves, axis=1)).mean())
        return (float(np.mean(own)) - float(np.mean(other))) / best

    def _at(self, slices: NDArray[np.int_], offset: float) -> list[float]:
        return [float(np.interp(offset, self.places, self.curves[index])) for index in slices]


@dataclass(frozen=True)
class Step:
    """slices: the pair of neighbours, counted from 0, between which offsets step by `height` spacings."""

    slices: tuple[int, int]
    height: float


def measure_slices(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> SliceOffsets:
    """Look for each slice of the target in the registered reference, along the slice axis alone.

    Parameters
    ----------
    fixed, moving
        Target and reference as `matching_image` makes them.
    transform
        From points of `fixed` to points of `moving`, world mm.

    Returns
    -------
    SliceOffsets
        (S,) each, S the slices of `fixed`; NaN for a slice that says nothing.
    """
    spacing = fixed.GetSpacing()[2]
    reach = max(REACH * spacing, MIN_REACH_MM)
    blocks = compare_blocks(
        fixed, moving, transform, reach_mm=(reach, 0, 0), slab_mm=0.0, max_blocks=MAX_BLOCKS
    )
    n_slices = fixed.GetSize()[2]
    counts = np.bincount(blocks.corners[:, 0], minlength=n_slices)
    enough = counts >= max(MIN_BLOCKS, MIN_BLOCK_SHARE * counts.max(initial=0))
    offsets, agreement = np.full(n_slices, np.nan), np.full(n_slices, np.nan)
    n_places = blocks.agreement.shape[1]
    places = (np.arange(n_places) - n_places // 2) * blocks.step_mm[0] / spacing
    curves = np.full((n_slices, n_places), np.nan)
    for index in range(n_slices):
        if not enough[index]:
            continue
        of_slice = blocks.agreement[blocks.corners[:, 0] == index, :, 0, 0]  # (blocks, places)
        curve = of_slice.mean(axis=0, dtype=np.float64)
        agreement[index], curves[index] = curve[len(curve) // 2], curve
        best = int(curve.argmax())
        if curve[best] - np.median(curve) < MIN_CONTRAST or best in (0, len(curve) - 1):
            continue
        low, mid, high = curve[best - 1 : best + 2]
        place = best + 0.5 * (low - high) / (low - 2 * mid + high)
        offsets[index] = (place - len(curve) // 2) * blocks.step_mm[0] / spacing
    return SliceOffsets(offsets, agreement, spacing, curves, places)


def largest_step(found: SliceOffsets) -> Step | None:
    """The largest change of offset between two neighbours that the slices around bear out, by their medians.

    Parameters
    ----------
    found
        The offsets of a stack.

    Returns
    -------
    Step | None
        Its height has a sign; in spacings. None: too few slices say anything, or none steps beyond `MAX_STEP` by the
        evidence of its curves.
    """
    window = int(np.clip(round(WINDOW_MM / found.spacing_mm), MIN_WINDOW, MAX_WINDOW))
    margin = max(MIN_WINDOW, round(MIN_WINDOW_MM / found.spacing_mm))
    known = np.flatnonzero(np.isfinite(found.offsets))
    if len(known) < 2 * margin:
        return None
    best = None
    for place in range(margin, len(known) - margin + 1):
        before, after = known[max(0, place - window) : place], known[place : place + window]
        height = float(np.median(found.offsets[after]) - np.median(found.offsets[before]))
        if abs(height) <= max(MAX_STEP, 0.0 if best is None else abs(best.height)):
            continue
        if found.gain(before, after) > MIN_GAIN:
            best = Step((int(known[place - 1]), int(known[place])), height)
    return best


def out_of_order_share(found: SliceOffsets) -> float:
    """How many slices lie beside their place.

    Parameters
    ----------
    found
        The offsets of a stack.

    Returns
    -------
    float
        0 to 1: the share of the slices more than half a spacing from the median of five neighbours. 0 in a whole stack,
        and where too few slices say anything.
    """
    values = found.offsets[np.isfinite(found.offsets)]
    if len(values) < 2 * MIN_WINDOW:
        return 0.0
    padded = np.pad(values, 2, mode="edge")
    neighbours = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)
    return float((np.abs(values - neighbours) > 0.5).mean())
