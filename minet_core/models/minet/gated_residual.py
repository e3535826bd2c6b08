"""The end of an RCAB: a gate per channel from the channel's mean, and the skip (RCAN, Eq. 10 and 11), as one operation.

Layer by layer the backward pass writes the response's gradient three times over: of the product, of the mean, and their
sum. Here it is written once. The response is not kept for it: times its gate it is what was added, and both ends of
that sum are kept as inputs of convolutions anyway. In bfloat16 torch goes through a product with one number a channel
value by value; here a row of the picture, with the channels beside each other, is multiplied by a row of numbers, five
to nine times as fast on a processor and with the same bytes. Torch's mean in bfloat16 makes a float32 copy first, and
its result is bfloat16; here each column's sum is, a third of the time, and the columns' sum is float32. The gates are
computed in float32, whatever autocast says.

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
    if (
        torch.is_grad_enabled() and not torch.compiler.is_compiling()
    ):  # a compiler fuses the layers' own gradient
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
        ctx.features_dtype = features.dtype
        features = features.to(response.dtype)
        gated = _added(features, response, gate)
        ctx.save_for_backward(features, gated, pooled, hidden, gate, down_weight, up_weight)
        return gated

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        features, gated, pooled, hidden, gate, down_weight, up_weight = ctx.saved_tensors
        n_pixels = gated.shape[2] * gated.shape[3]
        # The gate's own gradient is gradient * response; times the gate, what was added stands for the response.
        added = (gated - features).mul_(gradient)
        before_gate = _sums(added).to(gate.dtype) * (1 - gate)  # (B, C)
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
        pooled = _means(response).to(down[0].dtype)
        hidden = functional.linear(pooled, *down).relu_()
        return pooled, hidden, functional.linear(hidden, *up).sigmoid_()


def _means(response: Tensor) -> Tensor:
    """Over the pixels (B, C)."""
    if not _is_slow(response):
        return response.mean(dim=(2, 3))
    return _sums(response) / (response.shape[2] * response.shape[3])


def _sums(response: Tensor) -> Tensor:
    """Over the pixels (B, C); float32 where columns are summed first."""
    if not _is_slow(response):
        return response.sum(dim=(2, 3))
    of_columns = response.permute(0, 2, 3, 1).sum(dim=1)  # (B, W, C), summed in float32
    return of_columns.sum(dim=1, dtype=torch.float32)


def _added(start: Tensor, response: Tensor, gate: Tensor) -> Tensor:
    """start + response * gate, of the response's dtype. start: (B, C, H, W), or as the gate (B, C)."""
    gate = gate.to(response.dtype)
    if not _is_slow(response):
        whole = start if start.ndim == 4 else start.to(response.dtype)[:, :, None, None]
        return torch.addcmul(whole, response, gate[:, :, None, None])
    row = _as_row(gate, response.shape[3])
    whole = start if start.ndim == 4 else _as_row(start.to(response.dtype), response.shape[3])
    return torch.addcmul(whole, response, row)


def _as_row(values: Tensor, n_columns: int) -> Tensor:
    """(B, C) as (B, C, 1, W), laid out as a row of the picture is: channels beside each other."""
    row = values[:, None, None].expand(-1, 1, n_columns, -1).contiguous()
    return row.permute(0, 3, 1, 2)


def _is_slow(response: Tensor) -> bool:
    """Whether torch has no fast product of such a tensor with a number a channel; a compiler writes its own."""
    if torch.compiler.is_compiling():
        return False
    return response.device.type == "cpu" and response.dtype in (torch.bfloat16, torch.float16)
