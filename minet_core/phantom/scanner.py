"""What a scanner adds to the signal: distortion, receive field, coil phase, movement, point spread, thermal noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from minet_core.phantom.acquisition import Acquisition
from minet_core.phantom.texture import Grid, smooth_field

Array = NDArray[np.float32]
ComplexArray = NDArray[np.complex64]


@dataclass(frozen=True)
class Movement:
    """A patient who moved once, in the plane, while the phase encodings (columns) were measured from end to end.

    rows_mm, columns_mm: by how much. since: share of the encodings that were measured before, above 0.5: the centre of
    k-space, and so most of the image, is of the first place.
    """

    rows_mm: float
    columns_mm: float
    since: float


def distorted_positions(grid: Grid, *, distortion: float) -> tuple[Array, Array]:
    """Where in the body each voxel's signal comes from.

    Gradients that fall off with radius displace radially by distortion * (r / 100 mm)^2, relative.

    Parameters
    ----------
    grid
        Of the acquisition.
    distortion
        Relative radial displacement at 100 mm.

    Returns
    -------
    x, y : (row, column) float32, mm
        x to the right of the image, y upwards.
    """
    x = np.broadcast_to(grid.columns_mm[None, :], grid.shape[1:])
    y = np.broadcast_to(-grid.rows_mm[:, None], grid.shape[1:])
    stretch = 1 + np.float32(distortion / 100.0**2) * (x * x + y * y)
    return x * stretch, y * stretch


def receive_field(grid: Grid, generator: np.random.Generator, *, acquisition: Acquisition) -> ComplexArray:
    """The coil's complex sensitivity: smooth magnitude about 1 and smooth phase.

    Parameters
    ----------
    grid
        Of the acquisition.
    generator
        Draws the field.
    acquisition
        Its bias, phase_cycles and field of view.

    Returns
    -------
    (slice, row, column) complex64
        Without unit.
    """
    smooth = smooth_field(grid, generator, scale_mm=90.0, slice_scale_mm=80.0)
    bend = smooth_field(grid, generator, scale_mm=110.0, slice_scale_mm=80.0)
    across = grid.columns_mm[None, :] / np.float32(acquisition.field_of_view_mm[1])
    down = grid.rows_mm[:, None] / np.float32(acquisition.field_of_view_mm[0])
    direction = generator.uniform(0, 2 * math.pi)
    offset = generator.uniform(-math.pi, math.pi)
    turns = np.float32(2 * math.pi * acquisition.phase_cycles)
    ramp = np.float32(math.cos(direction)) * across + np.float32(math.sin(direction)) * down
    rim = np.float32(2 * acquisition.bias) * (
        across * across + down * down
    )  # surface coils see the rim better
    field = np.empty(grid.shape, np.complex64)
    for index in range(grid.shape[0]):
        magnitude = np.exp(np.float32(acquisition.bias) * smooth.at(index) + rim)
        phase = turns * (ramp + np.float32(0.25) * bend.at(index)) + np.float32(offset)
        field[index].real = magnitude * np.cos(phase)
        field[index].imag = magnitude * np.sin(phase)
    return field


def acquire(
    signal: Array,
    *,
    sensitivity: ComplexArray,
    blur_px: float,
    noise: float,
    generator: np.random.Generator,
    moved_px: tuple[float, float, float] | None = None,
) -> ComplexArray:
    """Image one contrast, with point spread and noise.

    Parameters
    ----------
    signal : (slice, row, column) float32
        Noiseless, in units of the signal of water.
    sensitivity : (slice, row, column) complex64
        Of the coil.
    blur_px : float, pixels
        Standard deviation of the Gaussian point spread.
    noise
        Standard deviation of each of the real and imaginary channel, in the units of `signal`, so the magnitude is
        Rician.
    generator
        Draws the noise.
    moved_px : (rows, columns, share), pixels
        A movement, and the share of the phase encodings that were measured before it; None: the patient lay still.

    Returns
    -------
    (slice, row, column) complex64
        In the units of `signal`.
    """
    spectrum = fft.fft2(signal * sensitivity, axes=(-2, -1), overwrite_x=True)
    if moved_px is not None:
        _move(spectrum, moved_px)
    for axis in (-2, -1):
        frequency = fft.fftfreq(signal.shape[axis]).astype(np.float32)  # cycles per pixel
        window = np.exp(np.float32(-2 * (math.pi * blur_px) ** 2) * frequency * frequency)
        spectrum *= window[:, None] if axis == -2 else window
    image: ComplexArray = fft.ifft2(spectrum, axes=(-2, -1), overwrite_x=True)
    thermal = generator.standard_normal((*image.shape, 2), dtype=np.float32)
    thermal *= np.float32(noise)
    image += thermal.view(np.complex64)[..., 0]
    return image


def _move(spectrum: ComplexArray, moved_px: tuple[float, float, float]) -> None:
    """Give the encodings after the movement, from one edge of k-space on, the phase of the shifted image, in place."""
    rows_px, columns_px, since = moved_px
    rows = fft.fftfreq(spectrum.shape[-2]).astype(np.float32)[:, None]  # cycles per pixel
    columns = fft.fftfreq(spectrum.shape[-1]).astype(np.float32)[None, :]
    turns = rows * np.float32(rows_px) + columns * np.float32(columns_px)
    later = columns >= np.float32(since - 0.5)
    spectrum *= np.where(later, np.exp(np.complex64(-2j * math.pi) * turns), np.complex64(1))
