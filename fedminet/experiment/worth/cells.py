"""One cell of `experiment worth`: a site adapts a federation's model, chooses on validation patients, and is scored.

The site's part is the product's own, `client.rounds.site_adaptation`.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from client.rounds.adaptation_task import SiteAdaptation, alone_steps
from client.rounds.adapted_models import Ladder
from client.rounds.candidate_training import train_candidate
from client.rounds.round import prepared_training_slices
from client.rounds.site_adaptation import adapt_at_site, climb, score_adapted
from fedminet.experiment.worth.plan import WorthKey, WorthPlan
from fedminet.simulation.simulate import federate_untested
from minet_core.checkpoint import load_model
from minet_core.errors import ConfigurationError, TrainingDiverged
from minet_core.evaluation.volume_scores import MODEL, score_slices
from minet_core.models.base import SuperResolver
from minet_core.protocol.exchange_plan import initial_weights
from minet_core.runtime.files.atomic_write import write_json
from minet_core.runtime.progress import Advance
from minet_core.runtime.versions import versions
from minet_core.settings.federation import FederationSettings
from minet_core.settings.yaml_file import Settings, parse_settings
from minet_core.training.device import autocast_dtype_for, device_of, preferred_device
from minet_core.training.samples import PreparedSlices
from minet_core.weights.manifest import Arrays, learnable, load_weights
from sites.store.dataset import StoreSlices
from sites.store.store import Store

N_JUDGED_SLICES = 6
"""Of each validation patient, evenly spread, where a recipe is looked for."""

SINC = "sinc"
"""Beside the models: what zero-filled interpolation makes of the test patients."""

PsnrDb = dict[str, dict[str, float]]
"""By candidate, by patient's place in the split's order, dB. A phantom's pseudonym is nobody's."""


class WorthCell(Settings):
    """What came of a cell.

    settings: digest of the federation's settings with the adaptation. cohort: of the site. chosen: by the validation
    patients; None where a recipe is looked for, since the same patients are shown. validation_db, test_db: PSNR by
    candidate and patient, without a model whose training diverged; test_db is empty where no test patient was read.
    rate, tried_db: of the adapted model, and validation patients' PSNR by learning rate and patient; a cell of before
    the ladder has neither. turn: of the key. A cell of before sinc was scored has none of it.
    """

    site: str
    scale: int
    seed: int
    patients: int
    recipe: str
    n_steps: int
    settings: str
    cohort: str
    chosen: str | None
    validation_db: PsnrDb
    test_db: PsnrDb
    seconds: float
    versions: dict[str, str]
    rate: float | None = None
    tried_db: PsnrDb = Field(default_factory=dict)
    turn: int = 0

    def shown_db(self, *, validation: bool) -> PsnrDb:
        """The figures of the patients that a page shows, by candidate; "chosen" is one of them after a test."""
        shown = self.validation_db if validation else self.test_db
        return shown if self.chosen is None else {**shown, "chosen": shown[self.chosen]}


def read_cell(plan: WorthPlan, key: WorthKey) -> WorthCell | None:
    """A cell that is done, or None. Raises ConfigurationError (FM-C100) for one of other settings or scans."""
    path = plan.cell_file(key)
    if not path.is_file():
        return None
    cell = parse_settings(json.loads(path.read_text(encoding="utf-8")), WorthCell, source=str(path))
    if cell.settings != with_adaptation(plan, key).digest():
        raise ConfigurationError(
            "a result of other settings is here", got=path, action="Name a new folder with --out"
        )
    return cell


def kept_cells(plan: WorthPlan) -> list[WorthCell]:
    """Every cell of the plan's folder, of whatever recipe and seed; none of another scale."""
    found = [
        parse_settings(json.loads(path.read_text(encoding="utf-8")), WorthCell, source=str(path))
        for path in sorted((plan.folder / "cells").glob("*.json"))
    ]
    return [cell for cell in found if cell.scale == plan.scale]


def with_adaptation(plan: WorthPlan, key: WorthKey) -> FederationSettings:
    """The settings as a federation file with `adaptation` has them."""
    return plan.federation(key).model_copy(update={"adaptation": plan.adaptation})


def make_cell(plan: WorthPlan, key: WorthKey, *, advance: Advance) -> WorthCell:
    """Train what the cell needs, from where it stands, and keep the cell. Raises what training raises."""
    began, home, federation = time.monotonic(), plan.home(key), with_adaptation(plan, key)
    file = federate_untested(plan.federation_folder(key), plan.federation(key), plan.homes(key), advance)
    store = Store(home.store)
    prepared = prepared_training_slices(store, scale=plan.scale)
    n_alone = alone_steps(federation, home, n_slices=len(prepared))
    task = SiteAdaptation(home, federation, plan.adaptation, learnable(load_model(file)[0]), n_alone)
    judged = _judge(task, prepared) if plan.validation else _choose_and_test(task, prepared)
    cell = WorthCell(
        site=key.site,
        scale=plan.scale,
        seed=key.seed,
        patients=key.patients,
        recipe=plan.recipe,
        n_steps=plan.n_steps,
        settings=federation.digest(),
        cohort=store.cohort.digest,
        chosen=judged.chosen,
        validation_db=judged.validation_db,
        test_db=judged.test_db,
        seconds=time.monotonic() - began,
        versions=versions(),
        rate=judged.ladder.chosen,
        tried_db=_numbered(judged.ladder.psnr_db),
        turn=key.turn,
    )
    write_json(plan.cell_file(key), cell.model_dump(mode="json"))
    return cell


@dataclass(frozen=True)
class _Judged:
    chosen: str | None
    validation_db: PsnrDb
    test_db: PsnrDb
    ladder: Ladder


def _choose_and_test(task: SiteAdaptation, prepared: PreparedSlices) -> _Judged:
    """As in a federation's last test: the three models, the choice, and then the test patients, by sinc too."""
    adapted = adapt_at_site(task, prepared)
    scores = score_adapted(task, adapted)
    tested: dict[str, dict[str, float]] = {
        candidate: {patient: methods[MODEL]["psnr_db"] for patient, methods in patients.items()}
        for candidate, patients in scores.items()
    }
    tested[SINC] = {patient: methods[SINC]["psnr_db"] for patient, methods in scores["global"].items()}
    return _Judged(adapted.choice.chosen, _numbered(adapted.psnr_db), _numbered(tested), adapted.ladder)


def _judge(task: SiteAdaptation, prepared: PreparedSlices) -> _Judged:
    """The three models on some slices of each validation patient, which takes a tenth of the time of whole volumes."""
    model = initial_weights(task.federation)[0].to(preferred_device())
    store, scale = Store(task.home.store), task.federation.scale

    def judge(weights: Arrays) -> dict[str, float]:
        load_weights(model, weights)
        return _on_slices(model, store, scale=scale)

    found: PsnrDb = {"global": judge(task.weights)}
    ladder = climb(task, model, prepared, judge)
    if ladder.chosen is not None:
        found["adapted"] = dict(ladder.psnr_db[ladder.chosen])
    with contextlib.suppress(TrainingDiverged):
        found["alone"] = judge(train_candidate(task, "alone", model, prepared))
    return _Judged(None, found, {}, ladder)


def _on_slices(model: SuperResolver, store: Store, *, scale: int) -> dict[str, float]:
    """PSNR, dB, of each validation patient, over `N_JUDGED_SLICES` of the slices together."""
    source, first = StoreSlices(store, "validation"), 0
    found: dict[str, float] = {}
    for place, (_, slices) in enumerate(store.cohort.pairs_of("validation"), start=1):
        stop = first + len(slices)
        indices = np.unique(np.linspace(first, stop - 1, N_JUDGED_SLICES).round().astype(int))
        precision = autocast_dtype_for(device_of(model))
        scores = score_slices(model, source, indices.tolist(), scale=scale, autocast_dtype=precision)
        found[str(place)], first = scores["psnr_db"], stop
    return found


def _numbered(psnr_db: Mapping[Any, Mapping[str, float]]) -> PsnrDb:
    """By the patient's place in the order of the pseudonyms, which is the same for every candidate."""
    return {
        f"{candidate}": {str(place): patients[name] for place, name in enumerate(sorted(patients), start=1)}
        for candidate, patients in psnr_db.items()
    }
