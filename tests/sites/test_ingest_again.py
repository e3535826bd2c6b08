"""An ingest in several processes, one that is killed, and one that reads nothing again."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

import sites.making.make_pair
import sites.scans.dicom.series
from minet_core.imaging.volume import Volume
from sites.ingest import ingest
from sites.making.pair_workers import PairMaker, PairTask, processes_for
from sites.settings.definitions import definition
from sites.store import read_before
from sites.store.pseudonym import keep_key
from sites.store.read_before import FILE, ReadBefore
from tests.sites.test_dicom_ingest import AFFINE, SETTINGS, T1, T2, stored
from tests.support.dicom_series import Header, write_classic
from tests.support.held_ingest import PROGRAM, held_ingest
from tests.support.small_scans import make_volume, write_nifti, write_nifti_patient

SMS = definition("sms").model_copy(update={"data_kind": "phantom"})
KEY = bytes(32)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written a moment ago counts as settled."""
    monkeypatch.setattr(read_before, "SETTLED_S", 0.0)
    monkeypatch.setattr("sites.last_ingest.SETTLED_S", 0.0)
    monkeypatch.setattr(read_before.state_of, "__kwdefaults__", {"settled_s": 0.0})
    time.sleep(0.02)


def write_usable_patients(folder: Path, n_patients: int) -> Path:
    for number in range(1, n_patients + 1):
        write_nifti_patient(folder / f"P{number:02d}", number)
    return folder


def write_patients(folder: Path, n_patients: int) -> Path:
    """Pairs, and after them one whose two scans are two patients', which takes the longest."""
    write_usable_patients(folder, n_patients)
    write_nifti(folder / "P90" / "T1.nii.gz", make_volume(90, "T1"))
    write_nifti(folder / "P90" / "T2.nii.gz", make_volume(91, "T2"))
    return folder


def write_dicom(folder: Path, n_patients: int) -> Path:
    for seed in range(1, n_patients + 1):
        for contrast, times in (("T1", T1), ("T2", T2)):
            header = Header(patient_id=f"P{seed}", series=contrast, **times)
            write_classic(folder / f"{seed}" / contrast, stored(seed, contrast), AFFINE, header=header)
    return folder


def content_of(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.iterdir() if path.name != FILE}


def undisturbed(scans: Path, store: Path) -> dict[str, bytes]:
    keep_key(store, KEY)
    ingest(scans, store, SMS)
    return content_of(store)


def test_two_processes_make_the_same_store_and_the_same_refusals(tmp_path: Path) -> None:
    scans = write_patients(tmp_path / "scans", 3)
    before = set(multiprocessing.active_children())
    reports = []
    for name, n_processes in (("one", 1), ("two", 2)):
        keep_key(tmp_path / name, KEY)
        reports.append(ingest(scans, tmp_path / name, SMS, n_processes=n_processes))
    assert reports[0].refused == reports[1].refused
    assert [one.code for one in reports[0].refused] == ["FM-D204"]
    assert content_of(tmp_path / "one") == content_of(tmp_path / "two")
    assert set(multiprocessing.active_children()) <= before


@pytest.mark.long
def test_a_pair_that_ends_its_process_is_refused_and_stops_no_other(tmp_path: Path) -> None:
    folder = write_patients(tmp_path / "scans", 1)
    store = tmp_path / "store"
    store.mkdir()
    maker = PairMaker(2)
    try:
        whole = PairTask(_candidate(folder / "P01"), SMS, "ab", "c" * 32, store)
        ending = PairTask(_Ending(), SMS, "ab", "d" * 32, store)  # type: ignore[arg-type]
        maker.ask(ending)
        maker.ask(whole)
        with pytest.raises(sites.making.pair_workers.ScanReaderFailed, match="ended the process"):
            maker.take(ending)
        assert maker.take(whole).file.is_file()
    finally:
        maker.close()


class _Ending:
    """What ends the process that looks at it, as the kernel does where memory is short."""

    @property
    def target(self) -> Path:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def _candidate(folder: Path) -> sites.making.make_pair.Candidate:
    return sites.making.make_pair.Candidate("P", folder / "T2.nii.gz", folder / "T1.nii.gz", "P")


def test_processes_are_never_more_than_pairs_and_never_none() -> None:
    assert [processes_for(n, asked=8) for n in (0, 1, 3, 20)] == [1, 1, 3, 8]
    assert 1 <= processes_for(100) <= len(os.sched_getaffinity(0))


def test_a_refusal_and_a_pair_are_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settled: None
) -> None:
    scans = write_patients(tmp_path / "scans", 3)
    write_nifti(scans / "P91" / "T1.nii.gz", make_volume(2, "T1"))  # another patient's anatomy
    write_nifti(
        scans / "P91" / "T2.nii.gz", Volume(make_volume(2, "T2").array * 0.9, (4.0, 3.0, 3.0), AFFINE, "T2")
    )
    first = ingest(scans, tmp_path / "store", SMS)
    assert [one.code for one in first.refused] == ["FM-D204", "FM-D202"]
    monkeypatch.setattr(sites.making.make_pair, "make_pair", _unexpected)
    for reads in ("sites.ingest_pairs", "sites.making.fingerprint"):
        monkeypatch.setattr(f"{reads}.sha256_of_file", _unexpected)
    again = ingest(scans, tmp_path / "store", SMS)
    assert again.refused == first.refused
    assert again.cohort == first.cohort
    with pytest.raises(pytest.fail.Exception, match="read again"):
        ingest(scans, tmp_path / "store", SMS, reread=True)


def _unexpected(*_: object, **__: object) -> None:
    pytest.fail("it is read again")


def test_a_file_that_changes_is_read_again_whatever_its_times_say(tmp_path: Path, settled: None) -> None:
    scans = write_usable_patients(tmp_path / "scans", 3)
    first = ingest(scans, tmp_path / "store", SMS)
    path = scans / "P02" / "T2.nii.gz"
    was = path.stat()
    write_nifti(scans / "new.nii.gz", Volume(make_volume(2, "T2").array * 0.9, (4.0, 3.0, 3.0), AFFINE, "T2"))
    content = (scans / "new.nii.gz").read_bytes()
    (scans / "new.nii.gz").unlink()
    path.write_bytes(content)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    again = ingest(scans, tmp_path / "store", SMS)
    assert [pair.reused for pair in again.accepted] == [True, False, True]
    assert again.cohort.digest != first.cohort.digest


def test_what_was_just_written_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    before = ReadBefore(tmp_path, key=KEY, version="1")
    assert before.digest_of([path], path.read_text) == "one"
    assert before.digest_of([path], lambda: "computed anew") == "computed anew"


def test_a_damaged_record_of_what_was_read_costs_time_alone(tmp_path: Path, settled: None) -> None:
    scans = write_usable_patients(tmp_path / "scans", 3)
    first = ingest(scans, tmp_path / "store", SMS)
    for content in (
        b"",
        b"[]",
        b'{"version": 1, "digests": []}',
        (tmp_path / "store" / FILE).read_bytes()[:-9],
    ):
        (tmp_path / "store" / FILE).write_bytes(content)
        assert ingest(scans, tmp_path / "store", SMS).cohort == first.cohort


def test_an_unchanged_folder_of_dicom_gives_its_report_without_reading_a_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settled: None
) -> None:
    scans = write_dicom(tmp_path / "scans", 3)
    first = ingest(scans, tmp_path / "store", SETTINGS)
    read = sites.scans.dicom.series.read_object
    monkeypatch.setattr(sites.scans.dicom.series, "read_object", _unexpected)
    again = ingest(scans, tmp_path / "store", SETTINGS)
    assert all(pair.reused for pair in again.accepted)
    assert (again.cohort, again.refused, again.remarks) == (first.cohort, first.refused, first.remarks)
    monkeypatch.setattr(sites.scans.dicom.series, "read_object", read)
    sorted((scans / "3" / "T2").iterdir())[3].unlink()
    assert [one.code for one in ingest(scans, tmp_path / "store", SETTINGS).refused] == ["FM-D203"]
    (tmp_path / "store" / "splits.json").write_text("{")
    with pytest.raises(Exception, match="FM-D207"):
        ingest(scans, tmp_path / "store", SETTINGS)


@pytest.mark.long
def test_twenty_kills_at_random_moments_leave_the_store_of_an_undisturbed_ingest(tmp_path: Path) -> None:
    scans, store = write_patients(tmp_path / "scans", 4), tmp_path / "store"
    began = time.monotonic()
    wanted = undisturbed(scans, tmp_path / "undisturbed")
    duration, draw, n_kills = time.monotonic() - began, random.Random(20), 0
    while n_kills < 20:
        keep_key(store, KEY)
        child = multiprocessing.get_context("fork").Process(target=ingest, args=(scans, store, SMS))
        child.start()
        child.join(draw.uniform(0.01, 0.6) * duration)
        child.kill()
        child.join()
        n_kills += child.exitcode == -signal.SIGKILL
        if child.exitcode == 0:  # it came to its end before: from here on in a new store
            assert content_of(store) == wanted
            shutil.rmtree(store)
    keep_key(store, KEY)
    ingest(scans, store, SMS)
    assert content_of(store) == wanted


@pytest.mark.long
def test_processes_end_with_an_ingest_that_is_killed_and_the_next_one_completes_it(tmp_path: Path) -> None:
    scans, store = write_patients(tmp_path / "scans", 4), tmp_path / "store"
    wanted = undisturbed(scans, tmp_path / "undisturbed")
    keep_key(store, KEY)
    script = tmp_path / "in_two.py"
    script.write_text(PROGRAM)
    with held_ingest(scans, store, command=[sys.executable, script], n_processes=2) as child:
        others = [
            int(one) for one in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        ]
        assert len(others) >= 2
        child.kill()
        assert child.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 120
    while any(_runs(one) for one in others) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(_runs(one) for one in others)
    ingest(scans, store, SMS, n_processes=2)
    assert content_of(store) == wanted


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
