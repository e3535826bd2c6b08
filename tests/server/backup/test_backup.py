"""The coordinator's back-up: whole and consistent while things happen, private, and refused where it was touched."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from minet_core.errors import AdmissionRefused, BackupDamaged, ConfigurationError, FileMissing
from minet_core.runtime.files.atomic_write import write_json, write_private
from server.admission.enrolment import KitTerms, admitted_sites, declared_cohorts, renew, revoke
from server.admission.expiry import expiries
from server.admission.pki import open_authority
from server.admission.revocation import read_crl
from server.backup.create import CONTENTS_FILE, _Archive, back_up, back_up_to
from server.backup.restore import restore
from server.flower.superlink_control import SuperLinkControl
from server.runs import state_machine
from server.runs.run_directory import RunDirectory
from server.server_home import ServerHome
from tests.support.admitted import PASSPHRASE, make_coordinator, make_site
from tests.support.repository import ROOT


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    """A coordinator with an admitted site, a run, a database and what no back-up needs."""
    coordinator = make_coordinator(tmp_path / "server", port=9443)
    coordinator.admit(make_site(tmp_path / "sms"), tmp_path / "kit")
    home = coordinator.home
    write_private(home.superlink / "superexec.secret", b"0" * 32)
    run = RunDirectory.create(home.runs / "first", home.federation(), engine="deployment")
    run.checkpoint(0).parent.mkdir()
    run.checkpoint(0).write_bytes(b"weights")
    with sqlite3.connect(home.superlink / "state.db") as database:
        database.execute("CREATE TABLE node (name TEXT)")
        database.execute("INSERT INTO node VALUES ('sms')")
    database.close()
    (home.superlink / "flwr" / "apps").mkdir(parents=True)
    (home.logs / "superlink.log").write_text("a line")
    (home.pki / ".ca.key.77.partial").write_text("half")
    return home


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_restored_folder_is_the_one_that_was_backed_up(home: ServerHome, tmp_path: Path) -> None:
    made = back_up(home, tmp_path / "backup.tar")
    again, contents = restore(tmp_path / "backup.tar", tmp_path / "again")
    assert contents == made
    assert contents.runs == ("first",)
    left_out = {"logs/superlink.log", "pki/.ca.key.77.partial", "pki/.lock", "pki/back-up.key"}
    former, now = _files(home.path), _files(again.path)
    locks = {f"runs/first/{what}.lock" for what in ("state", "submission")}
    assert former.keys() - now.keys() == left_out | locks
    del now["superlink/state.db"]
    assert now == {name: former[name] for name in now}
    assert admitted_sites(again).keys() == admitted_sites(home).keys() == {"sms"}
    assert declared_cohorts(again) == declared_cohorts(home)
    for name in ("runs", "sites", "logs", "proxy"):
        assert (again.path / name).is_dir()


def test_a_revocation_does_not_wait_for_who_takes_the_back_up(home: ServerHome) -> None:
    """At every moment at which a stalled pipe could stop it, the keys and admissions are free to be changed."""
    writes = 0

    class Pipe(io.RawIOBase):
        def write(self, block: Any) -> int:
            nonlocal writes
            with (home.pki / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            writes += 1
            return len(block)

    back_up_to(home, Pipe())
    assert writes > 1


def test_links_are_followed_but_for_one_that_leads_back(home: ServerHome, tmp_path: Path) -> None:
    """A folder on another disk is in the back-up; two links that lead to one another end."""
    elsewhere = tmp_path / "other-disk"
    elsewhere.mkdir()
    (elsewhere / "request.json").write_text("{}")
    (home.path / "requests").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(home.path)
    contents = back_up(home, tmp_path / "backup.tar")
    assert "requests/request.json" in contents.files
    assert not [name for name in contents.files if name.startswith("requests/back")]


def test_a_back_up_and_its_keys_are_for_their_owner_alone(home: ServerHome, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup.tar")
    assert stat.S_IMODE((tmp_path / "backup.tar").stat().st_mode) == 0o600
    again, _ = restore(tmp_path / "backup.tar", tmp_path / "again")
    assert stat.S_IMODE(again.path.stat().st_mode) == 0o700
    secret = ("pki/ca.key", "pki/server.key", "superlink/superexec.secret", "superlink/state.db")
    for name in secret:
        assert stat.S_IMODE((again.path / name).stat().st_mode) == 0o600
    with tarfile.open(tmp_path / "backup.tar") as tar:
        assert {member.mode for member in tar if member.name in secret} == {0o600}
        assert {(member.uid, member.uname) for member in tar} == {
            (0, "")
        }  # whose it was is nobody's business
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in (again.pki / "ca.key").read_bytes()


def test_nothing_is_overwritten(home: ServerHome, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    back_up(home, file)
    with pytest.raises(ConfigurationError, match="already here"):
        back_up(home, file)
    with pytest.raises(ConfigurationError, match="in the folder that it is of"):
        back_up(home, home.path / "backup.tar")
    before = _files(home.path)
    with pytest.raises(ConfigurationError, match="nothing is overwritten"):
        restore(file, home.path)
    assert _files(home.path) == before
    with pytest.raises(FileMissing):
        restore(tmp_path / "none.tar", tmp_path / "again")
    (tmp_path / "empty").mkdir()
    restore(file, tmp_path / "empty")


def test_a_revocation_after_the_back_up_is_given_again_after_the_restore(
    home: ServerHome, tmp_path: Path
) -> None:
    """What the guide warns of, and that the command that it names mends it."""
    authority = open_authority(home.pki, PASSPHRASE)
    back_up(home, tmp_path / "backup.tar")
    renewed = renew(home, authority, "sms", KitTerms(tmp_path / "kit-2"))
    revoke(home, authority, "sms", reason="a laptop was stolen")
    again, _ = restore(tmp_path / "backup.tar", tmp_path / "again")
    assert admitted_sites(again).keys() == {"sms"}  # undone
    authority = replace(authority, folder=again.pki)
    revoke(again, authority, "sms", reason="a laptop was stolen")
    assert not admitted_sites(again)
    assert "sms" not in (again.pki / "nodes.map").read_text()  # the proxy passes nothing of it on
    listed = read_crl(again.pki)
    assert listed is not None
    assert len(listed) == 1  # the certificate that was renewed after the back-up is not on the list
    assert listed.get_revoked_certificate_by_serial_number(renewed.certificate.serial_number) is None


def test_a_container_s_volume_is_backed_up_and_restored_by_streams(home: ServerHome, tmp_path: Path) -> None:
    """No other disk is seen there, and nothing can take the place of the volume itself."""
    before = _files(home.path)
    command = [sys.executable, "-m", "fedminet", "server"]
    with (tmp_path / "backup.tar").open("wb") as stream:
        done = subprocess.run([*command, "backup", home.path, "-"], stdout=stream, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert _files(home.path).keys() - before.keys() <= {"runs/first/state.lock", "runs/first/submission.lock"}
    volume = tmp_path / "volume"
    volume.mkdir()
    volume_number = volume.stat().st_ino
    with (tmp_path / "backup.tar").open("rb") as stream:
        subprocess.run([*command, "restore", "-", volume], stdin=stream, check=True, capture_output=True)
    assert volume.stat().st_ino == volume_number
    assert stat.S_IMODE(volume.stat().st_mode) == 0o700
    assert admitted_sites(ServerHome.at(volume)).keys() == {"sms"}
    assert not list(volume.glob(".*"))


def test_a_restore_into_a_volume_that_was_killed_is_given_again(home: ServerHome, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup.tar")
    volume = tmp_path / "volume"
    volume.mkdir()
    killed = (
        "import os, sys; from pathlib import Path; from server.backup import restore\n"
        "restore._require_usable = lambda *_: os._exit(9)\n"
        "restore.restore(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", killed, str(tmp_path / "backup.tar"), str(volume)]
    assert subprocess.run(command, cwd=ROOT).returncode == 9
    (half,) = volume.glob(".*.partial")
    descriptor = os.open(half, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # as where it is still at work
    with pytest.raises(ConfigurationError, match="already here"):
        restore(tmp_path / "backup.tar", volume)
    assert half.is_dir()
    os.close(descriptor)
    again, _ = restore(tmp_path / "backup.tar", volume)
    assert admitted_sites(again).keys() == {"sms"}
    assert not list(volume.glob(".*"))


def test_a_database_that_is_written_to_is_copied_as_of_one_moment(home: ServerHome, tmp_path: Path) -> None:
    path = home.superlink / "state.db"
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("PRAGMA wal_autocheckpoint = 0")
    with writer:
        writer.execute("INSERT INTO node VALUES ('umr')")
    shutil.copyfile(path, tmp_path / "copy.db")  # what a copy of the file alone would be
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO node VALUES ('half')")
    back_up(home, tmp_path / "backup.tar")
    writer.rollback()
    writer.close()
    again, _ = restore(tmp_path / "backup.tar", tmp_path / "again")
    assert _names(tmp_path / "copy.db") == ["sms"]
    assert _names(again.superlink / "state.db") == ["sms", "umr"]
    assert {path.name for path in again.superlink.iterdir()} == {
        "fedminet.fab",
        "state.db",
        "superexec.secret",
    }


def _names(database: Path) -> list[str]:
    connection = sqlite3.connect(database)
    names = [name for (name,) in connection.execute("SELECT name FROM node")]
    connection.close()
    return names


def test_a_run_in_work_is_copied_as_a_killed_application_would_leave_it(
    home: ServerHome, tmp_path: Path
) -> None:
    run = RunDirectory(home.runs / "first")
    run.transition(state_machine.begun)
    copied = threading.Event()

    def conduct() -> None:
        """The writes of server.rounds.round, in their order."""
        for number in range(1, home.federation().rounds + 1):
            run.transition(state_machine.asked, "2026-01-01T00:00:00+00:00")
            run.replies(number).mkdir(parents=True)
            (run.replies(number) / "sms.safetensors").write_bytes(b"reply" * number * 1000)
            write_json(run.replies(number) / "sms.json", {"site": "sms"})
            run.transition(state_machine.closed, ("sms",))
            run.checkpoint(number).write_bytes(b"weights" * number)
            run.metrics({"round": number})
            run.transition(state_machine.aggregated, shortfall=None)
            run.prune()
            if copied.is_set():
                return

    application = threading.Thread(target=conduct)
    application.start()
    for index in range(4):
        back_up(home, tmp_path / f"{index}.tar")
    copied.set()
    application.join()
    for index in range(4):
        again, _ = restore(tmp_path / f"{index}.tar", tmp_path / f"again-{index}")
        copy = RunDirectory(again.runs / "first")
        copy.repair_after_crash()
        state = copy.state
        assert copy.checkpoint(state.round).is_file()
        assert [record["round"] for record in copy.rounds_recorded()] == list(range(1, state.round + 1))
        for page in copy.replies(state.round + 1).glob("*.json"):
            assert page.with_suffix(".safetensors").is_file()
        if state.phase == "closed":
            assert (copy.replies(state.round + 1) / "sms.json").is_file()


def test_a_round_that_is_forgotten_while_it_is_copied_is_left_out(
    home: ServerHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its folder goes before it is looked at or between its pages and its tensors."""
    run = RunDirectory(home.runs / "first")
    run.transition(state_machine.begun)
    for _ in range(2):  # the replies of the last round stay: it may be rolled back
        run.transition(state_machine.asked, "2026-01-01T00:00:00+00:00")
        run.transition(state_machine.closed, ("sms",))
        run.transition(state_machine.aggregated, shortfall=None)
    replies = run.replies(1)
    add_folder, add = _Archive.add_folder, _Archive.add

    def gone(path: Path) -> None:
        if path == forgotten_at:
            shutil.rmtree(replies)

    def folder_is_added(archive: _Archive, path: Path, name: PurePosixPath) -> None:
        gone(path)
        add_folder(archive, path, name)

    def file_is_added(archive: _Archive, path: Path, name: PurePosixPath, **how: int | None) -> None:
        gone(path)
        add(archive, path, name, **how)

    monkeypatch.setattr(_Archive, "add_folder", folder_is_added)
    monkeypatch.setattr(_Archive, "add", file_is_added)
    for forgotten_at in (replies, replies / "sms.json", replies / "sms.safetensors"):
        replies.mkdir(parents=True)
        (replies / "sms.safetensors").write_bytes(b"reply")
        write_json(replies / "sms.json", {"site": "sms"})
        back_up(home, tmp_path / f"{forgotten_at.name}.tar")
        assert not replies.exists()
        again, _ = restore(tmp_path / f"{forgotten_at.name}.tar", tmp_path / f"again-{forgotten_at.name}")
        RunDirectory(again.runs / "first").repair_after_crash()
        assert not [name for name in _files(again.path) if "round-0001" in name]


def _rewritten(
    source: Path, target: Path, change: Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes]]
) -> None:
    with tarfile.open(source) as former, tarfile.open(target, "w") as tar:
        for member in former:
            stream = former.extractfile(member)
            changed, content = change(member, b"" if stream is None else stream.read())
            changed.size = len(content)
            tar.addfile(changed, io.BytesIO(content))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("pki/ca.pem", b"-----BEGIN CERTIFICATE-----", "not as it was; got pki/ca.pem"),
        ("../outside", b"", "holds what no back-up of ours does"),
        ("/outside", b"", "holds what no back-up of ours does"),
        ("twice", b"", "a name is in the back-up twice"),
        (CONTENTS_FILE, b"{", "list cannot be read"),
    ],
)
def test_an_altered_back_up_is_refused_and_leaves_nothing(
    home: ServerHome, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    back_up(home, tmp_path / "backup.tar")

    def change(member: tarfile.TarInfo, former: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name == name:
            return member, content
        if name.endswith("outside") and member.name == "server.yaml":
            member.name = name
        if name == "twice" and member.name == "server.yaml":
            member.name = "federation.yaml"
        return member, former

    _rewritten(tmp_path / "backup.tar", tmp_path / "altered.tar", change)
    before = set(tmp_path.iterdir())
    with pytest.raises(BackupDamaged, match=said):
        restore(tmp_path / "altered.tar", tmp_path / "again")
    assert set(tmp_path.iterdir()) == before


def test_a_link_in_a_back_up_is_refused(home: ServerHome, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup.tar")

    def change(member: tarfile.TarInfo, former: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name == "runs":
            member.type, member.linkname = tarfile.SYMTYPE, str(tmp_path)
        return member, former

    _rewritten(tmp_path / "backup.tar", tmp_path / "altered.tar", change)
    with pytest.raises(BackupDamaged, match="got runs"):
        restore(tmp_path / "altered.tar", tmp_path / "again")


def test_a_back_up_that_was_cut_off_is_refused(home: ServerHome, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup.tar")
    whole = (tmp_path / "backup.tar").read_bytes()
    at = whole.rindex(CONTENTS_FILE.encode())
    for index, end in enumerate((at - at % 512, len(whole) // 3, 100, 0)):
        (tmp_path / "cut.tar").write_bytes(whole[:end])
        with pytest.raises(BackupDamaged, match=r"cut off|cannot be read"):
            restore(tmp_path / "cut.tar", tmp_path / f"again-{index}")
        assert not (tmp_path / f"again-{index}").exists()


def test_a_damaged_database_is_found_before_the_folder_is_there(home: ServerHome, tmp_path: Path) -> None:
    (home.superlink / "state.db").write_bytes(b"no database" * 1000)
    with pytest.raises(Exception, match="database cannot be read"):
        back_up(home, tmp_path / "backup.tar")
    assert {path.name for path in tmp_path.iterdir()} == {"server", "sms", "kit"}


def test_the_list_names_what_a_person_asks_for(home: ServerHome, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup.tar")
    with tarfile.open(tmp_path / "backup.tar") as tar:
        stream = tar.extractfile(CONTENTS_FILE)
        assert stream is not None
        listed = json.load(stream)
        assert tar.getnames()[-1] == CONTENTS_FILE
    assert listed["federation"] == "trial"
    assert listed["versions"]["fedminet"]
    assert {"server.yaml", "federation.yaml", "pki/ca.key", "sites/sms.pub"} <= listed["files"].keys()


@pytest.mark.parametrize("left", [0, 60], ids=["empty", "half"])
@pytest.mark.parametrize("name", ["back-up.key", "back-up.pem"])
def test_a_damaged_key_signs_no_back_up(home: ServerHome, tmp_path: Path, name: str, left: int) -> None:
    """With half a certificate a back-up was made that no restore takes; with half a key came a traceback."""
    path = home.pki / name
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ConfigurationError, match=rf"FM-C100.*{name}.*whole PEM file.*back-up"):
        back_up(home, tmp_path / "back-up.tar")
    assert not (tmp_path / "back-up.tar").exists()


def test_the_key_of_another_certificate_signs_no_back_up(home: ServerHome, tmp_path: Path) -> None:
    write_private(home.pki / "back-up.key", (home.pki / "server.key").read_bytes())
    with pytest.raises(ConfigurationError, match=r"not that of its certificate"):
        back_up(home, tmp_path / "back-up.tar")


def test_a_damaged_list_or_certificate_is_named(home: ServerHome) -> None:
    for name, read in (("crl.pem", lambda: read_crl(home.pki)), ("server.pem", lambda: expiries(home))):
        path = home.pki / name
        path.write_bytes(path.read_bytes()[:60] if path.exists() else b"-----BEGIN X509 CRL-----")
        with pytest.raises(ConfigurationError, match=rf"FM-C100.*{name}"):
            read()


def test_a_damaged_authority_is_named_before_the_server_is_asked(home: ServerHome) -> None:
    path = home.pki / "ca.pem"
    path.write_bytes(b"")
    with pytest.raises(AdmissionRefused, match="FM-F404"):
        SuperLinkControl("localhost:9", ca=path).answers()
