"""`fedminet bench round`: what a round of three sites costs beyond training, on the real engine over loopback.

Each side is a deployment of its own, this code's and another commit's, whose runs alternate, A B A B. A site trains one
step on one patch, so that nearly all of a round is what it costs whatever it trains; validation is as large as usual.
With more steps it is said what share of a long round that is.
All processes have one clock: a round is taken apart at the moments that the coordinator's events and the sites' own
notes state (`fedminet.bench.round_parts`).
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from client.status.current_task import last_round
from client.status.node_activity import read_replies
from fedminet.bench.compare import BASELINE, CHECKOUT, THIS
from fedminet.bench.processor_watch import LOOK_S, ProcessorWatch
from fedminet.bench.round_parts import RoundParts, Worked, parts_of_rounds, rounds_table
from fedminet.single_machine.demo import CHILD_GRACE_S, enrol, start_processes
from fedminet.single_machine.federation import Rehearsal, Schedule
from minet_core.errors import FileMissing, RunFailed
from minet_core.runtime.files.atomic_write import write_json, write_text
from minet_core.runtime.processes.child_processes import ChildProcesses, free_port
from server.runs.follow import run_to_end
from server.runs.run_directory import RunDirectory
from server.server_home import ServerHome, ServerSettings

MAX_MEASUREMENTS = 3
"""Runs in the place of one: a site's page has its last round alone, which is looked at twenty times a second."""


def bench_rounds(
    folder: Path,
    *,
    n_rounds: int,
    n_runs: int,
    n_patients: int,
    n_steps: int = 1,
    baseline: Path | None = None,
) -> list[RoundParts]:
    """Measure each side in `n_runs` runs of `n_rounds` rounds.

    folder: new or empty; everything is made there. n_steps: of a site in a round. baseline: another commit's checkout.
    Raises FileMissing (FM-C103) where that is none, RunFailed (FM-F403) where a run did not complete.
    """
    checkouts = {THIS: CHECKOUT}
    if baseline is not None:
        if not (baseline / "minet_core").is_dir():
            raise FileMissing("the baseline is no checkout of fedminet", got=baseline)
        checkouts[BASELINE] = baseline.resolve()
    sides = {label: RoundParts(label) for label in checkouts}
    with contextlib.ExitStack() as stack:
        started: dict[str, _Deployment] = {}
        made: Rehearsal | None = None
        for label, checkout in checkouts.items():
            schedule = Schedule(n_rounds, n_steps, {"batch_size": 1})
            rehearsal = _rehearsal(folder / label.replace(" ", "-"), schedule, n_patients, made=made)
            made = made or rehearsal
            started[label] = stack.enter_context(_deployed(rehearsal, checkout))
        for number in range(1, n_runs + 1):
            for label, deployment in started.items():
                _measure(deployment, f"run-{number}", sides[label])
    return list(sides.values())


@dataclass(frozen=True)
class _Deployment:
    rehearsal: Rehearsal
    server: ServerHome
    children: ChildProcesses


def _rehearsal(out: Path, schedule: Schedule, n_patients: int, *, made: Rehearsal | None) -> Rehearsal:
    """Three sites of phantoms, made once; every side has its own copy."""
    rehearsal = Rehearsal.declared(out, [], schedule=schedule, scale=2, n_patients=n_patients, seed=1)
    if made is None:
        rehearsal.make_sites()
        shutil.copytree(out / "sites", out / "untouched")
    else:
        shutil.copytree(made.out / "untouched", out / "sites")
    return rehearsal


@contextlib.contextmanager
def _deployed(rehearsal: Rehearsal, checkout: Path) -> Iterator[_Deployment]:
    server = enrol(rehearsal, ServerSettings(hosts=("127.0.0.1", "localhost"), port=free_port()))
    with ChildProcesses(grace_s=CHILD_GRACE_S) as children:
        start_processes(children, rehearsal, server, PYTHONPATH=str(checkout), PYTHONSAFEPATH="1")
        yield _Deployment(rehearsal, server, children)


def _measure(deployment: _Deployment, name: str, parts: RoundParts) -> None:
    """A run's rounds; of another run where this process stalled while a site's note of a round was there."""
    for attempt in range(1, MAX_MEASUREMENTS + 1):
        run = RunDirectory(deployment.server.runs / f"{name}-{attempt}")
        processors = ProcessorWatch()
        with _watched(deployment, run.path.name, processors) as worked:
            summary = run_to_end(
                deployment.server, run.path.name, progress=lambda *_: None, watch=deployment.children
            )
        if summary.status != "completed":
            raise RunFailed("a run of the benchmark was not completed", got=summary.status_reason)
        events = run.events_recorded()
        if worked.is_whole(events):
            parts.add(parts_of_rounds(events, worked), processors)
            last = run.rounds_recorded()[-1]
            parts.n_bytes = sum(site["bytes_up"] + site["bytes_down"] for site in last["sites"].values())
            return
    raise RunFailed(
        "the machine stalls too long to measure a round on it",
        got=f"{MAX_MEASUREMENTS} runs with rounds unseen",
    )


@contextlib.contextmanager
def _watched(deployment: _Deployment, run: str, processors: ProcessorWatch) -> Iterator[Worked]:
    """What the sites note of this run, while the context lasts; `processors` looks at all processes meanwhile."""
    worked = Worked()
    ended = threading.Event()
    homes = deployment.rehearsal.homes()

    def look() -> None:
        processors.look({child.process.pid for child in deployment.children})
        for site, home in homes.items():
            answered = last_round(home.path).answered
            if answered is not None and answered.request.run == run:
                worked.answered[answered.request.round_number, site] = answered
                worked.sent |= read_replies(home.node_notes)

    def watch() -> None:
        while not ended.wait(LOOK_S):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield worked
    finally:
        ended.set()
        thread.join()
        look()


def write_rounds(out: Path, sides: list[RoundParts]) -> None:
    """OUT.md and OUT.json."""
    write_text(out.with_suffix(".md"), "# Rounds\n\n" + rounds_table(sides))
    write_json(out.with_suffix(".json"), {"sides": [asdict(side) for side in sides]})
