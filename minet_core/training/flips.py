"""Flipped and transposed samples: each place of a batch shows one of the eight ways in which a grid can lie.

A flip keeps the grids in step. Low-resolution sample n lies on high-resolution sample scale * n, so an image that is
simply read backwards would lie scale - 1 pixels beside its low resolution. What is read is therefore shifted by as
much; beyond the first row the frame goes on from its last one, as k-space has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from minet_core.training.samples import Sample


@dataclass(frozen=True)
class Flips:
    """rows, columns: read backwards along that axis. transposed: then rows become columns."""

    rows: bool = False
    columns: bool = False
    transposed: bool = False


NO_FLIPS = Flips()


def draw_flips(generator: torch.Generator) -> Flips:
    """Any of the eight, each as likely.

    Parameters
    ----------
    generator
        On the CPU; three numbers are taken from it.

    Returns
    -------
    Flips
        For one sample.
    """
    rows, columns, transposed = (bool(bit) for bit in torch.randint(2, (3,), generator=generator).tolist())
    return Flips(rows, columns, transposed)


def cut(
    sample: Sample, corner: tuple[int, int], edges: tuple[int, int], *, scale: int, flips: Flips
) -> Sample:
    """A part of a sample, flipped.

    Parameters
    ----------
    sample
        Whole slice, (h, w) and (H, W) = scale times that.
    corner, edges
        First row and column, and how many, in low-resolution samples of `sample`.
    scale
        Of the degradation.
    flips
        `NO_FLIPS` gives views of the sample.

    Returns
    -------
    Sample
        `edges` at low resolution, exchanged where it is transposed; `mean` and `std` are those of the whole slice.
    """
    (top, left), (n_rows, n_columns) = corner, edges

    def of(image: Tensor, step: int) -> Tensor:
        image = _read(image, 0, top, n_rows, step, backwards=flips.rows)
        image = _read(image, 1, left, n_columns, step, backwards=flips.columns)
        return image.mT if flips.transposed else image

    return sample.mapped(of, scale=scale)


def _read(image: Tensor, axis: int, first: int, n: int, step: int, *, backwards: bool) -> Tensor:
    """n * step samples along an axis from `first * step` on, or back from the low resolution's last of these."""
    if not backwards:
        return image.narrow(axis, first * step, n * step)
    last = (first + n - 1) * step
    index = torch.arange(last, last - n * step, -1) % image.shape[axis]
    return image.index_select(axis, index)
