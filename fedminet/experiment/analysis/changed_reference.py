"""A reference that is coarser than it was, or lies elsewhere; and where a model would have it.

S slice, H row, W column. Volumes are magnitudes on the target's grid.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from minet_core.imaging.fourier import centre_crop, centre_pad, fft2c, ifft2c, moved_kspace

Volume = NDArray[np.float32]

PLACE_STEP_PX = 0.25
"""How far the reference is moved to either side to find where it would do best."""


def low_passed(reference: Volume, fraction: float) -> Volume:
    """(S, H, W) magnitude with the central `fraction` of k-space in both directions, on the same grid, not negative."""
    kspace = fft2c(torch.from_numpy(np.ascontiguousarray(reference)))
    # An odd number of lines: the band is symmetric, and the image stays real.
    rows, columns = (n if fraction == 1 else round(fraction * n) // 2 * 2 - 1 for n in reference.shape[-2:])
    kept = centre_pad(centre_crop(kspace, (rows, columns)), tuple(reference.shape[-2:]))
    return np.asarray(ifft2c(kept).real.clamp_min(0).numpy(), dtype=np.float32)


def moved(reference: Volume, rows_px: float, columns_px: float = 0.0) -> Volume:
    """(S, H, W) magnitude moved towards larger rows and columns, by the phase of its k-space; around the frame."""
    kspace = fft2c(torch.from_numpy(np.ascontiguousarray(reference)))
    image = ifft2c(moved_kspace(kspace, (rows_px, columns_px)))
    return np.asarray(image.real.clamp_min(0).numpy(), dtype=np.float32)


def reference_offset_px(psnr_at: Callable[[float, float], float]) -> tuple[float, float]:
    """How far (row, column) the reference lies from where it would do best, in pixels: what is left of misregistration.

    psnr_at: PSNR [dB] with the reference moved by so many rows and columns. A parabola of the squared error through
    three places along each axis is lowest where the reference would do best. It is good to about half a pixel; NaN
    where it has no lowest point. A model takes what its training had for aligned: an offset is against that.
    """

    def error_at(rows_px: float, columns_px: float) -> float:
        return float(10 ** (-psnr_at(rows_px, columns_px) / 10))

    here = error_at(0.0, 0.0)
    step = PLACE_STEP_PX
    return (
        _offset(error_at(-step, 0.0), here, error_at(step, 0.0)),
        _offset(error_at(0.0, -step), here, error_at(0.0, step)),
    )


def _offset(before: float, here: float, after: float) -> float:
    curvature = before - 2 * here + after
    if curvature <= 0:
        return float("nan")
    return PLACE_STEP_PX * (after - before) / (2 * curvature)
