"""Adam's moments between two rounds.

A fresh optimizer spends its first steps finding the scale of each gradient, which is a good part of a short round.
The moments stay at the site: they are not averaged and not sent. They go on from one round to the next one only: a
site that missed a round starts with fresh ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from minet_core.training.loop import adam
from minet_core.weights.manifest import Arrays

_PREFIX = "adam/"
_PARTS = ("exp_avg", "exp_avg_sq", "step")


def moments_of(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, NDArray[Any]]:
    """The moments, "adam/NAME:PART", as they are kept."""
    return {
        f"{_PREFIX}{name}:{part}": np.array(
            optimizer.state[parameter][part].detach().cpu().numpy(), order="C", copy=True
        )
        for name, parameter in model.named_parameters()
        for part in _PARTS
    }


def continued_adam(model: nn.Module, kept: Arrays) -> torch.optim.Adam | None:
    """Adam with the moments in `kept`; None where it holds none, or another model's."""
    parameters = dict(model.named_parameters())
    names = {f"{_PREFIX}{name}:{part}" for name in parameters for part in _PARTS}
    if {name for name in kept if name.startswith(_PREFIX)} != names:
        return None
    optimizer = adam(model)
    for name, parameter in parameters.items():
        optimizer.state[parameter] = {
            part: _of_form(kept[f"{_PREFIX}{name}:{part}"], parameter) for part in _PARTS
        }
    return optimizer


def _of_form(array: NDArray[Any], parameter: Tensor) -> Tensor:
    """A moment on its parameter's device and laid out in memory as it is, which the fused Adam asks for."""
    tensor = torch.from_numpy(np.array(array, copy=True)).to(parameter.device)
    if tensor.ndim != parameter.ndim or tensor.ndim == 0:
        return tensor
    return torch.empty_like(parameter).copy_(tensor)
