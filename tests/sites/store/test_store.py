from __future__ import annotations

import json
import multiprocessing
import pickle

import h5py
import numpy as np
import pytest

from minet_core.errors import NoScansFound, StoreBusy, StoreDamaged
from minet_core.imaging.volume import Pair, Volume
from sites.store.cohort import PairRecord, make_cohort
from sites.store.dataset import StoreSlices
from sites.store.pair_file import write_pair
from sites.store.pseudonym import pseudonym, site_key
from sites.store.store import Store
from sites.store.verify import check

N_SLICES, USABLE = 24, (2, 22)


def make_pair(number: int, *, complex_target: bool) -> Pair:
    generator = np.random.default_rng(number)
    shape = (N_SLICES, 16 + number, 18)
    arrays = [generator.random(shape, dtype=np.float32) for _ in range(2)]
    target = (arrays[0] * np.exp(1j)).astype(np.complex64) if complex_target else arrays[0]
    affine = np.diag([4.0, 1.0, 1.0, 1.0])
    volumes = [Volume(a, (4.0, 1.0, 1.0), affine, c) for a, c in ((target, "T2"), (arrays[1], "T1"))]
    return Pair(*volumes, patient=f"{number:012x}")


def make_store(path, splits=("training", "validation", "test", "training"), *, complex_target=False):
    store, records, pairs = Store(path), [], {}
    with store.locked():
        site_key(path, may_make=True)
        for number, _ in enumerate(splits):
            pair = make_pair(number, complex_target=complex_target)
            content = {"patient": pair.patient, "shape": pair.target.array.shape, "usable_slices": USABLE}
            content |= {
                "resampled": False,
                "residual_mm": 0.1,
                "similarity": 1.2,
                "fingerprint": f"{number:04x}",
            }
            file = f"{pair.patient}-00000{number}.h5"
            sha256 = write_pair(path / file, pair, content)
            records.append(PairRecord(**content, file=file, sha256=sha256))
            pairs[file.removesuffix(".h5")] = pair
        patients = {record.patient: split for record, split in zip(records, splits, strict=True)}
        cohort = make_cohort(records, patients, site="sms", data_kind="phantom", target="T2", reference="T1")
        store.write_cohort(cohort)
    return store, pairs


@pytest.fixture
def stored(tmp_path):
    return make_store(tmp_path / "store")


def damage(path, *, at: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * at)] ^= 0x10
    path.write_bytes(content)


def test_slices_come_back_as_they_went_in(stored) -> None:
    store, pairs = stored
    slices = StoreSlices(store, "training")
    assert len(slices) == 2 * (USABLE[1] - USABLE[0])
    expected = [
        (pair.target.array[index], pair.reference.array[index])
        for pair in (pairs["000000000000-000000"], pairs["000000000003-000003"])
        for index in range(*USABLE)
    ]
    for index in range(len(slices)):
        for got, wanted in zip(slices[index], expected[index], strict=True):
            np.testing.assert_array_equal(got, wanted)
    with pytest.raises(IndexError):
        slices[len(slices)]


def test_a_complex_target_stays_complex(tmp_path) -> None:
    store, _ = make_store(tmp_path / "store", complex_target=True)
    target, reference = StoreSlices(store, "test")[0]
    assert (target.dtype, reference.dtype) == (np.complex64, np.float32)


def test_a_volume_is_the_usable_slices_of_a_pair(stored) -> None:
    store, pairs = stored
    [(name, target, reference)] = store.volumes("test")
    np.testing.assert_array_equal(target, pairs[name].target.array[slice(*USABLE)])
    np.testing.assert_array_equal(reference, pairs[name].reference.array[slice(*USABLE)])


def test_a_pair_comes_back_whole_with_its_geometry(stored) -> None:
    store, pairs = stored
    record = store.cohort.pairs[1]
    pair, former = store.read_pair(record), pairs[record.name]
    np.testing.assert_array_equal(pair.target.array, former.target.array)
    np.testing.assert_array_equal(pair.reference.affine, former.reference.affine)
    assert pair.target.spacing_mm == former.target.spacing_mm
    assert (pair.target.contrast, pair.reference.contrast, pair.patient) == ("T2", "T1", record.patient)


def test_a_slice_is_read_without_its_volume(stored) -> None:
    store, _ = stored
    with h5py.File(store.path / store.cohort.pairs[0].file) as file:
        for role in ("target", "reference"):
            assert file[role].chunks == (1, *file[role].shape[1:])


def test_slices_can_be_pickled_while_open(stored) -> None:
    slices = StoreSlices(stored[0], "training")
    first = slices[0]
    copied = pickle.loads(pickle.dumps(slices))
    np.testing.assert_array_equal(copied[0][0], first[0])


def _sum_of(slices: StoreSlices, index: int) -> float:
    return float(slices[index][0].sum())


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_processes_read_the_same_slices(stored, method: str) -> None:
    slices = StoreSlices(stored[0], "training")
    expected = [_sum_of(slices, index) for index in range(4)]
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.starmap(_sum_of, [(slices, index) for index in range(4)]) == expected


def test_many_volumes_need_few_open_files(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("sites.store.dataset.OPEN_FILES", 1)
    store, _ = make_store(tmp_path / "store")
    slices = StoreSlices(store, "training")
    for index in (0, len(slices) - 1, 0, len(slices) - 1):
        slices[index]
    assert len(slices._open) == 1


def test_without_validation_patients_validation_is_on_training_slices(tmp_path) -> None:
    store, _ = make_store(tmp_path / "store", ("training", "test"))
    cohort = store.cohort
    assert cohort.validation_from_training
    assert cohort.few_patients
    assert "held-out slices" in " ".join(cohort.remarks())
    [(name, validation, _)] = store.volumes("validation")
    assert name == "000000000000-000000"
    training = StoreSlices(store, "training")
    held_out = {image.tobytes() for image in validation}
    assert not held_out & {training[index][0].tobytes() for index in range(len(training))}
    assert len(StoreSlices(store, "validation")) == len(validation) == cohort.counts["validation"].slices
    [(_, volume, _)] = store.volumes("training")
    assert len(volume) == len(training)


def test_a_whole_store_passes_the_check(stored) -> None:
    report = check(stored[0].path)
    assert report.as_json()["counts"]["training"] == {"patients": 2, "pairs": 2, "slices": 40}
    assert "training: 2 patients, 2 pairs, 40 slices" in report.as_text()
    assert "phantom" in report.as_text()


@pytest.mark.parametrize("at", [0.0, 0.01, 0.3, 0.6, 0.999])
def test_a_flipped_bit_is_found_by_the_check(stored, at: float) -> None:
    store, _ = stored
    damage(store.path / store.cohort.pairs[2].file, at=at)
    with pytest.raises(StoreDamaged, match=f"FM-D207.*{store.cohort.pairs[2].file}"):
        check(store.path)


def test_a_flipped_bit_in_a_slice_is_found_when_it_is_read(stored) -> None:
    store, _ = stored
    path = store.path / store.cohort.pairs[0].file
    with h5py.File(path) as file:
        info = file["target"].id.get_chunk_info(5)
    content = bytearray(path.read_bytes())
    content[info.byte_offset + 40] ^= 1
    path.write_bytes(content)
    slices = StoreSlices(store, "training")
    slices[0]
    with pytest.raises(StoreDamaged, match="FM-D207"):
        slices[5 - USABLE[0]]
    with pytest.raises(StoreDamaged):
        list(store.volumes("training"))


def test_a_missing_file_is_found(stored) -> None:
    store, _ = stored
    (store.path / store.cohort.pairs[0].file).unlink()
    with pytest.raises(StoreDamaged, match="missing"):
        check(store.path)
    with pytest.raises(StoreDamaged):
        StoreSlices(store, "training")[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["patients"].update({"000000000002": "training"}),
        lambda c: c["pairs"][0].update({"usable_slices": [0, 24]}),
        lambda c: c["pairs"].pop(),
        lambda c: c.update({"data_kind": "real"}),
        lambda c: c["pairs"][0].update({"file": "../../etc/passwd"}),
        lambda c: c.pop("digest"),
        lambda c: c.update({"schema_version": 2}),
        lambda c: c.update({"extra": 1}),
    ],
)
def test_a_changed_cohort_is_refused(stored, change) -> None:
    store, _ = stored
    path = store.path / "cohort.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(StoreDamaged, match="FM-D207"):
        check(store.path)


def test_a_truncated_cohort_is_refused(stored) -> None:
    path = stored[0].path / "cohort.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(StoreDamaged):
        _ = Store(stored[0].path).cohort


def test_a_store_without_cohort_says_what_to_do(tmp_path) -> None:
    with pytest.raises(NoScansFound, match="site ingest"):
        _ = Store(tmp_path).cohort


def test_two_writers_do_not_share_a_store(tmp_path) -> None:
    with Store(tmp_path).locked(), pytest.raises(StoreBusy, match="FM-D208"), Store(tmp_path).locked():
        pass


def test_half_files_of_a_killed_writer_are_removed(tmp_path) -> None:
    (tmp_path / ".x.h5.123.partial").write_bytes(b"half")
    with Store(tmp_path).locked():
        assert not list(tmp_path.glob(".*.partial"))


def test_pseudonyms_need_the_sites_own_key(tmp_path) -> None:
    keys = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        keys.append(site_key(tmp_path / name, may_make=True))
        assert site_key(tmp_path / name, may_make=False) == keys[-1]
        assert (tmp_path / name / "pseudonym.key").stat().st_mode & 0o777 == 0o600
    assert pseudonym(keys[0], "patient07") == pseudonym(keys[0], "patient07")
    assert pseudonym(keys[0], "patient07") != pseudonym(keys[1], "patient07")
    assert pseudonym(keys[0], "patient07") != pseudonym(keys[0], "patient08")


@pytest.mark.parametrize("content", [None, b"short"])
def test_a_lost_or_damaged_key_is_no_reason_to_make_another(stored, content) -> None:
    path = stored[0].path / "pseudonym.key"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreDamaged, match="key"):
        check(stored[0].path)
