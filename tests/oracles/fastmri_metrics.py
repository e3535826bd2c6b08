"""The fastMRI figures of a volume as formulas, float64, windows visited one by one.

Definitions: Zbontar et al. 2018, section 5, and Wang et al. 2004 for SSIM, with what the `fastmri` package
sets: the volume's maximum as data range L, a uniform window of 7 x 7, unbiased (co)variances, k1 = 0.01,
k2 = 0.03, the mean over the windows that lie wholly in the slice and then over slices.
"""

from __future__ import annotations

import numpy as np
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
    of_windows = []
    for row in range(x.shape[0] - side + 1):
        for column in range(x.shape[1] - side + 1):
            a = x[row : row + side, column : column + side]
            b = y[row : row + side, column : column + side]
            covariance = np.cov(a.ravel(), b.ravel(), ddof=1)
            luminance = (2 * a.mean() * b.mean() + c1) / (a.mean() ** 2 + b.mean() ** 2 + c1)
            structure = (2 * covariance[0, 1] + c2) / (covariance[0, 0] + covariance[1, 1] + c2)
            of_windows.append(luminance * structure)
    return float(np.mean(of_windows))
