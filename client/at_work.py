"""What a task of the site is at, and the last round that it answered: on the site's disk, for `fedminet site status`.

    state/at-work.json      what is in work; locked by the process that works, so that what a killed one left is
                            told from work that goes on
    state/last-round.json   the last round that was answered, and the last request that was not

Imports neither torch nor Flower: a health check reads these pages every few seconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from minet_core.runtime.durable import write_json
from minet_core.runtime.errors import DiskFull, code_of

AT_WORK_FILE = "at-work.json"
LAST_ROUND_FILE = "last-round.json"

Work = Literal["train", "test"]

_TRIES = 20
"""For the lock, 50 a second: a look at it holds it for less than a millisecond."""


@dataclass(frozen=True)
class Request:
    """What the server asked: to train or to test, in which round of which run. message: Flower's number of it."""

    work: Work
    run: str
    round_number: int
    message: str


@dataclass(frozen=True)
class Answered:
    """A request that a task has ended with. ended: seconds since 1970. code: of what failed; None for an answer."""

    request: Request
    began: float
    ended: float
    code: str | None


@dataclass(frozen=True)
class LastRound:
    """answered: the last round of training with an answer. failed: the last request without one."""

    answered: Answered | None
    failed: Answered | None


@contextlib.contextmanager
def at_work(state: Path, request: Request) -> Iterator[None]:
    """Say that `request` is in work while the context lasts, and how it ended."""
    began = time.time()
    state.mkdir(parents=True, exist_ok=True)
    with (state / AT_WORK_FILE).open("a+b", buffering=0) as stream:
        if _locked(stream.fileno()):
            with contextlib.suppress(OSError):  # a full disk must not be noticed here first
                stream.truncate(0)
                stream.write(json.dumps({**asdict(request), "since": began}).encode())
        try:
            yield
        except BaseException as failure:
            _note_end(state, Answered(request, began, time.time(), code_of(failure)))
            raise
        _note_end(state, Answered(request, began, time.time(), None))


def in_work(state: Path) -> tuple[Request, float] | None:
    """What is in work now, and since when; None where nothing is."""
    try:
        with (state / AT_WORK_FILE).open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                content = json.loads(stream.read())
                return _request(content), float(content["since"])
    except (OSError, ValueError, KeyError):  # never worked, or the page is being written
        return None
    return None


def last_round(state: Path) -> LastRound:
    """The last round, from the task's own page; from the kept rounds where there is none yet."""
    try:
        page = json.loads((state / LAST_ROUND_FILE).read_bytes())
        return LastRound(_answered(page["answered"]), _answered(page["failed"]))
    except (OSError, ValueError, KeyError, TypeError):
        return LastRound(_from_kept_rounds(state), None)


def _note_end(state: Path, ended: Answered) -> None:
    former = last_round(state)
    answered, failed = former.answered, former.failed
    if ended.code is not None:
        failed = ended
    elif ended.request.work == "train":
        answered = ended
    page = {"answered": answered and asdict(answered), "failed": failed and asdict(failed)}
    with contextlib.suppress(DiskFull):  # as above: the round itself is kept, or has failed for it
        write_json(state / LAST_ROUND_FILE, page)


def _from_kept_rounds(state: Path) -> Answered | None:
    """The latest file of a round (client.kept_rounds); which message it answered is not known."""
    kept = [(path.stat().st_mtime, path) for path in state.glob("*/round-*.safetensors")]
    if not kept:
        return None
    ended, path = max(kept)
    number = int(path.stem.removeprefix("round-"))
    return Answered(Request("train", path.parent.name, number, ""), ended, ended, None)


def _answered(content: dict[str, Any] | None) -> Answered | None:
    if content is None:
        return None
    return Answered(_request(content["request"]), content["began"], content["ended"], content["code"])


def _request(content: dict[str, Any]) -> Request:
    return Request(content["work"], content["run"], content["round_number"], content["message"])


def _locked(descriptor: int) -> bool:
    for _ in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            os.fchmod(descriptor, 0o600)
            return True
    return False  # another task works: what it is at stands in the page
