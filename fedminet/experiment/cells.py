"""One cell of an experiment: a method trained once, and tested on every patient of the test splits."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from client.site_home import SiteHome
from fedminet.alone import steps_of_one_round, train_alone
from fedminet.experiment.methods import is_learned
from fedminet.experiment.scores import PatientScores, tested_patients
from fedminet.experiment.study import CellKey, Mode, Study
from fedminet.simulate import federate
from minet_core.checkpoint import load_model
from minet_core.federation import FederationSettings
from minet_core.models.super_resolver import SuperResolver
from minet_core.runtime.durable import replacing, write_json
from minet_core.runtime.errors import ConfigurationError
from minet_core.runtime.progress import Advance
from minet_core.runtime.yaml_file import Settings, parse_settings
from minet_core.training import preferred_device
from minet_core.weights import learnable
from server.conduct import save_weights

CELL_FILE, MODEL_FILE = "cell.json", "model.safetensors"


class Cell(Settings):
    """What came of a cell.

    settings: digest of the federation settings that it was trained with; None for interpolation. n_steps: optimizer
    steps of one site. train_seconds: wall time of a site's rounds, validation included, of the slowest one; all of a
    pooled or local model's. data: by site of the study, its cohort's digest. sites: by site, the scores of its test
    patients, in the order of their pseudonyms.
    """

    method: str
    mode: Mode
    scale: int
    seed: int
    member: str | None
    settings: str | None
    n_parameters: int
    n_steps: int
    train_seconds: float
    seconds: float
    device: str
    data: dict[str, str]
    sites: dict[str, tuple[PatientScores, ...]]


def cell_folder(study: Study, key: CellKey) -> Path:
    """Where a cell is kept."""
    return study.out / "cells" / key.name


def read_cell(study: Study, key: CellKey) -> Cell | None:
    """A cell that is done, or None. The study's sites must be there.

    Raises ConfigurationError (FM-C100) for one of other settings, or of other scans: patients are paired between
    cells by their place.
    """
    path = cell_folder(study, key) / CELL_FILE
    if not path.exists():
        return None
    cell = parse_settings(json.loads(path.read_text(encoding="utf-8")), Cell, source=str(path))
    if cell.data != study.cohorts(key.seed):
        raise ConfigurationError(
            "a result of other scans is here",
            got=path,
            action="Name a new folder with --out; a result goes with the scans below `data` that it was made of",
        )
    if is_learned(key.method) and cell.settings != study.federation(key).digest():
        raise ConfigurationError(
            "a result of other settings is here",
            got=path,
            action="Name a new folder with --out, or ask for the settings of this one",
        )
    return cell


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Whether this process may work on a cell: another one that is at it holds its lock."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def make_cell(study: Study, key: CellKey, *, advance: Advance) -> Cell:
    """Train and test a cell, and keep it. Raises what training raises."""
    folder, began = cell_folder(study, key), time.monotonic()
    homes = study.homes(key.seed)
    tested = {site: homes[site] for site in study.tested_at(key)}
    trained = _Trained(None, None, 0, 0.0)
    if is_learned(key.method):
        trained = _train(study, key, homes, advance)
    cell = Cell(
        method=key.method,
        mode=key.mode,
        scale=key.scale,
        seed=key.seed,
        member=key.member,
        settings=trained.federation and trained.federation.digest(),
        n_parameters=sum(p.numel() for p in trained.model.parameters()) if trained.model else 0,
        n_steps=trained.n_steps,
        train_seconds=trained.seconds,
        seconds=0.0,
        device=str(preferred_device()),
        data=study.cohorts(key.seed),
        sites={
            site: tuple(tested_patients(trained.model or key.method, home, scale=key.scale))
            for site, home in tested.items()
        },
    )
    cell = cell.model_copy(update={"seconds": time.monotonic() - began})
    write_json(folder / CELL_FILE, cell.model_dump(mode="json"))
    return cell


class _Trained:
    """A model, how it was made, the steps of one site and the seconds they took."""

    def __init__(
        self,
        model: SuperResolver | None,
        federation: FederationSettings | None,
        n_steps: int,
        seconds: float,
    ) -> None:
        self.model, self.federation, self.n_steps, self.seconds = model, federation, n_steps, seconds


def _train(study: Study, key: CellKey, homes: Mapping[str, SiteHome], advance: Advance) -> _Trained:
    federation = study.federation(key)
    path = cell_folder(study, key) / MODEL_FILE
    if key.mode in ("federated", "without"):
        folder = cell_folder(study, key) / "run"
        run = federate(folder, federation, {site: homes[site] for site in federation.sites}, advance)
        with replacing(path) as temporary:
            shutil.copyfile(run.global_model, temporary)
        rounds = run.rounds_recorded()
        seconds = max(
            sum(record["sites"][site]["train_seconds"] for record in rounds) for site in federation.sites
        )
        taking_part = [homes[site] for site in federation.sites]
        n_steps = len(rounds) * steps_of_one_round(taking_part, federation)
        shutil.rmtree(folder)
    else:
        members = [homes[key.member]] if key.member else list(homes.values())
        took = time.monotonic()
        model = train_alone(members, federation, label=key.member or "pooled", progress=advance)
        seconds = time.monotonic() - took
        save_weights(path, federation, learnable(model), round_number=federation.rounds)
        n_steps = federation.rounds * steps_of_one_round(members, federation)
    loaded, _ = load_model(path)
    return _Trained(loaded.to(preferred_device()), federation, n_steps, seconds)
