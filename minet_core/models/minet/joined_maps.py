"""Feature maps joined along their channels, with a gradient that is laid out as the maps are.

Torch's own gradient of a map is a view into that of all of them. Where channels lie beside each other (channels_last)
its pixels have gaps between them, and adding it to another gradient of the same map goes number by number: 0.48 ms for
8 x 16 x 48 x 48 in bfloat16 on an EPYC with AVX512-BF16, where a copy takes 0.05 and the addition of two alike 0.06.

Shapes: B batch, N feature maps, C channel, H row, W column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def joined(maps: Sequence[Tensor]) -> Tensor:
    """The maps beside each other.

    Parameters
    ----------
    maps : N tensors (B, C, H, W)
        Of one shape, dtype and device.

    Returns
    -------
    Tensor (B, N C, H, W)
        In the maps' order.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():  # a compiler lays out as it likes
        return torch.cat(list(maps), dim=1)
    together: Tensor = _Joined.apply(*maps)  # type: ignore[no-untyped-call]
    return together


class _Joined(torch.autograd.Function):
    """N maps (B, C, H, W) -> (B, N C, H, W)."""

    @staticmethod
    def forward(ctx: Any, *maps: Tensor) -> Tensor:
        ctx.n_maps = len(maps)
        return torch.cat(maps, dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        parts = gradient.chunk(ctx.n_maps, dim=1)
        return tuple(part.contiguous(memory_format=torch.channels_last) for part in parts)
