"""Local training as a value: from a model, its batches, a plan and a state to the update that comes of them.

One site's round and centralised training take their steps here. What is decided elsewhere is what the batches are made
of, which steps of the run these are, and what is kept of the update and where.

The state is Adam's moments and the rule that corrects the gradients. A fresh Adam spends its first steps finding the
scale of each gradient, which is a good part of a short round. The moments stay at the site: they are not averaged and
not sent. They go on from one round to the next one only: a site that missed a round starts with fresh ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from minet_core.models.base import SuperResolver
from minet_core.training.batches import Batch
from minet_core.training.device import to_channels_last
from minet_core.training.gradient_rules import GradientRule
from minet_core.training.loop import Progress, StepPlan, TrainingReport, adam, train_steps
from minet_core.weights.manifest import Arrays, learnable

_PREFIX = "adam/"
_PARTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True)
class LocalState:
    """What local training goes on from beside the weights.

    moments: Adam's, "adam/NAME:PART", as `LocalUpdate.moments` gave them; other names in it are not looked at, and
    without all of the model's own Adam starts fresh. rule: what corrects the gradients of this update alone.
    """

    moments: Arrays = field(default_factory=dict)
    rule: GradientRule | None = None


@dataclass(frozen=True, eq=False)
class LocalUpdate:
    """What came of it. Arrays are copies.

    weights: all that learn, by name. moments: what the next update may go on from. kept, sent: what the gradient rule
    leaves at the site and gives the server.
    """

    report: TrainingReport
    weights: dict[str, NDArray[Any]]
    moments: dict[str, NDArray[Any]]
    kept: Mapping[str, NDArray[Any]]
    sent: Mapping[str, NDArray[Any]]


def local_update(
    model: SuperResolver,
    batches: Iterator[Batch],
    plan: StepPlan,
    state: LocalState,
    *,
    progress: Progress | None = None,
) -> LocalUpdate:
    """Train a model from `state` through the steps of `plan`.

    It opens no file, draws no random number and keeps nothing for the next call: the same arguments give the same
    update, where the plan names no seconds.

    Parameters
    ----------
    model
        On its device, with the weights that training begins with; it holds the trained ones afterwards.
    batches
        One for each step of the plan.
    plan
        Which steps of the run, and by which settings.
    state
        Adam's moments and the gradient rule; left as it is.
    progress
        Called after each step.

    Returns
    -------
    LocalUpdate
        The report, the trained weights and what the next update may go on from.

    Raises
    ------
    TrainingDiverged, InvalidSetting
        As `train_steps`.

    Examples
    --------
    >>> import itertools
    >>> from minet_core.models.registry import build_model
    >>> from minet_core.settings.federation import TrainingSettings
    >>> from minet_core.training.batches import random_batch
    >>> from minet_core.training.local_update import LocalState, local_update
    >>> from minet_core.training.loop import StepPlan
    >>> model = build_model({"architecture": "minet", "n_features": 8}, scale=2)
    >>> batches = itertools.repeat(random_batch(16, scale=2, batch_size=2))
    >>> plan = StepPlan(settings=TrainingSettings(), n_steps=2, total_steps=100)
    >>> update = local_update(model, batches, plan, LocalState())
    >>> update.report.n_steps, update.weights["target_reconstruction.weight"].shape
    (2, (1, 8, 3, 3))
    """
    to_channels_last(model)
    going_on = continued_adam(model, state.moments)
    optimizer = going_on or adam(model)
    report = train_steps(
        model,
        batches,
        plan if going_on is None else replace(plan, settling_steps=0),
        optimizer=optimizer,
        gradient_rule=state.rule,
        progress=progress,
    )
    return LocalUpdate(
        report=report,
        weights=learnable(model),
        moments=moments_of(optimizer, model),
        kept={} if state.rule is None else state.rule.kept(),
        sent={} if state.rule is None else state.rule.sent(),
    )


def moments_of(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, NDArray[Any]]:
    """Adam's moments, as they are kept for the next round.

    Parameters
    ----------
    optimizer
        An Adam that has taken a step.
    model
        All of whose parameters it holds.

    Returns
    -------
    dict of arrays
        Copies on the CPU, by "adam/NAME:PART": exp_avg, exp_avg_sq (of the parameter's shape) and step.
    """
    return {
        f"{_PREFIX}{name}:{part}": np.array(
            optimizer.state[parameter][part].detach().cpu().numpy(), order="C", copy=True
        )
        for name, parameter in model.named_parameters()
        for part in _PARTS
    }


def has_moments(model: nn.Module, kept: Arrays) -> bool:
    """Whether `kept` holds the moments of this model's parameters, and no other's.

    Parameters
    ----------
    model
        Its parameters' names are compared, and no shapes.
    kept
        What a site keeps; names without "adam/" are not looked at.

    Returns
    -------
    bool
        False where one of the model's is missing.
    """
    names = {f"{_PREFIX}{name}:{part}" for name, _ in model.named_parameters() for part in _PARTS}
    return {name for name in kept if name.startswith(_PREFIX)} == names


def continued_adam(model: nn.Module, kept: Arrays) -> torch.optim.Adam | None:
    """Adam that goes on with kept moments.

    Parameters
    ----------
    model
        On its device; the moments are laid out as its parameters are.
    kept
        As `moments_of` gave them; other names may be among them.

    Returns
    -------
    Adam or None
        None where `kept` holds no moments, or another model's.
    """
    if not has_moments(model, kept):
        return None
    optimizer = adam(model)
    for name, parameter in model.named_parameters():
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
