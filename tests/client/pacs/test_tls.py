"""TLS of what the site sends and asks, against dcmtk's storescp: the right authority, another, another name, none."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from pydicom import dcmread

from client.pacs.query import Pacs
from client.pacs.questions import Question
from client.pacs.send import send_series
from client.receive.peer import Caller, Peer
from client.receive.tls import tls_of_caller
from minet_core.errors import DicomPeerUnreachable, FedminetError, InvalidSetting
from minet_core.runtime.processes.child_processes import free_port
from sites.settings.receive_settings import ReceiveSettings
from tests.support.dicom_series import write_classic
from tests.support.hospital_ca import HospitalCa, TlsFiles
from tests.support.small_scans import affine_of

STORESCP = shutil.which("storescp", path="/usr/bin:/usr/local/bin")
"""dcmtk's: pynetdicom puts another program of this name into an environment."""
NEEDS_DCMTK = pytest.mark.skipif(STORESCP is None, reason="dcmtk is not installed")
N_SLICES = 3
WITHIN_S = 60
"""For an answer that comes at once: a busy machine has its time."""


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> HospitalCa:
    return HospitalCa(tmp_path_factory.mktemp("ca") / "hospital")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> HospitalCa:
    return HospitalCa(tmp_path_factory.mktemp("ca") / "stranger")


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    array = np.arange(N_SLICES * 64, dtype=np.uint16).reshape(N_SLICES, 8, 8)
    write_classic(folder / "t2", array, affine_of((4.0, 3.0, 3.0)))
    return folder / "t2"


@contextlib.contextmanager
def storescp(folder: Path, files: TlsFiles | None) -> Iterator[tuple[Peer, Path]]:
    """dcmtk's Storage SCP, which asks for a certificate; with None it speaks no TLS. Where it puts what it takes."""
    place, port = folder / "taken", free_port()
    place.mkdir(parents=True)
    tls = [] if files is None else ["+tls", files.private_key, files.certificate, "+cf", files.authority]
    command = [str(STORESCP), "-aet", "PACS", "-od", str(place), *map(str, tls), str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        ends = time.monotonic() + 30
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert time.monotonic() < ends
            time.sleep(0.05)
        yield Peer("PACS", "127.0.0.1", port), place
    finally:
        process.terminate()
        process.wait(30)


def caller(files: TlsFiles | None) -> Caller:
    if files is None:
        return Caller(timeout_s=WITHIN_S)
    return Caller.of_site(ReceiveSettings(**files.as_settings()), timeout_s=WITHIN_S, tls=True)


@NEEDS_DCMTK
def test_a_series_goes_to_a_peer_of_the_same_authority(
    hospital: HospitalCa, series: Path, tmp_path: Path
) -> None:
    with storescp(tmp_path / "scp", hospital.issue("pacs")) as (peer, taken):
        assert send_series(series, peer, caller(hospital.issue("site"))) == N_SLICES
    sent = {one.SOPInstanceUID: one.PixelData for one in map(dcmread, series.iterdir())}
    assert {one.SOPInstanceUID: one.PixelData for one in map(dcmread, taken.iterdir())} == sent


@NEEDS_DCMTK
@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("another authority", "certificate"),
        ("another name", "IP address mismatch"),
        ("no TLS there", "no TLS with a DICOM peer"),
        ("no TLS here", "does not speak with this site"),
        ("our certificate is a stranger's", "DICOM peer"),
    ],
)
def test_nothing_is_sent_where_one_side_does_not_trust_the_other(
    hospital: HospitalCa, stranger: HospitalCa, series: Path, tmp_path: Path, case: str, why: str
) -> None:
    site = hospital.issue("site")
    foreign = stranger.issue("site")
    there, here = {
        "another authority": (stranger.issue("pacs"), site),
        "another name": (hospital.issue("elsewhere", host="pacs.example.org"), site),
        "no TLS there": (None, site),
        "no TLS here": (hospital.issue("pacs"), None),
        "our certificate is a stranger's": (
            hospital.issue("pacs"),
            TlsFiles(foreign.certificate, foreign.private_key, site.authority),
        ),
    }[case]
    with storescp(tmp_path / "scp", there) as (peer, taken):
        with pytest.raises(DicomPeerUnreachable, match=f"FM-S524.*{why}"):
            send_series(series, peer, caller(here))
        assert not list(taken.iterdir())


@NEEDS_DCMTK
def test_nothing_is_asked_of_an_archive_of_another_authority(
    hospital: HospitalCa, stranger: HospitalCa, tmp_path: Path
) -> None:
    """The question itself names a patient's examination: it must not go out."""
    with storescp(tmp_path / "scp", stranger.issue("pacs")) as (peer, _):
        question = Question(keyword="AccessionNumber", value="QZ1", label="line 1")
        with pytest.raises(
            DicomPeerUnreachable, match=r"FM-S524: no TLS with a DICOM peer.*certificate"
        ) as raised:
            Pacs(caller(hospital.issue("site")), peer).studies(question)
        assert "QZ1" not in str(raised.value)


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(
    hospital: HospitalCa, tmp_path: Path
) -> None:
    files = hospital.issue("locked")
    key = load_pem_private_key(files.private_key.read_bytes(), password=None)
    form = (Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    locked = tmp_path / "locked.key"
    locked.write_bytes(key.private_bytes(*form))
    settings = ReceiveSettings(**{**files.as_settings(), "private_key": str(locked)})
    with pytest.raises(InvalidSetting, match="FM-C102"):
        tls_of_caller(settings)


def test_tls_without_files_is_refused_before_a_connection(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="no certificate for TLS"):
        Caller.of_site(ReceiveSettings(), timeout_s=WITHIN_S, tls=True)
    files = TlsFiles(tmp_path / "a", tmp_path / "b", tmp_path / "c")
    with pytest.raises(FedminetError, match="FM-C103"):
        caller(files)
