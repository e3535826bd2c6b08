"""The site and a real PACS, Debian's Orthanc: received, committed, fetched, sent; nothing lost or double."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pytest
import yaml
from pydicom import dcmread
from pydicom.dataset import Dataset
from typer.testing import CliRunner

from client.receive.inbox import Inbox
from client.receive.receiver import Receiver
from client.site_home import SiteHome
from fedminet.main import command_line
from minet_core.errors import (
    DicomPeerUnreachable,
    DicomTransferIncomplete,
    FedminetError,
    InvalidSetting,
    StudyNotInPacs,
)
from minet_core.runtime.processes.child_processes import free_port
from minet_core.settings.yaml_file import parse_yaml
from sites.settings.definitions import definition_text
from sites.store.pseudonym import naming_key
from sites.store.store import Store
from tests.support.dicom_series import Header, uid_of, write_classic, write_enhanced
from tests.support.hospital_ca import HospitalCa, TlsFiles
from tests.support.orthanc import NEEDS_ORTHANC, TITLE, Orthanc, orthanc
from tests.support.small_scans import affine_of, make_volume
from tests.support.warm_python import KILL, warm_python

pytestmark = NEEDS_ORTHANC
TIMES = {
    "T1": {"echo_time_ms": 10.0, "repetition_time_ms": 600.0},
    "T2": {"echo_time_ms": 100.0, "repetition_time_ms": 4500.0},
    "other": {"echo_time_ms": 30.0, "repetition_time_ms": 100.0},
}
AFFINE = affine_of((4.0, 3.0, 3.0))
SECRET = "QZSECRETXJ"
BETWEEN_INGESTS_S = 0.5
"""Each takes about as long."""
PROGRAM = ["-c", "from fedminet.main import run; run()"]


def make_site(folder: Path, **changes: Any) -> SiteHome:
    """A site with keys whose receiver takes from Orthanc."""
    port = free_port()
    receive = {"calling_titles": [TITLE], "port": port, "min_free_bytes": 1, **changes.pop("receive", {})}
    content = {**parse_yaml(definition_text("sms")), "reader": "dicom", "data_kind": "phantom"}
    content |= {"allow_few_patients": True, "receive": receive, **changes}
    folder.mkdir()
    (folder / "dicom.yaml").write_text(yaml.safe_dump(content))
    command = ["site", "init", str(folder / "home"), "--definition", str(folder / "dicom.yaml")]
    assert CliRunner().invoke(command_line(), command).exit_code == 0
    return SiteHome.at(folder / "home")


def change_settings(home: SiteHome, **changes: Any) -> None:
    path = home.path / "site.yaml"
    content = parse_yaml(path.read_text())
    for name, values in changes.items():
        content[name] = {**content.get(name, {}), **values}
    path.write_text(yaml.safe_dump(content))


def inbox_of(home: SiteHome) -> Inbox:
    inbox = Inbox(home.inbox, key=naming_key(home.store))
    inbox.make_folders()
    return inbox


@contextlib.contextmanager
def receiving(home: SiteHome) -> Iterator[Receiver]:
    receiver = Receiver(home.settings().receive, inbox_of(home))
    with receiver.running():
        yield receiver


def header_of(seed: int, series: str) -> Header:
    extra = {
        "AccessionNumber": f"{SECRET}{seed}",
        "Modality": "MR",
        "StudyDate": "20240102",
        "StudyTime": "101010",
    }
    return Header(
        patient_id=f"{SECRET}{seed}",
        patient_name=f"{SECRET}N{seed}",
        study=f"study {seed}",
        series=series,
        extra=extra,
        **TIMES[series],
    )


def study(folder: Path, seed: int, *, n_objects: int = 16) -> list[Path]:
    """A pair, and beside it as many small objects of another series as make the number."""
    paths = []
    for contrast in ("T1", "T2"):
        array = np.rint(make_volume(seed, contrast).array).astype(np.uint16)
        paths += write_classic(folder / f"{seed}{contrast}", array, AFFINE, header=header_of(seed, contrast))
    n_others = n_objects - len(paths)
    if n_others:
        array = np.arange(n_others * 64, dtype=np.uint16).reshape(n_others, 8, 8)
        paths += write_classic(folder / f"{seed}other", array, AFFINE, header=header_of(seed, "other"))
    assert len(paths) == n_objects
    return paths


def instances(paths: list[Path]) -> set[str]:
    return {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths}


def pixels_of(paths: list[Path]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for one in map(dcmread, paths):
        assert one.SOPInstanceUID not in found, "an object is there twice"
        found[str(one.SOPInstanceUID)] = one.PixelData
    return found


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Orthanc, SiteHome, list[Path]]]:
    """Orthanc with two studies of 20 objects each, and a site that it knows."""
    folder = tmp_path_factory.mktemp("pacs")
    home = make_site(folder / "site", pacs={"title": TITLE, "host": "127.0.0.1"})
    with orthanc(folder / "orthanc", site_port=home.settings().receive.port) as running:
        change_settings(home, pacs={"port": running.port})
        paths = [path for seed in (1, 2) for path in study(folder / "files", seed, n_objects=20)]
        assert len(running.put(paths)) == 2
        yield running, home, paths


@pytest.fixture(autouse=True)
def empty_inbox(request: pytest.FixtureRequest) -> None:
    if "pacs" in request.fixturenames:
        shutil.rmtree(request.getfixturevalue("pacs")[1].inbox, ignore_errors=True)


def fetch(home: SiteHome, *options: str) -> str:
    result = CliRunner().invoke(command_line(), ["site", "fetch", str(home.path), *options])
    said = result.output + str(result.exception or "")
    assert SECRET not in said
    assert "2.25." not in said
    if isinstance(result.exception, FedminetError):
        raise result.exception
    assert result.exit_code == 0, said
    return result.output


@pytest.mark.parametrize("retrieve", ["move", "get"])
def test_studies_are_fetched_by_accession_numbers_and_by_their_uid(
    pacs: tuple[Orthanc, SiteHome, list[Path]], tmp_path: Path, retrieve: str
) -> None:
    _, home, paths = pacs
    change_settings(home, pacs={"retrieve": retrieve})
    numbers = tmp_path / "numbers.txt"
    numbers.write_text(f"{SECRET}1\n\n{SECRET}none\n{SECRET}1\n")
    with pytest.raises(StudyNotInPacs, match="1: line 3"):
        fetch(home, "--accessions", str(numbers))
    received = inbox_of(home).received
    assert pixels_of(list(received.iterdir())) == pixels_of(paths[:20])
    said = json.loads(fetch(home, "--study", str(uid_of(f"{SECRET}2", "study 2")), "--json").splitlines()[-1])
    assert said == {
        "n_asked": 1,
        "n_studies": 1,
        "n_series": 3,
        "n_objects": 20,
        "n_failed": 0,
        "n_cut": 0,
        "not_found": [],
    }
    assert pixels_of(list(received.iterdir())) == pixels_of(paths)
    for path in home.path.rglob("*"):
        assert SECRET not in str(path)
        if path.is_file() and path.parent != received:
            assert SECRET.encode() not in path.read_bytes(), path


def test_a_fetch_uses_the_receiver_that_runs(pacs: tuple[Orthanc, SiteHome, list[Path]]) -> None:
    _, home, paths = pacs
    change_settings(home, pacs={"retrieve": "move"})
    with receiving(home) as receiver:
        fetch(home, "--study", str(uid_of(f"{SECRET}1", "study 1")))
        assert receiver.counts["objects received"] == 20
    assert pixels_of(list(inbox_of(home).received.iterdir())) == pixels_of(paths[:20])


def test_what_cannot_be_fetched_has_a_code(pacs: tuple[Orthanc, SiteHome, list[Path]]) -> None:
    _, home, _ = pacs
    number, former = str(uid_of(f"{SECRET}1", "study 1")), home.settings()
    change_settings(home, pacs={"retrieve": "move"}, receive={"max_objects": 3})
    try:
        with pytest.raises(DicomTransferIncomplete, match="did not come"):
            fetch(home, "--study", number)
        change_settings(home, receive={"max_objects": 100}, pacs={"port": free_port()})
        with pytest.raises(DicomPeerUnreachable, match="does not answer"):
            fetch(home, "--study", number)
        change_settings(home, pacs={"port": former.pacs.port, "max_studies": 1})
        with pytest.raises(InvalidSetting, match="too many studies"):
            fetch(home, "--study", number, "--study", str(uid_of(f"{SECRET}2", "study 2")))
        change_settings(home, pacs={"max_studies": 10}, receive={"title": "STRANGER"})
        with pytest.raises(DicomPeerUnreachable):
            fetch(home, "--study", number)
        change_settings(home, pacs={"host": None})
        with pytest.raises(InvalidSetting, match=r"pacs\.host is null"):
            fetch(home, "--study", number)
    finally:
        change_settings(
            home, receive={"title": "FEDMINET"}, pacs={"host": "127.0.0.1", "port": former.pacs.port}
        )


def test_what_is_on_the_disk_is_committed_to_and_what_is_gone_is_not(tmp_path: Path) -> None:
    home = make_site(tmp_path / "site", receive={"keep_taken_days": None})
    with orthanc(tmp_path / "orthanc", site_port=home.settings().receive.port) as running:
        paths = study(tmp_path / "files", 1)
        (name,) = running.put(paths)
        with receiving(home) as receiver:
            assert running.ended(running.push(name)) == "Success"
            with pytest.raises(urllib.error.HTTPError):  # the class is not offered
                running.ask("/modalities/site/storage-commitment", {"Resources": [name]})
        change_settings(home, receive={"commitment": {TITLE: f"127.0.0.1:{running.port}"}})
        with receiving(home) as receiver:
            report = committed(running, name)
            assert report["Status"] == "Success"
            assert {one["SOPInstanceUID"] for one in report["Success"]} == instances(paths)
            gone = dcmread(paths[3]).SOPInstanceUID
            (home.inbox / "received" / inbox_of(home).name_of(gone)).unlink()
            report = committed(running, name)
            assert report["Status"] == "Failure"
            assert [one["SOPInstanceUID"] for one in report["Failures"]] == [gone]
            assert len(report["Success"]) == len(paths) - 1
        assert receiver.counts == {"commitments asked for": 2, "commitments reported": 2}


def committed(running: Orthanc, study_name: str) -> dict[str, Any]:
    """The report on a study, when it has come."""
    place = running.ask("/modalities/site/storage-commitment", {"Resources": [study_name]})["Path"]
    ends = time.monotonic() + 60
    while (report := running.ask(place))["Status"] == "Pending":
        assert time.monotonic() < ends
        time.sleep(0.05)
    return dict(report)


def compress(paths: list[Path], syntax: int) -> list[Path]:
    """In place, without loss, by GDCM."""
    for path in paths:
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(path))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
    return paths


def test_compressed_and_enhanced_objects_come_through_and_are_ingested(tmp_path: Path) -> None:
    home = make_site(tmp_path / "site", receive={"settled_s": 0})
    files, wanted = tmp_path / "files", list[tuple[np.ndarray, np.ndarray]]()
    forms = {
        1: (gdcm.TransferSyntax.JPEGLSLossless, gdcm.TransferSyntax.RLELossless),
        2: (gdcm.TransferSyntax.JPEG2000Lossless, None),
        3: (None, gdcm.TransferSyntax.JPEGLosslessProcess14_1),
    }
    paths: list[Path] = []
    for seed, syntaxes in forms.items():
        arrays = [np.rint(make_volume(seed, one).array).astype(np.uint16) for one in ("T1", "T2")]
        wanted.append((arrays[1], arrays[0]))
        for contrast, array, syntax in zip(("T1", "T2"), arrays, syntaxes, strict=True):
            place, header = files / f"{seed}{contrast}", header_of(seed, contrast)
            if syntax is None:
                paths.append(
                    write_enhanced(place / "one.dcm", array, AFFINE, header=header, change=spin_echo)
                )
            else:
                paths += compress(write_classic(place, array, AFFINE, header=header), syntax)
    with orthanc(tmp_path / "orthanc", site_port=home.settings().receive.port) as running, receiving(home):
        for name in running.put(paths):
            assert running.ended(running.push(name)) == "Success"
    syntaxes = {dcmread(path).file_meta.TransferSyntaxUID for path in (home.inbox / "received").iterdir()}
    assert len(syntaxes) == 5, "each form as it was, and one that is not compressed"
    result = CliRunner().invoke(command_line(), ["site", "ingest", str(home.path), "--json"])
    assert result.exit_code == 0, result.output
    store = Store(home.store)
    found = [store.read_pair(record) for record in store.cohort.pairs]
    assert len(found) == len(forms)
    for target, reference in wanted:
        equal = [
            np.array_equal(one.target.array, target) and np.array_equal(one.reference.array, reference)
            for one in found
        ]
        assert sum(equal) == 1


def spin_echo(one: Dataset, index: int) -> None:
    one.EchoPulseSequence = "SPIN"


class Started:
    """`fedminet site receive` as a process of its own, which is gone when the block is left."""

    def __init__(self, home: SiteHome, log: Path) -> None:
        self.home, self._log = home, log

    def __enter__(self) -> Started:
        command = [warm_python(), *PROGRAM, "site", "receive", str(self.home.path), "--json"]
        with self._log.open("ab") as stream:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream)
        assert self.process.stdout is not None
        assert self.process.stdout.readline(), "the receiver has ended"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(KILL)
        self.process.communicate(timeout=30)

    def wait_for(self, n_objects: int) -> None:
        """Until so many objects lie in the inbox, wherever. An ingest may move its folders meanwhile."""
        ends = time.monotonic() + 60
        while self._count() < n_objects:
            assert time.monotonic() < ends
            time.sleep(0.01)

    def _count(self) -> int:
        return sum(name.endswith(".dcm") for _, _, names in os.walk(self.home.inbox) for name in names)


class Ingesting:
    """`fedminet site ingest` over and over until the block is left, as a timer would start it."""

    def __init__(self, home: SiteHome, log: Path) -> None:
        self._home, self._log, self._ended = home, log, threading.Event()
        self._thread = threading.Thread(target=self._go_on)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _go_on(self) -> None:
        while not self._ended.wait(BETWEEN_INGESTS_S):
            ingest(self._home, self._log)


def ingest(home: SiteHome, log: Path) -> int:
    with log.open("ab") as stream:
        command = [warm_python(), *PROGRAM, "site", "ingest", str(home.path)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, stdout=stream, stderr=stream, env=environment, timeout=300).returncode


@pytest.mark.parametrize(
    ("n_objects", "kills"), [(100, (10,)), pytest.param(400, (120, 250), marks=pytest.mark.long)]
)
def test_a_study_pushed_twice_over_kills_while_ingest_runs_is_there_once(
    tmp_path: Path, n_objects: int, kills: tuple[int, ...]
) -> None:
    """What came in two parts over a kill is one study again, and a second push of it is none more."""
    home = make_site(tmp_path / "site", receive={"settled_s": 0.5, "keep_taken_days": None})
    paths = [*study(tmp_path / "files", 1), *study(tmp_path / "files", 2, n_objects=n_objects)]
    log = tmp_path / "log"
    with orthanc(tmp_path / "orthanc", site_port=home.settings().receive.port) as running:
        names = {len(running.ask(f"/studies/{one}/instances")): one for one in running.put(paths)}
        with Started(home, log):
            assert running.ended(running.push(names[16])) == "Success"
        with Ingesting(home, log):
            for kill_at in kills:
                state, attempts = "Success", 0
                while state != "Failure":  # on a busy machine the whole study may be there before the kill
                    attempts += 1
                    assert attempts <= 5
                    with Started(home, log) as started:
                        job = running.push(names[n_objects])
                        started.wait_for(16 + kill_at)
                    state = running.ended(job)
            with Started(home, log):
                jobs = [running.push(names[n_objects]) for _ in range(2)]
                assert [running.ended(job) for job in jobs] == ["Success", "Success"]
        time.sleep(0.6)
        ingest(home, log)
    taken = pixels_of(list(home.inbox.glob("taken/*/*.dcm")))
    assert taken == pixels_of(paths)
    left = [path for path in home.inbox.rglob("*.dcm") if path.parent.parent.name != "taken"]
    assert not left
    assert len(list((home.inbox / "taken").iterdir())) == 2
    store = Store(home.store)
    found = [store.read_pair(record) for record in store.cohort.pairs]
    wanted = [np.rint(make_volume(seed, "T2").array).astype(np.uint16) for seed in (1, 2)]
    assert len(found) == len(wanted)
    for array in wanted:
        assert sum(np.array_equal(pair.target.array, array) for pair in found) == 1
    said = log.read_text()
    assert "FM-S" not in said
    assert SECRET not in said
    assert not [one for one in instances(paths) if one in said]


@pytest.mark.parametrize("retrieve", ["move", "get"])
def test_a_fetch_and_a_commitment_go_over_tls_in_both_directions(tmp_path: Path, retrieve: str) -> None:
    hospital = HospitalCa(tmp_path / "ca")
    receive = {**hospital.issue("site").as_settings(), "keep_taken_days": None}
    pacs = {"title": TITLE, "host": "127.0.0.1", "tls": True, "retrieve": retrieve, "timeout_s": 20}
    home = make_site(tmp_path / "site", receive=receive, pacs=pacs)
    port = home.settings().receive.port
    with orthanc(tmp_path / "orthanc", site_port=port, tls=hospital.issue("pacs")) as running:
        change_settings(home, pacs={"port": running.port})
        change_settings(home, receive={"commitment": {TITLE: f"127.0.0.1:{running.port}"}})
        paths = study(tmp_path / "files", 1)
        (name,) = running.put(paths)
        fetch(home, "--study", str(uid_of(f"{SECRET}1", "study 1")))
        assert pixels_of(list(inbox_of(home).received.iterdir())) == pixels_of(paths)
        with receiving(home) as receiver:
            report = committed(running, name)
        assert report["Status"] == "Success"
        assert receiver.counts == {"commitments asked for": 1, "commitments reported": 1}
        change_settings(home, pacs={"tls": False})
        with pytest.raises(DicomPeerUnreachable, match="FM-S524"):
            fetch(home, "--study", str(uid_of(f"{SECRET}1", "study 1")))
        other = HospitalCa(tmp_path / "other")
        change_settings(home, pacs={"tls": True}, receive={"authority": str(other.file)})
        with pytest.raises(DicomPeerUnreachable, match=r"FM-S524: no TLS with a DICOM peer.*certificate"):
            fetch(home, "--study", str(uid_of(f"{SECRET}1", "study 1")))


def test_an_archive_of_another_authority_sends_nothing_here(tmp_path: Path) -> None:
    hospital, other = HospitalCa(tmp_path / "ca"), HospitalCa(tmp_path / "other")
    home = make_site(tmp_path / "site", receive=hospital.issue("site").as_settings())
    port = home.settings().receive.port
    strangers = other.issue("pacs")
    files = TlsFiles(strangers.certificate, strangers.private_key, hospital.file)
    with orthanc(tmp_path / "orthanc", site_port=port, tls=files) as running:
        (name,) = running.put(study(tmp_path / "files", 1))
        with receiving(home) as receiver:
            assert running.ended(running.push(name)) == "Failure"
        assert receiver.counts["connections that failed"] >= 1
        assert not list(inbox_of(home).received.iterdir())
