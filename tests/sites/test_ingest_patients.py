"""Whole ingests: who is one patient, who is no longer there, and what is said of both."""

from __future__ import annotations

import dataclasses
import gzip
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from client.commands import site_commands
from minet_core.errors import PatientNamesDoubtful, ScanInvalid, TooFewPatients
from minet_core.settings.yaml_file import settings_text
from sites import ingest_pairs
from sites.duplicates.exchanged_contrasts import Exchanged
from sites.duplicates.likeness import FILE
from sites.ingest import ingest
from sites.quality.figure_text import shares_told_apart, told_apart
from sites.settings.definitions import definition
from sites.settings.site_settings import DuplicateSettings, RegistrationSettings
from sites.store.dataset import require_patch
from sites.store.store import Store
from tests.support.small_scans import make_volume, write_nifti, write_nifti_patient

SMS = definition("sms").model_copy(
    # The made-up second examination has much noise in few pixels.
    update={"data_kind": "phantom", "registration": RegistrationSettings(min_agreement=0.1)}
)
MERGING = SMS.model_copy(update={"duplicates": DuplicateSettings(same_anatomy="merge")})


@pytest.fixture(scope="module")
def hospital(tmp_path_factory) -> Path:
    """Three patients, ingested."""
    folder = tmp_path_factory.mktemp("hospital")
    for number in (1, 2, 3):
        write_nifti_patient(folder / "scans" / f"Mueller{number:03d}", number)
    ingest(folder / "scans", folder / "store", SMS)
    return folder


@pytest.fixture
def again(hospital, tmp_path) -> Path:
    """The same in a folder of the test's own."""
    return Path(shutil.copytree(hospital, tmp_path / "again"))


def exported_again(source: Path, target: Path) -> None:
    """The same voxels with another gain, number type, storage order, description and compression."""
    target.mkdir()
    for path in source.iterdir():
        image = nibabel.load(path)
        other = nibabel.Nifti1Image((image.get_fdata() * 1.7).astype(np.float64), image.affine)
        other = other.as_reoriented(nibabel.orientations.axcodes2ornt(("P", "R", "S")))
        other.header["descrip"] = b"exported again"
        (target / path.name).write_bytes(gzip.compress(other.to_bytes(), compresslevel=9))


def test_scans_that_are_exported_again_under_another_name_are_refused(again) -> None:
    exported_again(again / "scans" / "Mueller001", again / "scans" / "Zweitname")
    report = ingest(again / "scans", again / "store", SMS)
    (refusal,) = report.refused
    assert (refusal.code, refusal.label) == ("FM-D202", "Zweitname: Zweitname")
    assert "a copy of another patient's" in refusal.message
    assert "Mueller001: Mueller001" in refusal.message
    assert "less than 0.85" in refusal.message
    assert len(report.cohort.patients) == 3


def test_a_store_made_before_pairs_were_compared_gives_its_copies_up(again, monkeypatch) -> None:
    """Two patients of one anatomy are in the store, and no signatures."""
    exported_again(again / "scans" / "Mueller001", again / "scans" / "Zweitname")
    with monkeypatch.context() as patch:
        patch.setattr("sites.duplicates.likeness.Signatures.nearest", lambda *_, **__: None)
        assert len(ingest(again / "scans", again / "store", SMS).cohort.patients) == 4
    (again / "store" / FILE).unlink()
    report = ingest(again / "scans", again / "store", SMS)
    assert [refusal.label for refusal in report.refused] == ["Zweitname: Zweitname"]
    assert len(report.cohort.patients) == 3
    assert (again / "store" / FILE).is_file()


def test_a_second_examination_under_another_name_is_refused_or_joined(again) -> None:
    for contrast in ("T1", "T2"):
        volume = make_volume(2, contrast)
        noise = np.random.default_rng(7).normal(0, 60, volume.array.shape)
        turned = ndimage.rotate(volume.array, 7, axes=(1, 2), reshape=False, order=1)
        array = np.abs(turned * np.linspace(0.8, 1.2, turned.shape[2]) + noise).astype(np.float32)
        path = again / "scans" / "Other" / f"{contrast}.nii.gz"
        write_nifti(path, dataclasses.replace(volume, array=array))
    (refusal,) = ingest(again / "scans", again / "store", SMS).refused
    assert "another patient's anatomy" in refusal.message
    assert "Mueller002" in refusal.message
    for _ in range(2):  # repeated, it stays as it is
        report = ingest(again / "scans", again / "store", MERGING)
        assert not report.refused
        assert (len(report.cohort.pairs), len(report.cohort.patients)) == (4, 3)
        files = {pair.label: pair.file.split("-")[0] for pair in report.accepted}
        assert files["Other: Other"] == files["Mueller002: Mueller002"]


def test_patients_who_are_no_longer_in_the_folder_are_said_and_removed_when_told(again) -> None:
    before = Store(again / "store").cohort
    shutil.move(again / "scans" / "Mueller002", again / "left")
    write_nifti_patient(again / "scans" / "Mueller004", 4)
    report = ingest(again / "scans", again / "store", SMS)
    assert len(report.cohort.patients) == 4
    (gone,) = report.missing
    assert f"1 pairs of 1 patients of the store have no scans in this folder: {gone}" in report.as_text()
    assert "--prune removes them" in report.as_text()

    pruned = ingest(again / "scans", again / "store", SMS, prune=True)
    assert len(pruned.cohort.patients) == 3
    assert gone not in pruned.cohort.patients
    assert "They were removed" in pruned.as_text()
    left = {patient: split for patient, split in before.patients.items() if patient != gone}
    assert pruned.cohort.patients.items() >= left.items()

    shutil.move(again / "left", again / "scans" / "Mueller002")
    back = ingest(again / "scans", again / "store", SMS)
    assert back.cohort.patients[gone] == before.patients[gone]
    assert not back.missing


def test_a_new_pair_whose_contrasts_are_exchanged_is_refused_or_said(again, monkeypatch) -> None:
    former = Store(again / "store").cohort
    write_nifti_patient(again / "scans" / "Mueller004", 4)

    def the_new_one(pairs, *, patients):
        assert set(pairs) == set(patients)
        return Exchanged(
            dict.fromkeys(set(pairs) - {pair.file for pair in former.pairs}, -0.9), undecided=False
        )

    monkeypatch.setattr("sites.ingest_pairs.find_exchanged", the_new_one)
    report = ingest(again / "scans", again / "store", SMS)
    assert [one.label for one in report.refused] == ["Mueller004: Mueller004"]
    assert "target and reference are exchanged" in report.refused[0].message
    assert report.cohort.digest == former.digest
    assert not any("stay in the store" in one for one in report.remarks)  # the store never had it

    # Refused again without being made: made, it would be taken now.
    monkeypatch.setattr("sites.ingest_pairs.find_exchanged", lambda *_, **__: Exchanged({}, undecided=False))
    repeated = ingest(again / "scans", again / "store", SMS)
    assert repeated.refused == report.refused
    assert repeated.cohort.digest == former.digest
    monkeypatch.setattr("sites.ingest_pairs.find_exchanged", the_new_one)

    taking = SMS.model_copy(update={"duplicates": DuplicateSettings(exchanged="remark")})
    report = ingest(again / "scans", again / "store", taking)
    assert len(report.cohort.pairs) == 4
    assert any("Mueller004: FM-D202: target and reference are exchanged" in one for one in report.remarks)


def test_a_pair_is_judged_anew_where_another_has_gone_beside_which_it_was_exchanged(
    again, monkeypatch
) -> None:
    former, few = Store(again / "store").cohort, SMS.model_copy(update={"allow_few_patients": True})
    write_nifti_patient(again / "scans" / "Mueller004", 4)

    def the_new_one(pairs, *, patients):
        new = set(pairs) - {pair.file for pair in former.pairs}
        return Exchanged(dict.fromkeys(new if len(pairs) > 3 else (), -0.9), undecided=False)

    monkeypatch.setattr("sites.ingest_pairs.find_exchanged", the_new_one)
    assert len(ingest(again / "scans", again / "store", few).refused) == 1
    shutil.move(again / "scans" / "Mueller002", again / "left")
    assert (
        len(ingest(again / "scans", again / "store", few, prune=True).refused) == 1
    )  # it is still there then
    report = ingest(again / "scans", again / "store", few)
    assert not report.refused
    assert len(report.cohort.pairs) == 3


def test_what_another_release_makes_anew_or_refuses_of_the_stores_pairs_is_said(again, monkeypatch) -> None:
    """After an upgrade every pair is made anew, and one that is refused now stays as it was made."""
    former = Store(again / "store").cohort
    assert ingest(again / "scans", again / "store", SMS).made_anew == 0
    stricter = SMS.model_copy(update={"registration": RegistrationSettings(min_agreement=0.11)})
    made_before = ingest_pairs.fingerprint_of

    def of_another_release(candidate, **options):
        return made_before(candidate, **options)[::-1]

    def refuse_the_third(work, task, path):
        if "Mueller003" in task.candidate.label:
            raise ScanInvalid("a release may be stricter")
        return make(work, task, path)

    make = ingest_pairs._make
    monkeypatch.setattr(ingest_pairs, "fingerprint_of", of_another_release)
    monkeypatch.setattr(ingest_pairs, "_make", refuse_the_third)
    report = ingest(again / "scans", again / "store", stricter)
    assert report.made_anew == 2
    assert "2 of them the store had, and they were made anew" in report.as_text()
    (said,) = (one for one in report.remarks if "stay in the store" in one)
    assert said.startswith(
        "1 pairs are refused now and stay in the store as a former ingest made them: Mueller003"
    )
    assert len(report.cohort.pairs) == len(former.pairs) == 3


def test_too_few_patients_is_told_after_what_made_them_few(tmp_path) -> None:
    write_nifti_patient(tmp_path / "scans" / "P01", 1)
    for number in range(2, 32):
        folder = tmp_path / "scans" / f"P{number:02d}"
        folder.mkdir()
        (folder / "T1.nii").write_bytes(b"nothing")
        (folder / "T2.nii").write_bytes(b"nothing")
    with pytest.raises(TooFewPatients) as failure:
        ingest(tmp_path / "scans", tmp_path / "store", SMS)
    text = str(failure.value)
    assert "30 refusals: 30 x FM-D201 (a NIfTI file cannot be read)" in text
    assert text.index("30 refusals") < text.index("Refused, such as P02: P02: FM-D201")


@pytest.mark.parametrize(
    "folders", [("P01/2024-01-31", "P01/2024-03-01"), ("NAME_MR1", "NAME_MR2"), ("P01/day1", "P02/day1")]
)
def test_names_that_are_no_patients_stop_before_a_scan_is_read(tmp_path, folders) -> None:
    for folder in folders:
        for name in ("T1.nii", "T2.nii"):
            (tmp_path / "scans" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "scans" / folder / name).touch()
    with pytest.raises(PatientNamesDoubtful):
        ingest(tmp_path / "scans", tmp_path / "store", SMS)
    assert not (tmp_path / "store").exists()


def test_a_dry_run_says_who_is_taken_for_whom_and_writes_nothing(hospital, tmp_path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "site.yaml").write_text(settings_text(SMS), encoding="utf-8")
    command = ["ingest", str(home), str(hospital / "scans"), "--dry-run"]
    shown = CliRunner().invoke(site_commands, command)
    assert shown.exit_code == 0, shown.output
    assert "3 patients with 3 pairs; nothing has been split yet" in shown.output
    assert "Mueller002: Mueller002: target T2.nii.gz (36 x 40 x 8, 3 x 3 x 4 mm)" in shown.output
    as_json = json.loads(CliRunner().invoke(site_commands, [*command, "--json"]).output)
    assert list(as_json["patients"]) == ["Mueller001", "Mueller002", "Mueller003"]
    assert not (home / "store").exists()
    for place, date in enumerate(("20240131", "20240201", "20240301"), start=1):
        shutil.copytree(
            hospital / "scans" / f"Mueller{place:03d}", tmp_path / "dated" / f"P{place:02d}" / date
        )
    stopped = CliRunner().invoke(site_commands, ["ingest", str(home), str(tmp_path / "dated"), "--dry-run"])
    assert stopped.exit_code == 3
    assert "STOP: 3 of 3 patients are called by a date (20240131" in stopped.output
    accepted = CliRunner().invoke(
        site_commands, ["ingest", str(home), str(tmp_path / "dated"), "--dry-run", "--accept-names"]
    )
    assert accepted.exit_code == 0, accepted.output


def test_a_dry_run_says_that_there_are_too_few_patients(hospital, tmp_path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "site.yaml").write_text(settings_text(SMS), encoding="utf-8")
    for number in (1, 2):
        shutil.copytree(hospital / "scans" / f"Mueller00{number}", tmp_path / "two" / f"Mueller00{number}")
    command = ["ingest", str(home), str(tmp_path / "two"), "--dry-run"]
    stopped = CliRunner().invoke(site_commands, command)
    assert stopped.exit_code == 3
    assert "STOP: FM-D206: too few patients to split; got 2; expected at least 3. Add" in stopped.output
    assert "too few" in json.loads(CliRunner().invoke(site_commands, [*command, "--json"]).output)["too_few"]
    assert CliRunner().invoke(site_commands, [*command, "--allow-few-patients"]).exit_code == 0


def test_a_grid_smaller_than_the_patch_is_named_with_its_pair(hospital) -> None:
    store = Store(hospital / "store")
    require_patch(store, 36)
    require_patch(store, None)
    with pytest.raises(ScanInvalid, match=r"[0-9a-f]{12}-.*\.h5 of .*8 slices of 40 x 36 px.*at least 48 px"):
        require_patch(store, 48)


def test_a_figure_and_its_limit_are_told_with_as_many_digits_as_they_differ_in() -> None:
    assert told_apart(0.93, 0.85) == ("0.85", "0.93")
    assert told_apart(0.400031, 0.4) == ("0.40000", "0.40003")
    assert shares_told_apart(0.198, 0.2) == ("20.0%", "19.8%")
