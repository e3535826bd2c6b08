"""The operations guide holds: every block of commands in it is run as it is printed, on the real engine.

One coordinator and one hospital, each a folder; real admission, a real server, a real client, tiny scans ingested by
the real road. A person at each terminal is played (tests.operations.machines). `fedminet` forks from a warm process,
which saves three seconds of a processor a command; with FEDMINET_GUIDE_COLD=1 each command is a fresh program, for
the minutes that the guide states.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from client.site_home import SiteHome
from client.status.node_activity import ADMISSION_FILE
from client.status_folders import NODE_NOTES
from minet_core.runtime.cpu_threading import cpu_threading_environment
from minet_core.runtime.processes.child_processes import free_port
from minet_core.settings.yaml_file import settings_text
from tests.faults import process_table
from tests.faults.tiny_sites import open_the_policy, tiny_federation, write_nifti_patient
from tests.operations.machines import WITHIN_S, Machines
from tests.operations.pages import FOLDER, Block, blocks
from tests.operations.sections import (
    BACK_UP,
    BUNDLE,
    DELETED,
    FIRST_TRAINING,
    FURTHER,
    LATER,
    RESTORE,
    REVOKED,
    SITE_BACK_UP,
    SITE_RESTORE,
    UPGRADE,
    WHILE_IT_RUNS,
    commands_to_the_first_training,
)
from tests.support.warm_python import write_stand_in

ROOT = FOLDER.parents[1]
COLD = os.environ.get("FEDMINET_GUIDE_COLD") == "1"
ROUNDS = 2
"""The back-up is made in the second: a site that were two rounds further would refuse to go back."""
ROUND_S = 3.0
"""Long enough that the second is not over before the site is stopped, which the power's end waits for."""


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    """Two machines whose `fedminet` is this checkout's, the hospital's scans, and nginx in front if it is here."""
    programs = tmp_path / "bin"
    programs.mkdir()
    environment = {
        **{name: value for name, value in os.environ.items() if name != "FEDMINET_CA_PASSPHRASE_FILE"},
        **cpu_threading_environment(),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "COLUMNS": "400",
    }
    scans = tmp_path / "scans"
    for patient in range(3):
        write_nifti_patient(scans / f"patient{patient}", patient)
    screen, port = free_port(), free_port()
    public = free_port() if shutil.which("nginx") else None
    made = Machines(
        tmp_path,
        environment,
        {
            "--host server.example.org": "--host 127.0.0.1",
            "--public-port 443": f"--port {port}" + (f" --public-port {public}" if public else ""),
            "/data/export": str(scans),
            "server dashboard coordinator": f"server dashboard coordinator --port {screen}",
            "127.0.0.1:9480": f"127.0.0.1:{screen}",
        },
        warm=not COLD,
        proxy=None if public is None else (public, f"https://127.0.0.1:{port}"),
    )
    if COLD:
        (programs / "fedminet").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fedminet "$@"\n')
        (programs / "fedminet").chmod(0o755)
        yield made
        made.end_all()
        return
    link = tmp_path / "warm.sock"
    write_stand_in(programs / "fedminet", link=link)
    warm = subprocess.Popen(
        [sys.executable, "-m", "tests.operations.warm_program", str(link)],
        env={**environment, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        start_new_session=True,  # without a terminal of its own: questions come to the one that a command is given at
    )
    try:
        _wait_until(link.exists, "the warm process listens")
        yield made
    finally:
        made.end_all()
        warm.communicate()  # it ends with its standard input


def _wait_until(reached: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + WITHIN_S
    while not reached():
        assert time.monotonic() < ends, f"waited in vain until {what}"
        time.sleep(0.1)


class Reader:
    """Somebody who follows the guide: gives its commands in order, and does what its text says beside them."""

    def __init__(self, machines: Machines) -> None:
        self.machines = machines
        self.coordinator = machines.at("coordinator")
        self.hospital = machines.at("hospital")

    def follow(
        self, sections: tuple[tuple[str, str], ...], *, put: dict[str, str] | None = None
    ) -> list[str]:
        """Give every command of these sections; what each block printed."""
        return [
            self._give(block, put or {})
            for page, section in sections
            for block in blocks(page)
            if block.section == section
        ]

    def _give(self, block: Block, put: dict[str, str]) -> str:
        self.post()
        script = block.script
        for printed, instead in put.items():
            script = script.replace(printed, instead)
        if (ended := block.note("Ctrl-C")) is not None:
            self.machines.interrupt(ended)
        if block.not_run is not None:
            return ""
        if block.note("keeps running") is not None:
            (command,) = block.commands
            self.machines.start(block.machine, command)
            return ""
        wanted, status = block.note("until"), int(block.note("exit") or 0)
        ends = time.monotonic() + WITHIN_S
        while True:
            done = self.machines.give(block.machine, script)
            if wanted is not None and wanted not in done.printed and time.monotonic() < ends:
                time.sleep(0.5)
                continue
            where = f"{block.page}, {block.section}:\n{script}\n{done.printed}"
            assert wanted is None or wanted in done.printed, where
            assert done.status == status, where
            self._edit(script)
            if block.machine == "coordinator":
                self.machines.tell_proxy(self.coordinator / "coordinator" / "pki")
            return done.printed

    def post(self) -> None:
        """What is sent "by any way": requests to the coordinator, kits to the hospital."""
        for folder, name in (("sms", "request"), ("sms-new", "request"), ("umr", "request-umr")):
            request = self.hospital / folder / "request.json"
            if request.is_file():
                shutil.copyfile(request, self.coordinator / f"{name}.json")
        for kit in self.coordinator.glob("kit-sms*"):
            if not (self.hospital / kit.name).exists():
                shutil.copytree(kit, self.hospital / kit.name)

    def _edit(self, script: str) -> None:
        """The two files that the guide says to edit: a small model, and few patients."""
        if script.startswith("fedminet server init"):
            federation = tiny_federation(
                name="study",
                sites=["sms"],
                rounds=ROUNDS,
                participation={"quorum": 1, "deadline_s": WITHIN_S, "retries": 0},
                training={
                    **{"local_steps": None, "local_seconds": ROUND_S},
                    **{"patch_px": 16, "batch_size": 2, "validation_slices": 1},
                },
            )
            (self.coordinator / "coordinator" / "federation.yaml").write_text(settings_text(federation))
        if script.startswith("fedminet site init sms "):
            self.edit_site(allow_few_patients=True)
            open_the_policy(self.hospital / "sms" / "site.yaml")

    def edit_site(self, **changes: object) -> None:
        path = self.hospital / "sms" / "site.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))

    def edit_policy(self, **changes: object) -> None:
        policy = yaml.safe_load((self.hospital / "sms" / "site.yaml").read_text())["policy"]
        self.edit_site(policy={**policy, **changes})

    def run_state(self, run: str) -> dict[str, object]:
        path = self.coordinator / "coordinator" / "runs" / run / "state.json"
        return dict(json.loads(path.read_text())) if path.is_file() else {"round": -1, "status": "none"}

    def node(self) -> str:
        """The node's number, as the site knows it."""
        page = json.loads((self.hospital / "sms" / NODE_NOTES / ADMISSION_FILE).read_text())
        return str(page["node_id"])


@pytest.mark.e2e
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_guide_is_followed_from_nothing_to_the_end(
    machines: Machines, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = Reader(machines)
    began = time.monotonic()
    reader.follow(FIRST_TRAINING)
    minutes = (time.monotonic() - began) / 60
    with capsys.disabled():
        kind = "fresh programs" if COLD else "one warm process"
        print(f"\nFrom nothing to a site in training: {commands_to_the_first_training()} commands, ", end="")
        print(f"{minutes:.1f} min without installation ({kind}).")
    if COLD:
        return
    _the_coordinator_is_lost_and_restored(reader)

    said = reader.follow(WHILE_IT_RUNS)
    _what_the_hospital_verifies(said)
    _the_search_for_open_keys_finds_one(reader)
    assert reader.run_state("trial")["status"] == "failed"
    assert machines.wait("fedminet server run coordinator --name trial") == 5

    reader.follow(LATER)
    _a_further_hospital_joins(reader)
    _the_site_is_lost_and_restored(reader)
    reader.follow(UPGRADE)
    _a_bundle_that_is_not_listed(reader)
    _a_lost_laptop(reader)
    reader.follow(DELETED)
    assert not (reader.hospital / "sms").exists()


def _what_the_hospital_verifies(said: list[str]) -> None:
    (kept,) = [text for text in said if "stayed here" in text]
    lines = kept.strip().splitlines()
    assert {"train_loss", "cohort", "round"} <= json.loads(lines[0])["figures"].keys()
    left = [line for line in lines[1:] if line.endswith(" left")]
    assert left
    assert all(line.startswith("answer/") for line in left)
    (modes,) = [text for text in said if "700 sms/keys" in text]
    assert re.findall(r"^(\d+)", modes, flags=re.MULTILINE) == ["700"] * 5
    (request,) = [text for text in said if '"tls_request"' in text]
    assert "patient" not in request


def _the_search_for_open_keys_finds_one(reader: Reader) -> None:
    (search,) = [block.script for block in blocks("hospital.md") if "pseudonym.key ! -perm" in block.script]
    key = reader.hospital / "sms" / "store" / "pseudonym.key"
    assert reader.machines.give("hospital", search).printed == ""
    key.chmod(0o644)
    assert "pseudonym.key" in reader.machines.give("hospital", search).printed
    key.chmod(0o600)


def _the_coordinator_is_lost_and_restored(reader: Reader) -> None:
    """In the middle of a run: back-up, power cut, an empty disk, restore; the site is back, and the run ends whole."""
    machines, home = reader.machines, reader.coordinator / "coordinator"
    node = reader.node()
    _wait_until(lambda: reader.run_state("first")["round"] == 1, "a round is completed")
    with _site_stopped(reader):
        reader.follow(BACK_UP)
        machines.kill("fedminet server start coordinator")
        machines.kill("fedminet server run coordinator --name first")
    assert reader.run_state("first")["status"] == "running"
    shutil.rmtree(home)
    assert stat.S_IMODE((reader.coordinator / "backup.tar").stat().st_mode) == 0o600
    reader.follow(RESTORE)
    assert reader.node() == node  # under the same name, and as the same node
    assert reader.run_state("first")["status"] == "completed"
    lines = (home / "runs" / "first" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == list(range(1, ROUNDS + 1))
    events = (home / "runs" / "first" / "events.jsonl").read_text()
    assert "run-continued" in events
    assert "FM-F408" not in events
    for private in ("pki/ca.key", "pki/server.key", "superlink/superexec.secret", "superlink/state.db"):
        assert stat.S_IMODE((home / private).stat().st_mode) == 0o600


@contextlib.contextmanager
def _site_stopped(reader: Reader) -> Iterator[None]:
    """The site's node answers nothing meanwhile: the run is not over, however long a command takes."""
    node = process_table.supernode_of(SiteHome(reader.hospital / "sms"))
    assert node is not None
    os.kill(node, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(node, signal.SIGCONT)


def _the_site_is_lost_and_restored(reader: Reader) -> None:
    before = {name: (reader.hospital / "sms" / name).read_bytes() for name in ("site.yaml", "keys/tls.key")}
    node = reader.node()
    reader.follow(SITE_BACK_UP)
    assert stat.S_IMODE((reader.hospital / "sms-backup.tar").stat().st_mode) == 0o600
    shutil.rmtree(reader.hospital / "sms")
    reader.follow(SITE_RESTORE)
    assert {name: (reader.hospital / "sms" / name).read_bytes() for name in before} == before
    assert reader.node() == node


def _a_further_hospital_joins(reader: Reader) -> None:
    done = reader.machines.give("hospital", "fedminet site init umr --definition umr")
    assert done.status == 0, done.printed
    federation = reader.coordinator / "coordinator" / "federation.yaml"
    content = yaml.safe_load(federation.read_text())
    federation.write_text(yaml.safe_dump({**content, "sites": ["sms", "umr"]}))
    reader.follow(FURTHER)
    reader.post()
    done = reader.machines.give("hospital", "fedminet site accept sms kit-sms-3 --yes")
    assert done.status == 0, done.printed
    assert "Start the site's client again" not in done.printed


def _a_bundle_that_is_not_listed(reader: Reader) -> None:
    bundle = reader.coordinator / "coordinator" / "superlink" / "fedminet.fab"
    digest = hashlib.sha256(bundle.read_bytes()).hexdigest()
    reader.edit_policy(bundles=["0" * 64])
    refused = reader.machines.give("hospital", "fedminet site check sms --before-start")
    assert refused.status == 5
    assert "FM-F420: the client is not started: policy" in _on_one_line(refused.printed)
    assert digest in _on_one_line(refused.printed)
    shutil.copyfile(bundle, reader.hospital / "fedminet.fab")
    (section,) = BUNDLE
    *looked, checked = [block for block in blocks(section[0]) if block.section == section[1]]
    said = "".join(reader._give(block, {}) for block in looked)
    assert digest in said
    assert "server.app:app" in said
    assert "client.app:app" in said
    reader.edit_policy(bundles=[digest])
    assert "on the site's list" in _on_one_line(reader._give(checked, {}))


def _a_lost_laptop(reader: Reader) -> None:
    said = reader.follow(REVOKED)
    assert any("revoked on" in text for text in said)
    if reader.machines.front is not None:
        _wait_until(lambda: _certificate_is_refused(reader), "the proxy refuses the certificate")
    new = {"site request sms": "site request sms-new", "accept sms": "accept sms-new"}
    reader.follow(FIRST_TRAINING[4:7], put={**new, "kit-sms": "kit-sms-new"})
    assert (reader.hospital / "sms-new" / "kit" / "kit.json").is_file()


def _certificate_is_refused(reader: Reader) -> bool:
    done = reader.machines.give("hospital", "fedminet site check sms --before-start")
    return done.status == 5 and "FM-F404" in done.printed


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
