"""A patch of a slice, cut at random where there is something to see.

It is cut at a multiple of the scale; a patch that is air (`MIN_FOREGROUND`, `AIR_LEVEL`) is passed over for another
slice's. The upsampled patch is cut from the whole frame's, which knows what lies beyond the patch's edge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from minet_core.errors import ScanInvalid
from minet_core.training.flips import NO_FLIPS, Flips, cut
from minet_core.training.samples import Sample, SampleSlices

AIR_LEVEL = 0.5
"""A sample is foreground above this fraction of its slice's mean (air included): well below dark tissue's
intensity, well above the noise floor."""
MIN_FOREGROUND = 0.1
"""A patch with a smaller fraction of foreground samples is air."""
MAX_DRAWS = 8
"""Draws for one place in a batch; the last is taken even if it is air, so a source of air cannot hang."""


def draw_patch(
    prepared: SampleSlices,
    order: Iterator[int],
    *,
    patch_px: int,
    generator: torch.Generator,
    flips: Flips = NO_FLIPS,
) -> Sample:
    """A patch with foreground, of the next slice of `order` that gives one, within `MAX_DRAWS`.

    Parameters
    ----------
    prepared
        Whole slices by number.
    order
        Numbers of slices to try, `MAX_DRAWS` or more.
    patch_px : int, high-resolution pixels
        Edge of the patch, a multiple of the scale.
    generator
        Draws the place in each slice.
    flips
        Of whichever patch it is.

    Returns
    -------
    Sample
        (patch_px, patch_px) at high resolution; `mean` and `std` are those of the whole slice. The last draw is taken
        even if it is air.

    Raises
    ------
    ScanInvalid
        Where a slice is smaller than the patch.
    """
    for _ in range(MAX_DRAWS):
        sample = prepared[next(order)]
        patch = _cut(sample, patch_px=patch_px, scale=prepared.scale, generator=generator, flips=flips)
        foreground = patch.restore(patch.target) > AIR_LEVEL * patch.mean
        if foreground.float().mean() >= MIN_FOREGROUND:
            break
    return patch


def _cut(sample: Sample, *, patch_px: int, scale: int, generator: torch.Generator, flips: Flips) -> Sample:
    """One patch at a random multiple of `scale`, (patch_px, patch_px) at high resolution."""
    edge = patch_px // scale
    h, w = sample.low_res.shape
    if edge > min(h, w):
        raise ScanInvalid(
            "a slice is smaller than the patch",
            got=tuple(sample.target.shape),
            expected=f"at least {patch_px} px an axis",
            action="Set a smaller patch_px, or null for whole slices",
        )
    top = int(torch.randint(h - edge + 1, (), generator=generator))
    left = int(torch.randint(w - edge + 1, (), generator=generator))
    if flips != NO_FLIPS:
        return cut(sample, (top, left), (edge, edge), scale=scale, flips=flips)

    def part(image: Tensor, step: int) -> Tensor:
        return image[top * step : (top + edge) * step, left * step : (left + edge) * step]

    return sample.mapped(part, scale=scale)


def flip_slice(sample: Sample, flips: Flips, *, scale: int) -> Sample:
    """A whole slice, flipped. One that is no square is not transposed: slices of a batch have one size.

    Parameters
    ----------
    sample
        The slice.
    flips
        Which.
    scale
        Of the degradation.

    Returns
    -------
    Sample
        The same one for no flips.
    """
    if flips == NO_FLIPS:
        return sample
    h, w = sample.low_res.shape
    return cut(
        sample, (0, 0), (h, w), scale=scale, flips=flips if h == w else replace(flips, transposed=False)
    )
