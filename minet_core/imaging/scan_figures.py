"""What a scan looks like, in a few ratios: to tell whether a model has seen its like.

Every figure is a ratio, blind to the scanner's units, and a median over slices: none of them is of a single place.
S slice, H row, W column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from minet_core.imaging.spectral_slope import spectral_slope

FOREGROUND_LEVEL = 0.1
"""Of the 99th percentile: above the noise of air, below fat-suppressed tissue."""
RIM_MM = 4.0
"""Depth below the outline: scalp in a whole head, cortex and the fluid around it in an extracted brain."""
IMMERKAER = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
"""Blind to edges of constant slope; its response to white noise of deviation s has deviation 6 s (Immerkaer 1996)."""
MAD_TO_STD = 1.4826
MIN_FOREGROUND = 32
CLIFF = 6.0
"""By so much the energy of k-space falls at the border of what was measured, and stays below. T1 and T2 of two
training patients, as they are and degraded 2x and 4x: 1.4 to 3.9 anywhere. The same interpolated to twice the grid, the
ringing clamped: 7.2 to 262."""
INNERMOST = 0.2
"""No border is looked for further inside."""


@dataclass(frozen=True)
class ScanFigures:
    """Of one volume. level: its 99th percentile.

    middle: median of the foreground over the level. rim: median within `RIM_MM` of the outline over that inside.
    noise: standard deviation of the noise over the level. band: part of k-space that was measured, along the axis where
    it is less. slope: of its power over frequency (`minet_core.imaging.spectral_slope`); None where none can be told.
    """

    middle: float
    rim: float
    noise: float
    band: float
    slope: float | None


def scan_figures(volume: NDArray[np.float32], *, pixel_mm: float) -> ScanFigures | None:
    """The figures of a magnitude volume.

    Parameters
    ----------
    volume : (S, H, W) float32
        Magnitude in any unit.
    pixel_mm : float, mm
        Distance between pixels in the plane, for the depth of the rim.

    Returns
    -------
    ScanFigures or None
        None for a volume that shows nothing: no slice has `MIN_FOREGROUND` pixels of rim and of inside.
    """
    level = float(np.percentile(volume, 99))
    rows = [of_slice for one in volume if (of_slice := _of_slice(one, level, pixel_mm=pixel_mm)) is not None]
    if level <= 0 or not rows:
        return None
    middle, rim, noise = np.median(np.array(rows), axis=0)
    band = occupied_band(volume)
    return ScanFigures(
        middle=float(middle),
        rim=float(rim),
        noise=float(noise),
        band=band,
        slope=spectral_slope(volume, band=band),
    )


def _of_slice(
    image: NDArray[np.float32], level: float, *, pixel_mm: float
) -> tuple[float, float, float] | None:
    anatomy = image > FOREGROUND_LEVEL * level
    if anatomy.sum() < MIN_FOREGROUND:
        return None
    outline = ndimage.binary_fill_holes(ndimage.binary_opening(anatomy))
    depth_mm = ndimage.distance_transform_edt(outline) * pixel_mm
    rim_mm = max(RIM_MM, 1.01 * pixel_mm)  # the outermost pixels are one pixel deep
    shell, inside = anatomy & (depth_mm > 0) & (depth_mm <= rim_mm), anatomy & (depth_mm > 2 * rim_mm)
    if min(shell.sum(), inside.sum()) < MIN_FOREGROUND:
        return None
    response = ndimage.convolve(image.astype(np.float64), IMMERKAER, mode="nearest")[anatomy]
    return (
        float(np.median(image[anatomy])) / level,
        float(np.median(image[shell]) / np.median(image[inside])),
        MAD_TO_STD * float(np.median(np.abs(response))) / 6 / level,
    )


def occupied_band(volume: NDArray[np.float32]) -> float:
    """The part of k-space that was measured, along the axis in the plane where it is less.

    An image that was interpolated by zero-filling holds next to nothing beyond what was measured, and what it holds
    begins at once; a filter's slope is no border.

    Parameters
    ----------
    volume : (S, H, W) float32
        Magnitude in any unit.

    Returns
    -------
    float
        0 to 1; 1 where no border is seen.
    """
    parts = []
    for axis in (1, 2):
        spectrum = np.abs(np.fft.rfft(volume.astype(np.float64), axis=axis)) ** 2
        energy = spectrum.mean(axis=tuple(one for one in range(3) if one != axis))
        n, width = len(energy), max(2, len(energy) // 20)
        beyond = np.maximum.accumulate(energy[::-1])[::-1]  # the most from here on
        borders = [
            k
            for k in range(max(width, int(INNERMOST * n)), n - width)
            if np.median(energy[k - width : k]) > CLIFF * beyond[k + 1]
        ]
        parts.append(borders[0] / n if borders else 1.0)
    return min(parts)
