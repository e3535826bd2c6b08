"""Patients made of tissues with shared edges, and models whose use of the reference is known."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from minet_core.imaging.degradation import low_resolution
from minet_core.imaging.fourier import centre_crop, centre_pad, fft2c, ifft2c
from minet_core.imaging.interpolation import sinc

Array = NDArray[np.float64]


class Ignores(nn.Module):
    """The interpolated target, whatever the reference."""

    def forward(
        self, low_res: Tensor, reference: Tensor, *, upsampled: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        return upsampled, None


class Pastes(nn.Module):
    """The interpolated target and the reference's detail outside the measured band, times a factor."""

    def __init__(self, scale: int, gain: float) -> None:
        super().__init__()
        self.scale, self.gain = scale, gain

    def forward(
        self, low_res: Tensor, reference: Tensor, *, upsampled: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        return upsampled + self.gain * detail_of(reference, self.scale), None


def detail_of(image: Tensor, scale: int) -> Tensor:
    """What zero-filling at `scale` leaves out."""
    H, W = image.shape[-2:]
    band = centre_pad(centre_crop(fft2c(image), (H // scale, W // scale)), (H, W))
    return image - ifft2c(band).real


def made_patient(seed: int, *, size: tuple[int, int, int] = (3, 64, 80)) -> tuple[Array, Array]:
    """Target and reference of a patient: tissues with the same edges in two contrasts, in air."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[: size[1], : size[2]]
    height, width = rng.uniform(0.3, 0.45, 2) * size[1:]  # no two heads have one outline
    head = np.hypot((row - size[1] / 2) / height, (column - size[2] / 2) / width) < 1
    fields = [ndimage.gaussian_filter(rng.standard_normal(size), (0, 3, 3)) > 0 for _ in range(2)]
    target = 100.0 + 80.0 * fields[0] + 60.0 * fields[1]
    reference = 0.9 - 0.5 * fields[0] + 0.2 * fields[1]
    texture = 1 + 0.05 * rng.standard_normal((2, *size))
    return target * texture[0] * head, reference * texture[1] * head


def zero_filled(low_res: Array, scale: int) -> Array:
    image: Array = sinc(torch.tensor(low_res), scale).numpy()
    return image


def low_res_of(truth: Array, scale: int) -> Array:
    image: Array = low_resolution(torch.tensor(truth), scale).numpy()
    return image
