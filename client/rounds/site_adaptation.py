"""The global model made this site's own: trained further here, compared on validation patients, the choice kept.

    results/adaptation/model.safetensors     the chosen model
                       card.json             by what it was chosen, what it was made from; no figure of a test patient
                       global.safetensors    the model that it began with
                       adapted.safetensors   where the training further stands, and at its end its weights
                       alone.safetensors     likewise of the model that is trained alone

The chosen model may be the ensemble of the three: their networks in one file. With a ladder of learning rates
there is one such file a rate, `adapted-0.0003.safetensors`, in place of the third.

Nothing of it leaves the site but the figures of `ADAPTATION_FIGURES`. Everything random is derived from the seed, the
site's own secret and the step's number, so an adaptation that was killed anywhere ends in the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from client.rounds.kept_stand import KeptStand
from client.site_home import SiteHome
from minet_core.calibration import Calibration
from minet_core.checkpoint import ABSENCE, CheckpointManifest, describe, provenance_of, save_checkpoint
from minet_core.errors import TrainingDiverged
from minet_core.evaluation.model_choice import Choice, choose_model, choose_rate
from minet_core.models.activation_checkpointing import recompute
from minet_core.models.base import SuperResolver
from minet_core.models.ensemble import joined_weights
from minet_core.models.registry import build_model
from minet_core.protocol.exchange_plan import initial_weights
from minet_core.runtime.files.atomic_write import write_json
from minet_core.runtime.observer import Observer, observe_nothing
from minet_core.runtime.versions import versions
from minet_core.seeds import derived_seed
from minet_core.settings.federation import (
    CANDIDATES,
    ENSEMBLED,
    AdaptationSettings,
    Candidate,
    FederationSettings,
    ModelSettings,
)
from minet_core.training.batches import (
    Batch,
    BatchRecipe,
    PlannedSamples,
    PreparedSlices,
    drawn_batches,
    plan_batches,
)
from minet_core.training.device import autocast_dtype_for, device_of, preferred_device
from minet_core.training.phases import KEEP_EVERY, Phase, Stand, adaptation_phases, train_phases
from minet_core.weights.manifest import Arrays, load_weights
from sites.calibration import calibrate
from sites.scores import scores_by_patient
from sites.store.dataset import require_patch
from sites.store.site_secret import patch_seed
from sites.store.store import Store
from sites.store.training_domain import measured_domain

ADAPTATION = "adaptation"
"""The folder in the site's results."""

ScoresByPatient = dict[str, dict[str, dict[str, float]]]
"""By pseudonym, by method, by score: see `sites.scores.scores_by_patient`."""


@dataclass(frozen=True)
class SiteAdaptation:
    """What is to be adapted, where, and how.

    federation: its model, scale, seed and recipe of training. weights: all that learn in the model to begin with.
    n_alone_steps: of a model that is trained alone; 0: none. origin: of the file that the weights are from; None: they
    came from the server after the federation's last round. keep_every: steps after which a training is kept. stand: the
    name of the file of where the adaptation stands.
    """

    home: SiteHome
    federation: FederationSettings
    adaptation: AdaptationSettings
    weights: Arrays
    n_alone_steps: int
    origin: CheckpointManifest | None = None
    keep_every: int = KEEP_EVERY
    stand: str = "adapted"

    @property
    def rungs(self) -> dict[float, SiteAdaptation]:
        """By learning rate, the adaptation at this one rate; its bytes do not depend on what else is tried."""
        if not self.adaptation.rates:
            return {self.adaptation.learning_rate: self}
        return {rate: self._at_rate(rate) for rate in self.adaptation.rates}

    def _at_rate(self, rate: float) -> SiteAdaptation:
        adaptation, federation = self.adaptation.with_rate(rate), self.federation
        if federation.adaptation is not None:
            own = federation.adaptation.with_rate(rate)
            federation = federation.model_copy(update={"adaptation": own})
        return replace(self, adaptation=adaptation, federation=federation, stand=f"adapted-{rate:g}")

    @property
    def folder(self) -> Path:
        return self.home.results / ADAPTATION

    def phases(self, candidate: Candidate) -> tuple[Phase, ...]:
        """What is trained for a candidate: nothing for the global model, or for one that is not asked for."""
        training = self.federation.training
        if candidate == "adapted":
            return adaptation_phases(self.adaptation, training)
        if candidate == "alone" and self.n_alone_steps:
            return (Phase(settings=training, n_steps=self.n_alone_steps),)
        return ()

    def steps_of(self, candidate: Candidate) -> int:
        """Optimizer steps of the site behind a candidate's weights, without those of the rounds."""
        if candidate == "ensemble":
            return sum(self.steps_of(name) for name in ENSEMBLED)
        return sum(phase.n_steps for phase in self.phases(candidate))

    def settings_of(self, candidate: Candidate) -> ModelSettings:
        """The network that a candidate's weights are of."""
        of_rounds = self.federation.model
        members = len(ENSEMBLED) if candidate == "ensemble" else of_rounds.members
        return of_rounds.model_copy(update={"members": members})

    def cost_of(self, candidate: Candidate) -> int:
        """Optimizer steps that the site makes for a candidate beside the rounds: of all rates that are tried for it.

        Of the ensemble none: its networks are there.
        """
        n_steps = sum(phase.n_steps for phase in self.phases(candidate))
        return n_steps * len(self.adaptation.tried_rates) if candidate == "adapted" else n_steps


@dataclass(frozen=True)
class Ladder:
    """What was tried of an adaptation. chosen: the learning rate by the validation patients; None: all diverged.

    psnr_db: by rate whose training ended, by the validation patient's pseudonym; it stays at the site.
    """

    chosen: float | None
    psnr_db: Mapping[float, Mapping[str, float]]


@dataclass(frozen=True, eq=False)
class AdaptedModels:
    """What came of it. weights: by candidate. diverged: candidates whose training did not end.

    psnr_db: what was chosen by, by candidate and the validation patient's pseudonym; it stays at the site. ladder: the
    learning rates that were tried, and the one of the candidate. calibration: of the chosen model's error bars; None
    where no validation patient measures them.
    """

    choice: Choice
    weights: Mapping[Candidate, Arrays]
    psnr_db: Mapping[Candidate, Mapping[str, float]]
    ladder: Ladder
    diverged: tuple[Candidate, ...] = field(default=())
    calibration: Calibration | None = None


def alone_steps(federation: FederationSettings, home: SiteHome, *, n_slices: int) -> int:
    """Steps of a model that is trained alone: of all the site's rounds and the adaptation together.

    0 where the federation file asks for none, or the site's policy does not give it the time.
    """
    adaptation, settings = federation.adaptation, home.settings()
    if adaptation is None or not adaptation.alone:
        return 0
    work = federation.work_of(settings.name)
    of_round = work.max_steps(n_slices=n_slices, batch_size=federation.training.batch_size)
    n_steps, most = federation.rounds * of_round + adaptation.n_steps, settings.policy.max_alone_steps
    return n_steps if most is None or n_steps <= most else 0


def adapt_at_site(
    task: SiteAdaptation, prepared: PreparedSlices, *, observer: Observer = observe_nothing
) -> AdaptedModels:
    """Train what there is to train, from where it stands; compare on validation patients; keep the choice and its card.

    prepared: the site's training slices. The test split is not looked at. Raises PatchTooLarge and what else drawing
    batches raises, StoreDamaged (FM-D207), DiskFull (FM-S504).
    """
    store, settings = Store(task.home.store), task.home.settings()
    require_patch(store, task.federation.training.patch_px)
    model = initial_weights(task.federation)[0].to(preferred_device(settings.compute.device))
    recompute(model, settings.compute.recompute)
    judge = partial(_judged_psnr_db, task, model, store)
    weights: dict[Candidate, Arrays] = {"global": task.weights}
    ladder = climb(task, model, prepared, judge, observer=observer)
    if ladder.chosen is not None:
        weights["adapted"] = train_candidate(task.rungs[ladder.chosen], "adapted", model, prepared)
    if task.phases("alone"):
        with contextlib.suppress(TrainingDiverged):
            weights["alone"] = train_candidate(task, "alone", model, prepared, observer=observer)
    psnr_db: dict[Candidate, Mapping[str, float]] = {
        name: judge(found) for name, found in weights.items() if name != "adapted"
    }
    if ladder.chosen is not None:
        psnr_db["adapted"] = ladder.psnr_db[ladder.chosen]
    if (together := ensemble_of(task, weights)) is not None:
        weights["ensemble"] = together
        psnr_db["ensemble"] = _judged_psnr_db(task, model_of(task, "ensemble"), store, together)
    diverged = tuple(name for name in CANDIDATES if task.phases(name) and name not in weights)
    choice = choose_model(psnr_db)
    bars = _error_bars(task, choice.chosen, weights[choice.chosen])
    adapted = AdaptedModels(choice, weights, psnr_db, ladder, diverged, bars)
    _keep(task, adapted)
    return adapted


def _error_bars(task: SiteAdaptation, chosen: Candidate, weights: Arrays) -> Calibration | None:
    """Measured on the validation patients, which chose the model too."""
    model = model_of(task, chosen)
    load_weights(model, weights)
    return calibrate(
        model,
        [Store(task.home.store)],
        scale=task.federation.scale,
        knows_absence=ABSENCE in _provenance(task),
        n_slices=task.adaptation.validation_slices,
    )


def ensemble_of(task: SiteAdaptation, weights: Mapping[Candidate, Arrays]) -> Arrays | None:
    """The three models as one; None where it is not asked for, or one of them is not there.

    Neither is it where the federation's own model is an ensemble.
    """
    is_one = task.federation.model.members > 1
    if not task.adaptation.ensemble or is_one or not set(ENSEMBLED) <= set(weights):
        return None
    return joined_weights([weights[name] for name in ENSEMBLED])


def model_of(task: SiteAdaptation, candidate: Candidate) -> SuperResolver:
    """The network of a candidate, on the site's device; its weights are still to be loaded."""
    device = preferred_device(task.home.settings().compute.device)
    return build_model(task.settings_of(candidate).model_dump(), scale=task.federation.scale).to(device)


def climb(
    task: SiteAdaptation,
    model: SuperResolver,
    prepared: PreparedSlices,
    judge: Callable[[Arrays], Mapping[str, float]],
    *,
    observer: Observer = observe_nothing,
) -> Ladder:
    """Adapt at each learning rate of the ladder, the gentlest first, and choose one by the validation patients.

    judge: PSNR by validation patient, dB, of weights. Raises StoreDamaged (FM-D207) and what drawing batches raises.
    """
    found: dict[float, Mapping[str, float]] = {}
    for rate, rung in task.rungs.items():
        with contextlib.suppress(TrainingDiverged):
            found[rate] = judge(train_candidate(rung, "adapted", model, prepared, observer=observer))
    return Ladder(choose_rate(found) if found else None, found)


def _judged_psnr_db(
    task: SiteAdaptation, model: SuperResolver, store: Store, weights: Arrays
) -> dict[str, float]:
    """PSNR by validation patient, dB."""
    load_weights(model, weights)
    scores = scores_by_patient(
        model,
        store,
        "validation",
        scale=task.federation.scale,
        n_slices=task.adaptation.validation_slices,
    )
    return {patient: methods["global"]["psnr_db"] for patient, methods in scores.items()}


def score_adapted(
    task: SiteAdaptation, adapted: AdaptedModels, *, known: Mapping[Candidate, ScoresByPatient] | None = None
) -> dict[Candidate, ScoresByPatient]:
    """The scores of every candidate on the site's test patients, after the choice; kept here by pseudonym.

    known: those that were scored before. They change nothing of what is kept of the models.
    """
    store = Store(task.home.store)
    scores: dict[Candidate, ScoresByPatient] = dict(known or {})
    for candidate, weights in adapted.weights.items():
        if candidate in scores:
            continue
        model = model_of(task, candidate)
        load_weights(model, weights)
        scores[candidate] = scores_by_patient(model, store, "test", scale=task.federation.scale)
    write_json(task.folder / "test.json", {"chosen": adapted.choice.chosen, "scores": scores})
    return scores


def train_candidate(
    task: SiteAdaptation,
    candidate: Candidate,
    model: SuperResolver,
    prepared: PreparedSlices,
    *,
    observer: Observer = observe_nothing,
) -> Arrays:
    """A candidate's weights, trained from where its file stands to the end of its phases.

    model: on its device; it holds the weights afterwards. Raises TrainingDiverged (FM-M303), StoreDamaged (FM-D207).
    """
    name = task.stand if candidate == "adapted" else candidate
    kept = KeptStand(task.folder / f"{name}.safetensors", _key(task, candidate))
    first = task.weights if candidate == "adapted" else initial_weights(task.federation)[1]
    stand = kept.read() or Stand(0, first)
    with torch.random.fork_rng(devices=[]):
        for reached in train_phases(
            model,
            lambda begin: _batches(task, candidate, prepared, first=begin),
            task.phases(candidate),
            stand,
            keep_every=task.keep_every,
            autocast_dtype=autocast_dtype_for(device_of(model)),
        ):
            kept.keep(reached)
            stand = reached
            observer(candidate)
    return stand.weights


def _batches(
    task: SiteAdaptation, candidate: Candidate, prepared: PreparedSlices, *, first: int
) -> Iterator[Batch]:
    """The batches from a step on, and before each one the random numbers of its step, for a model that draws some."""
    training = task.federation.training
    recipe = BatchRecipe(
        scale=task.federation.scale,
        batch_size=training.batch_size,
        patch_px=training.patch_px,
        seed=patch_seed(task.home.store, federation_seed=task.federation.seed),
        label=f"{task.home.settings().name} {candidate}",
        trouble=training.trouble,
        flips=training.flips,
    )
    planned = plan_batches(prepared.source.shapes, recipe, first=first)
    for step, batch in enumerate(drawn_batches(PlannedSamples(prepared, recipe), planned), start=first):
        torch.manual_seed(derived_seed(recipe.seed, recipe.label, "layers", step))
        yield batch


def _key(task: SiteAdaptation, candidate: Candidate) -> str:
    """SHA-256 of all that decides a candidate's bytes, the scans included.

    A model alone does not depend on how another one is adapted, nor on the rounds, but by the number of its steps: so
    it is not trained again where another adaptation is tried.
    """
    alone = candidate == "alone"
    content = {
        "candidate": candidate,
        "federation": task.federation.model_dump(
            mode="json", exclude={"rounds", "adaptation"} if alone else None
        ),
        "adaptation": None
        if alone
        else task.adaptation.model_dump(mode="json", exclude={"alone", "ensemble", "deadline_s"}),
        "site": task.home.settings().name,
        "cohort": Store(task.home.store).cohort.digest,
        "weights": None if alone else digest_of_weights(task.weights),
        "n_alone_steps": task.n_alone_steps if alone else 0,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def digest_of_weights(weights: Arrays) -> str:
    """SHA-256 over names, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        array = weights[name]
        digest.update(f"{name} {array.shape} {array.dtype}\n".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def _keep(task: SiteAdaptation, adapted: AdaptedModels) -> None:
    """The model to begin with, the chosen model, and last its card: a card says that all of it is there."""
    chosen = adapted.choice.chosen
    own = {"kept": chosen, "began_with": digest_of_weights(task.weights)}
    bars = adapted.calibration
    for name, candidate, said, calibration in (("global", "global", {}, None), ("model", chosen, own, bars)):
        _save(
            task,
            task.folder / f"{name}.safetensors",
            adapted.weights[candidate],
            trained=candidate,
            said=said,
            calibration=calibration,
        )
    write_json(task.folder / "card.json", card_of(task, adapted))


def _provenance(task: SiteAdaptation) -> dict[str, str]:
    return provenance_of(task.federation) if task.origin is None else dict(task.origin.provenance)


def _save(
    task: SiteAdaptation,
    path: Path,
    weights: Arrays,
    *,
    trained: Candidate,
    said: Mapping[str, str],
    calibration: Calibration | None,
) -> None:
    """A candidate as a checkpoint: from where the model to begin with is, and what the site trained it on if it did."""
    federation, origin = task.federation, task.origin
    domain = None if origin is None else origin.domain
    if trained != "global":
        domain = measured_domain(Store(task.home.store), scale=federation.scale)
    manifest = describe(
        weights,
        model=task.settings_of(trained),
        scale=federation.scale,
        round_number=federation.rounds if origin is None else origin.round_number,
        provenance={**_provenance(task), **said},
        domain=domain,
        calibration=calibration,
    )
    save_checkpoint(path, weights, manifest)


def card_of(task: SiteAdaptation, adapted: AdaptedModels) -> dict[str, Any]:
    """What a person who uses the chosen model has to know of it. Counts, digests and means: no patient's own figure."""
    choice = adapted.choice
    return {
        "schema": 1,
        "chosen": choice.chosen,
        "validation": {
            "patients": choice.n_patients,
            "psnr_db": dict(choice.means_db),
            "behind_the_best": {name: asdict(behind) for name, behind in choice.behind.items()},
        },
        "steps": {candidate: task.steps_of(candidate) for candidate in adapted.weights},
        "cost_steps": {name: task.cost_of(name) for name in CANDIDATES},
        **_ladder_card(task, adapted.ladder),
        "diverged": list(adapted.diverged),
        "error_bars": None if adapted.calibration is None else adapted.calibration.as_card(),
        "began_with": digest_of_weights(task.weights),
        "weights": digest_of_weights(adapted.weights[choice.chosen]),
        "scale": task.federation.scale,
        "federation": task.federation.name,
        "cohort": Store(task.home.store).cohort.digest,
        "versions": versions(),
    }


def _ladder_card(task: SiteAdaptation, ladder: Ladder) -> dict[str, Any]:
    """Each rate that was tried, where there was more than one: what it cost, and its mean."""
    if not task.adaptation.rates:
        return {}
    tried = []
    for rate, rung in task.rungs.items():
        values = ladder.psnr_db.get(rate)
        mean = float(np.mean(list(values.values()))) if values else None
        tried.append(
            {
                "learning_rate": rate,
                "steps": rung.cost_of("adapted"),
                "psnr_db": mean,
                "diverged": values is None,
            }
        )
    return {"learning_rate": ladder.chosen, "tried": tried}
