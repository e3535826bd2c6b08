"""Whole numbers that were stored in a type too small for them, so that they count on from its other end.

An unsigned 16-bit image in a signed type: its brightest voxels become large and negative (34000 is -31536) in the
midst of bright ones. A signed image in an unsigned type: its slight ringing below zero becomes brightest in the midst
of dark. In both, the step from such a voxel to its neighbour is more than half the range as stored, and less than half
of it as meant. Rounding, ringing and the fill value outside a field of view make no such steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minet_core.errors import ScanInvalid

BEYOND_HALF = 1.25
"""A step counts from this multiple of half the range. A fill value of -32768 beside air makes 1.00 to 1.01."""
SHARE_WRAPPED = 0.3
"""Of the steps. Set on T1 and T2 of one clinical and one brain-extracted training patient, stretched to 34000, 40000
and 65535 and stored as int16: 0.50 (a single voxel) to 1.00. Fill values beside tissue of usual brightness: to 0.05."""
SHARE_DOUBTFUL = 0.1
FILL_SHARE = 0.9
"""Of the voxels below zero; where so many, and `MIN_FILL` at least, hold one value, it is a fill value."""
MIN_FILL = 100
MIN_DEPTH = 0.125
"""Of half the range: what is less far below zero is ringing."""
DEEPEST_RINGING = 0.09
"""Of the unsigned range, from its end: where ringing below zero comes to lie."""
MIN_VOXELS = 8
HALF_OF_SHORT = 1 << 15


def unwrapped(stored: NDArray[Any], *, what: str) -> tuple[NDArray[Any], str | None]:
    """The voxels as they were meant, and the remark to be made.

    Parameters
    ----------
    stored
        Any shape: whole numbers in the type they were stored in, or floats that hold 16-bit ones.
    what
        The scan's name, for the message.

    Returns
    -------
    tuple[NDArray[Any], str | None]
        The same array and None where nothing is wrong. Else a copy of the same shape, int32 for whole numbers and the
        stored type for floats, and a sentence.

    Raises
    ------
    ScanInvalid
        FM-D202: voxels are far below zero and it cannot be told which of them are bright.
    """
    half = _half_of_range(stored)
    if half is None:
        return stored, None
    if stored.dtype.kind == "u":
        return _below_zero(stored, half)
    if not stored.min() <= -MIN_DEPTH * half:
        return stored, None
    negative = stored < 0
    if _is_fill(stored[negative]):
        return stored, None
    share = _share_of_steps(stored, negative, half)
    if share >= SHARE_WRAPPED:
        meant = stored.astype(np.int32 if stored.dtype.kind == "i" else stored.dtype)
        meant[negative] += 2 * half
        return meant, (
            f"{int(negative.sum())} bright voxels were stored as negative numbers (an unsigned image in a signed type) "
            "and are read as they were meant"
        )
    if share >= SHARE_DOUBTFUL:
        raise ScanInvalid(
            f"{what} holds bright voxels that may have been stored as negative numbers",
            got=f"{int(negative.sum())} voxels down to {stored.min()}",
            expected="an unsigned type for values from 32768 on",
            action="Export it again, as unsigned 16-bit or as float",
        )
    return stored, None


def _half_of_range(stored: NDArray[Any]) -> int | None:
    """Half the number of values of the type; None where nothing of it can have wrapped."""
    if stored.dtype.kind in "iu":
        return 1 << (8 * stored.dtype.itemsize - 1) if stored.dtype.itemsize <= 2 else None
    low, high = stored.min(), stored.max()
    within = -HALF_OF_SHORT <= low <= -MIN_DEPTH * HALF_OF_SHORT and high < HALF_OF_SHORT
    return HALF_OF_SHORT if within and (np.trunc(stored) == stored).all() else None


def _below_zero(stored: NDArray[Any], half: int) -> tuple[NDArray[Any], str | None]:
    """An unsigned image whose brightest voxels are the ringing below zero of a signed one."""
    beyond = stored >= half
    n_beyond = int(beyond.sum())
    if n_beyond < MIN_VOXELS or stored[beyond].min() < 2 * half * (1 - DEEPEST_RINGING):
        return stored, None
    if _share_of_steps(stored, beyond, half) < 1 - SHARE_DOUBTFUL:
        return stored, None
    meant = stored.astype(np.int32)
    meant[beyond] -= 2 * half
    return (
        meant,
        f"{n_beyond} voxels slightly below zero were stored as the brightest ones and are read as zero",
    )


def _is_fill(values: NDArray[Any]) -> bool:
    n_equal = int((values == np.median(values)).sum())
    return n_equal >= MIN_FILL and n_equal >= FILL_SHARE * values.size


def _share_of_steps(stored: NDArray[Any], chosen: NDArray[np.bool_], half: int) -> float:
    """Of the steps between a chosen voxel and a neighbour that is none, the share that is beyond half the range."""
    n_steps = n_beyond = 0
    for axis in range(stored.ndim):
        first = tuple(slice(None, -1) if one == axis else slice(None) for one in range(stored.ndim))
        second = tuple(slice(1, None) if one == axis else slice(None) for one in range(stored.ndim))
        across = chosen[first] != chosen[second]
        steps = np.abs(stored[first][across].astype(np.float64) - stored[second][across])
        n_steps += steps.size
        n_beyond += int((steps > BEYOND_HALF * half).sum())
    return n_beyond / n_steps if n_steps else 0.0
