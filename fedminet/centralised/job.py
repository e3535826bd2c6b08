"""One model trained to its end in a folder of its own: on one site's data, or on that of several together.

What `fedminet train` and an experiment's pooled and local cells have in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from client.site_home import SiteHome
from fedminet.centralised.baseline import PooledSlices, steps_of_one_round
from fedminet.centralised.folder import TrainingFolder
from fedminet.centralised.ranks import Ranks
from fedminet.centralised.resumable_loop import Resources, TrainingPlan, train_to_end
from minet_core.checkpoint import save_weights
from minet_core.models.activation_checkpointing import recompute
from minet_core.models.base import SuperResolver
from minet_core.protocol.exchange_plan import initial_weights
from minet_core.runtime.progress import Advance
from minet_core.settings.federation import FederationSettings
from minet_core.training.device import autocast_dtype_for, preferred_device
from minet_core.training_domain import TrainingDomain, merged
from minet_core.weights.manifest import learnable
from sites.scores import validation_scores
from sites.store.dataset import StoreSlices, require_patch
from sites.store.store import Store
from sites.store.training_domain import measured_domain

WORKERS_ON_CUDA = 4
"""Processes that draw batches while the GPU computes; on the CPU they would take the cores that compute."""

SAVE_EVERY = 200
"""Steps after which the state that training goes on from is replaced, at the latest."""


@dataclass(frozen=True)
class TrainingJob:
    """One model to train: on which sites' data, and where."""

    run: TrainingPlan
    homes: Mapping[str, SiteHome]
    folder: TrainingFolder


def training_job(
    homes: Mapping[str, SiteHome], federation: FederationSettings, folder: TrainingFolder
) -> TrainingJob:
    """The job of training what `federation` describes on all of `homes`, for as many steps as its rounds give."""
    stores = {name: Store(home.store) for name, home in homes.items()}
    run = TrainingPlan(
        federation=federation,
        label="+".join(homes),
        cohorts={name: store.cohort.digest for name, store in stores.items()},
        shapes=[shape for store in stores.values() for shape in StoreSlices(store, "training").shapes],
        steps_per_round=steps_of_one_round(list(homes.values()), federation),
    )
    return TrainingJob(run, homes, folder)


def train_job(
    job: TrainingJob,
    *,
    ranks: Ranks | None = None,
    n_workers: int | None = None,
    recomputed: bool | None = None,
    save_every: int = SAVE_EVERY,
    tensorboard: bool = False,
    progress: Advance | None = None,
) -> SuperResolver:
    """The job's model, trained from where its folder stands to its end; the folder's model file is written.

    ranks: of torch's launcher; None for this process alone. n_workers: processes that draw batches. recomputed:
    whether the model's parts are recomputed in the backward pass. None leaves both to the device.
    Raises what `train_to_end` raises.
    """
    ranks = ranks or Ranks()
    for home in job.homes.values():
        require_patch(Store(home.store), job.run.federation.training.patch_px)
    run, device = job.run, preferred_device()
    model, _ = initial_weights(run.federation)
    model.to(device)
    recompute(model, recomputed)
    if n_workers is None:
        n_workers = WORKERS_ON_CUDA if device.type == "cuda" else 0
    train_to_end(
        model,
        PooledSlices([StoreSlices(Store(home.store), "training") for home in job.homes.values()]),
        job.folder,
        run=run,
        means=Resources(
            ranks=ranks,
            n_workers=n_workers,
            save_every=save_every,
            autocast_dtype=autocast_dtype_for(device),
            tensorboard=tensorboard,
        ),
        validate=lambda trained: {
            name: validation_scores(trained, Store(home.store), run.federation)
            for name, home in job.homes.items()
        },
        progress=progress,
    )
    if ranks.is_main:
        save_weights(
            job.folder.model,
            run.federation,
            learnable(model),
            round_number=run.federation.rounds,
            domain=domain_of(job),
        )
    return model


def domain_of(job: TrainingJob) -> TrainingDomain | None:
    """What the job's model is trained on: all its sites' training splits."""
    scale = job.run.federation.scale
    return merged(measured_domain(Store(home.store), scale=scale) for home in job.homes.values())
