"""The global model made this site's own: trained further here, compared on validation patients, the choice kept.

Nothing of it leaves the site but the figures of `ADAPTATION_FIGURES`. What is kept, and where:
`client.rounds.adapted_models`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from client.rounds.adaptation_task import SiteAdaptation, model_of
from client.rounds.adapted_models import AdaptedModels, Ladder, keep_adapted, kept_provenance
from client.rounds.candidate_training import train_candidate
from minet_core.calibration import Calibration
from minet_core.checkpoint_manifest import ABSENCE
from minet_core.errors import TrainingDiverged
from minet_core.evaluation.model_choice import (
    choose_ensembled,
    choose_model,
    choose_rate,
    choose_unjudged,
    keep_unjudged,
)
from minet_core.models.activation_checkpointing import recompute
from minet_core.models.base import SuperResolver
from minet_core.models.ensemble import joined_weights
from minet_core.protocol.exchange_plan import initial_weights
from minet_core.runtime.files.atomic_write import write_json
from minet_core.runtime.observer import Observer, observe_nothing
from minet_core.settings.adaptation import CANDIDATES, Candidate
from minet_core.training.device import preferred_device
from minet_core.training.samples import PreparedSlices
from minet_core.weights.manifest import Arrays, load_weights
from sites.calibration import calibrate
from sites.scores import scores_by_patient, validation_scores
from sites.store.dataset import require_patch
from sites.store.store import Store

ScoresByPatient = dict[str, dict[str, dict[str, float]]]
"""By pseudonym, by method, by score: see `sites.scores.scores_by_patient`."""


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
    judged = all(psnr_db.values())
    trained_on_db = {} if judged else _trained_on_psnr_db(task, model, store, weights)
    fit = choose_ensembled(psnr_db) if judged else choose_unjudged(trained_on_db)
    ensembled = fit if len(fit) > 1 and _may_ensemble(task) else ()
    if ensembled:
        weights["ensemble"] = joined_weights([weights[name] for name in ensembled])
        together = model_of(task, n_networks=len(ensembled))
        psnr_db["ensemble"] = _judged_psnr_db(task, together, store, weights["ensemble"])
    choice = choose_model(psnr_db) if judged else keep_unjudged(trained_on_db, ensembled=bool(ensembled))
    diverged = tuple(name for name in CANDIDATES if task.phases(name) and name not in weights)
    adapted = AdaptedModels(choice, weights, psnr_db, ladder, diverged, ensembled)
    adapted = replace(adapted, calibration=_error_bars(task, adapted))
    keep_adapted(task, adapted)
    return adapted


def _error_bars(task: SiteAdaptation, adapted: AdaptedModels) -> Calibration | None:
    """The chosen model's, measured on the validation patients, which chose the model too."""
    chosen = adapted.choice.chosen
    model = model_of(task, n_networks=adapted.n_networks(chosen))
    load_weights(model, adapted.weights[chosen])
    return calibrate(
        model,
        [Store(task.home.store)],
        scale=task.federation.scale,
        knows_absence=ABSENCE in kept_provenance(task),
        n_slices=task.adaptation.validation_slices,
    )


def _may_ensemble(task: SiteAdaptation) -> bool:
    """Whether an ensemble is asked for; none where the federation's model is one."""
    return task.adaptation.ensemble and task.federation.model.members == 1


def _trained_on_psnr_db(
    task: SiteAdaptation, model: SuperResolver, store: Store, weights: Mapping[Candidate, Arrays]
) -> dict[Candidate, float]:
    """By network, PSNR over the validation slices of a site whose training patients they are of, dB."""
    found: dict[Candidate, float] = {}
    for name, arrays in weights.items():
        load_weights(model, arrays)
        found[name] = validation_scores(model, store, task.federation)["psnr_db"]
    return found


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
        model = model_of(task, n_networks=adapted.n_networks(candidate))
        load_weights(model, weights)
        scores[candidate] = scores_by_patient(model, store, "test", scale=task.federation.scale)
    write_json(task.folder / "test.json", {"chosen": adapted.choice.chosen, "scores": scores})
    return scores
