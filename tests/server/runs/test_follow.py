"""What `fedminet server run` and `status` say of members that are not admitted, and of runs that have ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from minet_core.errors import ConfigurationError
from server.admission.enrolment import revoke
from server.commands import server_commands
from server.runs import follow
from tests.support.admitted import make_coordinator, make_site


class SilentControl:
    """A started server on which no site is online."""

    def nodes(self) -> list[object]:
        return []

    def __init__(self, *, answers: bool = True) -> None:
        self._answers = answers

    def answers(self) -> bool:
        return self._answers


def test_a_revoked_member_is_called_so_and_not_asked_to_be_admitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = make_coordinator(tmp_path / "server")
    monkeypatch.setattr(follow, "control_of", lambda _home: SilentControl())
    coordinator.admit(make_site(tmp_path / "sms", "sms"), tmp_path / "kit")
    coordinator.admit(make_site(tmp_path / "umr", "umr"), tmp_path / "kit-umr")
    revoke(coordinator.home, coordinator.authority, "umr", reason="a laptop was stolen")
    states = follow.server_status(coordinator.home)["sites"]
    assert states["sms"] == "unknown"
    assert states["umr"].startswith("revoked since 2")
    with pytest.raises(ConfigurationError, match=r"umr \(revoked since 2.*Take it out of `sites`"):
        follow.run_to_end(coordinator.home, "first", progress=lambda *_: None)


def test_a_run_that_has_ended_is_not_said_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coordinator = make_coordinator(tmp_path / "server")
    monkeypatch.setattr(follow, "control_of", lambda _home: SilentControl())
    for name in ("sms", "umr"):
        coordinator.admit(make_site(tmp_path / name, name), tmp_path / f"kit-{name}")
    monkeypatch.setattr(follow, "submit", lambda *_, **__: None)
    run = follow._created(coordinator.home, follow.control_of(coordinator.home), "first")
    follow.end_as_failed(run, reason="stopped by the coordinator")
    said: list[str] = []
    advanced: list[int] = []
    follow.run_to_end(
        coordinator.home,
        "first",
        progress=lambda done, _: advanced.append(done),
        resume=True,
        say=said.append,
    )
    assert said[0].startswith("Run first has ended as failed and goes no further.")
    assert advanced == []
    assert not (coordinator.home.runs / "ledger.jsonl").exists()  # nothing was continued


@pytest.mark.parametrize(("answers", "exit_status"), [(True, 0), (False, 1)])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_exit_status_of_status_says_whether_the_server_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bool, exit_status: int, options: list[str]
) -> None:
    coordinator = make_coordinator(tmp_path / "server")
    monkeypatch.setattr(follow, "control_of", lambda _home: SilentControl(answers=answers))
    said = CliRunner().invoke(server_commands, ["status", str(coordinator.home.path), *options])
    assert said.exit_code == exit_status
    assert said.output.startswith('{"healthy"' if options else "server: ")  # all of it is said in either case


def test_the_status_says_why_a_run_waits() -> None:
    reason = "FM-S504: the run first waits for room on the disk"
    runs = {
        "first": {"status": "interrupted", "round": 2, "rounds": 6, "reason": reason},
        "second": {"status": "running", "round": 1, "rounds": 6, "reason": None},
    }
    lines = follow.status_lines({"healthy": False, "address": "localhost:9443", "sites": {}, "runs": runs})
    assert lines == [
        "server: does not answer at localhost:9443",
        f"run first: interrupted, round 2 of 6: {reason}",
        "run second: running, round 1 of 6",
    ]
