"""Endurance: what a run of many rounds costs the coordinator in memory, disk and time, early and late.

Three trial sites on the in-process grid and the `quick` model, in a process of its own, so that nothing else's memory
counts. What a round costs must not depend on how many went before it: memory and checkpoints are bounded, and the
only files that grow are the two logs.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from fedminet.simulation.in_process_grid import InProcessGrid, server_identity
from minet_core.protocol.exchange_plan import exchange_plan_of
from minet_core.settings.federation import ModelSettings
from server.rounds.run import run_federation
from server.runs.run_directory import RunDirectory
from tests.faults.resident_memory import resident_bytes
from tests.faults.trial_sites import TRIAL_SITES, trial_federation, trial_site

EARLY_ROUND = 20
"""By then everything is imported, and every cache of the allocator has its size."""

KEEP_CHECKPOINTS = 3
GROWTH_LIMIT_PERCENT = 5.0
SHIFT = 1e-3
"""How far a site moves every weight in a round: 200 rounds stay far from where float32 loses the steps."""

LOGS = ("events.jsonl", "metrics.jsonl")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Footprint:
    """What a run holds just after a round's checkpoint was written, before the oldest one is removed.

    log_bytes: of `LOGS`, which are part of directory_bytes. seconds, processor_seconds: the medians over the last 20
    rounds, of the sites' part too; wall time holds the disk's answer to every fsync.
    """

    round_number: int
    resident_bytes: int
    directory_bytes: int
    log_bytes: int
    n_checkpoints: int
    seconds: float
    processor_seconds: float


@dataclass(frozen=True)
class Endurance:
    """One run, early and late."""

    rounds: int
    n_parameters: int
    early: Footprint
    late: Footprint

    @property
    def growth_percent(self) -> float:
        """Of the resident memory."""
        return 100.0 * (self.late.resident_bytes / self.early.resident_bytes - 1.0)

    @property
    def held(self) -> bool:
        """Whether memory and checkpoints are bounded."""
        bounded = max(self.early.n_checkpoints, self.late.n_checkpoints) <= KEEP_CHECKPOINTS + 1
        return bounded and self.growth_percent < GROWTH_LIMIT_PERCENT


def endurance(rounds: int = 200, *, early_round: int = EARLY_ROUND) -> Endurance:
    """Conduct `rounds` rounds in a process of its own. Raises HostError (FM-S500) where /proc has no figures."""
    return in_own_process(_conduct, rounds, early_round)


def endurance_as_text(result: Endurance) -> str:
    """The table of a result."""
    lines = [
        f"{result.rounds} rounds, {len(TRIAL_SITES)} sites, {result.n_parameters:,} parameters, the last "
        f"{KEEP_CHECKPOINTS} checkpoints kept",
        f"{'after round':>11} {'resident':>12} {'run folder':>12} {'of it logs':>12} {'checkpoints':>11} "
        f"{'a round':>10} {'processor':>10}",
    ]
    lines += [
        f"{at.round_number:>11} {at.resident_bytes / 1e6:>9.1f} MB {at.directory_bytes / 1e6:>9.2f} MB "
        f"{at.log_bytes / 1e6:>9.2f} MB {at.n_checkpoints:>11} {1e3 * at.seconds:>7.1f} ms "
        f"{1e3 * at.processor_seconds:>7.1f} ms"
        for at in (result.early, result.late)
    ]
    lines.append(
        f"resident memory grew by {result.growth_percent:+.2f}%; below {GROWTH_LIMIT_PERCENT:g}% holds"
    )
    return "\n".join(lines)


def in_own_process(
    task: Callable[..., Result], *arguments: Any, environment: Mapping[str, str] | None = None
) -> Result:
    """Call a module's function in a new interpreter, and return what it returns. environment: added to its own."""
    added = dict(environment or {})
    former = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
            return pool.submit(task, *arguments).result()
    finally:
        for name, value in former.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@dataclass
class _Watch:
    """Takes the footprints, at the moments that a run tells of."""

    run: RunDirectory
    rounds: tuple[int, int]
    ends: list[tuple[float, float]] = field(default_factory=list)
    found: list[Footprint] = field(default_factory=list)

    def at(self, moment: str) -> None:
        if moment == "saved" or not self.ends:
            self.ends.append((time.perf_counter(), time.process_time()))
        if moment == "saved" and len(self.ends) - 1 in self.rounds:
            self.found.append(self._footprint())

    def _footprint(self) -> Footprint:
        taken = [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(self.ends)]
        sizes = {path: path.stat().st_size for path in self.run.path.rglob("*") if path.is_file()}
        return Footprint(
            round_number=len(taken),
            resident_bytes=resident_bytes(),
            directory_bytes=sum(sizes.values()),
            log_bytes=sum(size for path, size in sizes.items() if path.name in LOGS),
            n_checkpoints=len(list((self.run.path / "checkpoints").glob("*.safetensors"))),
            seconds=statistics.median(wall for wall, _ in taken[-EARLY_ROUND:]),
            processor_seconds=statistics.median(processor for _, processor in taken[-EARLY_ROUND:]),
        )


def _conduct(rounds: int, early_round: int) -> Endurance:
    federation = trial_federation(rounds=rounds, model=ModelSettings().model_dump())
    sites = {
        site: trial_site(shift=SHIFT * (index - 1), n_training_slices=50 + 10 * index)
        for index, site in enumerate(TRIAL_SITES)
    }
    with tempfile.TemporaryDirectory(prefix="endurance-") as folder, server_identity():
        run = RunDirectory.create(
            Path(folder) / "run", federation, engine="in-process", keep_checkpoints=KEEP_CHECKPOINTS
        )
        watch = _Watch(run, (early_round, rounds))
        run_federation(InProcessGrid(sites), run, observer=watch.at)
    early, late = watch.found
    return Endurance(rounds, exchange_plan_of(federation).shared.n_values, early, late)
