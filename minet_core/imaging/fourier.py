"""The centred orthonormal Fourier transform of a slice, and the crop and pad that go with it.

Centred: in the image and in k-space the origin of an axis of N samples is index N // 2. Orthonormal: the
transform is unitary, so white noise keeps its standard deviation and energy is conserved (Parseval).

    F[u] = N^(-1/2) sum_n f[n] exp(-2 pi i (u - N//2) (n - N//2) / N)       for each of the two axes

H row, W column; all other axes lead and are left alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from minet_core.errors import ScanInvalid

IN_PLANE = (-2, -1)


def fft2c(image: Tensor) -> Tensor:
    """k-space of an image: the centred orthonormal transform of the last two axes.

    Parameters
    ----------
    image : Tensor (..., H, W)
        Real or complex.

    Returns
    -------
    Tensor (..., H, W)
        Complex; the origin is at (H // 2, W // 2).
    """
    origin_first = torch.fft.ifftshift(image, dim=IN_PLANE)
    kspace: Tensor = torch.fft.fftshift(torch.fft.fft2(origin_first, norm="ortho"), dim=IN_PLANE)
    return kspace


def ifft2c(kspace: Tensor) -> Tensor:
    """Image of a k-space, the inverse of `fft2c`.

    Parameters
    ----------
    kspace : Tensor (..., H, W)
        Its origin at (H // 2, W // 2).

    Returns
    -------
    Tensor (..., H, W)
        Complex.
    """
    origin_first = torch.fft.ifftshift(kspace, dim=IN_PLANE)
    image: Tensor = torch.fft.fftshift(torch.fft.ifft2(origin_first, norm="ortho"), dim=IN_PLANE)
    return image


def moved_kspace(kspace: Tensor, shift_px: tuple[float, float]) -> Tensor:
    """k-space of the image moved around the frame.

    The Fourier shift theorem: times exp(-2 pi i (u d_row / H + v d_column / W)).

    Parameters
    ----------
    kspace : Tensor (..., H, W)
        Complex, its origin at (H // 2, W // 2).
    shift_px : (row, column), pixels
        d_row and d_column; fractions of a pixel too.

    Returns
    -------
    Tensor (..., H, W)
        Complex, of the dtype and on the device of `kspace`.
    """
    ramps = []
    for n_samples, shift in zip(kspace.shape[-2:], shift_px, strict=True):
        frequency = (torch.arange(n_samples, dtype=torch.float64) - n_samples // 2) / n_samples
        ramps.append(torch.exp(-2j * math.pi * shift * frequency))
    return kspace * (ramps[0][:, None] * ramps[1][None, :]).to(kspace)


def centre_crop(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The central part of the last two axes: index N // 2 becomes index M // 2, for odd and even N and M.

    Parameters
    ----------
    x : Tensor (..., H, W)
        Real or complex.
    size : (rows, columns)
        At least 1 and at most (H, W).

    Returns
    -------
    Tensor (..., rows, columns)
        A view of `x`.

    Raises
    ------
    ScanInvalid
        Where `size` is larger than `x` or not positive.

    Examples
    --------
    >>> import torch
    >>> from minet_core.imaging.fourier import centre_crop, fft2c
    >>> kspace = fft2c(torch.rand(320, 320))
    >>> central = centre_crop(kspace, (160, 160))
    >>> central.shape, bool(central[80, 80] == kspace[160, 160])
    (torch.Size([160, 160]), True)
    """
    H, W = x.shape[-2:]
    if not (0 < size[0] <= H and 0 < size[1] <= W):
        raise ScanInvalid("cannot crop", got=f"a crop to {size}", expected=f"at most ({H}, {W})")
    top, left = H // 2 - size[0] // 2, W // 2 - size[1] // 2
    return x[..., top : top + size[0], left : left + size[1]]


def centre_pad(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Zeros around the last two axes: index N // 2 becomes index M // 2, for odd and even N and M.

    Parameters
    ----------
    x : Tensor (..., H, W)
        Real or complex.
    size : (rows, columns)
        At least (H, W).

    Returns
    -------
    Tensor (..., rows, columns)
        Of the dtype of `x`.

    Raises
    ------
    ScanInvalid
        Where `size` is smaller than `x`.
    """
    H, W = x.shape[-2:]
    if not (size[0] >= H and size[1] >= W):
        raise ScanInvalid("cannot pad", got=f"a pad to {size}", expected=f"at least ({H}, {W})")
    top, left = size[0] // 2 - H // 2, size[1] // 2 - W // 2
    return functional.pad(x, (left, size[1] - W - left, top, size[0] - H - top))
