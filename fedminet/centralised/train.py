"""`fedminet train`: one model on the pooled data of several sites, or one on each site's own.

The command can be interrupted and given again, and runs on one GPU, on several by torch's launcher, or on the CPU:
docs/training.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.site_home import SiteHome
from fedminet.centralised.folder import TrainingFolder
from fedminet.centralised.job import SAVE_EVERY, TrainingJob, domain_of, train_job, training_job
from fedminet.centralised.log import require_tensorboard
from fedminet.centralised.ranks import Ranks, ranks_of_launcher
from minet_core.checkpoint import save_weights
from minet_core.checkpoint_manifest import ABSENCE, provenance_of
from minet_core.errors import InvalidSetting
from minet_core.models.base import SuperResolver
from minet_core.runtime.files.atomic_write import sha256_of_file, write_json
from minet_core.runtime.progress import progress
from minet_core.settings.presets import federation_of
from minet_core.weights.manifest import learnable
from sites.calibration import calibrate
from sites.scores import by_method, scores_on_test_split
from sites.store.store import Store

MODES = ("pooled", "local")

MODEL_ENDING = ".safetensors"

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
    recompute: bool | None = None
    save_every: int = SAVE_EVERY
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


@dataclass(frozen=True)
class _Asked:
    """A model to train, and the file it is asked for in."""

    job: TrainingJob
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
    asked = _asked(homes, out, options)
    with contextlib.ExitStack() as locks:
        with ranks_of_launcher() as ranks:
            if ranks.is_main:
                for one in asked:
                    locks.enter_context(one.job.folder.locked())
            models = [_train(one, ranks, options, quiet=quiet or not ranks.is_main) for one in asked]
        if not ranks.is_main:
            return []
        return [_tested(one, model, homes) for one, model in zip(asked, models, strict=True)]


def _by_name(homes: Sequence[SiteHome]) -> dict[str, SiteHome]:
    names = [home.settings().name for home in homes]
    if len(set(names)) < len(names):
        raise InvalidSetting("a site is given twice", got=", ".join(names), expected="each name once")
    return dict(zip(names, homes, strict=True))


def _asked(homes: dict[str, SiteHome], out: Path, options: TrainOptions) -> list[_Asked]:
    base = out.with_suffix("") if out.suffix == MODEL_ENDING else out
    if options.mode == "local":
        return [_one({name: home}, base / name, None, options) for name, home in homes.items()]
    return [_one(homes, base, out if out.suffix == MODEL_ENDING else None, options)]


def _one(homes: dict[str, SiteHome], path: Path, file: Path | None, options: TrainOptions) -> _Asked:
    federation = federation_of(
        name="alone",
        sites=tuple(homes),
        preset=options.preset,
        scale=options.scale,
        rounds=options.rounds,
        local_steps=options.local_steps,
        seed=options.seed,
    )
    folder = TrainingFolder(path)
    return _Asked(training_job(homes, federation, folder), file or folder.model)


def _train(asked: _Asked, ranks: Ranks, options: TrainOptions, *, quiet: bool) -> SuperResolver:
    """The model that was asked for, trained to its end; its file is written."""
    job = asked.job
    with progress(f"Training {job.run.label}", quiet=quiet) as advance:
        model = train_job(
            job,
            ranks=ranks,
            n_workers=options.n_workers,
            recomputed=options.recompute,
            save_every=options.save_every,
            tensorboard=options.tensorboard,
            progress=advance,
        )
    if ranks.is_main:
        federation = job.run.federation
        save_weights(
            asked.file,
            federation,
            learnable(model),
            round_number=federation.rounds,
            domain=domain_of(job),
            calibration=calibrate(
                model,
                [Store(home.store) for home in job.homes.values()],
                scale=federation.scale,
                knows_absence=ABSENCE in provenance_of(federation),
            ),
        )
    return model


def _tested(asked: _Asked, model: SuperResolver, homes: Mapping[str, SiteHome]) -> Trained:
    """The model's scores on every given site's test split, written to its folder."""
    job = asked.job
    federation = job.run.federation
    scores = {
        name: by_method(
            scores_on_test_split(model, Store(home.store), scale=federation.scale, seed=federation.seed)
        )
        for name, home in homes.items()
    }
    write_json(job.folder.test, scores)
    return Trained(job.run.label, asked.file, sha256_of_file(asked.file), scores)
