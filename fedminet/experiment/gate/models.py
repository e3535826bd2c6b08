"""The quickly trained models of `experiment gate`: one saw right references alone, others absent or wrong ones too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from fedminet.experiment.gate.phantoms import SEED, PatientSlices, patient
from minet_core.checkpoint import save_weights
from minet_core.models.registry import build_model
from minet_core.phantom.patient import PhantomScan
from minet_core.protocol.exchange_plan import initial_weights
from minet_core.runtime.progress import Advance
from minet_core.settings.federation import FederationSettings, TroubleSettings
from minet_core.settings.presets import federation_of
from minet_core.training.batches import BatchRecipe, PlannedSamples, drawn_batches, plan_batches
from minet_core.training.local_update import LocalState, local_update
from minet_core.training.loop import StepPlan
from minet_core.training.samples import DEFAULT_CACHE_BYTES, PreparedSlices
from minet_core.training_domain import TrainingDomain
from minet_core.weights.manifest import load_weights
from sites.store.training_domain import PairSlices, domain_of_pairs

EVERY_TROUBLE = TroubleSettings(
    moved=0.3,
    toned=0.2,
    noisy=0.15,
    partly=0.1,
    absent=0.15,
    foreign=0.08,
    neighbour=0.08,
    input_noisy=0.2,
    input_windowed=0.1,
    input_zero_filled=0.1,
    input_other_kernel=0.1,
)
TROUBLES: dict[str, TroubleSettings | None] = {
    "plain": None,
    "absent": TroubleSettings(),
    "troubled": EVERY_TROUBLE,
}
"""By model, the trouble that it was trained with: none, absent references alone, everything."""
TRAINED_SITE = "sms"
"""Whose phantoms the models see unless another site is named."""
N_TRAINING_PATIENTS = 4


def federation_for(name: str, *, scale: int, steps: int, site: str = TRAINED_SITE) -> FederationSettings:
    """The settings of a model: the quick preset, for so many steps on this site's phantoms."""
    federation = federation_of(
        name="gate",
        sites=(site,),
        preset="quick",
        scale=scale,
        rounds=1,
        local_steps=steps,
        seed=SEED,
    )
    training = federation.training.model_copy(update={"trouble": TROUBLES[name]})
    return federation.model_copy(update={"training": training})


def trained_model(
    name: str, folder: Path, *, scale: int, steps: int, advance: Advance, site: str = TRAINED_SITE
) -> Path:
    """The file of the model of this name, trained on the site's phantoms where it is not in the folder yet."""
    federation = federation_for(name, scale=scale, steps=steps, site=site)
    path = folder / f"{name}-{scale}x-{steps}steps-{federation.digest()[:8]}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        _train(federation, path, steps=steps, advance=advance)
    return path


def _train(federation: FederationSettings, path: Path, *, steps: int, advance: Advance) -> None:
    training = federation.training
    scans = [patient(federation.sites[0], "training", number) for number in range(N_TRAINING_PATIENTS)]
    prepared = PreparedSlices(PatientSlices(scans), scale=federation.scale, cache_bytes=DEFAULT_CACHE_BYTES)
    recipe = BatchRecipe(
        scale=federation.scale,
        batch_size=training.batch_size,
        patch_px=training.patch_px,
        seed=SEED,
        label="gate",
        trouble=training.trouble,
    )
    model = build_model(federation.model.model_dump(), scale=federation.scale)
    load_weights(model, initial_weights(federation)[1])
    torch.manual_seed(SEED)
    update = local_update(
        model,
        drawn_batches(PlannedSamples(prepared, recipe), plan_batches(prepared.source.shapes, recipe)),
        StepPlan(settings=training, n_steps=steps, total_steps=steps),
        LocalState(),
        progress=advance,
    )
    save_weights(path, federation, update.weights, round_number=1, domain=_domain(scans, federation.scale))


def _domain(scans: Sequence[PhantomScan], scale: int) -> TrainingDomain | None:
    """What the model was trained on, so that an input of another kind is told."""
    return domain_of_pairs(
        (PairSlices(scan.target.array, scan.reference.array, scan.target.spacing_mm) for scan in scans),
        contrasts=(scans[0].target.contrast, scans[0].reference.contrast),
        data_kind="phantom",
        scale=scale,
    )
