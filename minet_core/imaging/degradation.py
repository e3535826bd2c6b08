"""From a high-resolution image to the low-resolution image that a faster scan would have given.

Image -> centred orthonormal FFT -> central 1/scale of k-space in both directions -> inverse FFT ->
magnitude. The amplitude is preserved: on a grid smaller by `scale` in both directions the orthonormal
transform makes the image brighter by `scale`, which is divided out.

The grids: high-resolution sample scale * n and low-resolution sample n are one point. With the origin at
index N // 2 this holds only when the low-resolution size is even, hence sizes that are multiples of
2 * scale.

The random part is drawn by `draw_degradation` and applied by `apply_degradation`, so a sample can be
replayed.
H, W high-resolution row and column; h = H / scale, w = W / scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from minet_core.errors import ScanInvalid
from minet_core.imaging.fourier import centre_crop, fft2c, ifft2c, moved_kspace


@dataclass(frozen=True)
class DegradationDraw:
    """The random part of one degradation. The default draw is the identity: no noise, no shift, the plain central part.

    noise_fraction: standard deviation of the real and of the imaginary part of the noise in k-space, as a
        fraction of the root mean square of the noise-free low-resolution image (1 / SNR). The transform is
        unitary, so the same noise is Rician in the magnitude image.
    noise_seed: seed of that noise.
    shift_px: movement of the object along (row, column), in low-resolution pixels. The low-resolution image
        moves and the target does not: a patient who moved between two acquisitions.
    window: a scanner's filter over k-space, from 0, none, to 1, Hann's; 0.92 is Hamming's.
    measured: part of the low resolution's k-space that was measured, in both directions; the scanner filled the rest
        with zeros.
    blur_px: another kernel where above 0: a Gaussian of this standard deviation in high-resolution pixels, of which
        every scale-th sample is taken, in place of the central part of k-space. It folds what it does not blur away.
    """

    noise_fraction: float = 0.0
    noise_seed: int = 0
    shift_px: tuple[float, float] = (0.0, 0.0)
    window: float = 0.0
    measured: float = 1.0
    blur_px: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DegradationBounds:
    """How often each random part is drawn, 0 to 1, and how much of it at most. By default there is none.

    noisy, windowed, zero_filled, other_kernel: how often. max_noise_fraction, max_shift_px: as in `DegradationDraw`.
    min_measured: least `DegradationDraw.measured`. blur_px: least and most of it, high-resolution pixels.
    """

    noisy: float = 0.0
    max_noise_fraction: float = 0.0
    max_shift_px: float = 0.0
    windowed: float = 0.0
    zero_filled: float = 0.0
    min_measured: float = 1.0
    other_kernel: float = 0.0
    blur_px: tuple[float, float] = (0.5, 1.0)


IDENTITY = DegradationDraw()


def crop_to_multiple(x: Tensor, scale: int) -> Tensor:
    """Centre-crop the last two axes to the largest multiples of 2 * scale.

    Parameters
    ----------
    x : Tensor (..., H, W)
        Real or complex.
    scale
        Factor of the degradation, 2 or more.

    Returns
    -------
    Tensor (..., H', W')
        A view of `x`; H' and W' are multiples of 2 * scale.

    Raises
    ------
    ScanInvalid
        Where an axis is shorter than 2 * scale.
    """
    multiple = 2 * scale
    H, W = x.shape[-2:]
    if min(H, W) < multiple:
        raise ScanInvalid(
            f"a slice is too small to degrade {scale}x",
            got=(H, W),
            expected=f"at least {multiple} px an axis",
        )
    return centre_crop(x, (H - H % multiple, W - W % multiple))


def low_resolution(high_res: Tensor, scale: int) -> Tensor:
    """The low-resolution magnitude image of a slice, without the random part.

    Parameters
    ----------
    high_res : Tensor (..., H, W)
        Real or complex, H and W multiples of 2 * scale (see `crop_to_multiple`).
    scale
        The central 1/scale of k-space is kept in both directions.

    Returns
    -------
    Tensor (..., H / scale, W / scale)
        Real, in the units of `high_res`.

    Raises
    ------
    ScanInvalid
        For other sizes.

    Examples
    --------
    >>> import torch
    >>> from minet_core.imaging.degradation import crop_to_multiple, low_resolution
    >>> slice_ = torch.full((321, 320), 7.0)
    >>> low_res = low_resolution(crop_to_multiple(slice_, 2), 2)
    >>> low_res.shape, round(float(low_res.mean()), 3)
    (torch.Size([160, 160]), 7.0)
    """
    return ifft2c(_central_kspace(high_res, scale)).abs()


def draw_degradation(generator: torch.Generator, bounds: DegradationBounds) -> DegradationDraw:
    """Draw the random part of a degradation, each number uniform.

    Parameters
    ----------
    generator
        On the CPU; ten numbers are taken from it, whatever the bounds.
    bounds
        How often each part is drawn, and how much of it.

    Returns
    -------
    DegradationDraw
        To be applied by `apply_degradation`, as often as is wanted. The noise is drawn in [0, max_noise_fraction),
        the shift along each axis in +-max_shift_px, the window in [0, 1).
    """
    numbers = torch.rand(9, generator=generator, dtype=torch.float64).tolist()
    seed = int(torch.randint(2**62, (), generator=generator))
    noise, row, column, window, unmeasured, blur = numbers[:3] + numbers[6:]
    noisy, windowed, zero_filled = (
        number < chance
        for number, chance in zip(
            numbers[3:6], (bounds.noisy, bounds.windowed, bounds.zero_filled), strict=True
        )
    )
    low, high = bounds.blur_px
    # One number decides of the kernel and, stretched to its chance, how wide it is.
    other = blur < bounds.other_kernel
    return DegradationDraw(
        noise_fraction=noise * bounds.max_noise_fraction if noisy else 0.0,
        noise_seed=seed,
        shift_px=((2 * row - 1) * bounds.max_shift_px, (2 * column - 1) * bounds.max_shift_px),
        window=window if windowed else 0.0,
        measured=1 - unmeasured * (1 - bounds.min_measured) if zero_filled else 1.0,
        blur_px=low + blur / bounds.other_kernel * (high - low) if other else 0.0,
    )


def apply_degradation(high_res: Tensor, draw: DegradationDraw, scale: int) -> Tensor:
    """`low_resolution` with the drawn noise and shift; with `IDENTITY` the same numbers to the bit.

    The same draw on the same image gives the same result: the noise is made on the CPU from the draw's seed.

    Parameters
    ----------
    high_res : Tensor (..., H, W)
        Real or complex, H and W multiples of 2 * scale.
    draw
        Noise and shift, as `draw_degradation` gives them.
    scale
        The central 1/scale of k-space is kept in both directions.

    Returns
    -------
    Tensor (..., H / scale, W / scale)
        Magnitude, in the units of `high_res`.

    Raises
    ------
    ScanInvalid
        For other sizes.
    """
    kspace = _sampled_kspace(high_res, draw, scale)  # (..., h, w)
    if draw.shift_px != (0.0, 0.0):
        kspace = moved_kspace(kspace, draw.shift_px)
    if draw.noise_fraction > 0:
        sigma = draw.noise_fraction * kspace.abs().square().mean().sqrt()
        source = torch.Generator().manual_seed(draw.noise_seed)
        # A complex normal number has variance 1 in all, 1/2 in each part.
        noise = math.sqrt(2) * torch.randn(kspace.shape, generator=source, dtype=kspace.dtype)
        kspace = kspace + sigma * noise.to(kspace.device)
    if draw.window > 0 or draw.measured < 1:
        kspace = kspace * _scanner_filter(kspace, draw)
    return ifft2c(kspace).abs()


def _sampled_kspace(high_res: Tensor, draw: DegradationDraw, scale: int) -> Tensor:
    """What the low resolution is made of: the central part, or that of a blurred and decimated image, (..., h, w)."""
    central = _central_kspace(high_res, scale)
    if draw.blur_px == 0:
        return central
    row, column = (torch.exp(-2 * (math.pi * draw.blur_px * _frequency(n)) ** 2) for n in high_res.shape[-2:])
    kspace = fft2c(high_res)
    blurred = ifft2c(kspace * (row[:, None] * column[None, :]).to(kspace.real))
    return fft2c(blurred[..., ::scale, ::scale])


def _scanner_filter(kspace: Tensor, draw: DegradationDraw) -> Tensor:
    """The scanner's window over the part that was measured, and zero beyond it, (h, w)."""
    axes = []
    for n_samples in kspace.shape[-2:]:
        place = _frequency(n_samples) / draw.measured  # of the measured part: -1/2 to 1/2
        window = 1 - draw.window * (1 - torch.cos(2 * math.pi * place)) / 2
        axes.append(torch.where(place.abs() <= 0.5, window, 0.0))
    return (axes[0][:, None] * axes[1][None, :]).to(kspace.real)


def _frequency(n_samples: int) -> Tensor:
    """Cycles a sample along an axis of k-space, float64."""
    return (torch.arange(n_samples, dtype=torch.float64) - n_samples // 2) / n_samples


def _central_kspace(high_res: Tensor, scale: int) -> Tensor:
    """Central 1/scale of the k-space of `high_res`, (..., h, w) complex, scaled to preserve amplitude."""
    H, W = high_res.shape[-2:]
    if H % (2 * scale) or W % (2 * scale):
        raise ScanInvalid(
            f"a slice cannot be degraded {scale}x",
            got=(H, W),
            expected=f"multiples of {2 * scale}",
            action="Crop it first with crop_to_multiple",
        )
    return centre_crop(fft2c(high_res), (H // scale, W // scale)) / scale
