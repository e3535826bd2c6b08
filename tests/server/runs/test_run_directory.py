"""The run directory keeps its states and never rewrites an ending."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minet_core.errors import ConfigurationError, IllegalTransition, RunBusy, RunDamaged
from minet_core.protocol.cohort_declaration import CohortDeclaration
from minet_core.runtime.files.atomic_write import write_text
from minet_core.settings.federation import FederationSettings
from server.runs import run_directory, state_machine
from server.runs.checked_page import read_page
from server.runs.run_directory import RunDirectory
from tests.support.repository import ROOT

FEDERATION = FederationSettings(name="study", sites=("sms", "umr"), participation={"quorum": 2})


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


def test_a_run_that_ended_is_never_taken_up_again(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.transition(state_machine.begun)
    run.transition(state_machine.ended, "failed", "stopped")
    with pytest.raises(IllegalTransition, match="the run has ended"):
        run.transition(state_machine.begun)
    assert run.ended
    assert run.state.reason == "stopped"


def test_only_one_process_works_on_a_run(tmp_path: Path) -> None:
    run = create(tmp_path)
    assert run.lock_owner() == (None, False)
    with run.locked(holder=7):
        assert run.lock_owner() == (7, True)
        with pytest.raises(RunBusy, match="FM-S507"), run.locked(holder=8):
            pass
    assert run.lock_owner() == (7, False)


def test_a_killed_process_lets_go_of_its_run(tmp_path: Path) -> None:
    run = create(tmp_path)
    code = (
        "import os, signal; from pathlib import Path; from server.runs.run_directory import RunDirectory\n"
        f"with RunDirectory(Path({str(run.path)!r})).locked(holder=3): os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert run.lock_owner() == (3, False)


def test_mending_removes_a_line_that_was_cut_off_and_figures_of_an_open_round(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.event("run-started")
    run.metrics({"round": 1})
    for cut_off in ('{"event": "round-st', "{"):
        with (run.path / "events.jsonl").open("a") as stream:
            stream.write(cut_off)
        if cut_off != "{":
            run.event("run-submitted")  # by the server, before the next application mends anything
    run.repair_after_crash()
    assert [event["event"] for event in run.events_recorded()] == ["run-started", "run-submitted"]
    assert run.rounds_recorded() == []


def test_events_are_written_while_the_run_is_copied(tmp_path: Path) -> None:
    """A reply that came in time is taken in time: a back-up holds the state for as long as its pipe is slow."""
    run = create(tmp_path)
    with run.lock("submission"), run.lock("state"):
        run.event("reply-accepted", round=1, site="sms")
    assert [event["event"] for event in run.events_recorded()] == ["reply-accepted"]


def test_old_checkpoints_leave_and_the_last_ones_stay(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "kept", FEDERATION, engine="in-process", keep_checkpoints=2)
    run.transition(state_machine.begun)
    for number in range(1, 6):
        write_text(run.checkpoint(number), "weights")
        write_text(run.replies(number) / "sms.json", "{}")
        run.transition(state_machine.asked, run.state.started)
        run.transition(state_machine.closed, ("sms",))
        run.transition(state_machine.aggregated)
        run.prune()
    kept = sorted(path.name for path in (run.path / "checkpoints").iterdir())
    assert kept == ["round-0004.safetensors", "round-0005.safetensors"]
    # The last round may be rolled back.
    assert [path.name for path in (run.path / "replies").iterdir()] == ["round-0005"]


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


def test_a_page_is_read_again_when_it_is_another_one_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create(tmp_path)
    run.declare({"sms": CohortDeclaration(site="sms", cohort_digest="a" * 64, n_training_slices=3)})
    read: list[str] = []

    def noted(path: Path, **options: bool) -> dict[str, object]:
        read.append(path.name)
        return read_page(path, **options)

    monkeypatch.setattr(run_directory, "read_page", noted)
    time.sleep(0.1)  # a page of this moment may be another one before the file system's clock goes on
    for _ in range(3):
        assert run.state.status == "created"
        assert run.declared()["sms"].n_training_slices == 3
    assert sorted(read) == ["declared.json", "state.json"]
    RunDirectory(run.path).transition(state_machine.begun)  # as another process does
    assert run.state.status == "running"
    run.declared().clear()
    assert list(run.declared()) == ["sms"]
    (run.path / "declared.json").write_bytes(b"{}")
    with pytest.raises(RunDamaged):
        run.declared()
