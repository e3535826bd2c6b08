"""`fedminet site receive` against real peers: nothing is lost by a kill or double, and no stranger is heard."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydicom import dcmread
from pynetdicom import AE, Association, evt

from client.receive.inbox import Inbox
from client.receive.receiver import Receiver
from client.receive.steady_requests import make_steady
from client.site_home import SiteHome
from minet_core.errors import InvalidSetting, RunBusy
from minet_core.settings.yaml_file import parse_yaml
from server.admission.pki import ca_files, issue_server_certificate, issue_site_certificate, make_ca
from sites.settings.definitions import definition_text
from sites.settings.receive_settings import ReceiveSettings
from sites.store.pseudonym import naming_key
from tests.support.dicom_series import Header, write_classic
from tests.support.small_scans import affine_of

CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SECRET = "QZSECRETXJ"
ALLOWED = {"calling_titles": ["SCANNER"], "port": 0, "min_free_bytes": 1}
WITHIN_S = 60
"""For what takes moments: a busy machine has its time."""
PROGRAM = [sys.executable, "-c", "from fedminet.main import run; run()"]


def study(folder: Path, n_objects: int) -> list[Path]:
    """Small objects of one patient whose name, number and description stand nowhere else."""
    header = Header(patient_id=f"{SECRET}1", patient_name=f"{SECRET}2", series="T2", description=f"{SECRET}3")
    array = np.arange(n_objects * 64, dtype=np.uint16).reshape(n_objects, 8, 8) % 1000
    return write_classic(folder / SECRET, array, affine_of((4.0, 3.0, 3.0)), header=header)


def make_home(folder: Path, **settings: object) -> SiteHome:
    """A site's folder with its settings and nothing in it."""
    folder.mkdir()
    content = {**parse_yaml(definition_text("sms")), "reader": "dicom", "receive": {**ALLOWED, **settings}}
    (folder / "site.yaml").write_text(yaml.safe_dump(content))
    return SiteHome.at(folder)


@contextlib.contextmanager
def receiving(home: SiteHome) -> Iterator[tuple[Receiver, int]]:
    """The receiver in this process."""
    receiver = Receiver(home.settings().receive, Inbox(home.inbox, key=naming_key(home.store)))
    with receiver.running() as port:
        yield receiver, port


class Started:
    """The receiver as a process of its own, which is gone when the block is left."""

    def __init__(self, home: SiteHome, log: Path) -> None:
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [*PROGRAM, "site", "receive", str(home.path), "--json"],
                stdout=subprocess.PIPE,
                stderr=stream,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert said, f"the receiver ended with {self.process.wait(WITHIN_S)}"
        self.port = json.loads(said)["port"]

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)

    def end(self, number: int) -> str:
        self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=WITHIN_S)
        return said.decode()


def push(
    paths: list[Path],
    port: int,
    *,
    title: str = "SCANNER",
    called: str = "FEDMINET",
    tls=None,
    progress=None,
    ended=None,
) -> int:
    """How many objects were answered with success. What an association's end left unanswered is sent in another one,
    unless the event `ended` is set.
    """
    peer = AE(ae_title=title)
    peer.acse_timeout = peer.dimse_timeout = peer.network_timeout = WITHIN_S
    for kind in {str(dcmread(path, stop_before_pixels=True).SOPClassUID) for path in paths}:
        peer.add_requested_context(kind)
    left, n_stored = list(paths), 0
    for _ in range(5):
        opened: list[socket.socket] = []
        keep = (evt.EVT_CONN_OPEN, lambda event, opened=opened: opened.append(event.assoc.dul.socket.socket))
        association = peer.associate(
            "127.0.0.1", port, ae_title=called, evt_handlers=[keep], tls_args=tls and (tls, None)
        )
        was_established = association.is_established
        if was_established:  # else each object waits for the receiver's delayed acknowledgement
            opened[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            make_steady(association)  # else pynetdicom's peer may wait in vain for an answer that came
        while left and association.is_established:
            status = _send(association, left[0])
            if status is None:
                break
            left.pop(0)
            n_stored += status == 0
            if progress is not None:
                progress(n_stored)
        if association.is_established:
            association.release()
        if association.ident is not None:
            association.join(5)
        for one in opened:  # pynetdicom leaves that of a refused or cut association to the garbage collection
            one.close()
        if not left or not was_established or (ended is not None and ended.is_set()):
            break
    return n_stored


def _send(association: Association, path: Path) -> int | None:
    """The status; -1 for a kind that was not accepted, None where the association has ended."""
    try:
        return getattr(association.send_c_store(path), "Status", None)
    except ValueError:
        return -1
    except RuntimeError:
        return None


def push_until_killed(paths: list[Path], started: Started, kill_at: int) -> int:
    """Kill the receiver when that many objects were answered; how many were in all."""
    reached, answered = threading.Event(), list[int]()

    def look(n_stored: int) -> None:
        if n_stored >= kill_at:
            reached.set()

    pushing = threading.Thread(
        target=lambda: answered.append(push(paths, started.port, progress=look, ended=reached))
    )
    pushing.start()
    assert reached.wait(2 * WITHIN_S)
    started.end(signal.SIGKILL)
    pushing.join()
    return answered[0]


def content_of(home: SiteHome) -> dict[str, bytes]:
    """By SOP Instance UID the pixels; fails where an object is there twice."""
    found: dict[str, bytes] = {}
    for path in (home.inbox / "received").iterdir():
        one = dcmread(path)
        assert one.SOPInstanceUID not in found
        found[one.SOPInstanceUID] = one.PixelData
    return found


def sent(paths: list[Path]) -> dict[str, bytes]:
    return {one.SOPInstanceUID: one.PixelData for one in map(dcmread, paths)}


@pytest.mark.long
def test_a_study_pushed_twice_over_kills_while_ingest_runs_is_whole_and_single(tmp_path: Path) -> None:
    """The short form, in which ingest empties the inbox, is tests/client/pacs/test_with_orthanc.py."""
    n_objects, kills = 400, (130, 260)
    home, paths, log = make_home(tmp_path / "home"), study(tmp_path / "pacs", n_objects), tmp_path / "log"
    for kill_at in kills:
        with Started(home, log) as started:
            answered = push_until_killed(paths, started, kill_at)
        assert kill_at <= answered < n_objects
        assert len(content_of(home)) >= answered, "what was answered is on the disk"
    with Started(home, log) as started:
        reading = subprocess.Popen(
            [*PROGRAM, "site", "ingest", str(home.path), str(home.inbox / "received")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        with reading:
            assert [push(paths, started.port), push(paths, started.port)] == [n_objects, n_objects]
            assert reading.stdout is not None
            said = reading.stdout.read()
        said += started.end(signal.SIGTERM).encode()
    counts = json.loads(said.splitlines()[-1])
    assert counts.keys() == {"objects received"}
    assert counts["objects received"] >= 2 * n_objects
    assert b"FM-S" not in said
    assert content_of(home) == sent(paths)
    assert not list((home.inbox / "arriving").iterdir())
    identities = [SECRET, *sent(paths)]
    names = "\n".join(str(path.relative_to(home.path)) for path in home.path.rglob("*"))
    logs = said.decode() + log.read_text()
    assert not [one for one in identities if one in names or one in logs]
    for path in home.path.rglob("*"):
        if path.is_file() and path.parent.name != "received":
            assert not [one for one in identities if one.encode() in path.read_bytes()], path
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (home.inbox / "received").iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE((home.inbox / "received").stat().st_mode) == 0o700


@pytest.mark.parametrize(("title", "called"), [("STRANGER", "FEDMINET"), ("SCANNER", "ANOTHER")])
def test_a_title_that_is_not_listed_is_refused(tmp_path: Path, title: str, called: str) -> None:
    home, paths = make_home(tmp_path / "home"), study(tmp_path, 1)
    with receiving(home) as (receiver, port):
        assert push(paths, port, title=title, called=called) == 0
        assert push(paths, port) == 1
    assert receiver.counts["associations refused"] == 1


def test_an_address_that_is_not_listed_is_not_heard(tmp_path: Path) -> None:
    home, paths = make_home(tmp_path / "home", peers=["192.0.2.0/24"]), study(tmp_path, 1)
    with receiving(home) as (receiver, port):
        assert push(paths, port) == 0
    assert receiver.counts["connections refused by address"] == 1
    assert not list((home.inbox / "received").iterdir())


@pytest.mark.parametrize("name", ["calling_titles", "peers"])
def test_nobody_may_send_unless_listed(tmp_path: Path, name: str) -> None:
    home = make_home(tmp_path / "home", **{name: []})
    with pytest.raises(InvalidSetting, match=name), receiving(home):
        pass
    assert ReceiveSettings().calling_titles == ()
    assert ReceiveSettings().address == "127.0.0.1"


def test_a_capture_is_refused_and_an_mr_image_beside_it_is_taken(tmp_path: Path) -> None:
    home, paths = make_home(tmp_path / "home"), study(tmp_path, 2)
    one = dcmread(paths[0])
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = CAPTURE
    one.save_as(paths[0])
    with receiving(home) as (_, port):
        assert push(paths, port) == 1
    assert set(content_of(home)) == {dcmread(paths[1]).SOPInstanceUID}


def test_what_is_beyond_a_limit_is_refused(tmp_path: Path) -> None:
    paths = study(tmp_path, 3)
    home = make_home(tmp_path / "number", max_objects=2)
    with receiving(home) as (receiver, port):
        assert push(paths, port) == 2
        assert push(paths[2:], port) == 1
    assert receiver.counts["objects refused for their number"] == 1
    home = make_home(tmp_path / "room", min_free_bytes=10**18)
    with receiving(home) as (_, port):
        assert push(paths, port) == 0
    home = make_home(tmp_path / "length", max_object_bytes=1000)
    long = dcmread(paths[0])
    long.Rows = long.Columns = 256
    long.PixelData = bytes(2 * 256 * 256)
    long.save_as(tmp_path / "long.dcm")
    with receiving(home) as (receiver, port):
        assert push([tmp_path / "long.dcm"], port) == 0
        assert push(paths, port) == 3
    assert receiver.counts["connections cut for length"] >= 1


def test_a_pdu_that_says_four_gigabytes_is_cut(tmp_path: Path) -> None:
    home, paths = make_home(tmp_path / "home"), study(tmp_path, 1)
    with receiving(home) as (receiver, port):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as stranger:
            stranger.sendall(b"\x01\x00\xff\xff\xff\xff")
            with contextlib.suppress(ConnectionError):
                assert stranger.recv(100) == b""
        assert push(paths, port) == 1
    assert receiver.counts["connections cut for length"] == 1


def test_with_tls_only_a_peer_with_a_certificate_sends_and_a_silent_one_holds_up_nobody(
    tmp_path: Path,
) -> None:
    authority = make_ca(tmp_path / "ca", name="hospital", passphrase="one two three four five six")
    own, key = (
        issue_server_certificate(authority, hosts=["127.0.0.1"]),
        ec.generate_private_key(ec.SECP384R1()),
    )
    certificate = issue_site_certificate(authority, "pacs", key.public_key())
    chain = tmp_path / "pacs.pem"
    chain.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )
    trusted = str(ca_files(authority.folder).certificate)
    stranger = ssl.create_default_context(cafile=trusted)
    stranger.check_hostname = False
    peer = ssl.create_default_context(cafile=trusted)
    peer.check_hostname = False
    peer.load_cert_chain(chain)
    files = {"certificate": str(own.certificate), "private_key": str(own.private_key), "authority": trusted}
    home, paths = make_home(tmp_path / "home", **files), study(tmp_path, 2)
    with receiving(home) as (_, port), socket.create_connection(("127.0.0.1", port)):
        assert push(paths, port, tls=stranger) == 0
        assert push(paths, port) == 0
        assert not list((home.inbox / "received").iterdir())
        assert push(paths, port, tls=peer) == 2
    assert content_of(home) == sent(paths)


def test_a_second_receiver_of_one_inbox_is_refused(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    with receiving(home), pytest.raises(RunBusy), receiving(home):
        pass


DCMTK = pytest.mark.skipif(shutil.which("storescu") is None, reason="dcmtk's storescu is not installed")


def dcmtk(program: str, port: int, *rest: str, title: str = "SCANNER") -> subprocess.CompletedProcess[str]:
    command = [program, "-aet", title, "-aec", "FEDMINET", *rest[:0], "127.0.0.1", str(port), *rest]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@DCMTK
def test_dcmtk_echoes_and_stores_and_a_stranger_does_not(tmp_path: Path) -> None:
    home, paths = make_home(tmp_path / "home"), study(tmp_path, 20)
    files = [str(path) for path in paths]
    with receiving(home) as (_, port):
        assert dcmtk("echoscu", port).returncode == 0
        assert dcmtk("echoscu", port, title="STRANGER").returncode != 0
        assert dcmtk("storescu", port, *files, title="STRANGER").returncode != 0
        assert not list((home.inbox / "received").iterdir())
        assert dcmtk("storescu", port, *files).returncode == 0
    assert content_of(home) == sent(paths)
