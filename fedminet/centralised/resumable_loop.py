"""Training for days: it can be killed at any moment, and ends as if nothing had happened to it.

The loop trains a stretch of steps, writes a line of figures, replaces the state on the disk, and goes on. Whatever a
step needs is the state, the seed and the step's number (`minet_core.training.batches`), so a run that goes on
from the state takes the same steps: to the same bytes where the arithmetic is the same (one thread on the CPU, or
deterministic kernels).

There is one Adam from the first step to the last; the schedule's warm-up is all that spares its first steps, where a
site's round with fresh moments settles first (`OPTIMIZER_WARMUP_STEPS` of `minet_core.training.loop`).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from fedminet.centralised.folder import Page, TrainingFolder
from fedminet.centralised.log import Figures, Record, training_log
from fedminet.centralised.ranks import Ranks
from minet_core.models.base import SuperResolver
from minet_core.runtime.progress import Advance
from minet_core.seeds import derived_seed
from minet_core.settings.federation import FederationSettings
from minet_core.training.batches import (
    Batch,
    BatchRecipe,
    PlannedSamples,
    drawn_batches,
    named_worker_deaths,
    plan_batches,
)
from minet_core.training.device import device_of, to_channels_last
from minet_core.training.local_update import LocalState, local_update
from minet_core.training.loop import StepPlan, TrainingReport
from minet_core.training.samples import DEFAULT_CACHE_BYTES, PreparedSlices, SliceSource

Validate = Callable[[nn.Module], dict[str, dict[str, float]]]
"""By site, the scores of its validation split."""


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What is trained: all that decides the model.

    label: what the run is called; its random numbers are its own. cohorts: by site, the digest of its cohort.
    shapes: (H, W) of every training slice. steps_per_round: validation is after each round.
    """

    federation: FederationSettings
    label: str
    cohorts: Mapping[str, str]
    shapes: Sequence[tuple[int, int]]
    steps_per_round: int

    @property
    def n_steps(self) -> int:
        return self.federation.rounds * self.steps_per_round

    @property
    def recipe(self) -> BatchRecipe:
        """What its batches are made of."""
        training = self.federation.training
        return BatchRecipe(
            scale=self.federation.scale,
            batch_size=training.batch_size,
            patch_px=training.patch_px,
            seed=self.federation.seed,
            label=self.label,
            trouble=training.trouble,
            flips=training.flips,
            blur=training.blur,
        )

    @cached_property
    def settings(self) -> Page:
        """What a run that goes on must agree with."""
        return {
            "federation": self.federation.model_dump(mode="json"),
            "label": self.label,
            "cohorts": dict(self.cohorts),
            "steps_per_round": self.steps_per_round,
        }


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What it is trained with: nothing here decides the model, but for the rounding of sums.

    n_workers: processes that draw batches, of each rank. save_every: steps after which the state is replaced, at the
    latest. autocast_dtype: see `autocast_dtype_for`.
    """

    ranks: Ranks
    n_workers: int
    save_every: int
    autocast_dtype: torch.dtype | None
    tensorboard: bool = False


def train_to_end(
    model: SuperResolver,
    source: SliceSource,
    folder: TrainingFolder,
    *,
    run: TrainingPlan,
    means: Resources,
    validate: Validate,
    progress: Advance | None = None,
) -> None:
    """Train the model from where its folder stands to the end of the run. Every rank calls it.

    model: with its initial weights, on its device. progress: called with steps of this call.
    Raises SettingsMismatch (FM-C105) for the folder of another run, and what `local_update` and drawing raise.
    """
    to_channels_last(model)
    first_step, state = folder.restore(model, run.settings)
    if first_step == run.n_steps:
        return
    ranks, network = means.ranks, means.ranks.wrap_ddp(model)
    with _own_random_numbers(model), contextlib.ExitStack() as opened:
        opened.enter_context(named_worker_deaths())
        batches = opened.enter_context(
            contextlib.closing(_batches(source, run, means, first_step=first_step, device=device_of(model)))
        )
        record: Record | None = None
        if ranks.is_main:
            folder.begin(run.settings, step=first_step)
            record = opened.enter_context(
                training_log(folder, step=first_step, tensorboard=means.tensorboard)
            )
        for begin, end in itertools.pairwise(_stops(run, first_step=first_step, save_every=means.save_every)):
            update = local_update(
                network,
                batches,
                _plan_of(run, begin, end, autocast_dtype=means.autocast_dtype),
                state,
                progress=_from(begin - first_step, of=run.n_steps - first_step, progress=progress),
            )
            report, state = update.report, LocalState(update.moments)
            loss = ranks.mean(report.loss_mean)
            if record is not None:
                record(_figures(report, run, step=end, loss=loss, model=model, validate=validate))
                folder.keep(
                    update,
                    run.federation,
                    run.settings,
                    step=end,
                    round_number=end // run.steps_per_round,
                )


def _stops(run: TrainingPlan, *, first_step: int, save_every: int) -> Iterator[int]:
    """The steps between which it trains without a look aside: from the first to the last, and each round's last."""
    step = first_step
    yield step
    while step < run.n_steps:
        step = min(*(step - step % every + every for every in (save_every, run.steps_per_round)), run.n_steps)
        yield step


def _plan_of(run: TrainingPlan, begin: int, end: int, *, autocast_dtype: torch.dtype | None) -> StepPlan:
    """Steps `begin` to `end` of the run, by the recipe of its federation file."""
    return StepPlan(
        settings=run.federation.training,
        first_step=begin,
        n_steps=end - begin,
        total_steps=run.n_steps,
        autocast_dtype=autocast_dtype,
    )


def _batches(
    source: SliceSource, run: TrainingPlan, means: Resources, *, first_step: int, device: torch.device
) -> Generator[Batch, None, None]:
    """This rank's part of every batch from `first_step` on, and before each one the random numbers of its step.

    MINet's layers draw none; a model with dropout draws the same ones however often its run was interrupted.
    """
    samples = PlannedSamples(
        PreparedSlices(
            source, scale=run.federation.scale, cache_bytes=DEFAULT_CACHE_BYTES // max(means.n_workers, 1)
        ),
        run.recipe,
        places=means.ranks.places(run.recipe.batch_size),
    )
    planned = plan_batches(run.shapes, run.recipe, first=first_step)
    plan = itertools.islice(planned, run.n_steps - first_step)
    drawn = drawn_batches(
        samples, plan, n_workers=means.n_workers, pin_memory=means.n_workers > 0 and device.type == "cuda"
    )
    for step, batch in enumerate(drawn, start=first_step):
        torch.manual_seed(derived_seed(run.federation.seed, run.label, "layers", step, means.ranks.rank))
        yield batch


@contextlib.contextmanager
def _own_random_numbers(model: nn.Module) -> Iterator[None]:
    """The global generators are this run's, and afterwards what they were."""
    device = device_of(model)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _figures(
    report: TrainingReport, run: TrainingPlan, *, step: int, loss: float, model: nn.Module, validate: Validate
) -> Figures:
    training = run.federation.training
    return Figures(
        step=step,
        round=step // run.steps_per_round,
        loss=loss,
        learning_rate=_plan_of(run, 0, step, autocast_dtype=None).learning_rate_at(step - 1),
        seconds=report.seconds,
        processor_seconds=report.processor_seconds,
        samples_per_second=report.n_steps * training.batch_size / report.seconds,
        validation=validate(model) if step % run.steps_per_round == 0 else {},
    )


def _from(done: int, *, of: int, progress: Advance | None) -> Advance | None:
    """The progress of a stretch as that of the whole call."""
    return None if progress is None else lambda step, _: progress(done + step, of)
