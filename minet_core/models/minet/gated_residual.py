"""The end of an RCAB: a gate per channel from the channel's mean, and the skip (RCAN, Eq. 10 and 11), as one operation.

Layer by layer the backward pass writes the response's gradient three times over: of the product, of the mean, and their
sum. Here it is written once. In bfloat16 torch goes through a product with one number a channel value by value; here a
row of the picture, with the channels beside each other, is multiplied by a row of numbers, five to nine times as fast
on a processor and with the same bytes. The mean and the gates are computed in float32, whatever autocast says.

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
        New features, of the response's dtype.
    """
    if torch.is_grad_enabled():
        gated: Tensor = _GatedResidual.apply(features, response, *down, *up)  # type: ignore[no-untyped-call]
        return gated
    _, _, gate = _gate(response, down, up)
    return _added(features.to(response.dtype), response, gate)


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
        pooled, hidden, gate = _gate(response, (down_weight, down_bias), (up_weight, up_bias))
        ctx.save_for_backward(response, pooled, hidden, gate, down_weight, up_weight)
        ctx.features_dtype = features.dtype
        return _added(features.to(response.dtype), response, gate)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        response, pooled, hidden, gate, down_weight, up_weight = ctx.saved_tensors
        n_pixels = response.shape[2] * response.shape[3]
        before_gate = (gradient * response).sum(dim=(2, 3)).to(gate.dtype) * (gate * (1 - gate))  # (B, C)
        before_hidden = (before_gate @ up_weight) * (hidden > 0)
        of_response = _added((before_hidden @ down_weight).div_(n_pixels), gradient, gate)
        of_down = before_hidden.mT @ pooled, before_hidden.sum(dim=0)
        of_up = before_gate.mT @ hidden, before_gate.sum(dim=0)
        return gradient.to(ctx.features_dtype), of_response, *of_down, *of_up


def _gate(
    response: Tensor, down: tuple[Tensor, Tensor], up: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Means (B, C), hidden units (B, C / reduction) and gates (B, C), of the weights' dtype."""
    with torch.autocast(response.device.type, enabled=False):
        pooled = response.mean(dim=(2, 3)).to(down[0].dtype)
        hidden = functional.linear(pooled, *down).relu_()
        return pooled, hidden, functional.linear(hidden, *up).sigmoid_()


def _added(start: Tensor, response: Tensor, gate: Tensor) -> Tensor:
    """start + response * gate, of the response's dtype. start: (B, C, H, W), or as the gate (B, C)."""
    gate = gate.to(response.dtype)
    if not _is_slow(response):
        whole = start if start.ndim == 4 else start.to(response.dtype)[:, :, None, None]
        return torch.addcmul(whole, response, gate[:, :, None, None])
    batch, n_features, n_rows, n_columns = response.shape

    def row_of(values: Tensor) -> Tensor:
        """(B, C) as (B, 1, W C)."""
        return values.to(response.dtype).repeat(1, n_columns)[:, None]

    def rows_of(values: Tensor) -> Tensor:
        """(B, C, H, W) as (B, H, W C), which of channels_last is a view."""
        return values.permute(0, 2, 3, 1).reshape(batch, n_rows, n_columns * n_features)

    whole = rows_of(start) if start.ndim == 4 else row_of(start)
    rows = torch.addcmul(whole, rows_of(response), row_of(gate))
    return rows.reshape(batch, n_rows, n_columns, n_features).permute(0, 3, 1, 2)


def _is_slow(response: Tensor) -> bool:
    """Whether torch has no fast product of such a tensor with a number a channel."""
    return response.device.type == "cpu" and response.dtype in (torch.bfloat16, torch.float16)
