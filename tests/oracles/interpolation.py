"""Interpolation along one axis, sample by sample, float64: the trigonometric polynomial and Keys's cubic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Line = NDArray[np.float64]


def trigonometric(samples: Line, scale: int) -> Line:
    """The real trigonometric polynomial of least degree through `samples`, at the points m / scale."""
    n_samples = len(samples)
    values = np.zeros(scale * n_samples)
    for m in range(scale * n_samples):
        x = m / scale
        for n, sample in enumerate(samples):
            kernel = 1.0
            for k in range(1, (n_samples - 1) // 2 + 1):
                kernel += 2 * np.cos(2 * np.pi * k * (x - n) / n_samples)
            if n_samples % 2 == 0:
                kernel += np.cos(np.pi * (x - n))
            values[m] += sample * kernel / n_samples
    return values


def keys_cubic(samples: Line, scale: int) -> Line:
    """Keys's cubic convolution with a = -1/2 at the points m / scale, edge samples repeated."""
    values = np.zeros(scale * len(samples))
    for m in range(scale * len(samples)):
        x = m / scale
        for n in range(int(np.floor(x)) - 1, int(np.floor(x)) + 3):
            values[m] += samples[min(max(n, 0), len(samples) - 1)] * _keys_kernel(x - n)
    return values


def along_both_axes(image: Line, scale: int, interpolate: Callable[[Line, int], Line]) -> Line:
    """A separable interpolation of (h, w): every row, then every column."""
    rows = np.stack([interpolate(row, scale) for row in image])
    return np.stack([interpolate(column, scale) for column in rows.T]).T


def _keys_kernel(s: float) -> float:
    s = abs(s)
    if s <= 1:
        return 1.5 * s**3 - 2.5 * s**2 + 1
    if s < 2:
        return -0.5 * s**3 + 2.5 * s**2 - 4 * s + 2
    return 0.0
