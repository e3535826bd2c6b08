"""A reference slice with the trouble that references have: moved, bent, of another tone, noisy, partly missing, absent.

Trouble is drawn elsewhere (`minet_core.training.trouble`) as a `ReferenceDraw` and applied here, so it can be replayed.
Moving and bending are one interpolation, by cubic splines: a whole number of pixels is exact. What comes in from beyond
the frame is zero, as is what no scan covers.

H, W row and column.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BRIGHT_PERCENTILE = 99.0
"""What counts as bright tissue: noise is measured against it, and a change of tone leaves it as it is."""


@dataclass(frozen=True)
class ReferenceDraw:
    """The trouble of one slice. The default is none.

    shift_px: of the anatomy along (row, column). rotation_degrees: of the anatomy about the frame's centre, from the
    rows' axis towards the columns'. bend_px, bend_waves: largest displacement of a smooth bending along each axis, and
    of its two waves (one for each axis) the cycles along (row, column) and the phase in cycles.
    gain, gain_wave: a factor exp(gain * wave) over the frame. gamma: exponent of the signal over that of bright tissue.
    noise_fraction, noise_seed: standard deviation of the real and the imaginary part of the noise, over bright tissue's
    signal; Rician. missing_share, missing_degrees: share of the frame without signal, beyond a straight line whose
    normal has this angle to the rows' axis. absent: no signal anywhere.
    """

    shift_px: tuple[float, float] = (0.0, 0.0)
    rotation_degrees: float = 0.0
    bend_px: float = 0.0
    bend_waves: tuple[tuple[float, float, float], tuple[float, float, float]] = (
        (0.0, 0.0, 0.0),
        (0.0, 0.0, 0.0),
    )
    gain: float = 0.0
    gain_wave: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gamma: float = 1.0
    noise_fraction: float = 0.0
    noise_seed: int = 0
    missing_share: float = 0.0
    missing_degrees: float = 0.0
    absent: bool = False

    @property
    def moves(self) -> bool:
        """Whether the anatomy lies elsewhere."""
        return self.shift_px != (0.0, 0.0) or self.rotation_degrees != 0.0 or self.bend_px != 0.0


RIGHT = ReferenceDraw()


def apply_reference_trouble(reference: NDArray[np.float32], draw: ReferenceDraw) -> NDArray[np.float32]:
    """A reference slice with a drawn trouble; with `RIGHT` the slice itself.

    The same draw on the same slice gives the same result.

    Parameters
    ----------
    reference : float32 (H, W)
        Magnitude.
    draw
        What is applied, in the order moved, tone, noise, missing.

    Returns
    -------
    float32 (H, W)
        Magnitude, never negative, in the units of `reference`.

    Examples
    --------
    >>> import numpy as np
    >>> from minet_core.imaging.reference_trouble import ReferenceDraw, apply_reference_trouble
    >>> point = np.zeros((8, 8), np.float32)
    >>> point[3, 3] = 1
    >>> moved = apply_reference_trouble(point, ReferenceDraw(shift_px=(1.0, -2.0)))
    >>> [int(place) for place in np.unravel_index(moved.argmax(), moved.shape)]
    [4, 1]
    """
    if draw == RIGHT:
        return reference
    if draw.absent:
        return np.zeros_like(reference)
    image = reference.astype(np.float64)
    if draw.moves:
        image = _moved(image, draw)
    bright = float(np.percentile(reference, BRIGHT_PERCENTILE))
    if bright > 0 and draw.gamma != 1.0:
        image = bright * (image / bright) ** draw.gamma
    if draw.gain != 0.0:
        image = image * np.exp(draw.gain * _wave(image.shape, draw.gain_wave))
    if draw.noise_fraction > 0:
        generator = np.random.default_rng(draw.noise_seed)
        real, imaginary = draw.noise_fraction * bright * generator.standard_normal((2, *image.shape))
        image = np.hypot(image + real, imaginary)
    if draw.missing_share > 0:
        image[_beyond(image.shape, draw)] = 0.0
    return image.astype(np.float32)


def _moved(image: NDArray[np.float64], draw: ReferenceDraw) -> NDArray[np.float64]:
    """The moved slice at each place is the slice where the anatomy of that place came from."""
    rows, columns = np.indices(image.shape, dtype=np.float64)
    centre_row, centre_column = ((n - 1) / 2 for n in image.shape)
    angle = math.radians(draw.rotation_degrees)
    row, column = rows - draw.shift_px[0] - centre_row, columns - draw.shift_px[1] - centre_column
    from_row = math.cos(angle) * row + math.sin(angle) * column + centre_row
    from_column = math.cos(angle) * column - math.sin(angle) * row + centre_column
    if draw.bend_px:
        from_row = from_row - draw.bend_px * _wave(image.shape, draw.bend_waves[0])
        from_column = from_column - draw.bend_px * _wave(image.shape, draw.bend_waves[1])
    moved = ndimage.map_coordinates(image, [from_row, from_column], order=3, mode="constant", cval=0.0)
    return np.asarray(moved.clip(0), dtype=np.float64)


def _wave(shape: tuple[int, ...], wave: tuple[float, float, float]) -> NDArray[np.float64]:
    """sin(2 pi (cycles . place over the frame + phase)), (H, W)."""
    rows, columns, phase = wave
    place = rows * np.arange(shape[0])[:, None] / shape[0] + columns * np.arange(shape[1])[None, :] / shape[1]
    return np.asarray(np.sin(2 * math.pi * (place + phase)))


def _beyond(shape: tuple[int, ...], draw: ReferenceDraw) -> NDArray[np.bool_]:
    """The `missing_share` of the samples that lie farthest along the normal."""
    angle = math.radians(draw.missing_degrees)
    along = math.cos(angle) * np.arange(shape[0])[:, None] + math.sin(angle) * np.arange(shape[1])[None, :]
    return np.asarray(along > np.quantile(along, 1 - draw.missing_share))
