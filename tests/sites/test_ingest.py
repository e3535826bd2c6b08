"""Whole ingests, of small made-up patients and of the real scans that stand in for a site's."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest

from minet_core.errors import InvalidSetting, NoScansAccepted, NoScansFound, StoreDamaged, TooFewPatients
from sites.ingest import ingest
from sites.settings.definitions import definition
from sites.settings.site_settings import SiteSettings
from sites.store.dataset import StoreSlices
from sites.store.pseudonym import keep_key
from sites.store.read_before import FILE
from sites.store.store import Store
from sites.store.verify import check
from tests.support.held_ingest import PROGRAM, held_ingest
from tests.support.small_scans import SHAPE, make_volume, write_fastmri, write_nifti, write_nifti_patient
from tests.support.surrogates import surrogate_folder
from tests.support.warm_python import KILL, warm_python

SMS = definition("sms").model_copy(update={"data_kind": "phantom"})
FEW = SMS.model_copy(update={"allow_few_patients": True})


def write_patients(folder: Path, n_patients: int, *, first: int = 1) -> Path:
    for number in range(first, first + n_patients):
        write_nifti_patient(folder / f"Mueller{number:03d}", number)
    return folder


UNUSABLE = ("copy-of-001", "truncated", "lonely", "shuffled")


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    """Four patients, one of whom came twice, beside four folders that cannot be used."""
    folder = tmp_path_factory.mktemp("hospital")
    scans = write_patients(folder / "scans", 4)
    write_nifti_patient(scans / "Mueller004_study2", 14)
    shutil.copytree(scans / "Mueller001", scans / "copy-of-001")
    write_nifti_patient(scans / "truncated", 20)
    (scans / "truncated" / "T1.nii.gz").write_bytes((scans / "truncated" / "T1.nii.gz").read_bytes()[:5000])
    write_nifti_patient(scans / "lonely", 21)
    (scans / "lonely" / "T1.nii.gz").unlink()
    write_nifti_patient(scans / "shuffled", 22)
    guide = make_volume(22, "T1")
    voxels = np.random.default_rng(0).permutation(guide.array.ravel()).reshape(guide.array.shape)
    write_nifti(scans / "shuffled" / "T1.nii.gz", dataclasses.replace(guide, array=voxels))
    report = ingest(scans, folder / "store", SMS)
    return scans, folder / "store", report


@pytest.fixture(scope="module")
def usable(ingested):
    """The folders of the same hospital that can be used: what cannot is tried anew by every ingest, for seconds."""
    scans, _, _ = ingested
    return shutil.copytree(scans, scans.with_name("usable"), ignore=shutil.ignore_patterns(*UNUSABLE))


def test_usable_pairs_are_taken_and_the_others_named(ingested) -> None:
    _, store, report = ingested
    assert len(report.accepted) == 5
    assert {refusal.label.split(":")[0]: refusal.code for refusal in report.refused} == {
        "copy-of-001": "FM-D202",
        "truncated": "FM-D201",
        "lonely": "FM-D203",
        "shuffled": "FM-D204",
    }
    assert {split: count.patients for split, count in report.cohort.counts.items()} == {
        "training": 2,
        "validation": 1,
        "test": 1,
    }
    assert check(store).cohort == report.cohort
    assert "refused 4" in report.as_text()
    assert json.loads(json.dumps(report.as_json()))["refused"][0]["code"].startswith("FM-D")


def test_both_examinations_of_a_patient_are_in_one_split(ingested) -> None:
    _, _, report = ingested
    files = {pair.label.split(":")[0]: pair.file for pair in report.accepted}
    first, second = files["Mueller004"], files["Mueller004_study2"]
    assert first != second
    assert first.split("-")[0] == second.split("-")[0]
    assert len(report.cohort.patients) == 4


def test_no_identifier_of_a_patient_is_in_the_store(ingested) -> None:
    _, store, _ = ingested
    for path in store.rglob("*"):
        assert "Mueller" not in path.name
        for word in (b"Mueller", b"hospital", b"T2.nii", b"patient0"):
            assert word not in path.read_bytes(), path
    assert store.stat().st_mode & 0o777 == 0o700


def test_an_ingest_that_is_repeated_changes_nothing_and_makes_no_pair_anew(ingested) -> None:
    scans, store, report = ingested
    before = content_of(store)
    taken = ingest(scans, store, SMS.model_copy(update={"split": SMS.split.model_copy(update={"seed": 9})}))
    assert all(pair.reused for pair in taken.accepted)
    assert taken.cohort == report.cohort  # the seed does not move anyone who has a split
    assert content_of(store) == before


def test_new_patients_leave_the_others_where_they_are(ingested, tmp_path) -> None:
    _, store, report = ingested
    shutil.copytree(store, tmp_path / "store")
    scans = write_patients(tmp_path / "later", 2, first=31)
    grown = ingest(scans, tmp_path / "store", SMS)
    assert len(grown.cohort.patients) == 6
    assert grown.cohort.patients.items() >= report.cohort.patients.items()
    assert {pair.file for pair in grown.cohort.pairs} > {pair.file for pair in report.cohort.pairs}
    assert grown.cohort.digest != report.cohort.digest


def test_a_store_of_another_site_or_kind_is_not_mixed(ingested) -> None:
    scans, store, _ = ingested
    for change in ({"data_kind": "real"}, {"name": "umr"}):
        with pytest.raises(InvalidSetting, match="other data"):
            ingest(scans, store, SMS.model_copy(update=change))


def test_a_store_that_lost_its_key_is_not_ingested_into(ingested, tmp_path) -> None:
    scans, store, _ = ingested
    shutil.copytree(store, tmp_path / "store")
    (tmp_path / "store" / "pseudonym.key").unlink()
    with pytest.raises(StoreDamaged, match="key"):
        ingest(scans, tmp_path / "store", SMS)


def test_a_damaged_file_is_made_again_from_its_scans(ingested, usable, tmp_path) -> None:
    _, store, report = ingested
    shutil.copytree(store, tmp_path / "store")
    path = tmp_path / "store" / report.accepted[0].file
    path.unlink()
    repaired = ingest(usable, tmp_path / "store", SMS)
    assert repaired.cohort == report.cohort
    check(tmp_path / "store")


def test_an_altered_file_is_made_again_from_its_scans(ingested, usable, tmp_path) -> None:
    _, store, report = ingested
    shutil.copytree(store, tmp_path / "store")
    path = tmp_path / "store" / report.accepted[0].file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    repaired = ingest(usable, tmp_path / "store", SMS)
    assert [pair.file for pair in repaired.accepted if not pair.reused] == [path.name]
    assert repaired.cohort == report.cohort
    check(tmp_path / "store")


def test_who_reads_by_the_former_cohort_finds_its_files(ingested, usable, tmp_path, monkeypatch) -> None:
    """A round takes minutes: what was scanned again or is read in another way meanwhile is none of its."""
    _, store, report = ingested
    shutil.copytree(store, tmp_path / "store")
    shutil.copytree(usable, tmp_path / "scans")
    write_nifti_patient(tmp_path / "scans" / "Mueller002", 99)
    at_work = Store(tmp_path / "store")
    assert at_work.cohort == report.cohort
    with monkeypatch.context() as patch:
        patch.setattr("sites.ingest.make_cohort", _killed)
        with pytest.raises(KeyboardInterrupt):
            ingest(tmp_path / "scans", tmp_path / "store", SMS)
    check(tmp_path / "store")  # the pair is there anew, and nothing has changed for those who read

    taken = ingest(tmp_path / "scans", tmp_path / "store", SMS)
    assert all(pair.reused for pair in taken.accepted)
    former = {pair.name: pair for pair in report.cohort.pairs}
    replaced = [pair for pair in taken.cohort.pairs if pair.file != former[pair.name].file]
    assert len(taken.cohort.pairs) == len(former)
    assert len(replaced) == 1
    assert check(tmp_path / "store").loose == (former[replaced[0].name].file,)
    before = dict(_first_slices(Store(store)))
    assert dict(_first_slices(at_work)) == before
    assert dict(_first_slices(Store(tmp_path / "store"))) != before

    ingest(tmp_path / "scans", tmp_path / "store", SMS)
    assert not check(tmp_path / "store").loose


def content_of(store: Path) -> dict[str, bytes]:
    """What a store holds; what says which files were read before is no part of it."""
    return {path.name: path.read_bytes() for path in store.iterdir() if path.name != FILE}


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def _first_slices(store: Store) -> Iterator[tuple[str, bytes]]:
    for pair in store.cohort.pairs:
        yield pair.name, store.read_pair(pair).target.array[0].tobytes()


def test_an_examination_that_moves_is_in_the_cohort_beside_the_one_in_its_place(tmp_path) -> None:
    """A patient is scanned again under the former name, and the former scans are put beside it later."""
    scans, store = write_patients(tmp_path / "scans", 3), tmp_path / "store"
    first, second, third = (scans / f"Mueller002{end}" for end in ("", "_study2", "_study3"))

    def ingested_whole(n_pairs: int) -> None:
        report = ingest(scans, store, FEW)
        files = [pair.file for pair in report.accepted]
        assert len(files) == len(set(files)) == n_pairs
        assert sorted(files) == [pair.file for pair in report.cohort.pairs]
        check(store)
        assert ingest(scans, store, FEW).cohort == report.cohort

    shutil.copytree(first, tmp_path / "former")
    ingest(scans, store, FEW)
    write_nifti_patient(first, 99)
    ingest(scans, store, FEW)
    shutil.copytree(tmp_path / "former", third)  # read after what is in its former place
    ingested_whole(4)
    third.rename(second)  # read before what is in its former place
    write_nifti_patient(third, 98)
    ingested_whole(5)


def test_a_damaged_file_of_a_store_of_the_former_naming_keeps_its_cohort(ingested, usable, tmp_path) -> None:
    _, store, _ = ingested
    shutil.copytree(store, tmp_path / "store")
    cohort = Store(store).cohort
    pairs = tuple(pair.model_copy(update={"file": f"{pair.name}.h5"}) for pair in cohort.pairs)
    for former, pair in zip(cohort.pairs, pairs, strict=True):
        (tmp_path / "store" / former.file).rename(tmp_path / "store" / pair.file)
    renamed = cohort.model_copy(update={"pairs": pairs})
    renamed = renamed.model_copy(update={"digest": renamed.computed_digest()})
    Store(tmp_path / "store").write_cohort(renamed)
    (tmp_path / "store" / pairs[1].file).write_bytes(b"damaged")
    assert ingest(usable, tmp_path / "store", SMS).cohort == renamed
    check(tmp_path / "store")


def test_an_interrupted_ingest_of_another_folder_joins_no_cohort(tmp_path, monkeypatch) -> None:
    """Somebody names the wrong study, sees it, and presses Ctrl-C."""
    scans, store = write_patients(tmp_path / "scans", 4), tmp_path / "store"
    another_study = write_patients(tmp_path / "another-study", 2, first=51)
    with monkeypatch.context() as patch:
        patch.setattr("sites.ingest.make_cohort", _killed)
        with pytest.raises(KeyboardInterrupt):
            ingest(another_study, store, FEW)
    assert len(list(store.glob("*.h5"))) == 2
    report = ingest(scans, store, SMS)
    assert len(report.accepted) == len(report.cohort.pairs) == len(report.cohort.patients) == 4
    assert {path.name for path in store.glob("*.h5")} == {pair.file for pair in report.cohort.pairs}


def test_an_empty_folder_is_refused(tmp_path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "FLAIR.nii.gz").touch()
    with pytest.raises(NoScansFound, match=r"FM-D205.*with 1 other file;"):
        ingest(tmp_path / "scans", tmp_path / "store", SMS)
    assert not (tmp_path / "store").exists()


def test_a_folder_whose_every_scan_is_refused_is_an_error(tmp_path) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / "scans" / name).mkdir(parents=True)
        nibabel.save(
            nibabel.Nifti1Image(np.zeros((20, 20, 5)), np.eye(4)), tmp_path / "scans" / name / "T1.nii"
        )
        if name != "a":
            (tmp_path / "scans" / name / "T2.nii").write_bytes(b"nothing")
    with pytest.raises(NoScansAccepted, match=r"FM-D209.*3 x FM-D201, 1 x FM-D203"):
        ingest(tmp_path / "scans", tmp_path / "store", SMS)
    assert not (tmp_path / "store" / "cohort.json").exists()


def test_two_patients_need_the_sites_leave(tmp_path) -> None:
    scans = write_patients(tmp_path / "scans", 2)
    with pytest.raises(TooFewPatients, match=r"FM-D206.*allow_few_patients"):
        ingest(scans, tmp_path / "store", SMS)
    assert not list((tmp_path / "store").glob("*.h5"))  # it is said before the minutes that pairs take
    report = ingest(scans, tmp_path / "store", FEW)
    assert report.cohort.validation_from_training
    assert "held-out slices of training patients" in report.as_text()
    store = Store(tmp_path / "store")
    assert {split: len(list(store.volumes(split))) for split in ("training", "validation", "test")} == {
        "training": 1,
        "validation": 1,
        "test": 1,
    }


def test_one_patient_is_never_enough(tmp_path) -> None:
    with pytest.raises(TooFewPatients):
        ingest(write_patients(tmp_path / "scans", 1), tmp_path / "store", FEW)


def test_patients_are_split_alike_in_every_store_and_stores_of_one_key_alone_are_alike_to_the_byte(
    tmp_path,
) -> None:
    scans = write_patients(tmp_path / "scans", 3)
    digests, splits = [], []
    for name, key in (("one", bytes(32)), ("two", bytes(32)), ("three", bytes(31) + b"1")):
        keep_key(tmp_path / name, key)
        report = ingest(scans, tmp_path / name, SMS)
        digests.append(report.cohort.digest)
        split_of = report.cohort.patients
        splits.append([split_of[pair.file.split("-")[0]] for pair in report.accepted])
    assert digests[0] == digests[1] != digests[2]
    assert splits[0] == splits[1] == splits[2]
    assert sorted(splits[0]) == ["test", "training", "validation"]
    keep_key(tmp_path / "one", bytes(31) + b"2")
    assert (tmp_path / "one" / "pseudonym.key").read_bytes() == bytes(32)  # a key that is there stays
    assert (tmp_path / "one" / "pseudonym.key").stat().st_mode & 0o777 == 0o600


def test_fastmri_pairs_become_complex_targets(tmp_path) -> None:
    for number in range(3):
        for offset, acquisition in enumerate(("CORPD_FBK", "CORPDFS_FBK")):
            path = tmp_path / "scans" / f"file{1000 + 2 * number + offset}.h5"
            write_fastmri(path, number, acquisition, patient_id=f"Mueller{number}")
    settings = definition("fastmri").model_copy(update={"data_kind": "phantom"})
    report = ingest(tmp_path / "scans", tmp_path / "store", settings)
    assert len(report.accepted) == 3
    assert not any(pair.resampled for pair in report.accepted)
    target, reference = StoreSlices(Store(tmp_path / "store"), "training")[0]
    assert (target.dtype, reference.dtype, target.shape) == (np.complex64, np.float32, SHAPE[1:])


def test_an_ingest_that_is_killed_is_completed_by_repeating_it(tmp_path) -> None:
    scans = write_patients(tmp_path / "scans", 4)
    store = tmp_path / "store"
    with held_ingest(scans, store, command=[warm_python(), "-c", PROGRAM]) as child:
        child.send_signal(KILL)
        assert child.wait() == -signal.SIGKILL
    whole = {path.name: path.read_bytes() for path in store.glob("*.h5")}
    assert len(whole) == 1
    assert not (store / "cohort.json").exists()

    (store / f".{next(iter(whole))}.1.partial").write_bytes(b"what a kill inside a write leaves")
    report = ingest(scans, store, SMS)
    assert sum(pair.reused for pair in report.accepted) == len(whole)
    assert not list(store.glob(".*.partial"))
    assert {name: (store / name).read_bytes() for name in whole} == whole
    check(store)

    (tmp_path / "undisturbed").mkdir()
    shutil.copy(store / "pseudonym.key", tmp_path / "undisturbed")
    assert (
        ingest(scans, tmp_path / "undisturbed", SMS).cohort == report.cohort
    )  # digests of all files included


def ingest_surrogate(name: str, tmp_path: Path, site: str) -> tuple[SiteSettings, Store]:
    settings = definition(site).model_copy(update={"data_kind": "surrogate", "allow_few_patients": True})
    report = ingest(surrogate_folder(name), tmp_path / "store", settings)
    assert not report.refused
    assert "surrogate" in report.as_text()
    for pair in report.accepted:
        assert pair.residual_px < 0.7
        assert pair.agreement > 2 * settings.registration.min_agreement
    assert sum(pair.resampled for pair in report.accepted) == {"clinical": 3, "brain_1mm": 1}[name]
    return settings, Store(tmp_path / "store")


@pytest.mark.long
@pytest.mark.surrogate
def test_clinical_scans_are_ingested(tmp_path) -> None:
    _, store = ingest_surrogate("clinical", tmp_path, "umr")
    counts = store.cohort.counts
    assert [counts[split].patients for split in ("training", "validation", "test")] == [2, 2, 1]
    for pair in store.cohort.pairs:
        assert pair.usable_slices[1] - pair.usable_slices[0] >= 0.75 * pair.shape[0]


@pytest.mark.long
@pytest.mark.surrogate
def test_brains_on_one_grid_are_ingested(tmp_path) -> None:
    _, store = ingest_surrogate("brain_1mm", tmp_path, "sms")
    assert all(pair.shape == (182, 218, 182) for pair in store.cohort.pairs)
    assert all(pair.usable_slices[1] - pair.usable_slices[0] < 140 for pair in store.cohort.pairs)
