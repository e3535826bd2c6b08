"""Training in phases that follow each other, by `local_update`: what a site does with the global model by itself.

A phase begins with a fresh Adam, for the tensors that did not train before have no moments. The steps of a phase are
taken in stretches of at most `keep_every`; where training stands after each is given to whoever asked, who keeps it.
Training that goes on from there takes the same steps, so one that was killed anywhere ends in the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from minet_core.models.base import SuperResolver
from minet_core.settings.adaptation import AdaptationSettings
from minet_core.settings.federation import TrainingSettings
from minet_core.training.batches import Batch
from minet_core.training.device import to_channels_last
from minet_core.training.gradient_rules import OnlyPart
from minet_core.training.local_update import LocalState, local_update
from minet_core.training.loop import OPTIMIZER_WARMUP_STEPS, StepPlan
from minet_core.weights.manifest import Arrays, load_weights

BatchesFrom = Callable[[int], Iterator[Batch]]
"""The batches of a training in phases from a step on, counted from its first phase's first."""

KEEP_EVERY = 50
"""Steps after which a training that stays at a site keeps where it stands: a minute on a processor."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Some steps by one schedule.

    settings: learning rate and its course over these steps, clipping, loss. part: beginnings of the names of the
    tensors that train; empty: all of them. settling_steps: over which the fresh Adam is brought to its rate.
    """

    settings: TrainingSettings
    n_steps: int
    part: tuple[str, ...] = ()
    settling_steps: int = 0


@dataclass(frozen=True, eq=False)
class Stand:
    """Where a training in phases stands. n_steps: done, over all phases. moments: Adam's; none where a phase begins."""

    n_steps: int
    weights: Arrays
    moments: Arrays = field(default_factory=dict)


def adaptation_phases(adaptation: AdaptationSettings, training: TrainingSettings) -> tuple[Phase, ...]:
    """The phases of an adaptation: the head at a constant rate, then the whole model at a rate that falls at its end.

    Parameters
    ----------
    adaptation
        Steps and rates.
    training
        Of the federation file: clipping, loss, and, where the adaptation does not say it, the part of the steps over
        which the rate falls.

    Returns
    -------
    tuple of Phase
        Two, or one where `head_steps` is 0.
    """
    head = Phase(
        settings=training.model_copy(
            update={
                "learning_rate": adaptation.head_learning_rate,
                "warmup_steps": 0,
                "decay_fraction": 0.0,
            }
        ),
        n_steps=adaptation.head_steps,
        part=adaptation.head,
        settling_steps=OPTIMIZER_WARMUP_STEPS,
    )
    falls = training.decay_fraction if adaptation.decay_fraction is None else adaptation.decay_fraction
    whole = Phase(
        settings=training.model_copy(
            update={
                "learning_rate": adaptation.learning_rate,
                "warmup_steps": 0,
                "decay_fraction": falls,
            }
        ),
        n_steps=adaptation.steps,
        settling_steps=OPTIMIZER_WARMUP_STEPS,
    )
    return (head, whole) if adaptation.head_steps else (whole,)


def train_phases(
    model: SuperResolver,
    batches_from: BatchesFrom,
    phases: Sequence[Phase],
    stand: Stand,
    *,
    keep_every: int = KEEP_EVERY,
    autocast_dtype: torch.dtype | None = None,
) -> Iterator[Stand]:
    """Train a model from where its training stands to the end of the last phase.

    It opens no file and draws no random number.

    Parameters
    ----------
    model
        On its device; it is given the weights of `stand`, and holds the trained ones afterwards.
    batches_from
        Called once.
    phases
        In their order.
    stand
        Where it begins; one that this function gave, or no step and the weights to begin with.
    keep_every
        Steps of a phase between two stands, at most; the same wherever this training goes on.
    autocast_dtype
        See `autocast_dtype_for`.

    Yields
    ------
    Stand
        After each stretch; the last one after the last step. Nothing where no step is left.

    Raises
    ------
    TrainingDiverged, InvalidSetting
        As `local_update`.
    WeightsRefused
        FM-M302, for weights of another model.
    """
    to_channels_last(model)
    load_weights(model, stand.weights)
    batches = batches_from(stand.n_steps)
    moments, begin = stand.moments, 0
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    for phase in phases:
        rule = OnlyPart(phase.part, names=names) if phase.part else None
        first = max(stand.n_steps - begin, 0)
        while first < phase.n_steps:
            end = min(first - first % keep_every + keep_every, phase.n_steps)
            plan = StepPlan(
                settings=phase.settings,
                first_step=first,
                n_steps=end - first,
                total_steps=phase.n_steps,
                autocast_dtype=autocast_dtype,
                settling_steps=phase.settling_steps,
            )
            update = local_update(model, batches, plan, LocalState(moments, rule))
            moments = {} if end == phase.n_steps else update.moments
            yield Stand(begin + end, update.weights, moments)
            first = end
        begin += phase.n_steps
