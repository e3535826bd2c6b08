"""The two baselines every result stands beside: zero-filled sinc and bicubic, aligned with the k-space grid.

For both, and for every size, odd sizes too, high-resolution sample scale * n is low-resolution sample n.
That is the grid of `minet_core.degradation`. (`torch.nn.functional.interpolate` and most image libraries
align the outer edges of the pixels: half a low-resolution pixel minus half a high-resolution pixel off.)

h, w low-resolution row and column; H = scale * h, W = scale * w.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from minet_core.fourier import centre_pad, fft2c, ifft2c
from minet_core.runtime.errors import ScanInvalid

KEYS_A = -0.5
"""The free parameter of the cubic convolution kernel: the one value that reproduces quadratics, so that the
error falls with the cube of the spacing (Keys 1981, section III). Torch and OpenCV use -0.75, which does
not."""


class Interpolation(Protocol):
    def __call__(self, low_res: Tensor, scale: int, *, non_negative: bool = False) -> Tensor: ...


def sinc(low_res: Tensor, scale: int, *, non_negative: bool = False) -> Tensor:
    """Zero-filling in k-space, amplitude preserved: (..., h, w) real -> (..., scale * h, scale * w) real.

    The line at the Nyquist frequency of an even size stands for +h/2 and -h/2 alike, so half of it goes to
    each: the k-space stays Hermitian, the image real, and every sample of `low_res` is reproduced.
    non_negative: clamp the ringing at zero, as a magnitude image has no negative values.
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
    """Separable cubic convolution (Keys 1981): (..., h, w) real -> (..., scale * h, scale * w) real.

    Beyond the frame the edge samples are repeated. non_negative: clamp the overshoot at zero.
    """
    _refuse_complex(low_res)
    along_rows = _cubic_last_axis(low_res, scale)  # (..., h, W)
    high_res = _cubic_last_axis(along_rows.transpose(-2, -1), scale).transpose(-2, -1).contiguous()
    return high_res.clamp_min(0) if non_negative else high_res


INTERPOLATIONS: dict[str, Interpolation] = {"sinc": sinc, "bicubic": bicubic}


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
