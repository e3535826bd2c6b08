"""Images made coarser by the means of blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def block_means(array: NDArray[np.generic], factors: Sequence[int]) -> NDArray[np.float32]:
    """Means of blocks of samples.

    One axis after the other: a fifth of the time of a mean over all axes of the blocks at once.

    Parameters
    ----------
    array : of any number of axes
        Numbers or truth values.
    factors
        Samples of a block along each axis, at least 1.

    Returns
    -------
    float32, of shape `array.shape[i] // factors[i]`
        What does not fill a block at the end of an axis is left out. Where all factors are 1, `array` itself if it is
        float32.
    """
    means = np.asarray(array, np.float32)
    for axis, factor in enumerate(factors):
        if factor == 1:
            continue
        first = (slice(None),) * axis
        n_kept = means.shape[axis] // factor * factor
        total = means[(*first, slice(0, n_kept, factor))].copy()
        for place in range(1, factor):
            total += means[(*first, slice(place, n_kept, factor))]
        means = total
    if math.prod(factors) > 1:  # a sum of its own, and not the array that was given
        means /= np.float32(math.prod(factors))
    return means
