"""How far an image lies from the truth on its grid, to a hundredth of a sample.

A shift of half a sample between an interpolation and the truth costs decibels and hides as blur: this finds
it. H row, W column.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.registration import phase_cross_correlation

from minet_core.errors import MetricInvalid

_registration: Callable[..., tuple[NDArray[np.float64], float, float]] = phase_cross_correlation

STEPS_PER_PX = 100
"""Steps of the search, a sample: the figure is rounded to 0.01 px."""


def shift_px(image: ArrayLike, truth: ArrayLike) -> tuple[float, float]:
    """Displacement of `image` against `truth` along (row, column), pixels, by phase correlation.

    image, truth: (H, W) magnitude. Positive: the image lies at larger indices. The peak of the correlation
    is found by an upsampled Fourier transform (Guizar-Sicairos et al. 2008). The spectra are weighted by
    amplitude, for the phase of what an interpolation left at zero is rounding error.
    Raises MetricInvalid for other shapes, an image without signal, or a value that is not finite.
    """
    seen, true = np.asarray(image, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    signal = bool(np.isfinite(seen).all() and np.isfinite(true).all() and seen.any() and true.any())
    if seen.ndim != 2 or seen.shape != true.shape or not signal:
        raise MetricInvalid(
            "no shift can be found between two images",
            got=f"shapes {seen.shape} and {true.shape}, signal and finite: {signal}",
            expected="one shape (row, column), finite, with signal",
        )
    towards_truth, _, _ = _registration(true, seen, upsample_factor=STEPS_PER_PX, normalization=None)
    row, column = (0.0 - towards_truth).tolist()  # never -0.0
    return row, column
