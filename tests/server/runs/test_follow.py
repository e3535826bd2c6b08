"""What `fedminet server run` and `status` say of members that are not admitted, and of runs that have ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from minet_core.errors import ConfigurationError
from server.admission.enrolment import revoke
from server.runs import follow
from tests.support.admitted import make_coordinator, make_site


class SilentControl:
    """A started server on which no site is online."""

    def nodes(self) -> list[object]:
        return []

    def answers(self) -> bool:
        return True


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
