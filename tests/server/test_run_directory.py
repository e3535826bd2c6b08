"""The run directory keeps its states and never rewrites an ending."""

from __future__ import annotations

from pathlib import Path

import pytest

from minet_core.federation import FederationSettings
from minet_core.runtime.errors import ConfigurationError
from server.run_directory import TERMINAL, RunDirectory

FEDERATION = FederationSettings(name="study", sites=("sms", "umr"), quorum=2)


def create(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "first", FEDERATION, engine="in-process")


def test_a_new_run_keeps_the_federation_as_used(tmp_path: Path) -> None:
    run = create(tmp_path)
    assert run.federation() == FEDERATION
    assert (run.state.status, run.state.round) == ("created", 0)


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    create(tmp_path)
    with pytest.raises(ConfigurationError, match=r"FM-C100.*first"):
        create(tmp_path)


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_a_terminal_state_never_changes(tmp_path: Path, status: str) -> None:
    run = create(tmp_path)
    run.advance(status="running")
    run.advance(status=status)
    with pytest.raises(ConfigurationError, match="the run has ended"):
        run.advance(status="running")
    assert run.state.status == status


def test_events_and_metrics_are_read_back_in_order(tmp_path: Path) -> None:
    run = create(tmp_path)
    for number in (1, 2):
        run.event("round-started", round=number, sites=["sms"])
        run.metrics({"round": number})
    assert [event["round"] for event in run.events_recorded()] == [1, 2]
    assert run.rounds_recorded() == [{"round": 1}, {"round": 2}]


def test_the_checkpoints_sort_by_round(tmp_path: Path) -> None:
    run = create(tmp_path)
    names = [run.checkpoint(number).name for number in (2, 10, 100)]
    assert names == sorted(names)
