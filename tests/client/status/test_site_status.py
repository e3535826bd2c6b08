"""Registered and configured: each true and false, and nothing read as running that was killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from client.status.current_task import at_work
from client.status.finding import CONFIGURATION, Finding
from client.status.part_status import LOOKS_AFTER_ITSELF_S
from client.status.site_status import HEALTHY, UNHEALTHY, as_json, as_text, read_status
from client.status.status_file import (
    STATUS_FILE,
    Registration,
    StatusWriter,
    client_lock,
    client_runs,
    read_page,
)
from client.status_folders import NODE_NOTES, TRAINER_NOTES
from minet_core.errors import SiteAlreadyRunning, StoreDamaged
from sites.settings.definitions import definition_text
from tests.support.site_at_work import ASKED, IN_ORDER, LET_IN, ROOT, held, kill, status_of


def _client(home: Path) -> subprocess.Popen[str]:
    """A client that was let in, and lives."""
    return held(
        "import time; from pathlib import Path\n"
        "from client.status.finding import CONFIGURATION, Finding\n"
        "from client.status.status_file import Registration, StatusWriter, client_lock\n"
        f"home = Path({str(home)!r})\n"
        "with client_lock(home):\n"
        "    page = StatusWriter(home, site='sms')\n"
        "    page.record_findings([Finding(check, 'ok', 'x') for check in CONFIGURATION], kit=home / 'kit')\n"
        "    page.record_registration(Registration(True, time.time(), node_id=7))\n"
        "    print('holds', flush=True); time.sleep(600)"
    )


def test_a_site_that_never_ran_says_so(tmp_path: Path) -> None:
    status = status_of(tmp_path)
    assert (status.runs, status.registration.registered, status.training) == (False, False, False)
    assert status.configured  # a fact of its own
    assert status.exit_status == UNHEALTHY
    text = as_text(status)
    assert "does not run, and never has" in text
    assert "registered  no" in text
    assert "last round  none yet" in text


def test_before_its_first_start_a_site_has_the_name_of_its_settings(tmp_path: Path) -> None:
    assert status_of(tmp_path).site is None
    (tmp_path / "site.yaml").write_text(definition_text("sms"))
    status = status_of(tmp_path)
    assert as_text(status).startswith("The site sms, ")
    assert as_json(status)["site"] == "sms"


def test_what_another_clock_wrote_is_not_called_just_now(tmp_path: Path) -> None:
    with client_lock(tmp_path):
        StatusWriter(tmp_path, site="sms").ended("ended by Ctrl-C")
    text = as_text(read_status(tmp_path, check=list, now=time.time() - 10 * 86400))
    assert "(10 d ahead of this machine's clock): ended by Ctrl-C" in text


def test_a_running_client_is_told_from_a_killed_one(tmp_path: Path) -> None:
    client = _client(tmp_path)
    try:
        status = status_of(tmp_path)
        assert (status.runs, status.registration.registered) == (True, True)
        assert status.exit_status == HEALTHY
        with pytest.raises(SiteAlreadyRunning, match="FM-S522"), client_lock(tmp_path):
            pass
    finally:
        kill(client)
    status = status_of(tmp_path)
    assert (status.runs, status.registration.registered) == (False, False)
    assert status.exit_status == UNHEALTHY
    assert status.former is not None  # the last fact stays, with its age
    assert status.former.node_id == 7
    assert "it was killed; last seen" in as_text(status)
    assert "last registered until" in as_text(status)
    with client_lock(tmp_path):  # the killed one is in nobody's way
        started = status_of(
            tmp_path
        )  # nor does its page pass for its successor's, which has written none yet
        assert (started.runs, started.registration.registered) == (True, False)
        assert "making its checks" in as_text(started)
        assert "runs, and has written nothing yet" in as_text(started)
        StatusWriter(tmp_path, site="sms")
        page = read_page(tmp_path)
        assert page is not None
        assert page[0].former == status.former


def test_a_client_that_hangs_is_not_healthy(tmp_path: Path) -> None:
    with client_lock(tmp_path):
        StatusWriter(tmp_path, site="sms").record_registration(LET_IN)
        assert status_of(tmp_path).healthy
        later = status_of(tmp_path, now=time.time() + LOOKS_AFTER_ITSELF_S + 1)
        assert later.exit_status == UNHEALTHY
        assert "has not looked after its processes" in as_text(later)


def test_a_node_that_waits_to_be_let_in_is_healthy_and_not_registered(tmp_path: Path) -> None:
    with client_lock(tmp_path):
        page = StatusWriter(tmp_path, site="sms")
        assert "making its checks" in str(status_of(tmp_path).registration.reason)
        page.record_registration(
            Registration(False, 10.0, reason="it does not know this site's key", next_try=time.time() + 15)
        )
        page.record_registration(
            Registration(False, 99.0, reason="it does not know this site's key", next_try=time.time() + 30)
        )
        status = status_of(tmp_path)
        assert status.exit_status == HEALTHY
        assert not status.registration.registered
        assert status.registration.since == 10.0  # since the first refusal
        assert "does not know this site's key; next try in" in as_text(status)


def test_the_end_of_a_registration_is_kept(tmp_path: Path) -> None:
    with client_lock(tmp_path):
        page = StatusWriter(tmp_path, site="sms")
        page.record_registration(LET_IN)
        page.record_registration(Registration(False, 2000.0, reason="the server did not let the node in"))
        former = status_of(tmp_path).former
        assert former is not None
        assert (former.node_id, former.since) == (LET_IN.node_id, 1000.0)
        page.ended("ended by Ctrl-C")
    status = status_of(tmp_path)
    assert "does not run since" in as_text(status)
    assert "ended by Ctrl-C" in as_text(status)
    assert status.former == former


def _part(home: Path, part: str) -> subprocess.Popen[str]:
    """One of two parts, which has made its checks; the node was let in."""
    return held(
        "import time; from pathlib import Path\n"
        "from client.status.finding import CHECKS_OF_PART, Finding\n"
        "from client.status_folders import NODE_NOTES, TRAINER_NOTES\n"
        "from client.status.status_file import Registration, status_writer, client_lock\n"
        f"home, part = Path({str(home)!r}), {part!r}\n"
        "folder = home / {'node': NODE_NOTES, 'trainer': TRAINER_NOTES}[part]\n"
        "with client_lock(folder, beside=(home,)), status_writer(folder, site='sms') as page:\n"
        "    page.record_findings([Finding(check, 'ok', part) for check in CHECKS_OF_PART[part]], kit=home / 'kit')\n"
        "    if part == 'node': page.record_registration(Registration(True, time.time(), node_id=7))\n"
        "    print('holds', flush=True); time.sleep(600)"
    )


def test_of_two_parts_each_tells_what_it_sees_and_either_is_missed(tmp_path: Path) -> None:
    node, trainer = _part(tmp_path, "node"), None
    try:
        status = status_of(tmp_path)
        assert status.registration.registered
        assert (status.runs, status.configured, status.exit_status) == (False, False, UNHEALTHY)
        assert "trainer     does not run, and never has" in as_text(status)
        assert "store: the trainer has not looked at it yet" in as_text(status)
        trainer = _part(tmp_path, "trainer")
        status = status_of(tmp_path)
        assert (status.runs, status.configured, status.exit_status) == (True, True, HEALTHY)
        page = as_json(status)
        assert (page["client"]["runs"], set(page["parts"])) == (True, {"node", "trainer"})
        with at_work(tmp_path, ASKED):
            assert status_of(tmp_path).training
        kill(node)
        status = status_of(tmp_path)
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
                kill(process)
    assert not status_of(tmp_path).runs


def test_a_part_that_hangs_is_not_healthy(tmp_path: Path) -> None:
    node, trainer = _part(tmp_path, "node"), _part(tmp_path, "trainer")
    try:
        assert status_of(tmp_path).exit_status == HEALTHY
        os.utime(tmp_path / TRAINER_NOTES / STATUS_FILE, (100, 100))
        status = status_of(tmp_path)
        assert status.exit_status == UNHEALTHY
        assert "but has not looked after its processes since 1970" in as_text(status)
    finally:
        kill(node)
        kill(trainer)


def test_of_what_both_parts_have_checked_the_worse_counts(tmp_path: Path) -> None:
    """A kit may fit the authority, which the trainer sees, and not the keys, which the node sees."""
    refused = Finding("kit", "refusal", "the kit was made for another key", code="FM-F404")
    with client_lock(tmp_path / NODE_NOTES), client_lock(tmp_path / TRAINER_NOTES):
        for folder, findings in (
            (NODE_NOTES, [refused, Finding("keys", "ok", "x"), Finding("policy", "ok", "x")]),
            (TRAINER_NOTES, [Finding(check, "ok", "x") for check in ("kit", "policy", "store")]),
        ):
            StatusWriter(tmp_path / folder, site="sms").record_findings(findings, kit=tmp_path / "kit")
        status = status_of(tmp_path)
    assert not status.configured
    assert [finding.check for finding in status.findings] == [*CONFIGURATION]
    assert "kit: the kit was made for another key" in as_text(status)


def test_a_site_is_one_client_or_two_parts_and_not_both(tmp_path: Path) -> None:
    both = (tmp_path / NODE_NOTES, tmp_path / TRAINER_NOTES)
    with client_lock(tmp_path, beside=both):
        for folder in both:
            with pytest.raises(SiteAlreadyRunning, match="FM-S522"), client_lock(folder, beside=(tmp_path,)):
                pass
    with client_lock(both[1], beside=(tmp_path,)):
        with pytest.raises(SiteAlreadyRunning, match="FM-S522"), client_lock(tmp_path, beside=both):
            pass
        with client_lock(both[0], beside=(tmp_path,)):
            pass


def test_of_a_site_that_was_moved_into_two_parts_the_newer_pages_tell(tmp_path: Path) -> None:
    with client_lock(tmp_path):
        StatusWriter(tmp_path, site="sms").ended("ended by Ctrl-C")
    assert [part.part for part in status_of(tmp_path).parts] == ["all"]
    with client_lock(tmp_path / NODE_NOTES):
        StatusWriter(tmp_path / NODE_NOTES, site="sms").ended("moved")
    status = status_of(tmp_path)
    assert [part.part for part in status.parts] == ["node", "trainer"]
    assert "node        does not run since" in as_text(status)
    assert ": moved" in as_text(status)


def test_a_page_of_a_crashed_disk_is_no_page(tmp_path: Path) -> None:
    (tmp_path / STATUS_FILE).write_text("{")
    assert read_page(tmp_path) is None
    assert not status_of(tmp_path).runs


def test_an_unchanged_page_is_not_written_again(tmp_path: Path) -> None:
    page = StatusWriter(tmp_path, site="sms")
    page.record_registration(LET_IN)
    before = (tmp_path / STATUS_FILE).stat().st_ino
    for _ in range(5):
        page.record_registration(LET_IN)
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
        kill(client)
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
