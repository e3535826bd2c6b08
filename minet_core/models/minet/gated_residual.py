"""The end of an RCAB: a gate per channel from the channel's mean, and the skip (RCAN, Eq. 10 and 11), as one operation.

Layer by layer the backward pass writes the response's gradient three times over: of the product, of the mean, and their
sum. Here it is written once.

Shapes: B batch, C channel, H row, W column.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def gated_residual(
    features: Tensor, response: Tensor, down: tuple[Tensor, Tensor], up: tuple[Tensor, Tensor]
) -> Tensor:
    """features + response * sigmoid(W_up relu(W_down mean(response))).

    Parameters
    ----------
    features, response : Tensor (B, C, H, W)
        What the block was given, and what its convolutions made of it.
    down, up
        Weight and bias of a linear layer, (C / reduction, C) and (C, C / reduction).

    Returns
    -------
    Tensor (B, C, H, W)
        New features. Under autocast, where types differ, the layers run one by one.
    """
    if torch.is_grad_enabled() and not torch.is_autocast_enabled(features.device.type):
        gated: Tensor = _GatedResidual.apply(features, response, *down, *up)  # type: ignore[no-untyped-call]
        return gated
    hidden = functional.relu(functional.linear(response.mean(dim=(2, 3)), *down))
    gate = torch.sigmoid(functional.linear(hidden, *up))  # (B, C)
    return torch.addcmul(features, response, gate[:, :, None, None])


class _GatedResidual(torch.autograd.Function):
    """`gated_residual` with its gradient written out."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        response: Tensor,
        down_weight: Tensor,
        down_bias: Tensor,
        up_weight: Tensor,
        up_bias: Tensor,
    ) -> Tensor:
        pooled = response.mean(dim=(2, 3))  # (B, C)
        hidden = torch.addmm(down_bias, pooled, down_weight.mT).relu_()
        gate = torch.addmm(up_bias, hidden, up_weight.mT).sigmoid_()
        ctx.save_for_backward(response, pooled, hidden, gate, down_weight, up_weight)
        return torch.addcmul(features, response, gate[:, :, None, None])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        response, pooled, hidden, gate, down_weight, up_weight = ctx.saved_tensors
        n_pixels = response.shape[2] * response.shape[3]
        before_gate = (gradient * response).sum(dim=(2, 3)) * (gate * (1 - gate))  # (B, C)
        before_hidden = (before_gate @ up_weight) * (hidden > 0)
        of_mean = (before_hidden @ down_weight).div_(n_pixels)[:, :, None, None]
        of_response = torch.addcmul(of_mean, gradient, gate[:, :, None, None])
        of_down = before_hidden.mT @ pooled, before_hidden.sum(dim=0)
        of_up = before_gate.mT @ hidden, before_gate.sum(dim=0)
        return gradient, of_response, *of_down, *of_up
