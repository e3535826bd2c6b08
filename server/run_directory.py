"""The run directory: everything the coordinator keeps of one run.

federation.yaml      as used
checkpoints/         round-0000.safetensors, one a round
events.jsonl         one line for each thing that happened
metrics.jsonl        one line a round
tests.json           each site's scores of the final model on its test split
state.json           where the run is; replaced as a whole
global.safetensors   the model of the last completed round, when the run has ended
summary.json, report.html
"""

from __future__ import annotations

import datetime
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from minet_core.federation import FederationSettings
from minet_core.runtime.durable import append_line, write_json, write_text
from minet_core.runtime.errors import ConfigurationError
from minet_core.runtime.yaml_file import read_settings, settings_text

Engine = Literal["deployment", "in-process", "ray"]
Status = Literal["created", "running", "completed", "partial", "failed"]
TERMINAL: frozenset[Status] = frozenset({"completed", "partial", "failed"})


@dataclass(frozen=True)
class RunState:
    """Where a run is. `reason` holds codes, rounds and site names only, never a site's text."""

    status: Status
    round: int
    rounds: int
    engine: Engine
    started: str
    reason: str | None = None
    updated: str = ""


@dataclass(frozen=True)
class RunDirectory:
    """One run's folder on the coordinator."""

    path: Path

    @classmethod
    def create(cls, path: Path, federation: FederationSettings, *, engine: Engine) -> RunDirectory:
        """Make the folder for a new run. Raises ConfigurationError where a run is already there."""
        if (path / "state.json").exists():
            raise ConfigurationError(
                "a run of this name exists",
                got=path.name,
                action="Choose another name; no run is overwritten",
            )
        path.mkdir(parents=True, exist_ok=True)
        write_text(path / "federation.yaml", settings_text(federation))
        run = cls(path)
        run.set_state(
            RunState(status="created", round=0, rounds=federation.rounds, engine=engine, started=_now())
        )
        return run

    def federation(self) -> FederationSettings:
        """The federation file as this run uses it."""
        return read_settings(self.path / "federation.yaml", FederationSettings)

    @property
    def state(self) -> RunState:
        return RunState(**json.loads((self.path / "state.json").read_text(encoding="utf-8")))

    def set_state(self, state: RunState) -> None:
        """Replace state.json. A terminal state never changes."""
        if (self.path / "state.json").exists() and self.state.status in TERMINAL:
            raise ConfigurationError("the run has ended", got=self.state.status, expected="a run in progress")
        write_json(self.path / "state.json", asdict(replace(state, updated=_now())))

    def advance(self, **changes: Any) -> None:
        """Replace the state with one that differs in `changes`."""
        self.set_state(replace(self.state, **changes))

    def event(self, name: str, **details: Any) -> None:
        """Append to events.jsonl. `details` are agreed values: rounds, site names, codes, counts."""
        append_line(self.path / "events.jsonl", {"time": _now(), "event": name, **details})

    def metrics(self, record: dict[str, Any]) -> None:
        """Append a round's figures to metrics.jsonl."""
        append_line(self.path / "metrics.jsonl", record)

    def rounds_recorded(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, oldest first."""
        return _json_lines(self.path / "metrics.jsonl")

    def events_recorded(self) -> list[dict[str, Any]]:
        """The lines of events.jsonl, oldest first."""
        return _json_lines(self.path / "events.jsonl")

    def record_tests(self, tested: dict[str, dict[str, float]]) -> None:
        """Keep the agreed figures of every site's test reply, by site."""
        write_json(self.path / "tests.json", tested)

    def tests_recorded(self) -> dict[str, dict[str, float]]:
        """The figures of tests.json; empty where no test was made."""
        path = self.path / "tests.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def checkpoint(self, round_number: int) -> Path:
        """Where the global model after `round_number` rounds is kept."""
        return self.path / "checkpoints" / f"round-{round_number:04d}.safetensors"

    @property
    def global_model(self) -> Path:
        return self.path / "global.safetensors"


def _json_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
