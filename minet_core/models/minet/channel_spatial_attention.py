"""F_Att, the channel-spatial attention module (Eq. 4 of Feng et al. 2021)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


class ChannelSpatialAttention(nn.Module):
    """G = sigmoid(A) * F + F (Eq. 4), where A is one 3 x 3 x 3 convolution over channel, row and column.

    The paper's three-dimensional convolution has one input and one output channel and runs along the feature
    channels as its depth. It equals a two-dimensional convolution from C to C channels whose weights are
    banded: output channel o sees the input channels o-1, o and o+1. That form is some ten times faster and is
    used here; the parameters are those of the three-dimensional kernel.

    Parameters
    ----------
    n_features
        C, feature channels.
    """

    bands: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        kernel = nn.Conv3d(1, 1, 3)  # for its initialisation
        self.kernel = nn.Parameter(kernel.weight.detach()[0, 0].clone())  # (3, 3, 3): channel, row, column
        assert kernel.bias is not None
        self.bias = nn.Parameter(kernel.bias.detach().clone())  # (1,)
        bands = torch.zeros(3, n_features, n_features)
        # Where shapes alone are asked for (exchange_plan_of), nothing is filled in: torch would import its compiler for
        # it, three seconds of a processor, and a model of any size must cost nothing there.
        if not bands.is_meta:
            for index, offset in enumerate((-1, 0, 1)):
                bands[index].diagonal(offset).fill_(1.0)
        self.register_buffer("bands", bands, persistent=False)  # (3, C, C): offset, output, input

    def forward(self, features: Tensor) -> Tensor:  # (B, C, H, W)
        """G of Eq. 4.

        Parameters
        ----------
        features : Tensor (B, C, H, W)
            F^L of one branch.

        Returns
        -------
        Tensor (B, C, H, W)
            Enriched features.
        """
        n_features = features.shape[1]
        # (C C, 9): one of three kernels each, or none. So small a product takes 80 us in bfloat16, and 5 in float32.
        with torch.autocast(features.device.type, enabled=False):
            taps = self.bands.flatten(1).t() @ self.kernel.flatten(1)
        weight = taps.view(n_features, n_features, 3, 3)
        attention = functional.conv2d(features, weight, self.bias.expand(n_features), padding=1)
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            attended: Tensor = _Attended.apply(features, attention)  # type: ignore[no-untyped-call]
            return attended
        return torch.addcmul(features, features, torch.sigmoid(attention))


class _Attended(torch.autograd.Function):
    """sigmoid(A) * F + F, whose gradient passes over the maps three times, where torch's layer by layer does six."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, attention: Tensor) -> Tensor:
        gates = torch.sigmoid(attention)
        ctx.save_for_backward(features, gates)
        return torch.addcmul(features, features, gates)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        features, gates = ctx.saved_tensors
        of_attention = torch.ops.aten.sigmoid_backward(gradient * features, gates)
        return torch.addcmul(gradient, gradient, gates), of_attention
