"""Registered, configured, training: each true and false, and nothing read as running that was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from client.at_work import Request, at_work, in_work, last_round
from client.finding import CONFIGURATION, Finding
from client.kept_rounds import KeptRound, KeptRounds
from client.node_notes import KEPT_REPLIES, Answers, note_admission, read_admission, read_replies
from client.notes_folders import NODE_NOTES, TRAINER_NOTES
from client.part_status import LOOKS_AFTER_ITSELF_S
from client.site_status import HEALTHY, UNHEALTHY, as_json, as_text, read_status
from client.status_page import (
    STATUS_FILE,
    Registration,
    StatusWriter,
    client_runs,
    only_client,
    read_page,
)
from minet_core.runtime.errors import ClientRuns, StoreDamaged
from sites.definitions import definition_text

ROOT = Path(__file__).parents[2]
ASKED = Request("train", "study", 7, "message-1")
IN_ORDER = [Finding(check, "ok", "in order") for check in CONFIGURATION]
LET_IN = Registration(True, 1000.0, node_id=2**63 + 11)


def _status(home: Path, **options):  # type: ignore[no-untyped-def]
    return read_status(home, check=lambda: IN_ORDER, **options)


def _held(code: str) -> subprocess.Popen[str]:
    """A process that runs `code` and then holds what it holds."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"
    return process


def _kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def _client(home: Path) -> subprocess.Popen[str]:
    """A client that was let in, and lives."""
    return _held(
        "import time; from pathlib import Path\n"
        "from client.finding import CONFIGURATION, Finding\n"
        "from client.status_page import Registration, StatusWriter, only_client\n"
        f"home = Path({str(home)!r})\n"
        "with only_client(home):\n"
        "    page = StatusWriter(home, site='sms')\n"
        "    page.found([Finding(check, 'ok', 'x') for check in CONFIGURATION], kit=home / 'kit')\n"
        "    page.saw(Registration(True, time.time(), node_id=7))\n"
        "    print('holds', flush=True); time.sleep(600)"
    )


def test_a_site_that_never_ran_says_so(tmp_path: Path) -> None:
    status = _status(tmp_path)
    assert (status.runs, status.registration.registered, status.training) == (False, False, False)
    assert status.configured  # a fact of its own
    assert status.exit_status == UNHEALTHY
    text = as_text(status)
    assert "does not run, and never has" in text
    assert "registered  no" in text
    assert "last round  none yet" in text


def test_a_running_client_is_told_from_a_killed_one(tmp_path: Path) -> None:
    client = _client(tmp_path)
    try:
        status = _status(tmp_path)
        assert (status.runs, status.registration.registered) == (True, True)
        assert status.exit_status == HEALTHY
        with pytest.raises(ClientRuns, match="FM-S522"), only_client(tmp_path):
            pass
    finally:
        _kill(client)
    status = _status(tmp_path)
    assert (status.runs, status.registration.registered) == (False, False)
    assert status.exit_status == UNHEALTHY
    assert status.former is not None  # the last fact stays, with its age
    assert status.former.node_id == 7
    assert "it was killed; last seen" in as_text(status)
    assert "last registered until" in as_text(status)
    with only_client(tmp_path):  # the killed one is in nobody's way
        StatusWriter(tmp_path, site="sms")
        page = read_page(tmp_path)
        assert page is not None
        assert page[0].former == status.former


def test_a_client_that_hangs_is_not_healthy(tmp_path: Path) -> None:
    with only_client(tmp_path):
        StatusWriter(tmp_path, site="sms").saw(LET_IN)
        assert _status(tmp_path).healthy
        later = _status(tmp_path, now=time.time() + LOOKS_AFTER_ITSELF_S + 1)
        assert later.exit_status == UNHEALTHY
        assert "has not looked after its processes" in as_text(later)


def test_a_node_that_waits_to_be_let_in_is_healthy_and_not_registered(tmp_path: Path) -> None:
    with only_client(tmp_path):
        page = StatusWriter(tmp_path, site="sms")
        assert "making its checks" in str(_status(tmp_path).registration.reason)
        page.saw(
            Registration(False, 10.0, reason="it does not know this site's key", next_try=time.time() + 15)
        )
        page.saw(
            Registration(False, 99.0, reason="it does not know this site's key", next_try=time.time() + 30)
        )
        status = _status(tmp_path)
        assert status.exit_status == HEALTHY
        assert not status.registration.registered
        assert status.registration.since == 10.0  # since the first refusal
        assert "does not know this site's key; next try in" in as_text(status)


def test_the_end_of_a_registration_is_kept(tmp_path: Path) -> None:
    with only_client(tmp_path):
        page = StatusWriter(tmp_path, site="sms")
        page.saw(LET_IN)
        page.saw(Registration(False, 2000.0, reason="the server did not let the node in"))
        former = _status(tmp_path).former
        assert former is not None
        assert (former.node_id, former.since) == (LET_IN.node_id, 1000.0)
        page.ended("ended by Ctrl-C")
    status = _status(tmp_path)
    assert "does not run since" in as_text(status)
    assert "ended by Ctrl-C" in as_text(status)
    assert status.former == former


def _part(home: Path, part: str) -> subprocess.Popen[str]:
    """One of two parts, which has made its checks; the node was let in."""
    return _held(
        "import time; from pathlib import Path\n"
        "from client.finding import CHECKS_OF_PART, Finding\n"
        "from client.notes_folders import NODE_NOTES, TRAINER_NOTES\n"
        "from client.status_page import Registration, kept_page, only_client\n"
        f"home, part = Path({str(home)!r}), {part!r}\n"
        "folder = home / {'node': NODE_NOTES, 'trainer': TRAINER_NOTES}[part]\n"
        "with only_client(folder, beside=(home,)), kept_page(folder, site='sms') as page:\n"
        "    page.found([Finding(check, 'ok', part) for check in CHECKS_OF_PART[part]], kit=home / 'kit')\n"
        "    if part == 'node': page.saw(Registration(True, time.time(), node_id=7))\n"
        "    print('holds', flush=True); time.sleep(600)"
    )


def test_of_two_parts_each_tells_what_it_sees_and_either_is_missed(tmp_path: Path) -> None:
    node, trainer = _part(tmp_path, "node"), None
    try:
        status = _status(tmp_path)
        assert status.registration.registered
        assert (status.runs, status.configured, status.exit_status) == (False, False, UNHEALTHY)
        assert "trainer     does not run, and never has" in as_text(status)
        assert "store: the trainer has not looked at it yet" in as_text(status)
        trainer = _part(tmp_path, "trainer")
        status = _status(tmp_path)
        assert (status.runs, status.configured, status.exit_status) == (True, True, HEALTHY)
        page = as_json(status)
        assert (page["client"]["runs"], set(page["parts"])) == (True, {"node", "trainer"})
        with at_work(tmp_path, ASKED):
            assert _status(tmp_path).training
        _kill(node)
        status = _status(tmp_path)
        assert (status.runs, status.registration.registered, status.exit_status) == (False, False, UNHEALTHY)
        assert status.registration.reason == "the node does not run"
        assert status.former is not None
        assert status.configured  # as both have found it, of which the text gives the time
        text = as_text(status)
        assert "node        does not run: it was killed; last seen" in text
        assert "trainer     runs since" in text
        assert as_json(status)["parts"]["trainer"]["runs"] is True
    finally:
        for process in (node, trainer):
            if process is not None and process.poll() is None:
                _kill(process)
    assert not _status(tmp_path).runs


def test_a_part_that_hangs_is_not_healthy(tmp_path: Path) -> None:
    node, trainer = _part(tmp_path, "node"), _part(tmp_path, "trainer")
    try:
        assert _status(tmp_path).exit_status == HEALTHY
        os.utime(tmp_path / TRAINER_NOTES / STATUS_FILE, (100, 100))
        status = _status(tmp_path)
        assert status.exit_status == UNHEALTHY
        assert "but has not looked after its processes since 1970" in as_text(status)
    finally:
        _kill(node)
        _kill(trainer)


def test_of_what_both_parts_have_checked_the_worse_counts(tmp_path: Path) -> None:
    """A kit may fit the authority, which the trainer sees, and not the keys, which the node sees."""
    refused = Finding("kit", "refusal", "the kit was made for another key", code="FM-F404")
    for folder, findings in (
        (NODE_NOTES, [refused, Finding("keys", "ok", "x"), Finding("policy", "ok", "x")]),
        (TRAINER_NOTES, [Finding(check, "ok", "x") for check in ("kit", "policy", "store")]),
    ):
        (tmp_path / folder).mkdir(parents=True)
        StatusWriter(tmp_path / folder, site="sms").found(findings, kit=tmp_path / "kit")
    with only_client(tmp_path / NODE_NOTES), only_client(tmp_path / TRAINER_NOTES):
        status = _status(tmp_path)
    assert not status.configured
    assert [finding.check for finding in status.findings] == [*CONFIGURATION]
    assert "kit: the kit was made for another key" in as_text(status)


def test_a_site_is_one_client_or_two_parts_and_not_both(tmp_path: Path) -> None:
    both = (tmp_path / NODE_NOTES, tmp_path / TRAINER_NOTES)
    with only_client(tmp_path, beside=both):
        for folder in both:
            with pytest.raises(ClientRuns, match="FM-S522"), only_client(folder, beside=(tmp_path,)):
                pass
    with only_client(both[1], beside=(tmp_path,)):
        with pytest.raises(ClientRuns, match="FM-S522"), only_client(tmp_path, beside=both):
            pass
        with only_client(both[0], beside=(tmp_path,)):
            pass


def test_of_a_site_that_was_moved_into_two_parts_the_newer_pages_tell(tmp_path: Path) -> None:
    with only_client(tmp_path):
        StatusWriter(tmp_path, site="sms").ended("ended by Ctrl-C")
    assert [part.part for part in _status(tmp_path).parts] == ["all"]
    with only_client(tmp_path / NODE_NOTES):
        StatusWriter(tmp_path / NODE_NOTES, site="sms").ended("moved")
    status = _status(tmp_path)
    assert [part.part for part in status.parts] == ["node", "trainer"]
    assert "node        does not run since" in as_text(status)
    assert ": moved" in as_text(status)


def test_a_page_of_a_crashed_disk_is_no_page(tmp_path: Path) -> None:
    (tmp_path / STATUS_FILE).write_text("{")
    assert read_page(tmp_path) is None
    assert not _status(tmp_path).runs


def test_an_unchanged_page_is_not_written_again(tmp_path: Path) -> None:
    page = StatusWriter(tmp_path, site="sms")
    page.saw(LET_IN)
    before = (tmp_path / STATUS_FILE).stat().st_ino
    for _ in range(5):
        page.saw(LET_IN)
    assert (tmp_path / STATUS_FILE).stat().st_ino == before


def test_configured_is_what_the_checks_found(tmp_path: Path) -> None:
    refused = Finding.refused("store", StoreDamaged("files are damaged", got="1"))
    for findings, configured in (
        (IN_ORDER, True),
        ([*IN_ORDER[:-1], refused], False),
        (IN_ORDER[:-1], False),  # one that was not made
        ([*IN_ORDER[:-1], Finding("store", "unknown", "not looked at")], False),
        ([*IN_ORDER[:-1], Finding("store", "warning", "it has changed")], True),
        ([*IN_ORDER, Finding("server", "refusal", "away", code="FM-S502")], True),  # another fact
    ):
        status = read_status(tmp_path, check=lambda found=findings: found)  # type: ignore[misc]
        assert status.configured == configured
        assert as_text(status).count("configured  yes") == configured


def test_training_is_true_while_a_task_works_and_not_after_it_was_killed(tmp_path: Path) -> None:
    assert not _status(tmp_path).training
    task = _held(
        "import time; from pathlib import Path; from client.at_work import Request, at_work\n"
        f"with at_work(Path({str(tmp_path)!r}), Request('train', 'study', 7, 'm')):\n"
        "    print('holds', flush=True); time.sleep(600)"
    )
    try:
        status = _status(tmp_path)
        assert status.training
        assert "training    yes, round 7 of study, since" in as_text(status)
    finally:
        _kill(task)
    status = _status(tmp_path)
    assert not status.training
    assert status.last.answered is None
    with at_work(tmp_path, ASKED):
        assert in_work(tmp_path) is not None
    assert in_work(tmp_path) is None


def test_a_test_of_the_model_is_no_training(tmp_path: Path) -> None:
    with at_work(tmp_path, replace(ASKED, work="test")):
        status = _status(tmp_path)
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
    assert "last round  7 of study, trained" in as_text(_status(tmp_path))
    assert "reply not sent" in as_text(_status(tmp_path))  # announced is not handed over
    answers.note_handed_over()
    status = _status(tmp_path)
    assert status.sent is not None
    assert as_json(status)["last_round"]["reply_sent"] is True
    with at_work(tmp_path, replace(ASKED, round_number=8, message="message-2")):
        pass
    assert as_json(_status(tmp_path))["last_round"] | {"began": 0, "ended": 0} == {
        **{"task": "train", "run": "study", "round": 8, "began": 0, "ended": 0, "code": None},
        **{"reply_sent": False, "sent": None},
    }


def test_a_failure_is_told_by_its_code_and_leaves_the_last_round(tmp_path: Path) -> None:
    with at_work(tmp_path, ASKED):
        pass
    with pytest.raises(StoreDamaged), at_work(tmp_path, replace(ASKED, round_number=8)):
        raise StoreDamaged("a file", got="/scans/patient7")
    last = last_round(tmp_path)
    assert last.answered is not None
    assert last.answered.request == ASKED
    text = as_text(_status(tmp_path))
    assert "last error  FM-D207 in round 8 of study" in text
    assert "patient7" not in (tmp_path / TRAINER_NOTES / "last-round.json").read_text()


def test_a_round_of_before_these_pages_is_found_among_the_kept_ones(tmp_path: Path) -> None:
    for number in (4, 5):
        KeptRounds(tmp_path / "state", "study").keep(KeptRound(number, "abc", {"train_loss": 0.5}))
    text = as_text(_status(tmp_path))
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
    with only_client(tmp_path):
        StatusWriter(tmp_path, site="sms").saw(LET_IN)
        assert "the server has not answered" in as_text(_status(tmp_path))
        Answers(tmp_path / NODE_NOTES).note_answer()
        assert "and answered 0 s ago" in as_text(_status(tmp_path))
        os.utime(tmp_path / NODE_NOTES / "answered", (100, 100))
        assert "the server has not answered since 1970-01-01" in as_text(_status(tmp_path))


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


def _command(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "fedminet", "site", "status", str(home), *options],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_command_tells_health_by_its_exit_status_and_imports_no_torch(tmp_path: Path) -> None:
    """A health check runs it every few seconds."""
    (tmp_path / "site.yaml").write_text(definition_text("sms"))
    client = _client(tmp_path)
    try:
        done = _command(tmp_path, "--json")
    finally:
        _kill(client)
    assert done.returncode == 0, done.stderr
    page = json.loads(done.stdout)
    assert (page["healthy"], page["registered"]["is"], page["configured"]["is"]) == (True, True, True)
    assert page["registered"]["node"] == "7"
    assert page["training"] == {"is": False, "work": None}
    assert not [line for line in done.stderr.splitlines() if line.endswith((" torch", " flwr"))]
    done = _command(tmp_path)  # the checks are made here, and there is no kit
    assert done.returncode == 1
    assert "configured  no" in done.stdout
    assert not client_runs(tmp_path)


def test_a_folder_without_a_site_is_no_unhealthy_site(tmp_path: Path) -> None:
    done = _command(tmp_path)
    assert done.returncode == 2
    assert "FM-C103: no site is here" in done.stderr
