"""Random fields: smooth ones with known gradients, and fine ones down to a pixel.

A smooth field is a sum of cubic B-splines with random weights on a coarse grid (S slices, H rows, W columns):
evaluating it is two small matrix products a slice, and so is each component of its gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from minet_core.phantom.acquisition import Acquisition

Array = NDArray[np.float32]

# Mean over positions of the sum of the squared weights of a cubic B-spline: 151/315.
_SPLINE_POWER = 151 / 315


@dataclass(frozen=True)
class Grid:
    """Positions of the voxel centres [mm] along each axis; zero is the centre of the field of view."""

    slices_mm: Array  # (S,)
    rows_mm: Array  # (H,)
    columns_mm: Array  # (W,)

    @property
    def pixel_mm(self) -> float:
        """Geometric mean of the in-plane spacings."""
        return float(np.sqrt((self.rows_mm[1] - self.rows_mm[0]) * (self.columns_mm[1] - self.columns_mm[0])))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(S, H, W)."""
        return (len(self.slices_mm), len(self.rows_mm), len(self.columns_mm))


def grid_of(acquisition: Acquisition) -> Grid:
    """The voxel centres of an acquisition.

    Parameters
    ----------
    acquisition
        Its matrix, spacing, number of slices and position.

    Returns
    -------
    Grid
        mm.
    """
    counts = (acquisition.n_slices, *acquisition.matrix)
    axes = [
        ((np.arange(count) - (count - 1) / 2) * spacing).astype(np.float32)
        for count, spacing in zip(counts, acquisition.spacing_mm, strict=True)
    ]
    axes[0] += np.float32(acquisition.slice_centre_mm)
    return Grid(*axes)


@dataclass(frozen=True)
class SmoothField:
    """A random field of zero mean and about unit variance."""

    weights: Array  # (S, h, w), already combined along slices
    rows: Array  # (H, h)
    columns: Array  # (W, w)
    row_slopes: Array  # (H, h), per mm
    column_slopes: Array  # (W, w), per mm

    def at(self, index: int) -> Array:
        """The field on one slice.

        Parameters
        ----------
        index
            Of the slice.

        Returns
        -------
        (H, W) float32
            Of zero mean and about unit variance.
        """
        plane: Array = self.rows @ self.weights[index] @ self.columns.T
        return plane

    def steepness_at(self, index: int) -> Array:
        """Magnitude of the in-plane gradient on one slice.

        Parameters
        ----------
        index
            Of the slice.

        Returns
        -------
        (H, W) float32, per mm
            Never negative.
        """
        weights = self.weights[index]
        down = self.row_slopes @ weights @ self.columns.T
        across = self.rows @ weights @ self.column_slopes.T
        steepness: Array = np.sqrt(down * down + across * across)
        return steepness


def smooth_field(
    grid: Grid,
    generator: np.random.Generator,
    *,
    scale_mm: float,
    slice_scale_mm: float,
    band_pass: bool = False,
) -> SmoothField:
    """Draw a smooth random field.

    Parameters
    ----------
    grid
        Where it is evaluated.
    generator
        Draws the weights of the control points.
    scale_mm, slice_scale_mm
        Distance of the control points in the plane and across slices, mm.
    band_pass
        Remove what varies over more than about three control points: the zero lines are then evenly spaced.

    Returns
    -------
    SmoothField
        On the grid.
    """
    along, _ = _spline_basis(grid.slices_mm, slice_scale_mm)
    rows, row_slopes = _spline_basis(grid.rows_mm, scale_mm)
    columns, column_slopes = _spline_basis(grid.columns_mm, scale_mm)
    weights = generator.standard_normal((along.shape[1], rows.shape[1], columns.shape[1]), dtype=np.float32)
    if band_pass:
        weights -= ndimage.uniform_filter(weights, (1, 3, 3), mode="wrap")
    combined = np.tensordot(along, weights, axes=1)
    combined *= np.float32(_SPLINE_POWER**-1.5)
    return SmoothField(combined, rows, columns, row_slopes, column_slopes)


def fine_field(
    grid: Grid, generator: np.random.Generator, *, width_px: float, along_rows_px: float | None = None
) -> Array:
    """Draw a fine texture, down to a pixel.

    Neighbouring slices share half of it, as 4 mm apart in tissue they would little more than that.

    Parameters
    ----------
    grid
        Its shape alone is looked at.
    generator
        Draws the texture.
    width_px : float, pixels
        Correlation length (Gaussian, sigma).
    along_rows_px : float or None, pixels
        Another length from row to row, for textures that run up and down.

    Returns
    -------
    (S, H, W) float32
        Of unit variance.
    """
    noise = generator.standard_normal(grid.shape, dtype=np.float32)
    noise[1:] = np.float32(0.8) * noise[1:] + np.float32(0.6) * noise[:-1]
    sigmas = (0.0, along_rows_px or width_px, width_px)
    smooth = ndimage.gaussian_filter(noise, sigmas, truncate=2.5, mode="wrap")
    texture: Array = smooth / smooth.std()
    return texture


def _spline_basis(positions_mm: Array, scale_mm: float) -> tuple[Array, Array]:
    """Cubic B-spline weights of every control point at every position, and their slopes per mm."""
    knots = (positions_mm - positions_mm[0]) / np.float32(scale_mm)
    n_controls = int(np.floor(knots[-1])) + 4
    offsets = np.abs(knots[:, None] - (np.arange(n_controls, dtype=np.float32) - 1))
    signs = np.sign(knots[:, None] - (np.arange(n_controls, dtype=np.float32) - 1))
    near, far = offsets < 1, (offsets >= 1) & (offsets < 2)
    values = np.where(near, 2 / 3 - offsets**2 + offsets**3 / 2, 0) + np.where(far, (2 - offsets) ** 3 / 6, 0)
    slopes = np.where(near, -2 * offsets + 1.5 * offsets**2, 0) - np.where(far, (2 - offsets) ** 2 / 2, 0)
    return values.astype(np.float32), (slopes * signs / scale_mm).astype(np.float32)
