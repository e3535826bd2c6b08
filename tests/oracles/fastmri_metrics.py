"""The fastMRI figures of a volume as formulas, float64, every window laid out.

Definitions: Zbontar et al. 2018, section 5, and Wang et al. 2004 for SSIM, with what the `fastmri` package
sets: the volume's maximum as data range L, a uniform window of 7 x 7, unbiased (co)variances, k1 = 0.01,
k2 = 0.03, the mean over the windows that lie wholly in the slice and then over slices.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float64]


def nmse(target: Array, image: Array) -> float:
    return float(np.linalg.norm(target - image) ** 2 / np.linalg.norm(target) ** 2)


def psnr(target: Array, image: Array) -> float:
    root_mean_square = np.sqrt(np.sum((target - image) ** 2) / target.size)
    return float(20 * np.log10(target.max() / root_mean_square))


def ssim(target: Array, image: Array) -> float:
    data_range = target.max()
    return float(
        np.mean([_ssim_slice(target[i], image[i], data_range=data_range) for i in range(len(target))])
    )


def _ssim_slice(x: Array, y: Array, *, data_range: float) -> float:
    side, c1, c2 = 7, (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    a, b = (sliding_window_view(image, (side, side)).reshape(-1, side * side) for image in (x, y))
    mean_a, mean_b = a.mean(axis=1), b.mean(axis=1)
    of_a, of_b = a - mean_a[:, None], b - mean_b[:, None]
    n = side * side - 1
    variances = (np.sum(of_a * of_a, axis=1) + np.sum(of_b * of_b, axis=1)) / n
    covariance = np.sum(of_a * of_b, axis=1) / n
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return float(np.mean(luminance * (2 * covariance + c2) / (variances + c2)))
