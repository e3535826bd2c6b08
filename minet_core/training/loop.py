"""The training step, and a number of them in a row.

B batch, H row, W column.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from minet_core.errors import InvalidSetting, TrainingDiverged
from minet_core.models.base import SuperResolver
from minet_core.settings.federation import TrainingSettings
from minet_core.training.batches import Batch
from minet_core.training.device import device_of, to_channels_last
from minet_core.training.gradient_rules import GradientRule

Progress = Callable[[int, int], None]
"""Called after each step with (steps done in this call, its steps in all)."""

OPTIMIZER_WARMUP_STEPS = 10
"""Steps over which an Adam with fresh moments is brought to its rate, since its first steps have the full
length in every weight, whatever the gradient. A site that starts each round of 75 steps with one ends 0.2 dB
below one that keeps its moments, and 0.1 dB with the ramp (T1-guided T2, 2x, 600 steps, one seed)."""

DIVERGED_LOSS = 1e4
"""A mean absolute error at which an image is lost. The scans have a deviation of 1: an empty image errs by less than
that. A model of the published size went there at a rate of 2e-3, stayed finite, and did not come back."""


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """Some steps of a run, and what they are made by.

    first_step: counted from the start of the run, not of the round. total_steps: of the whole run, over which the
    learning rate rises and falls. settings: of the federation file. autocast_dtype: see `autocast_dtype_for`; the loss
    and the weights stay float32. settling_steps: `OPTIMIZER_WARMUP_STEPS` for an Adam with fresh moments. seconds: of
    wall time; where given, `n_steps` is the most, and training ends with the first step that ends at or past it; one
    step is always taken, and the report says how many were.
    """

    settings: TrainingSettings
    n_steps: int
    total_steps: int
    first_step: int = 0
    autocast_dtype: torch.dtype | None = None
    settling_steps: int = 0
    seconds: float | None = None

    def learning_rate_at(self, step: int) -> float:
        """The schedule's rate at a step of the run.

        Parameters
        ----------
        step
            Counted from the start of the run.

        Returns
        -------
        float
            As the function `learning_rate_at` has it.

        Raises
        ------
        InvalidSetting
            FM-C102, outside the run.
        """
        return learning_rate_at(
            step,
            total_steps=self.total_steps,
            learning_rate=self.settings.learning_rate,
            warmup_steps=self.settings.warmup_steps,
            decay_fraction=self.settings.decay_fraction,
        )

    def require_work(self) -> None:
        """Refuse a plan of no step, or of no time.

        Raises
        ------
        InvalidSetting
            FM-C102, for either.
        """
        if self.n_steps < 1:
            raise InvalidSetting("there is no step to train", got=self.n_steps, expected="at least 1")
        if self.seconds is not None and not self.seconds > 0:
            raise InvalidSetting("there is no time to train", got=self.seconds, expected="seconds above 0")


@dataclass(frozen=True)
class TrainingReport:
    """What a call of `train_steps` did.

    loss_mean: over its steps. seconds: wall time. processor_seconds: of all threads of the process.
    """

    n_steps: int
    n_samples: int
    loss_mean: float
    loss_last: float
    seconds: float
    processor_seconds: float


def learning_rate_at(
    step: int, *, total_steps: int, learning_rate: float, warmup_steps: int, decay_fraction: float
) -> float:
    """Linear warm-up, constant, linear decay at the end of the run.

    No step has rate zero: the first is at 1 / warmup_steps of the plateau, the last at 1 / (decay steps + 1).

    Parameters
    ----------
    step
        0 to total_steps - 1, counted from the start of the run, not of the round.
    total_steps
        Of the whole run.
    learning_rate
        Of the plateau.
    warmup_steps
        Steps of the rise; 0 begins on the plateau.
    decay_fraction
        Part of the run over which the rate falls, 0 to 1.

    Returns
    -------
    float
        Above 0, at most `learning_rate`.

    Raises
    ------
    InvalidSetting
        FM-C102, for a step outside the run.
    """
    if not 0 <= step < total_steps:
        raise InvalidSetting(
            "a step lies outside the run", got=step, expected=f"0 to {total_steps - 1}", action=None
        )
    n_decay = round(decay_fraction * total_steps)
    rising = (step + 1) / warmup_steps if step < warmup_steps else 1.0
    falling = (total_steps - step) / (n_decay + 1)
    return learning_rate * min(rising, falling, 1.0)


def train_steps(
    model: SuperResolver,
    batches: Iterator[Batch],
    plan: StepPlan,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    gradient_rule: GradientRule | None = None,
    progress: Progress | None = None,
) -> TrainingReport:
    """Take the steps of a plan, on the model's own device.

    Parameters
    ----------
    model
        Brought to channels_last and to training mode, and trained in place.
    batches
        One for each step, or more.
    plan
        Which steps, and by which settings.
    optimizer
        Given the step's learning rate before each step; its rate rises over `plan.settling_steps` on top of the
        schedule. None makes an Adam with fresh moments.
    gradient_rule
        Changes the gradient of each step before it is clipped.
    progress
        Called after each step.

    Returns
    -------
    TrainingReport
        Steps, samples, losses (means over batch and pixels) and seconds of this call.

    Raises
    ------
    TrainingDiverged
        FM-M303, at a loss or a gradient that is not finite, and at a loss of images that are lost (`DIVERGED_LOSS`),
        before the weights are touched by it.
    InvalidSetting
        FM-C102, for steps outside the run, batches that run out, or seconds that are not above 0.
    """
    plan.require_work()
    device = device_of(model)
    to_channels_last(model)
    model.train()
    settling = plan.settling_steps
    optimizer = adam(model) if optimizer is None else optimizer
    losses: list[float] = []
    n_samples, started, of_processor = 0, time.perf_counter(), time.process_time()
    for step in range(plan.first_step, plan.first_step + plan.n_steps):
        batch = next(batches, None)
        if batch is None:
            raise InvalidSetting("the batches ran out", got=f"{len(losses)} steps", expected=plan.n_steps)
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate_at(step) * min(1.0, (len(losses) + 1) / (settling + 1))
        optimizer.zero_grad(set_to_none=True)  # before the forward pass, at whose end a step holds the most
        loss = _planned_loss(model, batch, plan, device=device)
        losses.append(_optimizer_step(model, loss, optimizer, gradient_rule, plan=plan, step=step))
        n_samples += len(batch.target)
        if progress is not None:
            progress(len(losses), plan.n_steps)
        if plan.seconds is not None and time.perf_counter() - started >= plan.seconds:
            break
    return TrainingReport(
        n_steps=len(losses),
        n_samples=n_samples,
        loss_mean=math.fsum(losses) / len(losses),
        loss_last=losses[-1],
        seconds=time.perf_counter() - started,
        processor_seconds=time.process_time() - of_processor,
    )


def _planned_loss(model: SuperResolver, batch: Batch, plan: StepPlan, *, device: torch.device) -> Tensor:
    alpha, beta = plan.settings.alpha, plan.settings.beta
    return batch_loss(model, batch, device=device, alpha=alpha, beta=beta, autocast_dtype=plan.autocast_dtype)


def batch_loss(
    model: SuperResolver,
    batch: Batch,
    *,
    device: torch.device,
    alpha: float,
    beta: float,
    autocast_dtype: torch.dtype | None,
) -> Tensor:
    """The model's own loss of one batch (Eq. 6 for MINet).

    Parameters
    ----------
    model
        On `device`.
    batch
        On any device; it is copied.
    device
        Where the loss is computed.
    alpha, beta
        Weights of the target's and of the reference's term.
    autocast_dtype
        Of the forward pass; None for the model's own. The loss is taken in float32.

    Returns
    -------
    Tensor
        A scalar with its graph.

    Raises
    ------
    ModelError
        FM-M300, where the reference or an image does not fit.
    """
    low_res, upsampled, reference, target = (
        tensor.to(device, non_blocking=True)
        for tensor in (batch.low_res, batch.upsampled, batch.reference, batch.target)
    )
    with torch.autocast(device.type, dtype=autocast_dtype, enabled=autocast_dtype is not None):
        images = model.training_images(low_res, reference, upsampled)
    return model.training_loss(images, target, reference, alpha=alpha, beta=beta)


def adam(model: nn.Module) -> torch.optim.Adam:
    """Adam over the parameters that learn.

    Parameters
    ----------
    model
        On its device.

    Returns
    -------
    Adam
        Fused, with fresh moments and a learning rate of 0: `train_steps` sets it.
    """
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.Adam(learning, lr=0.0, fused=True)


def _optimizer_step(
    model: nn.Module,
    loss: Tensor,
    optimizer: torch.optim.Optimizer,
    gradient_rule: GradientRule | None,
    *,
    plan: StepPlan,
    step: int,
) -> float:
    """One step along the gradient; the loss before it."""
    clip_norm, most = plan.settings.clip_norm, DIVERGED_LOSS * (plan.settings.alpha + plan.settings.beta)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingDiverged(f"the loss of step {step} is not finite", got=value, action=DIVERGED)
    if value > most:
        raise TrainingDiverged(f"the loss of step {step} is of no image", got=value, action=DIVERGED)
    loss.backward()  # type: ignore[no-untyped-call]
    if gradient_rule is not None:
        gradient_rule.correct(model)
    _clip_gradient(model, clip_norm, step=step)
    optimizer.step()
    return value


def _clip_gradient(model: nn.Module, clip_norm: float | None, *, step: int) -> None:
    """Shorten a gradient that is longer; torch's clip_grad_norm_ multiplies every other one by one."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    total = nn.utils.get_total_norm(gradients)
    norm = float(total)
    if not math.isfinite(norm):
        raise TrainingDiverged(f"the gradient of step {step} is not finite", got=norm, action=DIVERGED)
    if clip_norm is not None and norm > clip_norm:
        nn.utils.clip_grads_with_norm_(model.parameters(), clip_norm, total)


DIVERGED = "Lower learning_rate, or set clip_norm"
