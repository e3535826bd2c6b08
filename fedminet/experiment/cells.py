"""One cell of an experiment: a method trained once, and tested on every patient of the test splits."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from client.site_home import SiteHome
from fedminet.experiment.methods import is_learned
from fedminet.experiment.scores import PatientScores, tested_patients
from fedminet.experiment.study import CellKey, Mode, Study
from fedminet.experiment.trained import MODEL_FILE, Trained, train_on_all, train_together
from minet_core.checkpoint import load_model
from minet_core.errors import ConfigurationError
from minet_core.models.base import SuperResolver
from minet_core.runtime.files.atomic_write import write_json
from minet_core.runtime.files.file_lock import held
from minet_core.runtime.machine import machine_facts
from minet_core.runtime.progress import Advance
from minet_core.runtime.versions import versions
from minet_core.settings.federation import FederationSettings
from minet_core.settings.yaml_file import Settings, parse_settings
from minet_core.training.device import autocast_dtype_for, preferred_device

CELL_FILE = "cell.json"


class Cell(Settings):
    """What came of a cell.

    settings: digest of the federation settings that it was trained with; None for interpolation. n_steps: optimizer
    steps of one site. train_seconds: wall time of a site's rounds, validation included, of the slowest one; of a
    pooled or local model's steps. seconds: of the whole cell, testing included; of the last attempt where it was
    interrupted. machine: what computed it. versions: of what touches a figure, when it was computed. data: by site of
    the study, its cohort's digest. sites: by site, the scores of its test patients, in the order of their pseudonyms.
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
    machine: str
    versions: dict[str, str]
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
    if any(len(patients) != study.n_test_patients(key.seed, site) for site, patients in cell.sites.items()):
        raise ConfigurationError(
            "a result of an earlier version is here, which counted examinations and not patients",
            got=path,
            action="Name a new folder with --out",
        )
    if is_learned(key.method) and cell.settings != study.federation(key).digest():
        raise ConfigurationError(
            "a result of other settings is here",
            got=path,
            action="Name a new folder with --out, or ask for the settings of this one",
        )
    return cell


def model_of_cell(study: Study, key: CellKey) -> SuperResolver | None:
    """The model of a learned method's cell, on the device; None where the cell is not done, or its model not here."""
    path = cell_folder(study, key) / MODEL_FILE
    if not path.exists() or read_cell(study, key) is None:
        return None
    return load_model(path)[0].to(preferred_device())


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Whether this process may work on a cell: another one that is at it holds its lock."""
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder / "lock") as taken:
        yield taken


def make_cell(study: Study, key: CellKey, *, advance: Advance) -> Cell:
    """Train and test a cell, and keep it. Raises what training raises."""
    folder, began = cell_folder(study, key), time.monotonic()
    homes = study.homes(key.seed)
    tested = {site: homes[site] for site in study.tested_at(key)}
    federation, trained = None, None
    if is_learned(key.method):
        federation = study.federation(key)
        trained = _trained(study, key, federation, homes, advance)
    cell = Cell(
        method=key.method,
        mode=key.mode,
        scale=key.scale,
        seed=key.seed,
        member=key.member,
        settings=federation and federation.digest(),
        n_parameters=sum(p.numel() for p in trained.model.parameters()) if trained else 0,
        n_steps=trained.n_steps if trained else 0,
        train_seconds=trained.seconds if trained else 0.0,
        seconds=0.0,
        machine=machine(),
        versions=versions(),
        data=study.cohorts(key.seed),
        sites={
            site: tuple(tested_patients(trained.model if trained else key.method, home, scale=key.scale))
            for site, home in tested.items()
        },
    )
    cell = cell.model_copy(update={"seconds": time.monotonic() - began})
    write_json(folder / CELL_FILE, cell.model_dump(mode="json"))
    if trained:  # until now: a test that is interrupted takes its model from there
        shutil.rmtree(trained.attempt)
    return cell


def machine() -> str:
    """The GPU, or the processor with its threads; and in what precision it computes."""
    device = preferred_device()
    precision = str(autocast_dtype_for(device) or torch.float32).removeprefix("torch.")
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {precision}"
    threads = torch.get_num_threads()
    return f"{machine_facts().processor}, {threads} thread{'s' * (threads > 1)}, {precision}"


def _trained(
    study: Study,
    key: CellKey,
    federation: FederationSettings,
    homes: Mapping[str, SiteHome],
    advance: Advance,
) -> Trained:
    folder = cell_folder(study, key)
    if key.mode in ("federated", "without"):
        return train_together(folder, federation, {site: homes[site] for site in federation.sites}, advance)
    members = {site: home for site, home in homes.items() if key.member in (None, site)}
    return train_on_all(folder, federation, members, advance)
