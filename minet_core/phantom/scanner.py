"""What a scanner adds to the signal: distortion, receive field, coil phase, point spread, thermal noise."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from minet_core.phantom.acquisition import Acquisition
from minet_core.phantom.texture import Grid, smooth_field

Array = NDArray[np.float32]
ComplexArray = NDArray[np.complex64]


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
    signal: Array, *, sensitivity: ComplexArray, blur_px: float, noise: float, generator: np.random.Generator
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

    Returns
    -------
    (slice, row, column) complex64
        In the units of `signal`.
    """
    spectrum = fft.fft2(signal * sensitivity, axes=(-2, -1), overwrite_x=True)
    for axis in (-2, -1):
        frequency = fft.fftfreq(signal.shape[axis]).astype(np.float32)  # cycles per pixel
        window = np.exp(np.float32(-2 * (math.pi * blur_px) ** 2) * frequency * frequency)
        spectrum *= window[:, None] if axis == -2 else window
    image: ComplexArray = fft.ifft2(spectrum, axes=(-2, -1), overwrite_x=True)
    thermal = generator.standard_normal((*image.shape, 2), dtype=np.float32)
    thermal *= np.float32(noise)
    image += thermal.view(np.complex64)[..., 0]
    return image
