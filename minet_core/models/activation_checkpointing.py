"""Parts of a network that can be computed twice instead of storing what is inside them (Chen et al. 2016).

In a training step a network stores what every layer gave, for the backward pass: at the paper's size some 7 GB for each
320 x 320 slice of a batch in float32. A part that is recomputed stores its input alone, and runs once more when the
backward pass comes to it: the same numbers, for about a quarter more time (MINet on an H200: 215 ms for 169).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

LARGE_MODEL = 1_000_000
"""Parameters of a model whose parts are recomputed on a GPU where nothing else is asked for: the `quick` preset is far
below, the paper's models are above."""


class ActivationCheckpointed(nn.Module):
    """A module whose call is recomputed in the backward pass while `recomputed` is set; parts may lie in parts."""

    recomputed: bool = False

    def __call__(self, *inputs: Any) -> Any:
        if self.recomputed and torch.is_grad_enabled():
            return checkpoint(super().__call__, *inputs, use_reentrant=False)
        return super().__call__(*inputs)


def recompute(model: nn.Module, recomputed: bool | None) -> None:
    """Recompute every part of `model` that can be, or store all.

    A model without such parts stores all.

    Parameters
    ----------
    model
        Its parts of the class `ActivationCheckpointed` are set, in place.
    recomputed
        None recomputes the parts of a large model (`LARGE_MODEL`) on a GPU, whose memory is the shorter.
    """
    if recomputed is None:
        parameters = list(model.parameters())
        recomputed = parameters[0].is_cuda and sum(p.numel() for p in parameters) >= LARGE_MODEL
    for module in model.modules():
        if isinstance(module, ActivationCheckpointed):
            module.recomputed = recomputed
