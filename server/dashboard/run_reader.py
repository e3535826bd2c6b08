"""The runs of a coordinator's folder, read while the server writes them; nothing is ever written here."""

from __future__ import annotations

import datetime
import threading
from dataclasses import dataclass, field
from pathlib import Path

from minet_core.errors import FedminetError, FileMissing, HostError
from minet_core.protocol.messages import RUN_NAME
from minet_core.runtime.files.atomic_write import status_of
from minet_core.runtime.json_text import NOT_AS_WRITTEN
from minet_core.settings.federation import FederationSettings
from server.dashboard.jsonl_tail import JsonlTail
from server.dashboard.run_view import RunRecords, RunView, view_of
from server.runs.records import EventLine, RoundLine, instant
from server.runs.run_directory import RunDirectory


@dataclass(frozen=True)
class RunEntry:
    """One run in the list; status `unreadable` where its folder cannot be read."""

    name: str
    status: str
    round: int
    rounds: int
    started: datetime.datetime | None


@dataclass
class RunReader:
    """One run's records, each line of which is parsed once however often `view` is called."""

    run: RunDirectory
    _events: JsonlTail = field(init=False)
    _rounds: JsonlTail = field(init=False)
    _federation: FederationSettings | None = None
    _alone: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._events = JsonlTail(self.run.path / "events.jsonl", EventLine)
        self._rounds = JsonlTail(self.run.path / "metrics.jsonl", RoundLine)

    def view(self) -> RunView:
        """The run as it stands. Raises HostError (FM-S500) where its folder cannot be read."""
        with self._alone:
            try:
                self._federation = self._federation or self.run.federation()
                state = self.run.state
                records = RunRecords(
                    state=state,
                    worked_on=self.run.lock_owner()[1],
                    rounds=self._rounds.read(),
                    events=self._events.read(),
                    declared={site: cohort.n_training_slices for site, cohort in self.run.declared().items()},
                    tests=self.run.tests_recorded(),
                )
                now = datetime.datetime.now(datetime.UTC)
                return view_of(self.run.path.name, self._federation, records, now=now)
            except (FedminetError, OSError, *NOT_AS_WRITTEN) as failure:
                raise _unreadable(self.run.path) from failure

    def mark(self) -> tuple[object, ...]:
        """A value that changes when the records do; costs no reading."""
        return tuple(
            _mark(self.run.path / name)
            for name in ("state.json", "events.jsonl", "metrics.jsonl", "tests.json", "declared.json")
        )


class Runs:
    """Every run under `folder`, by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._readers: dict[str, RunReader] = {}
        self._alone = threading.Lock()

    def entries(self) -> list[RunEntry]:
        """The runs, the newest first; those that cannot be read come last."""
        found = [
            _entry(path.parent)
            for path in self._folder.glob("*/state.json")
            if RUN_NAME.fullmatch(path.parent.name)
        ]
        return sorted(
            found, key=lambda run: (run.started.timestamp() if run.started else 0.0, run.name), reverse=True
        )

    def reader(self, name: str) -> RunReader:
        """The run of that name. Raises FileMissing (FM-C103), also for what is no plain name."""
        if not RUN_NAME.fullmatch(name) or not (self._folder / name / "state.json").is_file():
            raise FileMissing("no such run")
        with self._alone:
            if name not in self._readers:
                self._readers[name] = RunReader(RunDirectory(self._folder / name))
            return self._readers[name]


def _entry(path: Path) -> RunEntry:
    try:
        state = RunDirectory(path).state
        return RunEntry(path.name, state.status, state.round, state.rounds, instant(state.started))
    except (FedminetError, OSError, *NOT_AS_WRITTEN):
        return RunEntry(path.name, "unreadable", 0, 0, None)


def _mark(path: Path) -> tuple[int, int, int] | None:
    status = status_of(path)
    return None if status is None else (status.st_ino, status.st_size, status.st_mtime_ns)


def _unreadable(path: Path) -> HostError:
    return HostError(
        "the run's folder cannot be read", got=path.name, action="Look at its files and the disk"
    )
