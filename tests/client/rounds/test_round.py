"""What a site tells of its work: whether it trains, its last round, its reply and the server's last answer."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from client.rounds.round_cache import CachedRound, RoundCache
from client.status.current_task import at_work, in_work, last_round
from client.status.node_activity import KEPT_REPLIES, Answers, note_admission, read_admission, read_replies
from client.status.site_status import as_json, as_text
from client.status.status_file import StatusWriter, client_lock
from client.status_folders import NODE_NOTES, TRAINER_NOTES
from minet_core.errors import StoreDamaged
from tests.support.site_at_work import ASKED, LET_IN, held, kill, status_of


def test_training_is_true_while_a_task_works_and_not_after_it_was_killed(tmp_path: Path) -> None:
    assert not status_of(tmp_path).training
    task = held(
        "import time; from pathlib import Path; from client.status.current_task import Request, at_work\n"
        f"with at_work(Path({str(tmp_path)!r}), Request('train', 'study', 7, 'm')):\n"
        "    print('holds', flush=True); time.sleep(600)"
    )
    try:
        status = status_of(tmp_path)
        assert status.training
        assert "training    yes, round 7 of study, since" in as_text(status)
    finally:
        kill(task)
    status = status_of(tmp_path)
    assert not status.training
    assert status.last.answered is None
    with at_work(tmp_path, ASKED):
        assert in_work(tmp_path) is not None
    assert in_work(tmp_path) is None


def test_a_test_of_the_model_is_no_training(tmp_path: Path) -> None:
    with at_work(tmp_path, replace(ASKED, work="test")):
        status = status_of(tmp_path)
        assert not status.training
        assert "no, but testing: round 7 of study" in as_text(status)
    assert last_round(tmp_path).answered is None


def test_the_last_round_says_whether_its_reply_was_sent(tmp_path: Path) -> None:
    notes = tmp_path / NODE_NOTES
    notes.mkdir(parents=True)
    with at_work(tmp_path, ASKED):
        pass
    answers = Answers(notes)
    answers.announce(ASKED.message)
    assert "last round  7 of study, trained" in as_text(status_of(tmp_path))
    assert "reply not sent" in as_text(status_of(tmp_path))  # announced is not handed over
    answers.note_handed_over()
    status = status_of(tmp_path)
    assert status.sent is not None
    assert as_json(status)["last_round"]["reply_sent"] is True
    with at_work(tmp_path, replace(ASKED, round_number=8, message="message-2")):
        pass
    assert as_json(status_of(tmp_path))["last_round"] | {"began": 0, "ended": 0} == {
        **{"task": "train", "run": "study", "round": 8, "began": 0, "ended": 0, "code": None},
        **{"parts": {}, "reply_sent": False, "sent": None},
    }


def test_a_failure_is_told_by_its_code_and_leaves_the_last_round(tmp_path: Path) -> None:
    with at_work(tmp_path, ASKED):
        pass
    with pytest.raises(StoreDamaged), at_work(tmp_path, replace(ASKED, round_number=8)):
        raise StoreDamaged("a file", got="/scans/patient7")
    last = last_round(tmp_path)
    assert last.answered is not None
    assert last.answered.request == ASKED
    text = as_text(status_of(tmp_path))
    assert "last error  FM-D207 in round 8 of study" in text
    assert "patient7" not in (tmp_path / TRAINER_NOTES / "last-round.json").read_text()


def test_a_round_of_before_these_pages_is_found_among_the_kept_ones(tmp_path: Path) -> None:
    for number in (4, 5):
        RoundCache(tmp_path / "state", "study").put(CachedRound(number, "abc", {"train_loss": 0.5}))
    text = as_text(status_of(tmp_path))
    assert "last round  5 of study" in text
    assert "whether the reply was sent is not known" in text


def test_an_admission_is_of_the_process_that_noted_it(tmp_path: Path) -> None:
    assert read_admission(tmp_path) is None
    note_admission(tmp_path, 2**63 + 5)
    admission = read_admission(tmp_path)
    assert admission is not None
    assert (admission.node_id, admission.process) == (2**63 + 5, os.getpid())


def test_the_last_answer_of_the_server_is_noted_and_a_long_silence_is_told(tmp_path: Path) -> None:
    (tmp_path / NODE_NOTES).mkdir(parents=True)
    with client_lock(tmp_path):
        StatusWriter(tmp_path, site="sms").record_registration(LET_IN)
        assert "the server has not answered" in as_text(status_of(tmp_path))
        Answers(tmp_path / NODE_NOTES).note_answer()
        assert "and answered 0 s ago" in as_text(status_of(tmp_path))
        os.utime(tmp_path / NODE_NOTES / "answered", (100, 100))
        assert "the server has not answered since 1970-01-01" in as_text(status_of(tmp_path))


def test_the_last_answers_are_noted_once_a_second_and_replies_do_not_grow(tmp_path: Path) -> None:
    now = [0.0]
    answers = Answers(tmp_path, clock=lambda: now[0])
    answers.note_answer()
    os.utime(tmp_path / "answered", (100, 100))
    answers.note_answer()
    assert (tmp_path / "answered").stat().st_mtime == 100
    now[0] = 1.0
    answers.note_answer()
    assert (tmp_path / "answered").stat().st_mtime > 100
    for number in range(KEPT_REPLIES + 5):
        answers.announce(f"message-{number}")
        answers.note_handed_over()
        answers.note_handed_over()  # nothing is announced
    replies = read_replies(tmp_path)
    assert len(replies) == KEPT_REPLIES
    assert f"message-{KEPT_REPLIES + 4}" in replies
