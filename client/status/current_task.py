"""What a task of the site is at, and the last round that it answered: on the site's disk, for `fedminet site status`.

    status/trainer/at-work.json      what is in work; locked by the process that works, so that what a killed one left
                                     is told from work that goes on
    status/trainer/last-round.json   the last round that was answered and what its parts took, and the last request
                                     that was not answered

Imports neither torch nor Flower: a health check reads these pages every few seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from client.status_folders import TRAINER_NOTES
from minet_core.errors import FileNotWritten, code_of
from minet_core.runtime.files.atomic_write import status_of, write_note
from minet_core.runtime.files.file_lock import is_locked, let_go_at_end, locked_within
from minet_core.runtime.files.typed_page import Timestamp, read_typed
from minet_core.runtime.time_spent import Seconds, TimeSpent

AT_WORK_FILE = "at-work.json"
LAST_ROUND_FILE = "last-round.json"

Work = Literal["train", "test"]

LOCK_PATIENCE_S = 0.4
"""A look at the lock holds it for less than a millisecond."""


@dataclass(frozen=True)
class Request:
    """What the server asked: to train or to test, in which round of which run. message: Flower's number of it."""

    work: Work
    run: str
    round_number: int
    message: str


@dataclass(frozen=True)
class Answered:
    """A request that a task has ended with. ended: seconds since 1970. code: of what failed; None for an answer.

    parts: what each part of the work took, in seconds elapsed and of a processor; those before `began` too.
    """

    request: Request
    began: Timestamp
    ended: Timestamp
    code: str | None
    parts: Mapping[str, Seconds] = field(default_factory=dict)


@dataclass(frozen=True)
class LastRound:
    """answered: the last round of training with an answer. failed: the last request without one."""

    answered: Answered | None
    failed: Answered | None


@dataclass(frozen=True)
class _AtWork(Request):
    since: Timestamp


@contextlib.contextmanager
def at_work(home: Path, request: Request, spent: TimeSpent | None = None) -> Iterator[None]:
    """Say that `request` is in work while the context lasts, how it ended, and what its parts took.

    Where a person or the service ends the client, nothing has failed: the request is answered after the next start.
    """
    began = time.time()
    spent = spent or TimeSpent()
    (home / TRAINER_NOTES).mkdir(parents=True, exist_ok=True)
    path = home / TRAINER_NOTES / AT_WORK_FILE
    with path.open("a+b", buffering=0) as stream, let_go_at_end(stream.fileno()):
        if locked_within(
            stream.fileno(), LOCK_PATIENCE_S
        ):  # else another task works: what it is at stands there
            os.fchmod(stream.fileno(), 0o600)
            with contextlib.suppress(OSError):  # a full disk must not be noticed here first
                stream.truncate(0)
                stream.write(json.dumps(asdict(_AtWork(**asdict(request), since=began))).encode())
        try:
            yield
        except Exception as failure:  # not Ctrl-C, nor SystemExit, which a signal raises
            _note_end(home, Answered(request, began, time.time(), code_of(failure), spent.seconds))
            raise
        _note_end(home, Answered(request, began, time.time(), None, spent.seconds))


def in_work(home: Path) -> tuple[Request, float] | None:
    """What is in work now, and since when; None where nothing is."""
    path = home / TRAINER_NOTES / AT_WORK_FILE
    if not is_locked(path):
        return None
    try:
        page = read_typed(path, _AtWork)
    except (OSError, ValueError):  # the page is being written
        return None
    return Request(page.work, page.run, page.round_number, page.message), page.since


def last_round(home: Path) -> LastRound:
    """The last round, from the task's own page; from the kept rounds where there is none yet."""
    try:
        return read_typed(home / TRAINER_NOTES / LAST_ROUND_FILE, LastRound)
    except (OSError, ValueError):
        return LastRound(_from_kept_rounds(home / "state"), None)


def _note_end(home: Path, ended: Answered) -> None:
    former = last_round(home)
    answered, failed = former.answered, former.failed
    if ended.code is not None:
        failed = ended
    elif ended.request.work == "train":
        answered = ended
    page = {"answered": answered and asdict(answered), "failed": failed and asdict(failed)}
    with contextlib.suppress(FileNotWritten):  # as above: the round itself is kept, or has failed for it
        write_note(home / TRAINER_NOTES / LAST_ROUND_FILE, page)


def _from_kept_rounds(state: Path) -> Answered | None:
    """The latest file of a round (client.rounds.round_cache); which message it answered is not known."""
    found = ((status_of(path), path) for path in state.glob("*/round-*.safetensors"))
    kept = [(status.st_mtime, path) for status, path in found if status]
    if not kept:
        return None
    ended, path = max(kept)
    number = int(path.stem.removeprefix("round-"))
    return Answered(Request("train", path.parent.name, number, ""), ended, ended, None)
