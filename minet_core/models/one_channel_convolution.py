"""A 3 x 3 convolution to one channel, the last layer of a network, as products of matrices where that is the faster.

A processor fills its vectors with the channels that come out, so a library's convolution to one channel takes as long
as one to sixteen, and its weights' gradient longer. In 16 bits on a processor a pixel's channels are multiplied by all
nine taps at once here, and the nine images that come of it are added where they belong, in float32.

Shapes: B batch, C channel, H row, W column.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class OneChannelConvolution(nn.Conv2d):
    """A 3 x 3 convolution that keeps the size, (B, C, H, W) -> (B, 1, H, W).

    Parameters
    ----------
    n_features
        C.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features, 1, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:  # (B, C, H, W)
        """The image.

        Parameters
        ----------
        features : Tensor (B, C, H, W)
            Left as they are.

        Returns
        -------
        Tensor (B, 1, H, W)
            In float32 where it is made of products of matrices in 16 bits, else of the convolution's type.
        """
        kind = features.device.type
        if torch.compiler.is_compiling() or kind != "cpu":
            return super().forward(features)
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else features.dtype
        if dtype not in (torch.bfloat16, torch.float16):
            return super().forward(features)
        assert self.bias is not None
        own = features.to(dtype)
        if torch.is_grad_enabled():
            learned: Tensor = _OneChannel.apply(own, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return learned
        return _image(own, _by_taps(self.weight.to(dtype)), self.bias)


class _OneChannel(torch.autograd.Function):
    """The convolution with its gradient written out."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        taps = _by_taps(weight.to(features.dtype))
        ctx.weight_dtype = weight.dtype
        ctx.save_for_backward(features, taps)
        return _image(features, taps, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        features, taps = ctx.saved_tensors
        batch, n_features, n_rows, n_columns = features.shape
        padded = gradient.new_zeros(batch, n_rows + 2, n_columns + 2, dtype=features.dtype)
        padded[:, 1:-1, 1:-1] = gradient[:, 0]
        # Where a convolution looks ahead its gradient looks back: the windows are those of the taps from the last on.
        towards = _windows(padded).permute(1, 2, 0, 3, 4).reshape(9, -1)  # (9, B H W)
        of_rows = towards.t() @ taps.flip(0)
        of_features = of_rows.view(batch, n_rows, n_columns, n_features).permute(0, 3, 1, 2)
        of_taps = (towards @ _rows(features)).flip(0).view(1, 3, 3, n_features).permute(0, 3, 1, 2)
        of_bias = gradient.sum(dim=(0, 2, 3))
        return of_features, of_taps.to(ctx.weight_dtype), of_bias.to(ctx.weight_dtype)


def _image(features: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    """(B, C, H, W) and (9, C) -> (B, 1, H, W) in float32."""
    batch, _, n_rows, n_columns = features.shape
    products = (taps.flip(0) @ _rows(features).t()).view(9, batch, n_rows, n_columns)
    padded = bias.float().expand(batch, n_rows + 2, n_columns + 2).contiguous()
    windows = (window for row in _windows(padded).unbind(1) for window in row.unbind(1))
    for window, of_tap in zip(windows, products.unbind(), strict=True):
        window.add_(of_tap)
    return padded[:, None, 1:-1, 1:-1]


def _by_taps(weight: Tensor) -> Tensor:
    """(1, C, 3, 3) as (9, C)."""
    return weight[0].permute(1, 2, 0).flatten(0, 1)


def _rows(features: Tensor) -> Tensor:
    """(B, C, H, W) as (B H W, C), which of channels_last is a view."""
    return features.permute(0, 2, 3, 1).flatten(0, 2)


def _windows(padded: Tensor) -> Tensor:
    """(B, H + 2, W + 2) as (B, 3, 3, H, W): what each of nine taps sees; a view."""
    return padded.unfold(1, padded.shape[1] - 2, 1).unfold(2, padded.shape[2] - 2, 1)
