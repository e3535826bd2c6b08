"""The supervisor sees to every run, whatever is the matter with one of them."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from minet_core.errors import HostError, RunDamaged, ServerUnreachable
from minet_core.runtime.files.atomic_write import write_json
from minet_core.runtime.processes.child_processes import free_port
from server.admission.pki import ca_files
from server.flower.superlink_control import SuperLinkControl
from server.runs import resubmit, state_machine
from server.runs.resubmit import Submission, abandoned, resubmit_abandoned_runs
from server.runs.run_directory import RunDirectory
from server.server_home import ServerHome, local_address
from tests.support.admitted import make_coordinator


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    """Two runs: `abandoned`, which is to be submitted again, and `ended`, whose summary is still to be written."""
    home = make_coordinator(tmp_path / "server", port=free_port()).home
    left, ended = (
        RunDirectory.create(home.runs / name, home.federation(), engine="deployment")
        for name in ("abandoned", "ended")
    )
    left.transition(state_machine.begun)
    write_json(left.path / "submission.json", asdict(Submission(1, time.time() - 3600.0, "")))
    ended.transition(state_machine.ended, "failed", "as a test has it")
    return home


@pytest.fixture
def control(home: ServerHome) -> SuperLinkControl:
    """Of a SuperLink that does not answer."""
    return SuperLinkControl(local_address(home), ca=ca_files(home.pki).certificate)


def _other_run_was_seen_to(home: ServerHome) -> bool:
    return (home.runs / "ended" / "summary.json").is_file()


def test_an_abandoned_run_is_given_to_the_superlink(home: ServerHome, control: SuperLinkControl) -> None:
    with pytest.raises(ServerUnreachable):
        resubmit_abandoned_runs(home, control)
    assert _other_run_was_seen_to(home)


def test_a_run_of_another_release_is_left_interrupted_and_not_given_up(
    home: ServerHome, control: SuperLinkControl
) -> None:
    """Submitted in vain it would be `failed` within a minute, and the former release could not end it any more."""
    run = RunDirectory(home.runs / "abandoned")
    settings = (run.path / "federation.yaml").read_text(encoding="utf-8")
    (run.path / "federation.yaml").write_text(settings.replace("seed: 1 ", "seed: 2 "), encoding="utf-8")
    for _ in range(resubmit.MAX_ATTEMPTS_WITHOUT_PROGRESS + 2):
        with pytest.raises(
            RunDamaged, match=r"other settings than the run began with.*After an upgrade start a new run"
        ):
            resubmit_abandoned_runs(home, control)
    assert run.state.status == "interrupted"
    assert (
        run.state.reason == "FM-S517: federation.yaml of a run holds other settings than the run began with"
    )
    assert [event["event"] for event in run.events_recorded()] == ["run-interrupted"]
    assert _other_run_was_seen_to(home)
    (run.path / "federation.yaml").write_text(settings, encoding="utf-8")
    with pytest.raises(ServerUnreachable):  # it goes on where the file is the former one again
        resubmit_abandoned_runs(home, control)


@pytest.mark.parametrize(("fruitless", "grace_s"), [(0, 60), (1, 120), (5, 1920), (10**9, 1920)])
def test_an_application_that_starts_slowly_has_longer_after_each_start_in_vain(
    home: ServerHome, fruitless: int, grace_s: float
) -> None:
    run = RunDirectory(home.runs / "abandoned")
    for age_s, is_given_up in ((grace_s - 30.0, False), (grace_s + 1.0, True)):
        submission = Submission(1, time.time() - age_s, "", fruitless)
        assert abandoned(run, submission) is is_given_up
    assert abandoned(run, Submission(1, time.time(), "", fruitless), finished=True)


def test_a_run_that_is_being_copied_is_left_for_the_next_look(
    home: ServerHome, control: SuperLinkControl
) -> None:
    """A back-up into a slow pipe holds it for hours; the server has certificates and revocations to see to."""
    with RunDirectory(home.runs / "abandoned").lock("submission"):
        resubmit_abandoned_runs(home, control)
    assert _other_run_was_seen_to(home)


def test_a_lock_that_cannot_be_opened_holds_up_no_other_run(
    home: ServerHome, control: SuperLinkControl
) -> None:
    (home.runs / "abandoned" / "submission.lock").mkdir()
    with pytest.raises(HostError, match="folder of the run abandoned cannot be read"):
        resubmit_abandoned_runs(home, control)
    assert _other_run_was_seen_to(home)


def test_a_run_that_is_removed_meanwhile_holds_up_no_other_run(
    home: ServerHome, control: SuperLinkControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    tend = resubmit._tend

    def removed_before_it_is_looked_at(
        home: ServerHome, control: SuperLinkControl, run: RunDirectory
    ) -> None:
        if run.path.name == "abandoned":
            shutil.rmtree(run.path)
        tend(home, control, run)

    monkeypatch.setattr(resubmit, "_tend", removed_before_it_is_looked_at)
    with pytest.raises(HostError, match="is missing"):
        resubmit_abandoned_runs(home, control)
    assert _other_run_was_seen_to(home)
    resubmit_abandoned_runs(home, control)
