"""Keeping runs going: a run whose server application has ended before its end is submitted again.

Whether an application still works on a run is told by the lock on the run's folder, which the kernel lets go of when
the process ends, however that was: Flower itself takes a minute to notice. The new application continues from what is
on the disk.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass, replace
from typing import Annotated

from pydantic import Field, FiniteFloat, TypeAdapter

from minet_core.errors import DiskFull, FedminetError, HostError, RunBusy, RunDamaged, RunWithoutProgress
from minet_core.runtime.files.atomic_write import status_of, write_json
from minet_core.runtime.json_text import NOT_AS_WRITTEN
from minet_core.runtime.said_elsewhere import said_elsewhere
from server.flower.bundle import read_bundle
from server.flower.superlink_control import SuperLinkControl
from server.runs import state_machine
from server.runs.checked_page import damaged, read_bounded
from server.runs.run_directory import RunDirectory
from server.server_home import ServerHome

START_GRACE_S = 60.0
"""How long a submitted run may take until its application works on it; twice as long after each submission that brought
nothing. On a machine with much other work an application may take a minute to start, and would be stopped each time."""

MAX_ATTEMPTS_WITHOUT_PROGRESS = 5
"""Submissions in a row that may bring a run no further before it is given up."""

SPARE_MODELS = 4
"""Room on the disk, in models, that a run needs to go on: replies, a checkpoint, and what is written beside them."""

SPARE_BYTES = 2**20

_SUBMISSION = "submission.json"


@dataclass(frozen=True)
class Submission:
    """The last time a run was given to Flower.

    flower_run: Flower's number. time_s: of the clock. progress: where the run stood. fruitless: how many submissions
    before it had brought nothing.
    """

    flower_run: Annotated[int, Field(ge=0, lt=2**64)]
    time_s: FiniteFloat
    progress: str
    fruitless: Annotated[int, Field(ge=0)] = 0


_SUBMITTED = TypeAdapter(Submission)


def submit(
    home: ServerHome,
    control: SuperLinkControl,
    run: RunDirectory,
    *,
    former: Submission | None,
    wait: bool = True,
) -> Submission:
    """Give `run` to Flower, for the first time or again.

    former: the submission that was found abandoned. Where another process has submitted the run since, that submission
    stands. wait: for another process that submits it, or for a back-up.

    Raises RunWithoutProgress (FM-F411) and ends the run as failed where that was done too often in vain, DiskFull
    (FM-S504) where there is no room to go on, RunDamaged (FM-S517) where its federation file reads otherwise than when
    it began, as after an upgrade, RunBusy (FM-S507) where it would have to wait and is not to.
    """
    with run.lock("submission", wait=wait):
        present = last_submission(run)
        if present is not None and present != former:
            return present
        fruitless = 0
        if former is not None:
            require_room(run)
            _require_same_federation(run)
            fruitless = former.fruitless + 1 if former.progress == _progress(run) else 0
            if fruitless > MAX_ATTEMPTS_WITHOUT_PROGRESS:
                raise give_up(run)
            control.stop_run(former.flower_run)
        flower_run = control.submit_run(read_bundle(home.superlink), run_config={"run": run.path.name})
        submission = Submission(flower_run, time.time(), _progress(run), fruitless)
        write_json(run.path / _SUBMISSION, asdict(submission))
        run.event("run-submitted", again=former is not None)
    return submission


def last_submission(run: RunDirectory) -> Submission | None:
    """The last time the run was given to Flower; None before the first. Raises RunDamaged (FM-S517)."""
    path = run.path / _SUBMISSION
    if not path.exists():
        return None
    try:
        return _SUBMITTED.validate_json(read_bounded(path), strict=True)
    except ValueError as failure:
        raise damaged(path, "does not say when the run was submitted") from failure


def abandoned(run: RunDirectory, submission: Submission | None, *, finished: bool | None = None) -> bool:
    """Whether nobody works on a run that has not ended, nor is about to.

    submission: the last one. finished: whether Flower says that its application has ended; None where it was not
    asked.
    """
    if run.ended or submission is None:
        return False
    holder, works = run.lock_owner()
    if works:
        return False
    if holder == submission.flower_run or finished:
        return True
    grace_s = START_GRACE_S * (1 << min(submission.fruitless, MAX_ATTEMPTS_WITHOUT_PROGRESS))
    return time.time() - submission.time_s > grace_s


def resubmit_abandoned_runs(home: ServerHome, control: SuperLinkControl) -> None:
    """Submit every abandoned run again, and finish what a killed application left of one that has ended.

    Raises the first failure once all runs were seen to: DiskFull (FM-S504) where a run waits for room.
    """
    failures: list[FedminetError] = []
    for path in sorted(home.runs.glob("*/state.json")):
        try:
            _tend(home, control, RunDirectory(path.parent))
        except RunWithoutProgress:
            continue  # the run says so itself
        except RunBusy:
            continue  # a back-up is copying it: at the next look
        except FedminetError as failure:
            failures.append(failure)
        except (OSError, *NOT_AS_WRITTEN) as failure:
            failures.append(
                HostError(
                    f"the folder of the run {path.parent.name} cannot be read",
                    got=failure,
                    action="Look at its files' owner and the disk",
                )
            )
            failures[-1].__cause__ = failure
    if failures:
        raise failures[0]


def _tend(home: ServerHome, control: SuperLinkControl, run: RunDirectory) -> None:
    if run.ended:
        if not (run.path / "summary.json").exists() and not run.lock_owner()[1]:
            _summarise(run)
        return
    submission = last_submission(run)
    if abandoned(run, submission):
        submit(home, control, run, former=submission, wait=False)


def give_up(run: RunDirectory) -> RunWithoutProgress:
    """End a run as failed that was taken up again and again in vain."""
    failure = RunWithoutProgress(
        "the run was taken up again in vain", got=f"{MAX_ATTEMPTS_WITHOUT_PROGRESS} times"
    )
    end_as_failed(run, reason=said_elsewhere(failure))
    return failure


def end_as_failed(run: RunDirectory, *, reason: str) -> None:
    """`failed`, unless the run has just ended by itself."""
    if run.ended:
        return
    run.transition(state_machine.ended, "failed", reason)
    run.event("run-ended", status="failed", reason=reason)
    _summarise(run)


def _summarise(run: RunDirectory) -> None:
    from server.runs.summary import summarise_run  # loads torch, which the status of a server has no use for

    summarise_run(run)


def require_room(run: RunDirectory) -> None:
    """Raise DiskFull (FM-S504) where the disk has no room for the next round."""
    checkpoint = status_of(run.checkpoint(run.state.round))
    model = checkpoint.st_size if checkpoint else 0
    needed = SPARE_MODELS * model + SPARE_BYTES
    free = shutil.disk_usage(run.path).free
    if free < needed:
        raise DiskFull(
            f"the run {run.path.name} waits for room on the disk",
            got=f"{free / 1e6:.1f} MB free",
            expected=f"at least {needed / 1e6:.1f} MB",
            action="Make room; the run goes on by itself",
        )


def _require_same_federation(run: RunDirectory) -> None:
    """Leave a run of other settings as it is, `interrupted`: submissions in vain would end it as failed.

    Raises RunDamaged (FM-S517).
    """
    try:
        run.require_same_federation()
    except RunDamaged as failure:
        reason = said_elsewhere(failure)
        state = run.state
        if state.status != "created" and (state.status, state.reason) != ("interrupted", reason):
            run.transition(state_machine.interrupted, reason)
            run.event("run-interrupted", reason=reason)
        raise


def _progress(run: RunDirectory) -> str:
    """Where a run stands, in a form that changes with every reply and every step."""
    state = replace(run.state, status="running", reason=None, updated="")
    replies = sorted(path.name for path in run.replies(state.round + 1).glob("*.json"))
    return json.dumps([asdict(state), replies, sorted(run.tests_recorded())], sort_keys=True)
