"""One cell of `experiment patients`: trained on a site's other patients, and scored on the one who was left out."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from fedminet.centralised.folder import TrainingFolder
from fedminet.centralised.ranks import Ranks
from fedminet.centralised.resumable_loop import Resources, TrainingPlan, train_to_end
from fedminet.experiment.cells import machine
from fedminet.experiment.methods import is_learned
from fedminet.experiment.patients.plan import FoldKey, PatientsPlan, patients_of
from fedminet.experiment.scores import restored
from minet_core.checkpoint import save_weights
from minet_core.errors import ConfigurationError
from minet_core.evaluation.metrics import volume_metrics
from minet_core.evaluation.volume_scores import degraded_volume
from minet_core.models.base import SuperResolver
from minet_core.protocol.exchange_plan import initial_weights
from minet_core.protocol.messages import SCORES
from minet_core.runtime.files.atomic_write import append_line, mend_lines
from minet_core.runtime.files.file_lock import held
from minet_core.runtime.progress import Advance
from minet_core.runtime.time_spent import TimeSpent
from minet_core.runtime.versions import versions
from minet_core.settings.federation import FederationSettings, ModelSettings, TrainingSettings
from minet_core.settings.yaml_file import Settings, parse_settings
from minet_core.training.device import autocast_dtype_for, preferred_device
from minet_core.weights.manifest import learnable
from sites.store.dataset import StoreSlices, require_patch
from sites.store.store import Store

SAVE_EVERY = 100
"""Steps after which the state that a training goes on from is replaced."""


class FoldCell(Settings):
    """What came of a cell.

    patient: the pseudonym. place: in the order of the site's pseudonyms, from 1. model, training, settings: what it was
    trained by, and the federation settings' digest; None for interpolation. cohort: digest of the fold's cohort, which
    says who trained. n_training: patients that did. moved_mm: the most that registration found between the patient's
    contrasts. processor_seconds: of the training, all threads, without what an interrupted attempt did after its last
    kept state. test_processor_seconds: of the inference and the scores. n_examinations: whose mean the scores are.
    psnr_db, ssim, nmse: as `minet_core.evaluation.volume_scores.evaluate_volume` has them.
    """

    method: str
    scale: int
    seed: int
    site: str
    patient: str
    place: int
    n_training: int
    n_examinations: int
    moved_mm: float | None
    n_parameters: int
    n_steps: int
    model: ModelSettings | None
    training: TrainingSettings | None
    settings: str | None
    cohort: str
    processor_seconds: float
    seconds: float
    test_processor_seconds: float
    machine: str
    versions: dict[str, str]
    psnr_db: float
    ssim: float
    nmse: float

    @property
    def key(self) -> FoldKey:
        """Which cell it is."""
        return FoldKey(self.seed, self.scale, self.method, self.site, self.patient)


def kept_cells(plan: PatientsPlan) -> dict[FoldKey, FoldCell]:
    """Every cell that is done, asked for now or not."""
    path = plan.cells_file
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith("\n")]  # another process may be writing the last one
    cells = [parse_settings(json.loads(line), FoldCell, source=str(path)) for line in whole]
    return {cell.key: cell for cell in cells}


def read_cell(plan: PatientsPlan, key: FoldKey, stores: Mapping[str, Store]) -> FoldCell | None:
    """A cell that is done, or None. Raises ConfigurationError (FM-C100) for one of other settings or other scans."""
    cell = kept_cells(plan).get(key)
    if cell is None:
        return None
    settings = plan.federation(key).digest() if is_learned(key.method) else None
    for what, found, expected in (
        ("settings", cell.settings, settings),
        ("scans", cell.cohort, stores[key.site].leave_out(key.patient).cohort.digest),
    ):
        if found != expected:
            raise ConfigurationError(
                f"a result of other {what} is here",
                got=f"{plan.cells_file}: {key.name}",
                action="Name a new folder with --out, or ask for the settings of this one",
            )
    return cell


def training_folder(plan: PatientsPlan, key: FoldKey) -> Path:
    """Where a cell trains; it is removed with the cell done."""
    return plan.folder / "training" / key.name


def model_file(plan: PatientsPlan, key: FoldKey) -> Path:
    """Where a cell's model is kept."""
    return plan.folder / "models" / f"{key.name}.safetensors"


def make_cell(plan: PatientsPlan, key: FoldKey, store: Store, *, advance: Advance) -> FoldCell:
    """Train and test a cell, from where its training stands, and keep it. Raises what training raises."""
    fold, began = store.leave_out(key.patient), time.monotonic()
    federation = plan.federation(key) if is_learned(key.method) else None
    model, spent = None, 0.0
    if federation is not None:
        model, spent = _train(plan, key, fold, federation, advance)
    testing = TimeSpent()
    with testing.on("test"):
        scores = score_left_out(model or key.method, fold, scale=key.scale)
    own = [pair for pair, _ in fold.cohort.pairs_of("test")]
    cell = FoldCell(
        method=key.method,
        scale=key.scale,
        seed=key.seed,
        site=key.site,
        patient=key.patient,
        place=patients_of(store).index(key.patient) + 1,
        n_training=fold.cohort.counts["training"].patients,
        n_examinations=len(own),
        moved_mm=max((pair.moved_mm for pair in own if pair.moved_mm is not None), default=None),
        n_parameters=0 if model is None else sum(one.numel() for one in model.parameters()),
        n_steps=0 if federation is None else federation.training.local_steps or 0,
        model=federation and federation.model,
        training=federation and federation.training,
        settings=federation and federation.digest(),
        cohort=fold.cohort.digest,
        processor_seconds=spent,
        seconds=time.monotonic() - began,
        test_processor_seconds=testing.seconds["test"][1],
        machine=machine(),
        versions=versions(),
        **scores,
    )
    with held(plan.folder / "cells.lock", patience_s=None):
        mend_lines(plan.cells_file)
        append_line(plan.cells_file, cell.model_dump(mode="json"))
    shutil.rmtree(training_folder(plan, key), ignore_errors=True)
    return cell


def _train(
    plan: PatientsPlan, key: FoldKey, fold: Store, federation: FederationSettings, advance: Advance
) -> tuple[SuperResolver, float]:
    """The fold's model at the end of its steps, and the processor seconds that they took."""
    require_patch(fold, federation.training.patch_px)
    source, device = StoreSlices(fold, "training"), preferred_device()
    model, _ = initial_weights(federation)
    model.to(device)
    n_steps = federation.training.max_steps(n_slices=len(source), batch_size=federation.training.batch_size)
    folder = TrainingFolder(training_folder(plan, key) / "run")
    folder.path.mkdir(parents=True, exist_ok=True)
    train_to_end(
        model,
        source,
        folder,
        run=TrainingPlan(
            federation=federation,
            label=key.site,
            cohorts={key.site: fold.cohort.digest},
            shapes=source.shapes,
            steps_per_round=n_steps,
        ),
        means=Resources(
            ranks=Ranks(), n_workers=0, save_every=SAVE_EVERY, autocast_dtype=autocast_dtype_for(device)
        ),
        validate=lambda _: {},  # nobody validates, and the last step's model is the one
        progress=advance,
    )
    file = model_file(plan, key)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_weights(file, federation, learnable(model), round_number=1)
    lines = folder.metrics.read_text(encoding="utf-8").splitlines()
    return model, sum(json.loads(line)["processor_seconds"] for line in lines)


def score_left_out(method: SuperResolver | str, fold: Store, *, scale: int) -> dict[str, float]:
    """PSNR, SSIM and NMSE of a model, or an interpolation by its name, on the patient whom a fold tests.

    The mean over the patient's examinations.
    """
    found = []
    for _, target, reference in fold.volumes("test"):
        truth, low_res, guide = degraded_volume(target, reference, scale=scale)
        found.append(volume_metrics(truth, restored(method, low_res, guide, scale=scale)))
    return _means(found)


def _means(found: Iterable[Mapping[str, float]]) -> dict[str, float]:
    volumes = list(found)
    return {score: float(np.mean([volume[score] for volume in volumes])) for score in SCORES}
