"""`fedminet bench round`: what a round of three sites costs beyond training, on the real engine over loopback.

Each side is a deployment of its own, this code's and another commit's, whose runs alternate, A B A B. A site trains one
step on one patch, so that nearly all of a round is what it costs whatever it trains; validation is as large as usual.
All processes have one clock: a round is taken apart at the moments that the coordinator's events and the sites' own
notes state. A part is that of the slowest site.
"""

from __future__ import annotations

import contextlib
import datetime
import shutil
import statistics
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from client.status.current_task import last_round
from fedminet.bench.compare import BASELINE, CHECKOUT, THIS
from fedminet.single_machine.demo import CHILD_GRACE_S, enrol, start_processes
from fedminet.single_machine.federation import Rehearsal, Schedule
from minet_core.errors import FileMissing, RunFailed
from minet_core.runtime.files.atomic_write import write_json, write_text
from minet_core.runtime.machine import machine_facts
from minet_core.runtime.processes.child_processes import ChildProcesses, free_port
from minet_core.runtime.versions import version_line
from server.runs.follow import run_to_end
from server.runs.run_directory import RunDirectory
from server.server_home import ServerHome, ServerSettings

PARTS = {
    "whole": "the whole round",
    "request": "request: polled, sent, task started",
    "work": "at the site: validation, one step, answer kept",
    "reply": "reply: polled, sent",
    "coordinator": "coordinator: mean, checkpoint, records",
}
LOOK_S = 0.02
"""Between two looks at the sites' notes: a round's are replaced by the next one's."""


@dataclass
class RoundParts:
    """One side. seconds: by part of `PARTS`, of each round but the first of each run. n_bytes: up and down, a round."""

    label: str
    seconds: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in PARTS})
    n_bytes: int = 0


def bench_rounds(
    folder: Path, *, n_rounds: int, n_runs: int, n_patients: int, baseline: Path | None = None
) -> list[RoundParts]:
    """Measure each side in `n_runs` runs of `n_rounds` rounds.

    folder: new or empty; everything is made there. baseline: another commit's checkout. Raises FileMissing (FM-C103)
    where that is none, RunFailed (FM-F403) where a run did not complete.
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
            rehearsal = _rehearsal(folder / label.replace(" ", "-"), n_rounds, n_patients, made=made)
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


def _rehearsal(out: Path, n_rounds: int, n_patients: int, *, made: Rehearsal | None) -> Rehearsal:
    """Three sites of phantoms, made once; every side has its own copy."""
    rehearsal = Rehearsal.declared(
        out, [], schedule=Schedule(n_rounds, 1, batch_size=1), scale=2, n_patients=n_patients, seed=1
    )
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
    with _watched(deployment.rehearsal, name) as worked:
        summary = run_to_end(deployment.server, name, progress=lambda *_: None, watch=deployment.children)
    if summary.status != "completed":
        raise RunFailed("a run of the benchmark was not completed", got=summary.status_reason)
    run = RunDirectory(deployment.server.runs / name)
    for part, seconds in parts_of_rounds(run.events_recorded(), worked).items():
        parts.seconds[part] += seconds
    last = run.rounds_recorded()[-1]
    parts.n_bytes = sum(site["bytes_up"] + site["bytes_down"] for site in last["sites"].values())


Worked = dict[tuple[int, str], tuple[float, float]]
"""By round and site, when its work began and ended, in seconds since 1970."""


@contextlib.contextmanager
def _watched(rehearsal: Rehearsal, run: str) -> Iterator[Worked]:
    """What the sites note of this run, while the context lasts."""
    worked: Worked = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(LOOK_S):
            for site, home in rehearsal.homes().items():
                answered = last_round(home.path).answered
                if answered is not None and answered.request.run == run:
                    worked[answered.request.round_number, site] = answered.began, answered.ended

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield worked
    finally:
        ended.set()
        thread.join()


def parts_of_rounds(events: list[dict[str, Any]], worked: Worked) -> dict[str, list[float]]:
    """The rounds' parts but for the first round's, whose tasks are the first of the run, by part of `PARTS`.

    events: of the run, as the coordinator recorded them. A round ends where the next one starts, or where it was
    completed. The parts of the slowest site, whose reply came last, add up to the whole.
    """
    found: dict[str, list[float]] = {part: [] for part in PARTS}
    asked = {event["round"]: _moment(event) for event in events if event["event"] == "round-started"}
    for number in sorted(asked)[1:]:
        replies = [one for one in events if one["event"] == "reply-accepted" and one["round"] == number]
        slowest = max(replies, key=_moment)
        began, ended = worked[number, slowest["site"]]
        done = [
            _moment(one) for one in events if one["event"] == "round-completed" and one["round"] == number
        ]
        close = asked.get(number + 1, *done)
        received = _moment(slowest)
        found["whole"].append(close - asked[number])
        found["request"].append(began - asked[number])
        found["work"].append(ended - began)
        found["reply"].append(received - ended)
        found["coordinator"].append(close - received)
    return found


def _moment(event: Mapping[str, Any]) -> float:
    return datetime.datetime.fromisoformat(event["time"]).timestamp()


def rounds_table(sides: list[RoundParts]) -> str:
    """The parts in Markdown: of each the median, with the least and the most."""
    machine = machine_facts()
    lines = [
        f"{machine.processor}, {machine.cores} cores, one thread a site; {version_line()}.",
        f"Seconds of a round of three sites on loopback, {len(sides[0].seconds['whole'])} rounds a side: the median "
        "(least to most). A part is that of the site whose reply came last.",
        "",
        "| part | " + " | ".join(side.label for side in sides) + " |",
        "|---" * (1 + len(sides)) + "|",
    ]
    for part, words in PARTS.items():
        lines.append("| " + " | ".join([words, *(_spread(side.seconds[part]) for side in sides)]) + " |")
    return "\n".join(lines) + "\n"


def write_rounds(out: Path, sides: list[RoundParts]) -> None:
    """OUT.md and OUT.json."""
    write_text(out.with_suffix(".md"), "# Rounds\n\n" + rounds_table(sides))
    write_json(out.with_suffix(".json"), {"sides": [asdict(side) for side in sides]})


def _spread(seconds: list[float]) -> str:
    middle, least, most = (of(seconds) for of in (statistics.median, min, max))
    return f"{middle:.2f} ({least:.2f} to {most:.2f})"
