"""`fedminet train`: one model on the pooled data of several sites, or one on each site's own.

The command can be interrupted and given again, and runs on one GPU, on several by torch's launcher, or on the CPU:
docs/training.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import nn

from client.round import validation_scores
from client.site_home import SiteHome
from fedminet.alone import PooledSlices, by_method, scores_on_test_split, steps_of_one_round
from fedminet.long_training import LongRun, Means, train_to_end
from fedminet.ranks import Ranks, ranks_of_launcher
from fedminet.training_folder import TrainingFolder
from fedminet.training_log import require_tensorboard
from minet_core.agreement import initial_weights
from minet_core.models.super_resolver import SuperResolver
from minet_core.runtime.durable import sha256_of_file, write_json
from minet_core.runtime.errors import InvalidSetting
from minet_core.runtime.progress import progress
from minet_core.training import autocast_dtype_for, preferred_device
from minet_core.weights import learnable
from server.conduct import save_weights
from server.server_home import federation_of
from sites.dataset import StoreSlices
from sites.store import Store

MODES = ("pooled", "local")

MODEL_ENDING = ".safetensors"

WORKERS_ON_CUDA = 4
"""Processes that draw batches while the GPU computes; on the CPU they would take the cores that compute."""

Scores = dict[str, dict[str, float]]
"""By method, its scores."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The options of the command. None: what suits the device."""

    mode: str = "pooled"
    preset: str = "quick"
    rounds: int | None = None
    local_steps: int | None = None
    scale: int = 2
    seed: int = 1
    n_workers: int | None = None
    checkpoint_groups: bool | None = None
    save_every: int = 200
    tensorboard: bool = False


@dataclass(frozen=True)
class Trained:
    """A trained model's file, and its scores by site on the test splits of all given sites."""

    label: str
    path: Path
    sha256: str
    test: dict[str, Scores]

    def as_json(self) -> dict[str, object]:
        """What the command prints for a script."""
        return {"model": str(self.path), "sha256": self.sha256, "test": self.test}


@runtime_checkable
class Checkpointed(Protocol):
    """A model that can recompute its groups in the backward pass, as `MINet` can."""

    checkpoint_groups: bool


@dataclass(frozen=True)
class _Job:
    """One model to train: on which sites' data, and where. file: where the model is asked for."""

    run: LongRun
    homes: dict[str, SiteHome]
    folder: TrainingFolder
    file: Path


def train_models(
    folders: Sequence[Path], out: Path, options: TrainOptions, *, quiet: bool = False
) -> list[Trained]:
    """Train, or go on with, one model on all sites' data ("pooled") or one on each site's ("local"), and test them.

    out: the models' folder, for "local" with one folder for each site in it; a name that ends in .safetensors is that
    of the pooled model's file, and the folder has the name without the ending.
    Of several processes under torch's launcher all train; the first one writes and tests, and the others return an
    empty list.
    """
    if options.mode not in MODES:
        raise InvalidSetting("no such mode", got=options.mode, expected=" or ".join(MODES))
    if options.tensorboard:
        require_tensorboard()
    homes = _by_name([SiteHome.at(folder) for folder in folders])
    jobs = _jobs(homes, out, options)
    with contextlib.ExitStack() as locks:
        with ranks_of_launcher() as ranks:
            if ranks.leads:
                for job in jobs:
                    locks.enter_context(job.folder.locked())
            models = [_train(job, ranks, options, quiet=quiet or not ranks.leads) for job in jobs]
        if not ranks.leads:
            return []
        return [_tested(job, model, homes) for job, model in zip(jobs, models, strict=True)]


def _by_name(homes: Sequence[SiteHome]) -> dict[str, SiteHome]:
    names = [home.settings().name for home in homes]
    if len(set(names)) < len(names):
        raise InvalidSetting("a site is given twice", got=", ".join(names), expected="each name once")
    return dict(zip(names, homes, strict=True))


def _jobs(homes: dict[str, SiteHome], out: Path, options: TrainOptions) -> list[_Job]:
    base = out.with_suffix("") if out.suffix == MODEL_ENDING else out
    if options.mode == "local":
        return [_job({name: home}, base / name, None, options) for name, home in homes.items()]
    return [_job(homes, base, out if out.suffix == MODEL_ENDING else None, options)]


def _job(homes: dict[str, SiteHome], path: Path, file: Path | None, options: TrainOptions) -> _Job:
    federation = federation_of(
        name="alone",
        sites=tuple(homes),
        preset=options.preset,
        scale=options.scale,
        rounds=options.rounds,
        local_steps=options.local_steps,
        seed=options.seed,
    )
    stores = {name: Store(home.store) for name, home in homes.items()}
    folder = TrainingFolder(path)
    run = LongRun(
        federation=federation,
        label="+".join(homes),
        cohorts={name: store.cohort.digest for name, store in stores.items()},
        shapes=[shape for store in stores.values() for shape in StoreSlices(store, "training").shapes],
        steps_per_round=steps_of_one_round(list(homes.values()), federation),
    )
    return _Job(run, homes, folder, file or folder.model)


def _train(job: _Job, ranks: Ranks, options: TrainOptions, *, quiet: bool) -> SuperResolver:
    """The job's model, trained to its end; its file is written."""
    run, device = job.run, preferred_device()
    on_gpu = device.type == "cuda"
    model, _ = initial_weights(run.federation)
    model.to(device)
    is_large = options.preset == "paper" and on_gpu
    recompute_groups(model, is_large if options.checkpoint_groups is None else options.checkpoint_groups)
    means = Means(
        ranks=ranks,
        n_workers=(WORKERS_ON_CUDA if on_gpu else 0) if options.n_workers is None else options.n_workers,
        save_every=options.save_every,
        autocast_dtype=autocast_dtype_for(device),
        tensorboard=options.tensorboard,
    )
    with progress(f"Training {run.label}", quiet=quiet) as advance:
        train_to_end(
            model,
            PooledSlices([StoreSlices(Store(home.store), "training") for home in job.homes.values()]),
            job.folder,
            run=run,
            means=means,
            validate=lambda trained: {
                name: validation_scores(trained, Store(home.store), run.federation)
                for name, home in job.homes.items()
            },
            progress=advance,
        )
    if ranks.leads:
        for file in {job.folder.model, job.file}:
            save_weights(file, run.federation, learnable(model), round_number=run.federation.rounds)
    return model


def _tested(job: _Job, model: SuperResolver, homes: Mapping[str, SiteHome]) -> Trained:
    """The model's scores on every given site's test split, written to its folder."""
    federation = job.run.federation
    scores = {
        name: by_method(scores_on_test_split(model, home, scale=federation.scale, seed=federation.seed))
        for name, home in homes.items()
    }
    write_json(job.folder.test, scores)
    return Trained(job.run.label, job.file, sha256_of_file(job.file), scores)


def recompute_groups(model: nn.Module, recompute: bool) -> None:
    """Raises InvalidSetting (FM-C102) where a model that cannot is to recompute."""
    if isinstance(model, Checkpointed):
        model.checkpoint_groups = recompute
    elif recompute:
        raise InvalidSetting(
            "the model has no groups to recompute", got="--checkpoint-groups", action="Leave it out"
        )
