"""Borders of tissue whatever their contrast: gradients whose sign does not matter, and how far two scans' agree.

The mean of cos(2 angle) between two scans' gradients, weighted by both (Haber and Modersitzki 2006: normalised gradient
fields), over tiles of `TILE_PX`.

S slice, H, W row and column; B, C rows and columns of tiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Volume = NDArray[np.float32]
Tiles = NDArray[np.float64]

TILE_PX = 16
"""Edge of a tile, in which a scan's borders are taken together."""
PARABOLA_PX = 2
"""Reach of the offsets over which the agreement of the whole is taken for a parabola."""
FLAT = 1e-6
"""Of the steepest gradient: below it there is none, but rounding."""


@dataclass(frozen=True, eq=False)
class Contours:
    """Gradients whose sign does not matter: turned to twice their angle, of their length.

    Parameters
    ----------
    cosine, sine
        (S, H, W): the length times that of twice the angle.
    length
        (S, H, W), grey values a pixel.
    """

    cosine: Volume
    sine: Volume
    length: Volume

    def even(self) -> Contours:
        """Each border of much the same length, and the fainter the less than the usual one.

        Returns
        -------
        Contours
            Each length g over sqrt(g^2 + m^2), where m is their mean: Haber and Modersitzki's edge parameter.
        """
        usual = np.float32(max(float(self.length.mean()), float(np.finfo(np.float32).tiny)))
        over: Volume = np.asarray(1 / np.hypot(self.length, usual), dtype=np.float32)
        return Contours(*(one * over for one in (self.cosine, self.sine, self.length)))

    def moved(self, offset: tuple[int, int]) -> Contours:
        """The same, moved around the frame.

        Parameters
        ----------
        offset
            Rows and columns, px.

        Returns
        -------
        Contours
            Of the same shape.
        """
        return Contours(*(np.roll(one, offset, axis=(1, 2)) for one in (self.cosine, self.sine, self.length)))


def contours_of(volume: Volume, kept: NDArray[np.bool_] | float, *, sigma: float) -> Contours:
    """The gradients within the slices of a volume that is smoothed there.

    Parameters
    ----------
    volume
        (S, H, W).
    kept
        (S, H, W), or one number: by which the gradients are multiplied.
    sigma
        Deviation of the Gaussian, px.

    Returns
    -------
    Contours
        Without what is rounding alone.
    """
    row, column = (
        ndimage.gaussian_filter(volume, (0.0, sigma, sigma), order=order) * kept
        for order in ((0, 1, 0), (0, 0, 1))
    )
    length = np.hypot(row, column)
    real = length > FLAT * length.max(
        initial=0.0
    )  # a spline's ripples in air are so small that they overflow
    over = np.divide(1.0, length, out=np.zeros_like(length), where=real)
    return Contours((row**2 - column**2) * over, 2 * row * column * over, length)


def products_by_tile(still: Contours, guide: Contours) -> tuple[Tiles, Tiles]:
    """How far two scans' contours agree in each tile.

    Parameters
    ----------
    still, guide
        Of one shape.

    Returns
    -------
    tuple of ndarray
        (S, B, C) each: sums of cos(2 angle) weighted by both gradients, and of the weights.
    """
    return sums_over_tiles(still.cosine * guide.cosine + still.sine * guide.sine), sums_over_tiles(
        still.length * guide.length
    )


def displacement_of(agreed: dict[tuple[int, int], Tiles]) -> tuple[float, float]:
    """Where the agreement of all tiles together is highest.

    Of each tile a parabola is fitted over the offsets; at the peak of their sum the tiles' slopes cancel, and by how
    much each is off says the error (White 1980: the sandwich estimator).

    Parameters
    ----------
    agreed
        By offset in rows and columns, (S, B, C), as the first of `products_by_tile`.

    Returns
    -------
    tuple of float
        How far that is from here, px, and its standard error; both infinite where there is no peak.
    """
    near = [offset for offset in agreed if max(map(abs, offset)) <= PARABOLA_PX]
    row, column = np.array(near, dtype=np.float64).T
    terms = np.stack([np.ones(len(near)), row, column, row**2 / 2, row * column, column**2 / 2], axis=1)
    _, *slope, rows, both, columns = np.linalg.pinv(terms) @ np.stack(
        [agreed[offset].ravel() for offset in near]
    )
    of_tile = np.array([[rows, both], [both, columns]])
    curvature = of_tile.sum(axis=2)
    if np.linalg.eigvalsh(curvature).max() >= 0:
        return np.inf, np.inf
    over = np.linalg.inv(curvature)
    place = -over @ np.sum(slope, axis=1)
    left = slope + np.einsum("abt,b->at", of_tile, place)
    variance = float(np.trace(over @ (left @ left.T) @ over))
    return float(np.hypot(*place)), float(np.sqrt(variance))


def agreement_in_windows(agreed: Tiles, weight: Tiles, *, window: float) -> tuple[Tiles, Tiles]:
    """How far contours agree in a window about each tile.

    Parameters
    ----------
    agreed, weight
        (S, B, C), as of `products_by_tile`.
    window
        Deviation of the Gaussian, tiles.

    Returns
    -------
    tuple of ndarray
        (S, B, C) each: the mean of cos(2 angle), 0 without any weight, and the weight that it rests on.
    """
    agreed, weight = (
        ndimage.gaussian_filter(one, (0.0, window, window), mode="constant") for one in (agreed, weight)
    )
    return np.divide(agreed, weight, out=np.zeros_like(weight), where=weight > 0), weight


def agreement_in_tiles(agreed: Tiles, weight: Tiles) -> Tiles:
    """How far contours agree in each tile, without its neighbours.

    Parameters
    ----------
    agreed, weight
        (S, B, C), as of `products_by_tile`.

    Returns
    -------
    ndarray
        (S, B, C): the mean of cos(2 angle); 0 without any weight.
    """
    return np.divide(agreed, weight, out=np.zeros_like(weight), where=weight > 0)


def sums_over_tiles(volume: Volume) -> Tiles:
    """Sums over tiles; what is left at the far edges counts for the last ones.

    Parameters
    ----------
    volume
        (S, H, W).

    Returns
    -------
    ndarray
        (S, B, C), float64.
    """
    H, W = volume.shape[1:]
    sums = np.add.reduceat(volume, _starts(H), axis=1)
    return np.asarray(np.add.reduceat(sums, _starts(W), axis=2), dtype=np.float64)


def _starts(n: int) -> list[int]:
    return [TILE_PX * tile for tile in range(n // TILE_PX)]
