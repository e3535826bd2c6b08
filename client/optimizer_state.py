"""Adam's moments between two rounds, on the site's own disk.

A fresh optimizer spends its first steps finding the scale of each gradient, which is a good part of a short round.
The moments stay at the site: they are not averaged and not sent. They are kept by run and round, so that a round that
is repeated begins as it did the first time, and a state of another run or of an earlier round is never taken up.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from minet_core.runtime.durable import replacing
from minet_core.training import adam, device_of

KEPT_ROUNDS = 2
"""The last round's state, and the one before it for a round that is repeated."""

_PARTS = ("exp_avg", "exp_avg_sq", "step")


def continued_adam(model: nn.Module, folder: Path, *, run: str, round_number: int) -> torch.optim.Adam | None:
    """Adam with the moments it had at the end of the former round of `run`; None where this site has none."""
    path = _path(folder, run=run, round_number=round_number - 1)
    if not path.is_file():
        return None
    try:
        stored = safetensors.torch.load_file(path, device=str(device_of(model)))
    except SafetensorError:
        return None  # a fresh optimizer is always right, only slower
    parameters = dict(model.named_parameters())
    if stored.keys() != {f"{name}:{part}" for name in parameters for part in _PARTS}:
        return None
    optimizer = adam(model)
    for name, parameter in parameters.items():
        optimizer.state[parameter] = {part: _of_form(stored[f"{name}:{part}"], parameter) for part in _PARTS}
    return optimizer


def keep_adam(
    optimizer: torch.optim.Optimizer, model: nn.Module, folder: Path, *, run: str, round_number: int
) -> None:
    """Keep the moments at the end of a round of `run`; states of other runs and of old rounds are removed."""
    tensors = {
        f"{name}:{part}": optimizer.state[parameter][part].detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        for part in _PARTS
    }
    path = _path(folder, run=run, round_number=round_number)
    with replacing(path) as temporary:
        safetensors.torch.save_file(tensors, temporary)
    for other in folder.iterdir():
        if other != path.parent:
            shutil.rmtree(other)
    for older in sorted(path.parent.glob("round-*"))[:-KEPT_ROUNDS]:
        older.unlink()


def _path(folder: Path, *, run: str, round_number: int) -> Path:
    return folder / run / f"round-{round_number:04d}.safetensors"


def _of_form(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A moment laid out in memory as its parameter is, which the fused Adam asks for."""
    if tensor.ndim != parameter.ndim or tensor.ndim == 0:
        return tensor
    return torch.empty_like(parameter).copy_(tensor)
