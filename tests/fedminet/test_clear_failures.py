"""What goes wrong is said once, with its code, a non-zero exit, and nothing lost."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import yaml

from fedminet.main import run
from sites.store.store import Store
from tests.faults.tiny_sites import open_the_policy
from tests.support.small_scans import make_volume, write_fastmri, write_nifti, write_nifti_patient


class Outcome:
    """What a command left: its exit status and what it printed."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def fedminet(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
):
    """Call the command line as the console script does."""
    passphrase = tmp_path_factory.mktemp("secret") / "passphrase"
    passphrase.write_text("four words of a trial\n")
    passphrase.chmod(0o600)
    monkeypatch.setenv("FEDMINET_CA_PASSPHRASE_FILE", str(passphrase))

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["fedminet", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            run()
        captured = capsys.readouterr()
        return Outcome(int(ending.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def sms(tmp_path: Path, fedminet) -> Path:
    home = tmp_path / "site"
    assert fedminet("site", "init", home, "--definition", "sms").status == 0
    return home


@pytest.fixture
def three_patients(tmp_path: Path) -> Path:
    scans = tmp_path / "scans"
    for number in range(3):
        write_nifti_patient(scans / f"patient{number}", number)
    return scans


def refuses_one_and_keeps_the_rest(outcome: Outcome, home: Path, code: str, *, kept: int) -> None:
    assert outcome.status == 3
    assert outcome.err.count(code) == 1
    assert "Traceback" not in outcome.err
    assert len(Store(home / "store").cohort.pairs) == kept


def test_a_truncated_hdf5_file(tmp_path: Path, fedminet) -> None:
    home, scans = tmp_path / "site", tmp_path / "scans"
    fedminet("site", "init", home, "--definition", "fastmri")
    for number in range(4):
        for offset, acquisition in ((0, "CORPD_FBK"), (10, "CORPDFS_FBK")):
            write_fastmri(scans / f"file{number + offset}.h5", number, acquisition, patient_id=f"p{number}")
    whole = scans / "file13.h5"
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    outcome = fedminet("site", "ingest", home, scans, "--allow-few-patients")
    assert outcome.status == 3
    assert "FM-D201" in outcome.err
    assert "file13.h5" in outcome.err
    assert len(Store(home / "store").cohort.pairs) == 3
    with h5py.File(scans / "file12.h5") as untouched:
        assert "kspace" in untouched


def test_a_nifti_of_one_slice(sms: Path, three_patients: Path, fedminet) -> None:
    write_nifti(three_patients / "patient9" / "T1.nii.gz", make_volume(9, "T1", shape=(1, 64, 60)))
    write_nifti(three_patients / "patient9" / "T2.nii.gz", make_volume(9, "T2", shape=(1, 64, 60)))
    outcome = fedminet("site", "ingest", sms, three_patients, "--allow-few-patients")
    refuses_one_and_keeps_the_rest(outcome, sms, "FM-D202", kept=3)


def test_a_nifti_with_nan(sms: Path, three_patients: Path, fedminet) -> None:
    path = three_patients / "patient9" / "T2.nii.gz"
    write_nifti_patient(path.parent, 9)
    image = nibabel.load(path)
    array = np.asarray(image.dataobj).copy()
    array[20, 20, 3] = np.nan
    nibabel.save(nibabel.Nifti1Image(array, image.affine), path)
    outcome = fedminet("site", "ingest", sms, three_patients, "--allow-few-patients")
    refuses_one_and_keeps_the_rest(outcome, sms, "FM-D202", kept=3)


def test_a_missing_reference(sms: Path, three_patients: Path, fedminet) -> None:
    write_nifti(three_patients / "patient9" / "T2.nii.gz", make_volume(9, "T2"))
    outcome = fedminet("site", "ingest", sms, three_patients, "--allow-few-patients")
    refuses_one_and_keeps_the_rest(outcome, sms, "FM-D203", kept=3)
    assert "patient9" in next(line for line in outcome.err.splitlines() if "FM-D203" in line)


def test_an_empty_folder_changes_nothing(sms: Path, three_patients: Path, tmp_path: Path, fedminet) -> None:
    fedminet("site", "ingest", sms, three_patients, "--allow-few-patients")
    before = Store(sms / "store").cohort.digest
    (tmp_path / "empty").mkdir()
    outcome = fedminet("site", "ingest", sms, tmp_path / "empty")
    assert (outcome.status, outcome.err.count("FM-D205")) == (3, 1)
    assert Store(sms / "store").cohort.digest == before


def test_too_few_patients_ask_for_the_option(sms: Path, tmp_path: Path, fedminet) -> None:
    for number in range(2):
        write_nifti_patient(tmp_path / "two" / f"patient{number}", number)
    outcome = fedminet("site", "ingest", sms, tmp_path / "two")
    assert (outcome.status, outcome.err.count("FM-D206")) == (3, 1)
    assert "allow" in outcome.err
    outcome = fedminet("site", "ingest", sms, tmp_path / "two", "--allow-few-patients")
    assert outcome.status == 0
    assert "Few patients" in outcome.out


def test_an_unknown_key_in_site_yaml(sms: Path, three_patients: Path, fedminet) -> None:
    path = sms / "site.yaml"
    text = path.read_text()
    path.write_text(text + "allow_few_patient: true\n")
    outcome = fedminet("site", "ingest", sms, three_patients)
    assert (outcome.status, outcome.err.count("FM-C101")) == (2, 1)
    assert "'allow_few_patients'" in outcome.err


def test_an_unknown_key_in_federation_yaml(tmp_path: Path, fedminet) -> None:
    home = tmp_path / "coordinator"
    assert fedminet("server", "init", home).status == 0
    path = home / "federation.yaml"
    path.write_text(path.read_text().replace("quorum:", "qorum:"))
    outcome = fedminet("server", "run", home, "--name", "first")
    assert (outcome.status, outcome.err.count("FM-C101")) == (2, 1)
    assert not (home / "runs" / "first").exists()


def test_a_port_in_use(tmp_path: Path, fedminet) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        home = tmp_path / "coordinator"
        assert fedminet("server", "init", home, "--port", taken.getsockname()[1]).status == 0
        outcome = fedminet("server", "start", home)
    assert (outcome.status, outcome.err.count("FM-S501")) == (6, 1)


def test_an_unreachable_server(tmp_path: Path, three_patients: Path, fedminet) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home, site, kit = tmp_path / "coordinator", tmp_path / "site", tmp_path / "kit"
    fedminet("server", "init", home, "--site", "sms", "--port", port)
    federation = yaml.safe_load((home / "federation.yaml").read_text())
    federation["training"]["patch_px"] = 16  # the scans are small
    (home / "federation.yaml").write_text(yaml.safe_dump(federation))
    fedminet("site", "init", site, "--definition", "sms")
    open_the_policy(site / "site.yaml")
    made = json.loads(fedminet("site", "request", site, "--json").out)
    asked = ("--request", made["request"], "--fingerprint", made["fingerprint"])
    admitted = fedminet("server", "admit", home, "--name", "sms", *asked, "--kit", kit, "--json")
    assert admitted.status == 0
    authority = json.loads(admitted.out)["authority_fingerprint"]
    outcome = fedminet("server", "run", home, "--name", "first")
    assert (outcome.status, outcome.err.count("FM-S502")) == (6, 1)
    assert not (home / "runs" / "first").exists()
    outcome = fedminet("site", "start", site, "--kit", kit, "--fingerprint", authority, "--wait", "1")
    assert (outcome.status, outcome.err.count("FM-D205"), outcome.err.count("FM-S502")) == (3, 1, 1)
    fedminet("site", "ingest", site, three_patients, "--allow-few-patients")
    outcome = fedminet("site", "start", site, "--wait", "1")
    assert (outcome.status, outcome.err.count("FM-S502")) == (6, 1)


def test_a_folder_that_is_not_a_site(tmp_path: Path, fedminet) -> None:
    outcome = fedminet("site", "check", tmp_path)
    assert (outcome.status, outcome.err.count("FM-C103")) == (2, 1)


def test_a_used_output_folder_is_not_written_over(tmp_path: Path, fedminet) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    outcome = fedminet("demo", "--out", tmp_path)
    assert (outcome.status, outcome.err.count("FM-C100")) == (2, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_model_that_is_not_one(tmp_path: Path, sms: Path, fedminet) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    outcome = fedminet("evaluate", "--model", tmp_path / "model.safetensors", "--site", sms)
    assert (outcome.status, outcome.err.count("FM-M301")) == (4, 1)
