"""Where the features of both contrasts meet: the 1 x 1 convolution of Eq. 2 (Feng et al. 2021).

Shapes: B batch, C channel, H row, W column.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def fuse(reference: Tensor, target: Tensor, fusion: nn.Module) -> Tensor:
    """The 1 x 1 convolution of [F_ref, F_tgt], as the sum of two matrix products of what is channels_last anyway.

    Nothing is joined for it, and one thread's 1 x 1 convolution of a small batch has a slow backward pass.

    Parameters
    ----------
    reference, target : Tensor (B, C, H, W)
        Features.
    fusion
        A `Conv2d` of one pixel from 2 C channels, the reference's first.

    Returns
    -------
    Tensor
        (B, channels of `fusion`, H, W).
    """
    assert isinstance(fusion, nn.Conv2d)
    if torch.compiler.is_exporting():  # runtimes of exported files have rows and columns last
        joined: Tensor = fusion(torch.cat([reference, target], dim=1))
        return joined
    of_reference, of_target = fusion.weight[:, :, 0, 0].chunk(2, dim=1)
    of_both = functional.linear(reference.permute(0, 2, 3, 1), of_reference, fusion.bias)
    rows = target.permute(0, 2, 3, 1).flatten(0, 2)  # (B H W, C)
    fused = torch.addmm(of_both.flatten(0, 2), rows, of_target.t())  # added before it is rounded
    return fused.reshape(of_both.shape).permute(0, 3, 1, 2)
