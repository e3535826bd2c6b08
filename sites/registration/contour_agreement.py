"""Whether two scans show one anatomy where they lie: how far their contours run the same way.

At every voxel inside the head the angle between the two gradients within the slice is taken, whatever their signs: the
contrasts differ, the borders of tissue do not. The mean of cos(2 angle), weighted by both gradients, is 1 where all
contours agree and 0 where they cross by chance (Haber and Modersitzki 2006: normalised gradient fields). The outline
of the head, which any two heads share, is left out.

    scans                                                 agreement
    own T1, brain-extracted and clinical patient          0.91, 0.84
    the same, moved along the rows by 1 mm                0.82, 0.76
    moved by 2 mm                                         0.60, 0.62
    moved by 3 mm                                         0.38, 0.49
    own T1 with noise of a tenth of its maximum           0.82, 0.69
    own T1 mirrored left to right                         0.28, 0.47
    own T1 bent by 4 mm, as another patient's might be    0.47, 0.53
    the other patient's T1                                0.09
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sites.quality.scan_quality import foreground

MIN_AGREEMENT = 0.65
"""Set on the two training patients of the table: below all that lie within 1 mm, above all that are off by 2 mm."""
WORKING_MM = 2.0
SMOOTHING_MM = 1.5
OUTLINE_MM = 6.0
"""Depth of the outline that is left out."""
MIN_VOXELS = 200


def contour_agreement(
    target: NDArray[np.float32],
    reference: NDArray[np.float32],
    *,
    covered: NDArray[np.bool_],
    pixel_mm: float,
    low_res_mm: float,
) -> float | None:
    """How far the contours of two scans run the same way, inside the head and without its outline.

    Parameters
    ----------
    target
        (slice, row, column) magnitude, interpolated from pixels of `low_res_mm`.
    reference
        (slice, row, column) magnitude on the target's grid.
    covered
        (slice, row, column): where the reference has data.
    pixel_mm
        Pixel of the grid in the plane.
    low_res_mm
        Pixel that the target was measured with; gradients are smoothed by three quarters of it, 1.5 mm at least.

    Returns
    -------
    float | None
        -1 to 1: the mean of cos(2 angle) between the gradients, weighted by both. None where fewer than `MIN_VOXELS`
        voxels of about 2 mm are shared or nothing has a gradient.

    References
    ----------
    Haber and Modersitzki, Intensity Gradient Based Registration and Fusion of Multi-modal Images, MICCAI 2006.
    """
    factor = max(1, round(WORKING_MM / pixel_mm))
    still, guide = _shrunk(target, factor), _shrunk(reference, factor)
    step_mm = factor * pixel_mm
    anatomy = foreground(still.astype(np.float32))
    inside = np.stack([ndimage.binary_fill_holes(of_slice) for of_slice in anatomy])
    depth = max(1, round(OUTLINE_MM / step_mm))
    inside = ndimage.binary_erosion(inside, np.ones((1, 3, 3)), iterations=depth)
    seen = _shrunk(covered.astype(np.float32), factor) == 1
    inside &= ndimage.binary_erosion(seen, np.ones((1, 3, 3)), iterations=2, border_value=1)
    if inside.sum() < MIN_VOXELS:
        return None
    sigma = max(SMOOTHING_MM, 0.75 * low_res_mm) / step_mm
    (a_row, a_column), (b_row, b_column) = (_gradient(volume, sigma, inside) for volume in (still, guide))
    weight = np.hypot(a_row, a_column) * np.hypot(b_row, b_column)
    total = float(weight.sum())
    if total <= 0:
        return None
    dot = a_row * b_row + a_column * b_column
    squared_cosine = np.divide(dot, weight, out=np.zeros_like(dot), where=weight > 0) ** 2
    return float((weight * (2 * squared_cosine - 1)).sum() / total)


def _shrunk(volume: NDArray[np.float32], factor: int) -> NDArray[np.float64]:
    """Means over squares of `factor` x `factor` pixels; slices stay."""
    n_slices, rows, columns = volume.shape[0], volume.shape[1] // factor, volume.shape[2] // factor
    whole = volume[:, : rows * factor, : columns * factor].astype(np.float64)
    return np.asarray(whole.reshape(n_slices, rows, factor, columns, factor).mean(axis=(2, 4)))


def _gradient(
    volume: NDArray[np.float64], sigma: float, where: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Along row and column, of the volume smoothed within its slices, at the voxels of `where`."""
    row, column = (
        ndimage.gaussian_filter(volume, (0, sigma, sigma), order=order)[where]
        for order in ((0, 1, 0), (0, 0, 1))
    )
    return row, column
