"""No text of an exception on a site reaches the server."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from client.app import build_client_app
from fedminet.simulation.in_process_grid import run_in_process
from minet_core.errors import QuorumNotMet
from server.app import build_server_app
from server.runs.run_directory import RunDirectory
from tests.faults.trial_sites import trial_federation

PATIENT = "DOE^JOHN"


def locate_badly(_context: object) -> Path:
    raise RuntimeError(f"cannot open /mnt/pacs/{PATIENT}/scan.nii.gz")


def test_an_exception_becomes_a_code_on_the_way_to_the_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    federation = trial_federation(sites=("sms",), participation={"quorum": 1, "retries": 0})
    run = RunDirectory.create(tmp_path / "run", federation, engine="in-process")
    with caplog.at_level(logging.DEBUG), pytest.raises(QuorumNotMet):
        run_in_process(
            build_server_app(tmp_path), {"sms": build_client_app(locate_badly)}, run_config={"run": "run"}
        )
    refused = [event for event in run.events_recorded() if event["event"] == "reply-refused"]
    assert [event["code"] for event in refused] == ["FM-S900"]
    kept = "".join(
        path.read_text() for path in run.path.glob("*.*") if path.suffix in (".json", ".jsonl", ".html")
    )
    assert PATIENT not in kept
    assert PATIENT in caplog.text  # the positive control: the text was there, in the site's own log


def test_a_missing_site_folder_becomes_its_code(tmp_path: Path) -> None:
    federation = trial_federation(sites=("sms",), participation={"quorum": 1, "retries": 0})
    run = RunDirectory.create(tmp_path / "run", federation, engine="in-process")
    app = build_client_app(lambda _context: tmp_path / PATIENT)
    with pytest.raises(QuorumNotMet):
        run_in_process(build_server_app(tmp_path), {"sms": app}, run_config={"run": "run"})
    assert [event["code"] for event in run.events_recorded() if "code" in event] == ["FM-C103"]
