"""The baselines: zero-filled sinc, bicubic and cubic B-spline, aligned with the k-space grid.

For all, and for every size, odd sizes too, high-resolution sample scale * n is low-resolution sample n.
That is the grid of `minet_core.imaging.degradation`. (`torch.nn.functional.interpolate` and most image libraries
align the outer edges of the pixels: half a low-resolution pixel minus half a high-resolution pixel off.)

h, w low-resolution row and column; H = scale * h, W = scale * w.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from minet_core.errors import ScanInvalid
from minet_core.imaging.fourier import centre_pad, fft2c, ifft2c

KEYS_A = -0.5
"""The free parameter of the cubic convolution kernel: the one value that reproduces quadratics, so that the
error falls with the cube of the spacing (Keys 1981, section III). OpenCV uses -0.75, which does not, and so does
torch, but for `antialias=True`, where it is -0.5 in an enlargement too."""


class Interpolation(Protocol):
    def __call__(self, low_res: Tensor, scale: int, *, non_negative: bool = False) -> Tensor:
        """Interpolate an image onto a grid that is finer in the plane.

        Parameters
        ----------
        low_res : Tensor (..., h, w)
            Real.
        scale
            Factor along both axes.
        non_negative
            Clamp what lies below zero.

        Returns
        -------
        Tensor (..., scale * h, scale * w)
            Real, in the units of `low_res`.

        Raises
        ------
        ScanInvalid
            For a complex image.
        """


def sinc(low_res: Tensor, scale: int, *, non_negative: bool = False) -> Tensor:
    """Zero-filling in k-space, amplitude preserved.

    The line at the Nyquist frequency of an even size stands for +h/2 and -h/2 alike, so half of it goes to each: the
    k-space stays Hermitian, the image real, and every sample of `low_res` is reproduced.

    Parameters
    ----------
    low_res : Tensor (..., h, w)
        Real.
    scale
        Factor along both axes.
    non_negative
        Clamp the ringing at zero, as a magnitude image has no negative values.

    Returns
    -------
    Tensor (..., scale * h, scale * w)
        Real, in the units of `low_res`.

    Raises
    ------
    ScanInvalid
        For a complex image.
    """
    _refuse_complex(low_res)
    h, w = low_res.shape[-2:]
    kspace = _split_nyquist(_split_nyquist(fft2c(low_res), -2), -1)
    high_res = scale * ifft2c(centre_pad(kspace, (scale * h, scale * w))).real
    # The origin h // 2 of an odd size would land on H // 2, which is not scale * (h // 2): move it there.
    shift = (scale * (h // 2) - scale * h // 2, scale * (w // 2) - scale * w // 2)
    if shift != (0, 0):
        high_res = high_res.roll(shift, dims=(-2, -1))
    return high_res.clamp_min(0) if non_negative else high_res


def bicubic(low_res: Tensor, scale: int, *, non_negative: bool = False) -> Tensor:
    """Separable cubic convolution with the kernel of Keys.

    Beyond the frame the edge samples are repeated.

    Parameters
    ----------
    low_res : Tensor (..., h, w)
        Real.
    scale
        Factor along both axes.
    non_negative
        Clamp the overshoot at zero.

    Returns
    -------
    Tensor (..., scale * h, scale * w)
        Real, in the units of `low_res`.

    Raises
    ------
    ScanInvalid
        For a complex image.

    References
    ----------
    Keys: "Cubic Convolution Interpolation for Digital Image Processing", IEEE TASSP 1981, Eq. 4 with a = `KEYS_A`.
    """
    _refuse_complex(low_res)
    along_rows = _cubic_last_axis(low_res, scale)  # (..., h, W)
    high_res = _cubic_last_axis(along_rows.transpose(-2, -1), scale).transpose(-2, -1).contiguous()
    return high_res.clamp_min(0) if non_negative else high_res


def bspline(low_res: Tensor, scale: int, *, non_negative: bool = False) -> Tensor:
    """Interpolating cubic B-spline.

    The image is mirrored about its edge samples. Every sample of `low_res` is reproduced.

    Parameters
    ----------
    low_res : Tensor (..., h, w)
        Real.
    scale
        Factor along both axes.
    non_negative
        Clamp the overshoot at zero.

    Returns
    -------
    Tensor (..., scale * h, scale * w)
        Real, of the dtype and in the units of `low_res`; the coefficients are solved for in float64.

    Raises
    ------
    ScanInvalid
        For a complex image.

    References
    ----------
    Unser, Aldroubi, Eden: "B-Spline Signal Processing", IEEE Transactions on Signal Processing 1993.
    """
    _refuse_complex(low_res)
    along_rows = _spline_last_axis(low_res, scale)
    high_res = _spline_last_axis(along_rows.transpose(-2, -1), scale).transpose(-2, -1).contiguous()
    return high_res.clamp_min(0) if non_negative else high_res


INTERPOLATIONS: dict[str, Interpolation] = {"sinc": sinc, "bicubic": bicubic}
"""The baselines that every result of a federation stands beside; agreed between server and sites."""

BASELINES: dict[str, Interpolation] = {"bicubic": bicubic, "bspline": bspline, "sinc": sinc}
"""The baselines of the paper's tables."""


def _refuse_complex(low_res: Tensor) -> None:
    if low_res.is_complex():
        raise ScanInvalid("cannot interpolate", got="a complex image", expected="a magnitude image")


def _split_nyquist(kspace: Tensor, axis: int) -> Tensor:
    """An even number n of lines becomes n + 1: the line at -n/2 is halved and repeated at +n/2."""
    n_lines = kspace.shape[axis]
    if n_lines % 2:
        return kspace
    half = kspace.narrow(axis, 0, 1) / 2
    return torch.cat([half, kspace.narrow(axis, 1, n_lines - 1), half], dim=axis)


def _cubic_last_axis(x: Tensor, scale: int) -> Tensor:
    """Cubic convolution along the last axis, (..., n) -> (..., scale * n), one filter for each phase.

    Between samples n and n + 1, at distance t from n, the taps are n - 1, n, n + 1, n + 2.
    """
    weights = torch.tensor([_keys_weights(phase / scale) for phase in range(scale)], dtype=torch.float64)
    lines = x.reshape(-1, 1, x.shape[-1])  # (lines, 1, n)
    padded = functional.pad(lines, (1, 2), mode="replicate")  # (lines, 1, n + 3)
    phases = functional.conv1d(padded, weights.to(x)[:, None, :])  # (lines, scale, n)
    return phases.transpose(1, 2).reshape(*x.shape[:-1], scale * x.shape[-1])


def _keys_weights(t: float) -> list[float]:
    """Weights of the samples at -1, 0, 1 and 2 for the point t in [0, 1) (Keys 1981, Eq. 4 with a free)."""
    a = KEYS_A

    def near(s: float) -> float:
        return (a + 2) * s**3 - (a + 3) * s**2 + 1

    def far(s: float) -> float:
        return a * (s**3 - 5 * s**2 + 8 * s - 4)

    return [far(1 + t), near(t), near(1 - t), far(2 - t)]


def _spline_last_axis(x: Tensor, scale: int) -> Tensor:
    """Cubic B-spline interpolation along the last axis, (..., n) -> (..., scale * n), one filter for each phase."""
    from scipy import ndimage  # for the tables alone: a site's tasks start without it

    lines = x.reshape(-1, x.shape[-1]).double()
    filtered = ndimage.spline_filter1d(lines.cpu().numpy(), order=3, axis=-1, mode="mirror")
    coefficients = torch.from_numpy(filtered).to(x.device)[:, None]  # (lines, 1, n)
    mirrored = _mirrored(coefficients, left=1, right=2)
    weights = torch.tensor([_spline_weights(phase / scale) for phase in range(scale)], dtype=torch.float64)
    phases = functional.conv1d(mirrored, weights.to(mirrored)[:, None, :])  # (lines, scale, n)
    return phases.transpose(1, 2).reshape(*x.shape[:-1], scale * x.shape[-1]).to(x.dtype)


def _mirrored(lines: Tensor, *, left: int, right: int) -> Tensor:
    n = lines.shape[-1]
    return lines[..., [_mirror(index, n) for index in range(-left, n + right)]]


def _mirror(index: int, n: int) -> int:
    """The sample that stands at `index` of a line of `n` mirrored about its ends."""
    if n == 1:
        return 0
    index %= 2 * (n - 1)
    return min(index, 2 * (n - 1) - index)


def _spline_weights(t: float) -> list[float]:
    """Weights of the coefficients at -1, 0, 1 and 2 for the point t in [0, 1)."""
    return [(1 - t) ** 3 / 6, 2 / 3 - t**2 + t**3 / 2, 2 / 3 - (1 - t) ** 2 + (1 - t) ** 3 / 2, t**3 / 6]
