"""What a site does with one message: score the global model, train it on its own slices, answer.

`train` scores the weights that came in on the validation split before it trains, so a round costs one message. In
rounds that `training.validation_every` leaves out it does not.
`evaluate` scores them on the test split, beside the interpolations. The site trains by the federation file it
was admitted with; a message that names another federation is refused.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict

from client.ledger import note_answer
from client.rounds.adaptation_task import SiteAdaptation, alone_steps
from client.rounds.request_budget import count_request
from client.rounds.results import keep_panel, keep_whole_model
from client.rounds.round_cache import CachedRound, RoundCache, one_at_a_time
from client.rounds.round_request import (
    HEAD,
    INCOMING,
    RoundRequest,
    check_global_update_norm,
    parse_request,
    require_not_stale,
)
from client.rounds.site_adaptation import adapt_at_site, score_adapted
from client.status.current_task import Request, at_work
from minet_core.evaluation.volume_scores import VolumeScores, evaluate_volume
from minet_core.models.activation_checkpointing import recompute
from minet_core.protocol import messages
from minet_core.protocol.cohort_declaration import cohort_number
from minet_core.protocol.figures import adaptation_figures, summary_figures
from minet_core.runtime.processes.flower_environment import BEGAN_VARIABLE
from minet_core.runtime.time_spent import TimeSpent
from minet_core.training.batches import Batch, BatchRecipe, PlannedSamples, drawn_batches, plan_batches
from minet_core.training.device import autocast_dtype_for, device_of
from minet_core.training.gradient_rules import GradientRule
from minet_core.training.local_update import LocalState, LocalUpdate, local_update
from minet_core.training.loop import OPTIMIZER_WARMUP_STEPS, StepPlan
from minet_core.training.samples import DEFAULT_CACHE_BYTES, PreparedSlices
from minet_core.weights.manifest import Arrays, check_weights, learnable
from minet_core.weights.memory_names import CONTROL
from minet_core.weights.payload import pack
from minet_core.weights.update_norm import HISTORY_ROUNDS, update_norm
from sites.scores import means_by_patient, validation_scores
from sites.settings.site_policy import require_steps_allowed
from sites.store.dataset import StoreSlices, require_patch
from sites.store.site_secret import patch_seed
from sites.store.store import Store
from sites.store.training_domain import measured_domain

RESIDUAL = "residual/"
"""Beginning of what a codec did not send, among what a site keeps of a round."""

MAX_STORES = 4
"""Stores whose slices a process keeps; all of them together keep no more than one training run does by itself."""


def train(message: Message, site_folder: Path) -> RecordDict:
    """Score the incoming weights on the validation split if it is due, train them, return them with agreed figures.

    A request that was answered before gets the same answer, from the disk; any other counts in the study's budget.
    """
    spent = _since_task_began()
    with spent.on("check"):
        incoming = parse_request(message, site_folder)
    asked = Request("train", incoming.run, incoming.round_number, message.metadata.message_id)
    with one_at_a_time(incoming.home.state), at_work(incoming.home.path, asked, spent):
        kept = RoundCache(incoming.home.state, incoming.run)
        with spent.on("count"):
            done = kept.get(incoming.round_number)
        repeated = done is not None and incoming.is_answered_by(done)
        n_counted: int | None = None
        if done is None or not repeated:
            with spent.on("count"):
                require_not_stale(incoming, kept)
                n_counted = _counted(incoming, "train")
            done = train_round(incoming, kept.last(before=incoming.round_number), spent)
            with spent.on("keep"):
                kept.put(done)
        with spent.on("ledger"):
            check_weights(done.answer, incoming.agreement.reply_manifest)
            parcel = pack(done.answer)
            head = note_answer(
                incoming,
                task="train",
                figures=done.figures,
                answer=hashlib.sha256(parcel.data).hexdigest(),
                repeated=repeated,
                n_counted=n_counted,
            )
        agreed = messages.train_figures(validated=incoming.federation.is_validated(incoming.round_number))
        content = _reply({**done.figures, **messages.head_figures(head.sha256)}, agreed)
        content[messages.MODEL] = ArrayRecord({messages.PARCEL: Array(parcel)})
        return content


def evaluate(message: Message, site_folder: Path) -> RecordDict:
    """Score the incoming weights on the test split, beside sinc and bicubic; keep the details on the site."""
    incoming = parse_request(message, site_folder)
    asked = Request("test", incoming.run, incoming.round_number, message.metadata.message_id)
    adapts = incoming.federation.adaptation is not None
    alone = one_at_a_time(incoming.home.state) if adapts else contextlib.nullcontext()
    with alone, at_work(incoming.home.path, asked):
        n_counted = _counted(incoming, "test")
        figures = evaluate_round(incoming)
        head = note_answer(incoming, task="test", figures=figures, answer=None, n_counted=n_counted)
        agreed = messages.test_figures(adapted=adapts)
        return _reply({**figures, **messages.head_figures(head.sha256)}, agreed)


HANDLERS = {"train": train, "evaluate": evaluate}


def _since_task_began() -> TimeSpent:
    """With what the process of this task took until now, where it serves one task (client.flower.task_host)."""
    spent, began = TimeSpent(), os.environ.get(BEGAN_VARIABLE)
    if began is not None:
        spent.add("start", time.time() - float(began), time.process_time())
    return spent


def _counted(incoming: RoundRequest, task: str) -> int:
    """Count the request in the study's budget. Raises PolicyRefused (FM-F420) where that is used up."""
    asked = (task, incoming.federation.digest(), incoming.run, incoming.round_number, incoming.digest)
    policy = incoming.home.settings().policy
    return count_request(incoming.home.state, policy, study=incoming.federation.name, request=asked)


def evaluate_round(incoming: RoundRequest) -> dict[str, int | float]:
    """The agreed figures of the weights that came in, as they leave."""
    began = time.monotonic()
    home, federation = incoming.home, incoming.federation
    model = incoming.model(RoundCache(home.state, incoming.run).last())
    store = Store(home.store)
    precision = autocast_dtype_for(device_of(model))
    scores: dict[str, VolumeScores] = {}
    for pseudonym, target, reference in store.volumes("test"):
        scores[pseudonym] = evaluate_volume(
            model, target, reference, scale=federation.scale, keep_images=not scores, autocast_dtype=precision
        )
    keep_panel(home, scores)
    if len(incoming.shared) < len(learnable(model)):
        keep_whole_model(incoming, model)
    few = store.cohort.counts["test"].patients < home.settings().policy.min_patients
    figures: dict[str, int | float] = {
        **incoming.binding,
        "cohort": cohort_number(store.cohort.digest),
        "n_training_slices": len(StoreSlices(store, "training")),
        "n_test_volumes": 1 if few else len(scores),
        "few_patients": int(store.cohort.few_patients),
        "kind": messages.KINDS.index(store.cohort.data_kind),
        "seconds": time.monotonic() - began,
        **summary_figures(
            [volume.metrics for volume in scores.values()], seed=federation.seed, intervals=not few
        ),
        **_adaptation_figures(incoming, learnable(model), scores, intervals=not few),
    }
    agreed = messages.test_figures(adapted=federation.adaptation is not None)
    return messages.rounded_figures(figures | {"seconds": time.monotonic() - began}, agreed=agreed)


def _adaptation_figures(
    incoming: RoundRequest, weights: Arrays, scores: Mapping[str, VolumeScores], *, intervals: bool
) -> dict[str, int | float]:
    """Adapt the model that came in, where the federation file says so: what leaves of it. scores: its own, by pair."""
    home, federation = incoming.home, incoming.federation
    if federation.adaptation is None:
        return {}
    store = Store(home.store)
    of_global = means_by_patient(store, {name: volume.metrics for name, volume in scores.items()})
    prepared = prepared_training_slices(store, scale=federation.scale)
    n_alone = alone_steps(federation, home, n_slices=len(prepared))
    task = SiteAdaptation(home, federation, federation.adaptation, weights, n_alone)
    adapted = adapt_at_site(task, prepared)
    return adaptation_figures(
        score_adapted(task, adapted, known={"global": of_global}),
        chosen=adapted.choice.chosen,
        seed=federation.seed,
        intervals=intervals,
    )


def train_round(incoming: RoundRequest, former: CachedRound | None, spent: TimeSpent) -> CachedRound:
    """The round that this request asks for, trained; not kept yet. spent: is told what its parts took."""
    began = time.monotonic()
    home, federation = incoming.home, incoming.federation
    settings, store = home.settings(), Store(home.store)
    with spent.on("load"):
        check_global_update_norm(incoming, former, settings.limits)
        model = incoming.model(former)
    validation: dict[str, float] = {}
    if federation.is_validated(incoming.round_number):
        with spent.on("validate"):
            validation = validation_scores(model, store, federation)
    require_patch(store, federation.training.patch_px)
    prepared = prepared_training_slices(store, scale=federation.scale)
    own = {} if former is None else former.site
    continues = former is not None and former.round_number == incoming.round_number - 1
    recompute(model, settings.compute.recompute)
    plan = _plan(incoming, site=settings.name, n_slices=len(prepared), device=device_of(model))
    with spent.on("train"):
        update = local_update(
            model,
            _batches(incoming, prepared, plan, site=settings.name),
            plan,
            LocalState(own if continues else {}, _gradient_rule(incoming, own)),
        )
    with spent.on("domain"):
        domain = domain_figures(store, scale=federation.scale, run=incoming.binding["run"], former=former)
    # A round of declared time may have had fewer than any file could ask for.
    require_steps_allowed(settings.policy, n_steps=update.report.n_steps, n_samples=update.report.n_samples)
    figures = {
        **incoming.binding,
        "cohort": cohort_number(store.cohort.digest),
        "n_training_slices": len(prepared),
        "train_loss": update.report.loss_mean,
        "seconds": time.monotonic() - began,
        **{f"validation_{score}": validation[score] for score in messages.SCORES if validation},
        **domain,
    }
    return _kept_round(incoming, former, update, figures)


def _kept_round(
    incoming: RoundRequest,
    former: CachedRound | None,
    update: LocalUpdate,
    figures: Mapping[str, int | float],
) -> CachedRound:
    """What leaves of an update, in the agreed form, and what stays at the site."""
    own = {} if former is None else former.site
    shared = {name: update.weights[name] for name in incoming.shared}
    residual = {name.removeprefix(RESIDUAL): own[name] for name in own if name.startswith(RESIDUAL)}
    sent, left = incoming.agreement.codec.encode(shared, reference=incoming.shared, residual=residual)
    norms = () if former is None else former.norms
    return CachedRound(
        round_number=incoming.round_number,
        request=incoming.digest,
        figures=messages.rounded_figures(figures, agreed=messages.TRAIN_FIGURES),
        norms=(*norms, update_norm(shared, incoming.shared))[-HISTORY_ROUNDS:],
        answer={**sent, **update.sent},
        site={
            **update.moments,
            **update.kept,
            **{f"{RESIDUAL}{name}": array for name, array in left.items()},
            **{f"{HEAD}{name}": array for name, array in update.weights.items() if name not in shared},
            **{f"{INCOMING}{name}": array for name, array in incoming.shared.items()},
        },
    )


def _plan(incoming: RoundRequest, *, site: str, n_slices: int, device: torch.device) -> StepPlan:
    """The steps of this round at this site, as the federation file has them."""
    federation = incoming.federation
    work = federation.work_of(site)
    n_steps = work.max_steps(n_slices=n_slices, batch_size=federation.training.batch_size)
    return StepPlan(
        settings=federation.training,
        first_step=(incoming.round_number - 1) * n_steps,
        n_steps=n_steps,
        total_steps=federation.rounds * n_steps,
        autocast_dtype=autocast_dtype_for(device),
        settling_steps=OPTIMIZER_WARMUP_STEPS,
        seconds=work.local_seconds,
    )


def _batches(
    incoming: RoundRequest, prepared: PreparedSlices, plan: StepPlan, *, site: str
) -> Iterator[Batch]:
    """The batches of the plan's steps: of the whole run, those with their numbers."""
    training, scale = incoming.federation.training, incoming.federation.scale
    seed = patch_seed(incoming.home.store, federation_seed=incoming.federation.seed)
    recipe = BatchRecipe(
        scale=scale,
        batch_size=training.batch_size,
        patch_px=training.patch_px,
        seed=seed,
        label=site,
        trouble=training.trouble,
        flips=training.flips,
        blur=training.blur,
    )
    planned = plan_batches(prepared.source.shapes, recipe, first=plan.first_step)
    return drawn_batches(PlannedSamples(prepared, recipe), planned)


def _gradient_rule(incoming: RoundRequest, own: Arrays) -> GradientRule | None:
    """What corrects the gradients of this round, where the algorithm has something."""
    make = incoming.agreement.algorithm.gradient_rule
    if make is None:
        return None
    site_memory = {name: own[name] for name in own if name.startswith(f"{CONTROL}/")}
    return make(weights=incoming.shared, memory=incoming.memory, site_memory=site_memory)


def domain_figures(
    store: Store, *, scale: int, run: int, former: CachedRound | None
) -> dict[str, int | float]:
    """What this site trains on, as it travels: coarse ranges over its training patients.

    Those of the former round where it was of the same cohort and of the same `run`, the number of its name and
    federation file: a task is a process of its own, and to measure the scans again takes a sixth of a short round.
    """
    told = {} if former is None else former.figures
    if (told.get("run"), told.get("cohort")) == (run, cohort_number(store.cohort.digest)):
        known = {name: told[name] for name in messages.DOMAIN_FIGURES if name in told}
        if known:
            return known
    domain = measured_domain(store, scale=scale)
    return {} if domain is None else domain.figures()


def _reply(figures: Mapping[str, int | float], agreed: Mapping[str, messages.Figure]) -> RecordDict:
    """A reply's figures as they were agreed; checked here, before anything leaves."""
    messages.checked_figures(figures, agreed=agreed)
    return RecordDict({messages.METRICS: MetricRecord(dict(figures))})


@dataclass(frozen=True)
class _OneCohort:
    """A store by the cohort that was read of it: another one, ingested into the same folder since, is another store."""

    path: Path
    digest: str
    store: Store = field(compare=False)


def prepared_training_slices(store: Store, *, scale: int) -> PreparedSlices:
    """The samples of the training split, of the cohort that `store` has read and no later one: prepared once a process.

    Where a process serves one message it makes no difference. Where it serves the rounds of a whole run (`fedminet
    simulate`, an experiment's cells) it spares a quarter of a short round on a processor.
    """
    return _prepared(_OneCohort(store.path, store.cohort.digest, store), scale)


@functools.lru_cache(maxsize=MAX_STORES)
def _prepared(cohort: _OneCohort, scale: int) -> PreparedSlices:
    slices = StoreSlices(cohort.store, "training")
    return PreparedSlices(slices, scale=scale, cache_bytes=DEFAULT_CACHE_BYTES // MAX_STORES)
