"""How far a model's picture moves when the same scans are shown to it mirrored: a figure for each voxel.

A network that has learnt nothing about left and right would make the same picture of a mirrored slice, mirrored back.
Where it does not, the detail hangs on the network's chance and not on the scan. The spread by itself is no error bar: a
place of no spread may be wrong, and where the picture is interpolated it is zero and says nothing. Where the model's
file says how far the errors of validation patients went beyond it, it becomes one (`error_map.py`).

References
----------
Wang et al., "Aleatoric uncertainty estimation with test-time augmentation for medical image segmentation with
convolutional neural networks", Neurocomputing 338 (2019).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Number = TypeVar("Number", bound=np.generic)
FLIPS: tuple[tuple[int, ...], ...] = ((1,), (2,), (1, 2))
"""Rows, columns, both; with the picture itself four passes. The frame is symmetric (`refined_grid.py`)."""


def flipped(array: NDArray[Number], axes: tuple[int, ...]) -> NDArray[Number]:
    """A mirrored copy.

    Parameters
    ----------
    array : (slice, row, column)
        Of any type.
    axes
        Which are mirrored.

    Returns
    -------
    (slice, row, column)
        Contiguous.
    """
    return np.ascontiguousarray(np.flip(array, axes))


def spread_over_flips(first: Array, again: Callable[[tuple[int, ...]], Array]) -> Array:
    """The standard deviation of the pictures.

    Parameters
    ----------
    first : (slice, row, column)
        The picture.
    again
        Makes it of scans that are mirrored along some axes, and mirrors it back.

    Returns
    -------
    (slice, row, column) float32
        In the units of the picture; of all four, not of a sample.
    """
    mean = first.astype(np.float32, copy=True)
    squares = np.zeros_like(mean)
    for count, axes in enumerate(FLIPS, start=2):
        picture = again(axes)
        off = picture - mean
        mean += off / count
        squares += off * (picture - mean)
    return np.asarray(np.sqrt(np.maximum(squares, 0) / (len(FLIPS) + 1)), dtype=np.float32)
