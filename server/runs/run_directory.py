"""The run directory: everything the coordinator keeps of one run.

federation.yaml      as used
declared.json        by site, the cohort it declared: its digest and the number of training slices
checkpoints/         round-0007.safetensors, the global model after that round; round-0007.memory.safetensors beside
                     it where the algorithm carries more than weights from round to round
replies/round-0008/  SITE.json and SITE.safetensors, the replies of the round in work; gone when it is completed
events.jsonl         one line for each thing that happened
metrics.jsonl        one line a completed round
tests.json           each site's scores of the final model on its test split
state.json           where the run is; replaced as a whole
run.lock             held by the server application that works on the run; state.lock, submission.lock, events.lock for
                     a moment each, but for a back-up: it holds the first two while it copies the run
global.safetensors   the model of the last round, from the test of the sites on
summary.json, report.html

Each of them is written so that a run killed at any moment can be continued from what is here.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import FiniteFloat, TypeAdapter

from minet_core.errors import ConfigurationError, FedminetError, RunBusy, RunDamaged
from minet_core.protocol.cohort_declaration import CohortDeclaration
from minet_core.runtime.files.atomic_write import (
    append_line,
    mend_lines,
    sha256_of_file,
    status_of,
    write_text,
)
from minet_core.runtime.files.file_lock import is_locked, let_go, locked_within
from minet_core.settings.federation import FederationSettings
from minet_core.settings.yaml_file import read_settings, settings_text
from server.runs.checked_page import damaged, page_digest, read_page, write_page
from server.runs.records import MAX_ROUNDS, EventLine, RoundLine, instant, parse_line, raw_lines
from server.runs.state_machine import TERMINAL, RunState

Engine = Literal["deployment", "in-process", "ray"]

LOCK_PATIENCE_S = 1.0

SETTLED_NS = 50_000_000
"""A page that was written so long ago cannot be written again within the same tick of the file system's clock."""

_STATE = TypeAdapter(RunState)
_STATE_KEYS = frozenset(one.name for one in fields(RunState))
_SCORES = TypeAdapter(dict[str, dict[str, FiniteFloat]])


@dataclass(frozen=True)
class RunDirectory:
    """One run's folder on the coordinator."""

    path: Path
    _pages: dict[str, tuple[tuple[int, ...], Any]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def create(
        cls,
        path: Path,
        federation: FederationSettings,
        *,
        engine: Engine,
        declared: Mapping[str, CohortDeclaration] | None = None,
        keep_checkpoints: int | None = None,
    ) -> RunDirectory:
        """Make the folder for a new run. Raises ConfigurationError where a run is already there."""
        if (path / "state.json").exists():
            raise ConfigurationError(
                "a run of this name exists",
                got=path.name,
                action="Choose another name, or continue it with --resume; no run is overwritten",
            )
        path.mkdir(parents=True, exist_ok=True)
        write_text(path / "federation.yaml", settings_text(federation))
        run = cls(path)
        run.declare(declared or {})
        state = RunState(
            status="created",
            round=0,
            rounds=federation.rounds,
            engine=engine,
            started=_now(),
            keep_checkpoints=keep_checkpoints,
            federation=federation.digest(),
        )
        run._write_state(state)
        return run

    def federation(self) -> FederationSettings:
        """The federation file as this run uses it."""
        return read_settings(self.path / "federation.yaml", FederationSettings, ours_to_edit=False)

    def declared(self) -> dict[str, CohortDeclaration]:
        """By site, the cohort that its replies are held to."""
        return dict(self._unchanged("declared.json", self._read_declared))

    def _read_declared(self) -> dict[str, CohortDeclaration]:
        path = self.path / "declared.json"
        content = read_page(path, may_be_old=self.ended)
        try:
            return {site: CohortDeclaration.model_validate(values) for site, values in content.items()}
        except ValueError as failure:
            raise damaged(path, "holds no declarations") from failure

    def _unchanged(self, name: str, read: Callable[[], Any]) -> Any:
        """What `read` made of a page, read anew only where the page is another one since.

        A round of a hundred sites asks for both pages several times a reply, and each tells of a hundred sites.
        """
        status = status_of(self.path / name)
        if status is None:
            return read()
        seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        known = self._pages.get(name)
        if known is not None and known[0] == seen:
            return known[1]
        content = read()
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > SETTLED_NS:
            self._pages[name] = seen, content
        return content

    def declare(self, declared: Mapping[str, CohortDeclaration]) -> None:
        """Keep what every site declared."""
        content = {site: declared[site].model_dump(mode="json") for site in sorted(declared)}
        write_page(self.path / "declared.json", content)

    @property
    def state(self) -> RunState:
        """Where the run is. Raises RunDamaged (FM-S517)."""
        state: RunState = self._unchanged("state.json", self._read_state)
        return state

    def _read_state(self) -> RunState:
        path = self.path / "state.json"
        content = read_page(path, may_be_old=True)
        try:
            state = _STATE.validate_python(content)
            if content.keys() - _STATE_KEYS or not 0 <= state.round <= state.rounds <= MAX_ROUNDS:
                raise ValueError("other keys, or a round that is none")
            for moment in filter(None, (state.started, state.updated, state.asked_at)):
                instant(moment)
        except ValueError as failure:
            raise damaged(path, "is no run's state") from failure
        if not state.federation and state.status not in TERMINAL:
            raise damaged(path, "is of an earlier version, or not what was written")
        return state

    def transition(self, transition: Callable[..., RunState], *arguments: Any, **options: Any) -> RunState:
        """Replace the state by what a transition of `server.runs.state_machine` makes of it; durable when this returns.

        One process at a time: a run that is stopped stays stopped, whatever its application is about to write. Raises
        IllegalTransition (FM-F406).
        """
        with self.lock("state"):
            state = transition(self._read_state(), *arguments, **options)
            return self._write_state(state)

    def _write_state(self, state: RunState) -> RunState:
        written = replace(state, updated=_now())
        write_page(self.path / "state.json", asdict(written))
        return written

    @contextlib.contextmanager
    def lock(self, what: str, *, wait: bool = True) -> Iterator[None]:
        """Wait until no other process does `what` with this run, and be the one.

        wait: False for who has other work meanwhile, as a back-up holds a run for as long as it is copied. Raises
        RunBusy (FM-S507) then.
        """
        # For reading: another user's, as of a command that root gave, can be locked as well.
        descriptor = os.open(self.path / f"{what}.lock", os.O_RDONLY | os.O_CREAT, 0o644)
        try:
            if wait:
                locked_within(descriptor, None)
            elif not locked_within(descriptor, 0.0):
                raise RunBusy("another process works on the run", got=self.path.name)
            yield
        finally:
            let_go(descriptor)

    @property
    def ended(self) -> bool:
        """Whether the run has come to a terminal state."""
        return self.state.status in TERMINAL

    @contextlib.contextmanager
    def locked(self, *, holder: int) -> Iterator[None]:
        """Work on the run as its only process; the kernel lets go when the process ends, however that is.

        holder: Flower's number of the run, written into the lock's file. Raises RunBusy (FM-S507).
        """
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not locked_within(descriptor, LOCK_PATIENCE_S):
                raise RunBusy("another process works on the run", got=self.path.name)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(holder).encode(), 0)
            yield
        finally:
            let_go(descriptor)

    def lock_owner(self) -> tuple[int | None, bool]:
        """Flower's number of the run whose server application worked here last, and whether it still does."""
        if not self._lock.exists():
            return None, False
        descriptor = os.open(self._lock, os.O_RDONLY)
        try:
            text = os.pread(descriptor, 32, 0)
        finally:
            os.close(descriptor)
        return (int(text) if text.isdigit() else None), is_locked(self._lock)

    def repair_after_crash(self) -> None:
        """Undo what a killed server application left half done.

        Half files of models and a line that was cut off are removed, and so are figures of a round that is not
        completed: the round gives them again.
        """
        for name in ("checkpoints", "replies"):
            for half in (self.path / name).rglob(".*.partial"):
                half.unlink()
        with self.lock("events"):
            mend_lines(self.path / "events.jsonl")
        mend_lines(self.path / "metrics.jsonl")
        self.forget_beyond()

    def forget_beyond(self) -> None:
        """Remove the figures and the replies of rounds that the state does not have, or has no use for."""
        path, state = self.path / "metrics.jsonl", self.state
        recorded = self.rounds_recorded()
        kept = [record for record in recorded if record["round"] <= state.round]
        if len(kept) < len(recorded):
            write_text(path, "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in kept))
        for folder in (self.path / "replies").glob("round-*"):
            if folder.name not in (self.replies(state.round).name, self.replies(state.round + 1).name):
                shutil.rmtree(folder)

    def require_same_federation(self) -> None:
        """Hold the federation file to the digest that the run began with. Raises RunDamaged (FM-S517).

        A release with a further setting reads another digest out of the same file: no run is carried over an upgrade.
        """
        path = self.path / "federation.yaml"
        try:
            federation = self.federation().digest()
        except (FedminetError, ValueError, RecursionError) as failure:
            raise damaged(path, "cannot be read") from failure
        if federation != self.state.federation:
            raise RunDamaged(
                "federation.yaml of a run holds other settings than the run began with",
                got=path,
                expected="the file as it was, and the release that began the run",
                action="After an upgrade start a new run under another name (the former release can end this one); "
                "where no release changed, restore the run from a back-up",
            )

    def verify(self) -> None:
        """Hold everything that the run goes on from against the digests in its state, and the file of the federation.

        After `repair_after_crash`. Raises RunDamaged (FM-S517).
        """
        state = self.state
        self.require_same_federation()
        for name, digest in sorted(state.digests.items()):
            if file_digest(self.path / name) != digest:
                raise damaged(self.path / name, "is not what was written")
        figures = ""
        for record in self.rounds_recorded():
            figures = chained(figures, record)
        if figures != (state.figures[0] if state.figures else ""):
            raise damaged(self.path / "metrics.jsonl", "is not what was written")
        self.declared()
        self.tests_recorded()

    def event(self, name: str, **details: Any) -> None:
        """Append to events.jsonl. `details` are agreed values: rounds, site names, codes, counts."""
        path = self.path / "events.jsonl"
        # The server appends too, maybe before what a killed application left is mended.
        with self.lock("events"):
            mend_lines(path)
            append_line(path, {"time": _now(), "event": name, **details})

    def metrics(self, record: dict[str, Any]) -> str:
        """Append a round's figures to metrics.jsonl; the chained digest with them."""
        append_line(self.path / "metrics.jsonl", record)
        figures = self.state.figures
        return chained(figures[0] if figures else "", record)

    def rounds_recorded(self, *, last: int | None = None) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, oldest first; the last ones alone where that is asked for."""
        return _records(self.path / "metrics.jsonl", RoundLine, last=last)

    def events_recorded(self) -> list[dict[str, Any]]:
        """The lines of events.jsonl, oldest first."""
        return _records(self.path / "events.jsonl", EventLine)

    def record_tests(self, tested: Mapping[str, Mapping[str, float]]) -> None:
        """Keep the agreed figures of every site's test reply, by site."""
        write_page(self.path / "tests.json", tested)

    def tests_recorded(self) -> dict[str, dict[str, float]]:
        """The figures of tests.json; empty where no test was made."""
        path = self.path / "tests.json"
        if not path.exists():
            return {}
        try:
            return _SCORES.validate_python(read_page(path, may_be_old=self.ended))
        except ValueError as failure:
            raise damaged(path, "holds no scores") from failure

    def checkpoint(self, round_number: int) -> Path:
        """Where the global model after `round_number` rounds is kept."""
        return self.path / "checkpoints" / f"round-{round_number:04d}.safetensors"

    def memory(self, round_number: int) -> Path:
        """Where the algorithm's own tensors after `round_number` rounds are kept, if it has any."""
        return self.path / "checkpoints" / f"round-{round_number:04d}.memory.safetensors"

    def replies(self, round_number: int) -> Path:
        """Where the replies of a round are kept until it is completed."""
        return self.path / "replies" / f"round-{round_number:04d}"

    def prune(self) -> None:
        """Remove checkpoints beyond the retention that was asked for, and the replies of completed rounds.

        While rounds follow, what the last one was made of stays: it may be rolled back.
        """
        state = self.state
        n_spare = 1 if state.round < state.rounds else 0
        for folder in (self.path / "replies").glob("round-*"):
            if folder.name <= self.replies(state.round - n_spare).name:
                shutil.rmtree(folder)
        if state.keep_checkpoints is None:
            return
        for number in range(state.round - max(state.keep_checkpoints, 1 + n_spare), -1, -1):
            if not self.checkpoint(number).exists():
                break
            self.checkpoint(number).unlink()
            self.memory(number).unlink(missing_ok=True)

    @property
    def global_model(self) -> Path:
        return self.path / "global.safetensors"

    @property
    def _lock(self) -> Path:
        return self.path / "run.lock"


def file_digest(path: Path) -> str | None:
    """SHA-256 of a file of a run; None where it is not there."""
    return sha256_of_file(path) if path.is_file() else None


def chained(former: str, record: Mapping[str, Any]) -> str:
    """The digest of a list of figures that `record` is put behind; `former`: the digest without it."""
    return page_digest({"former": former, "record": record})


def _records(
    path: Path, kind: type[RoundLine] | type[EventLine], *, last: int | None = None
) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        return [parse_line(line, kind) for line in deque(raw_lines(path), maxlen=last)]
    except ValueError as failure:
        raise damaged(path, "has a line that is no record") from failure


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
