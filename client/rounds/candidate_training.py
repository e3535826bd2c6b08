"""A candidate's weights, trained at the site from where its file stands to the end of its phases.

Everything random is derived from the seed, the site's own secret and the step's number, so a training that was killed
anywhere ends in the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import torch

from client.rounds.adaptation_task import SiteAdaptation
from client.rounds.kept_stand import KeptStand
from minet_core.models.base import SuperResolver
from minet_core.protocol.exchange_plan import initial_weights
from minet_core.runtime.observer import Observer, observe_nothing
from minet_core.seeds import derived_seed
from minet_core.settings.adaptation import Candidate
from minet_core.training.batches import Batch, BatchRecipe, PlannedSamples, drawn_batches, plan_batches
from minet_core.training.device import autocast_dtype_for, device_of
from minet_core.training.phases import Stand, train_phases
from minet_core.training.samples import PreparedSlices
from minet_core.weights.manifest import Arrays
from sites.store.site_secret import patch_seed
from sites.store.store import Store


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
        blur=training.blur,
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
    alone, adaptation = candidate == "alone", task.adaptation
    beside = {"alone", "alone_learning_rate", "ensemble", "deadline_s"}
    own_rate = adaptation.alone_learning_rate
    content = {
        "candidate": candidate,
        "federation": task.federation.model_dump(
            mode="json", exclude={"rounds", "adaptation"} if alone else None
        ),
        "adaptation": own_rate if alone else adaptation.model_dump(mode="json", exclude=beside),
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
