"""ReLU in place, in 16 bits as of whole numbers where nothing learns."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def rectified_(maps: Tensor) -> Tensor:
    """ReLU in place.

    In bfloat16 and float16 torch converts each number to float32 and back on a processor. There a number is below zero
    as the whole number of the same bits is, of which a processor compares 32 at once: 0.08 ms for 0.29 of 16 x 320 x
    320. Where something learns its gradient would have to be written out in Python, which costs what it saves
    (docs/results/speed.md): there ReLU is torch's.

    Parameters
    ----------
    maps : Tensor
        Changed. What is not a number becomes zero where its sign is set: a residual block's input is in its output too,
        and weights are looked at where they are read.

    Returns
    -------
    Tensor
        `maps`.
    """
    whole_numbers = maps.device.type == "cpu" and maps.dtype in (torch.bfloat16, torch.float16)
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or not whole_numbers:
        return functional.relu(maps, inplace=True)
    maps.view(torch.int16).clamp_min_(0)
    return maps
