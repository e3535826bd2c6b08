"""Damage to the folder of a run that was ended half-way: it is found and named, or it changes nothing.

A federation of trial sites is ended at one of several moments. One file of its folder is cut, changed in one bit,
removed, or exchanged with another, and the run is continued.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedminet.simulation.in_process_grid import InProcessGrid, server_identity
from minet_core.errors import FedminetError
from minet_core.runtime.files.atomic_write import sha256_of_file
from server.rounds.run import run_federation
from server.runs.run_directory import RunDirectory
from tests.faults.trial_sites import trial_federation, trial_site

SITES = {"sms": (0.25, 100), "umr": (0.5, 50), "fastmri": (0.375, 70)}
FEDERATION = trial_federation(
    rounds=4,
    participation={"quorum": 3, "deadline_s": 30.0, "retries": 0},
    algorithm={"name": "fedadam"},  # it has a memory of the server's own
)

MOMENTS = {"received": 8, "aggregated": 3, "saved": 2, "tested": 2}
"""Where the run is ended, and when: at the so-manieth of these moments."""

KINDS = ("cut", "bit", "removed", "exchanged")


class Ended(BaseException):
    """The server application is ended here; nothing is written after it."""


@dataclass(frozen=True)
class Damage:
    """One damage. outcome: "found" with its code, "harmless" (the same final model), "another model", or "raw"."""

    moment: str
    kind: str
    file: str
    outcome: str
    detail: str


def half_way(folder: Path, moment: str) -> RunDirectory:
    """A run that was ended at `moment`."""
    run = RunDirectory.create(folder / "run", FEDERATION, engine="in-process")
    left = [MOMENTS[moment]]

    def at(name: str) -> None:
        left[0] -= name == moment
        if left[0] == 0:
            raise Ended

    record = RunDirectory.record_tests

    def recorded(self: RunDirectory, tested: object) -> None:
        record(self, tested)  # type: ignore[arg-type]
        at("tested")

    RunDirectory.record_tests = recorded  # type: ignore[method-assign]
    try:
        _conduct(run, at)
    except Ended:
        return run
    finally:
        RunDirectory.record_tests = record  # type: ignore[method-assign]
    raise AssertionError(f"the run was not ended at {moment}")


def finished(folder: Path) -> str:
    """SHA-256 of the model that the run ends with where nothing befalls it."""
    run = RunDirectory.create(folder / "run", FEDERATION, engine="in-process")
    _conduct(run, lambda _: None)
    return sha256_of_file(run.global_model)


def damaged(base: RunDirectory, folder: Path, *, moment: str, seed: int, truth: str) -> Damage:
    """Continue a copy of `base` after one damage that `seed` draws."""
    generator = np.random.default_rng(seed)
    run = RunDirectory(folder / "run")
    shutil.copytree(base.path, run.path)
    files = sorted(path for path in run.path.rglob("*") if path.is_file())
    path = files[int(generator.integers(len(files)))]
    kind = KINDS[seed % len(KINDS)]
    _harm(path, kind, files, generator)
    outcome, detail = "", ""
    try:
        _conduct(run, lambda _: None)
        same = run.state.status == "completed" and sha256_of_file(run.global_model) == truth
        outcome, detail = ("harmless", "") if same else ("another model", run.state.status)
    except FedminetError as failure:
        outcome, detail = "found", failure.code
    except Exception as failure:  # what is counted here
        outcome, detail = "raw", repr(failure)[:200]
    return Damage(moment, kind, str(path.relative_to(run.path)), outcome, detail)


def damage_all(folder: Path, *, seeds: range, say: Callable[[str], None] = lambda _: None) -> list[Damage]:
    """A damage for each seed, spread over the moments."""
    truth = finished(folder / "whole")
    bases = {moment: half_way(folder / moment, moment) for moment in MOMENTS}
    found = []
    for seed in seeds:
        moment = sorted(MOMENTS)[(seed // len(KINDS)) % len(MOMENTS)]
        place = folder / f"damage-{seed}"
        found.append(damaged(bases[moment], place, moment=moment, seed=seed, truth=truth))
        shutil.rmtree(place)
        if found[-1].outcome not in ("found", "harmless"):
            say(f"seed {seed}: {found[-1]}")
    say(str(Counter(damage.outcome for damage in found)))
    return found


def _conduct(run: RunDirectory, at: Callable[[str], None]) -> None:
    sites = {site: trial_site(shift=shift, n_training_slices=n) for site, (shift, n) in SITES.items()}
    with server_identity():
        run_federation(InProcessGrid(sites), run, observer=at)


def _harm(path: Path, kind: str, files: list[Path], generator: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    if kind == "removed" or not content:
        path.unlink()
    elif kind == "cut":
        path.write_bytes(content[: int(generator.integers(len(content)))])
    elif kind == "bit":
        content[int(generator.integers(len(content)))] ^= 1 << int(generator.integers(8))
        path.write_bytes(content)
    else:
        alike = [other for other in files if other != path and other.suffix == path.suffix] or files
        other = alike[int(generator.integers(len(alike)))]
        exchanged = other.read_bytes()
        other.write_bytes(content)
        path.write_bytes(exchanged)
