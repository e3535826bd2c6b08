"""What `infer` writes goes to a peer when it is whole: into Orthanc beside its source, and to one that takes a part."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import Result
from pydicom import dcmread
from pydicom.dataset import Dataset
from typer.testing import CliRunner

from client.pacs.send import send_series
from client.receive.inbox import Inbox
from client.receive.peer import Caller, Peer
from client.receive.receiver import Receiver
from fedminet.main import command_line
from minet_core.checkpoint import save_checkpoint
from minet_core.checkpoint_manifest import describe
from minet_core.errors import DicomPeerUnreachable, DicomTransferIncomplete, FileMissing, InvalidSetting
from minet_core.imaging.degradation import low_resolution
from minet_core.models.registry import build_model
from minet_core.runtime.processes.child_processes import free_port
from minet_core.settings.federation import ModelSettings
from minet_core.settings.yaml_file import parse_yaml
from minet_core.weights.manifest import learnable
from sites.settings.definitions import definition_text
from sites.settings.receive_settings import ReceiveSettings
from tests.support.dicom_series import Header, write_classic, write_enhanced
from tests.support.hospital_ca import HospitalCa
from tests.support.orthanc import NEEDS_ORTHANC, TITLE, orthanc
from tests.support.small_scans import affine_of, make_volume

SCALE = 2
STORESCP = shutil.which("storescp")
SMALL = ModelSettings(n_groups=1, n_blocks=1, n_features=4, reduction=2)
NAME, PATIENT = "QZNAMEXJ", "QZNUMBERXJ"
N_SLICES = 8
OWN = {"calling_titles": ["FEDMINET"], "port": 0, "min_free_bytes": 1, "timeout_s": 20}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small one, as it is before training."""
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    torch.manual_seed(0)
    tensors = learnable(build_model(SMALL.model_dump(), scale=SCALE))
    save_checkpoint(path, tensors, describe(tensors, model=SMALL, scale=SCALE, round_number=0, provenance={}))
    return path


def complete(one: Dataset, index: int) -> None:
    one.FrameOfReferenceUID, one.StudyDate, one.EchoPulseSequence = "2.25.99", "20240102", "SPIN"


def write_study(folder: Path, *, enhanced: bool) -> list[Path]:
    """A T2 of half the resolution in the plane, and its T1."""
    high = [np.rint(make_volume(1, contrast).array).astype(np.float32) for contrast in ("T1", "T2")]
    low = np.rint(low_resolution(torch.from_numpy(high[1]), SCALE).numpy()).clip(0, 4095)
    paths: list[Path] = []
    for series, array, step, times in (("t1", high[0], 3.0, (12, 550)), ("t2", low, 6.0, (100, 4500))):
        header = Header(PATIENT, NAME, series=series, echo_time_ms=times[0], repetition_time_ms=times[1])
        stored, affine = array.astype(np.uint16), affine_of((4.0, step, step))
        if enhanced:
            path = folder / f"{series}.dcm"
            paths.append(write_enhanced(path, stored, affine, header=header, change=complete))
        else:
            paths += write_classic(folder / series, stored, affine, header=header, change=complete)
    return paths


def infer(model: Path, *options: object) -> Result:
    command = ["infer", "--model", str(model), "--no-register", *map(str, options)]
    result = CliRunner().invoke(command_line(), command)
    assert not re.search(f"{NAME}|{PATIENT}|2\\.25\\.", result.output + str(result.exception or ""))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@NEEDS_ORTHANC
@pytest.mark.parametrize("enhanced", [False, True])
def test_the_new_series_opens_in_the_archive_beside_its_source(
    model: Path, tmp_path: Path, enhanced: bool
) -> None:
    source = write_study(tmp_path / "study", enhanced=enhanced)
    with orthanc(tmp_path / "orthanc") as running:
        (study,) = running.put(source)
        former = set(running.ask(f"/studies/{study}")["Series"])
        peer = f"{TITLE}@127.0.0.1:{running.port}"
        said = infer(model, "--study", tmp_path / "study", "--out", tmp_path / "new", "--send", peer).output
        written = [dcmread(path) for path in sorted((tmp_path / "new").iterdir())]
        assert len(written) == (1 if enhanced else N_SLICES)
        assert f"Sent: {len(written)} objects to {peer}" in said
        assert running.ask("/studies") == [study], "it is of the same study"
        (new,) = set(running.ask(f"/studies/{study}")["Series"]) - former
        assert len(former) == 2
        names = running.ask(f"/series/{new}")["Instances"]
        assert len(names) == len(written)
        in_archive = {}
        for name in names:
            tags = running.ask(f"/instances/{name}/simplified-tags")
            assert tags["ImageType"].startswith("DERIVED")
            assert tags["PatientID"] == PATIENT
            in_archive[tags["SOPInstanceUID"]] = running.ask(f"/instances/{name}/file")
            picture = running.ask(f"/instances/{name}/preview")
            assert picture.startswith(b"\x89PNG"), "it is drawn"
        for one in written:
            (tmp_path / "there.dcm").write_bytes(in_archive[str(one.SOPInstanceUID)])
            there = dcmread(tmp_path / "there.dcm")
            assert there.PixelData == one.PixelData
            assert (there.Rows, there.Columns) == (one.Rows, one.Columns)


MAP = "1.2.840.10008.5.1.4.1.1.30"


@NEEDS_ORTHANC
def test_the_map_goes_into_the_archive_after_the_series(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    source = write_study(tmp_path / "study", enhanced=False)
    with orthanc(tmp_path / "orthanc") as running:
        (study,) = running.put(source)
        peer = f"{TITLE}@127.0.0.1:{running.port}"
        options = ["--study", tmp_path / "study", "--out", tmp_path / "new", "--uncertainty", "--send", peer]
        assert f"Sent: {N_SLICES + 1} objects to {peer}" in infer(model, *options).output
        assert running.ask("/studies") == [study], "it is of the same study"
        (found,) = (
            name
            for name in running.ask("/instances")
            if running.ask(f"/instances/{name}/metadata/SopClassUid").decode() == MAP
        )
        (tmp_path / "there.dcm").write_bytes(running.ask(f"/instances/{found}/file"))
    written, there = dcmread(tmp_path / "new-uncertainty.dcm"), dcmread(tmp_path / "there.dcm")
    assert there.SOPInstanceUID == written.SOPInstanceUID
    assert there.FloatPixelData == written.FloatPixelData


@pytest.mark.skipif(STORESCP is None, reason="dcmtk's storescp is not installed")
def test_dcmtk_stores_the_series_and_its_map(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    write_study(tmp_path / "study", enhanced=False)
    (tmp_path / "there").mkdir()
    port = free_port()
    with subprocess.Popen([str(STORESCP), "-od", str(tmp_path / "there"), str(port)]) as running:
        try:
            wait_for(port)
            options = ["--study", tmp_path / "study", "--out", tmp_path / "new", "--uncertainty"]
            infer(model, *options, "--send", f"ANY@127.0.0.1:{port}")
        finally:
            running.terminate()
    there = [dcmread(path) for path in (tmp_path / "there").iterdir()]
    written = [*(tmp_path / "new").iterdir(), tmp_path / "new-uncertainty.dcm"]
    assert {str(one.SOPInstanceUID) for one in there} == {str(dcmread(one).SOPInstanceUID) for one in written}
    assert sum(one.SOPClassUID == MAP for one in there) == 1


def wait_for(port: int) -> None:
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("nobody listens")


def test_a_peer_that_takes_no_maps_has_the_series_and_that_is_said(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    write_study(tmp_path / "study", enhanced=False)
    inbox = Inbox(tmp_path / "inbox", key=b"k" * 32)
    with Receiver(ReceiveSettings(**OWN), inbox).running() as port:
        options = ["--study", tmp_path / "study", "--out", tmp_path / "new", "--uncertainty"]
        with pytest.raises(DicomTransferIncomplete, match=r"FM-S525.*8 of 9, then status 0x0122"):
            infer(model, *options, "--send", f"FEDMINET@127.0.0.1:{port}")
    assert len(list(inbox.received.iterdir())) == N_SLICES
    assert (tmp_path / "new-uncertainty.dcm").exists()


@NEEDS_ORTHANC
def test_the_new_series_goes_over_tls_with_the_sites_files(model: Path, tmp_path: Path) -> None:
    source, hospital = write_study(tmp_path / "study", enhanced=False), HospitalCa(tmp_path / "ca")
    content = {**parse_yaml(definition_text("sms")), "reader": "dicom", "data_kind": "phantom"}
    content |= {"receive": hospital.issue("site").as_settings(), "pacs": {"tls": True, "timeout_s": 20}}
    (tmp_path / "dicom.yaml").write_text(yaml.safe_dump(content))
    home = tmp_path / "home"
    command = ["site", "init", str(home), "--definition", str(tmp_path / "dicom.yaml")]
    assert CliRunner().invoke(command_line(), command).exit_code == 0
    options = ["--study", tmp_path / "study", "--site", home]
    with orthanc(tmp_path / "orthanc", tls=hospital.issue("pacs")) as running:
        running.put(source)
        peer = f"{TITLE}@127.0.0.1:{running.port}"
        said = infer(model, *options, "--out", tmp_path / "new", "--send", peer).output
        assert f"Sent: {N_SLICES} objects to {peer}" in said
        assert len(running.ask("/series")) == 3
        with pytest.raises(DicomPeerUnreachable, match="FM-S524"):  # without the site's files
            infer(model, *options[:2], "--out", tmp_path / "again", "--send", peer)
        assert len(running.ask("/series")) == 3


def test_nothing_is_sent_where_nobody_answers_and_the_series_stays(model: Path, tmp_path: Path) -> None:
    write_study(tmp_path / "study", enhanced=False)
    peer = f"PACS@127.0.0.1:{free_port()}"
    with pytest.raises(DicomPeerUnreachable, match="FM-S524"):
        infer(model, "--study", tmp_path / "study", "--out", tmp_path / "new", "--send", peer)
    assert len(list((tmp_path / "new").glob("*.dcm"))) == N_SLICES


def test_a_peer_that_takes_a_part_is_a_failure_with_a_code(tmp_path: Path) -> None:
    paths = write_study(tmp_path / "study", enhanced=False)
    inbox = Inbox(tmp_path / "inbox", key=b"k" * 32)
    with Receiver(ReceiveSettings(**OWN, max_objects=3), inbox).running() as port:
        peer = Peer("FEDMINET", "127.0.0.1", port)
        with pytest.raises(DicomTransferIncomplete, match=r"FM-S525.*3 of 8, then status 0xA700"):
            send_series(paths[0].parent, peer, Caller(timeout_s=20))
        with pytest.raises(DicomPeerUnreachable, match="refuses the association"):
            send_series(paths[0].parent, peer, Caller(title="STRANGER", timeout_s=20))
    assert len(list(inbox.received.iterdir())) == 3
    with pytest.raises(FileMissing):
        send_series(tmp_path, peer, Caller())


def test_whole_series_arrive_over_an_association_of_many_answers(tmp_path: Path) -> None:
    paths = write_study(tmp_path / "study", enhanced=False)
    inbox = Inbox(tmp_path / "inbox", key=b"k" * 32)
    with Receiver(ReceiveSettings(**OWN), inbox).running() as port:
        for _ in range(5):
            assert (
                send_series(paths[0].parent, Peer("FEDMINET", "127.0.0.1", port), Caller(timeout_s=20)) == 8
            )
    assert len(list(inbox.received.iterdir())) == 8


@pytest.mark.parametrize(
    "text", ["PACS", "PACS@host", "@host:104", "PACS@host:0", "P\\C@host:104", "A@b@c:1"]
)
def test_a_peer_that_is_none_is_refused_before_anything_is_made(
    model: Path, tmp_path: Path, text: str
) -> None:
    write_study(tmp_path / "study", enhanced=False)
    with pytest.raises(InvalidSetting, match="AE@host:port"):
        infer(model, "--study", tmp_path / "study", "--out", tmp_path / "new", "--send", text)
    assert not (tmp_path / "new").exists()


def test_a_peer_is_read() -> None:
    assert Peer.parse("MY PACS@10.1.2.9:104") == Peer("MY PACS", "10.1.2.9", 104)
    assert Peer.parse("PACS@[fe80::1]:11112") == Peer("PACS", "fe80::1", 11112)


def test_a_nifti_file_is_not_sent(model: Path, tmp_path: Path) -> None:
    options = ["--target", tmp_path / "a.nii", "--reference", tmp_path / "b.nii", "--out", tmp_path / "c.nii"]
    with pytest.raises(InvalidSetting, match="goes to no PACS"):
        infer(model, *options, "--send", "PACS@127.0.0.1:104")
