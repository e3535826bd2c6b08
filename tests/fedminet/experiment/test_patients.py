"""Every patient in turn: no fold trains on whom it tests, a kill changes nothing, and the figures are the product's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
from typer.testing import CliRunner

import fedminet.experiment.patients.cells as cells_module
from fedminet.experiment.patients.cells import FoldCell, kept_cells, make_cell, model_file, training_folder
from fedminet.experiment.patients.page import (
    WANTED,
    Scored,
    reference_table,
    rows_of,
    wanted_of,
    wanted_table,
)
from fedminet.experiment.patients.plan import FoldKey, PatientsPlan, model_changes
from fedminet.experiment.patients.run import run_patients
from fedminet.main import command_line
from minet_core.checkpoint import load_model
from minet_core.errors import ConfigurationError, InvalidSetting, StoreDamaged
from minet_core.evaluation.volume_scores import evaluate_volume
from minet_core.training.device import autocast_dtype_for, device_of
from sites.scores import mean_metrics
from sites.store.cohort import make_cohort
from sites.store.dataset import StoreSlices
from sites.store.store import Store
from tests.faults.tiny_sites import make_volume, write_nifti
from tests.support.tiny_experiment import SHAPE, SPACING_MM

METHODS = ("sinc", "edsr", "without-reference", "minet")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients, the first of whom was examined twice."""
    folder = tmp_path_factory.mktemp("brains") / "brain_1mm"
    for seed, place in enumerate(
        ("patient0_study1", "patient0_study2", "patient1_study1", "patient2_study1")
    ):
        for contrast in ("T1", "T2"):
            volume = make_volume(seed, contrast, shape=SHAPE, spacing_mm=SPACING_MM)
            write_nifti(folder / place / f"{contrast}.nii.gz", volume)
    return folder


@pytest.fixture(scope="module")
def plan(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> PatientsPlan:
    return PatientsPlan(
        out=tmp_path_factory.mktemp("patients"),
        named={"sms": scans},
        methods=METHODS,
        scales=(2,),
        n_steps=3,
        equal="steps",
        training={"batch_size": 2, "flips": True, "decay_fraction": 0.5},
    )


@pytest.fixture(scope="module")
def store(plan: PatientsPlan) -> Store:
    return Store(plan.homes()["sms"].store)


@pytest.fixture(scope="module")
def twice(store: Store) -> str:
    """The pseudonym of the patient who was examined twice."""
    patients = [pair.patient for pair in store.cohort.pairs]
    return max(set(patients), key=patients.count)


@pytest.fixture(scope="module")
def made(plan: PatientsPlan) -> list[FoldCell]:
    return run_patients(plan, quiet=True)


@pytest.fixture
def away(store: Store, twice: str) -> Iterator[None]:
    """The files of both examinations of that patient are not there."""
    files = [store.path / pair.file for pair in store.cohort.pairs if pair.patient == twice]
    assert len(files) == 2
    for file in files:
        file.rename(file.with_suffix(".away"))
    yield
    for file in files:
        file.with_suffix(".away").rename(file)


def key_of(patient: str, method: str = "minet") -> FoldKey:
    return FoldKey(1, 2, method, "sms", patient)


def test_a_fold_tests_every_examination_of_one_patient_and_trains_on_every_slice_of_the_others(
    store: Store, twice: str
) -> None:
    fold = store.leave_out(twice).cohort
    assert [pair.patient for pair, _ in fold.pairs_of("test")] == [twice, twice]
    assert fold.pairs_of("validation") == []
    others = [pair for pair in store.cohort.pairs if pair.patient != twice]
    assert [pair for pair, _ in fold.pairs_of("training")] == others
    n_usable = sum(pair.usable_slices[1] - pair.usable_slices[0] for pair in others)
    assert len(StoreSlices(store.leave_out(twice), "training")) == n_usable
    assert (fold.counts["training"].patients, fold.counts["test"].pairs) == (2, 2)
    assert fold.digest == fold.computed_digest() != store.cohort.digest


@pytest.mark.parametrize("patient", ["ffff", ""])
def test_nobody_who_is_not_there_is_left_out(store: Store, patient: str) -> None:
    with pytest.raises(InvalidSetting, match="cannot be left out"):
        store.leave_out(patient)


@pytest.mark.usefixtures("away")
def test_a_training_reads_neither_examination_of_the_patient_whom_it_leaves_out(
    plan: PatientsPlan, store: Store, twice: str, made: list[FoldCell], tmp_path: Path
) -> None:
    elsewhere = replace(plan, out=tmp_path)
    elsewhere.folder.mkdir()
    with pytest.raises(StoreDamaged):  # in the test: the training came to its end
        make_cell(elsewhere, key_of(twice), store, advance=lambda *_: None)
    assert model_file(elsewhere, key_of(twice)).read_bytes() == model_file(plan, key_of(twice)).read_bytes()
    other = next(cell.patient for cell in made if cell.patient != twice)
    with pytest.raises(StoreDamaged):  # whoever tests another one trains on this one
        make_cell(elsewhere, key_of(other), store, advance=lambda *_: None)
    assert not model_file(elsewhere, key_of(other)).exists()


def test_every_patient_is_tested_once_by_each_method_and_no_cell_is_made_twice(
    plan: PatientsPlan, store: Store, made: list[FoldCell], monkeypatch: pytest.MonkeyPatch
) -> None:
    patients = {pair.patient for pair in store.cohort.pairs}
    assert len(made) == 12
    assert {(cell.method, cell.patient) for cell in made} == {(a, b) for a in METHODS for b in patients}
    assert all(cell.n_training == 2 for cell in made)
    assert all((cell.processor_seconds > 0) == (cell.method != "sinc") for cell in made)
    assert not list((plan.folder / "training").rglob("*.safetensors"))
    monkeypatch.setattr(cells_module, "train_to_end", None)
    assert run_patients(plan, quiet=True) == made


def test_the_scores_are_those_of_the_products_own_test(
    plan: PatientsPlan, store: Store, twice: str, made: list[FoldCell]
) -> None:
    model, _ = load_model(model_file(plan, key_of(twice)))
    volumes = list(store.leave_out(twice).volumes("test"))
    precision = autocast_dtype_for(device_of(model))
    found = mean_metrics(
        [evaluate_volume(model, *both, scale=2, autocast_dtype=precision).metrics for _, *both in volumes]
    )
    for method, name in (("minet", "global"), ("sinc", "sinc")):
        cell = next(cell for cell in made if (cell.method, cell.patient) == (method, twice))
        assert {"psnr_db": cell.psnr_db, "ssim": cell.ssim, "nmse": cell.nmse} == found[name]
        assert cell.n_examinations == 2


def test_a_killed_training_goes_on_to_the_same_cell_and_a_half_line_is_made_anew(
    plan: PatientsPlan, twice: str, made: list[FoldCell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = replace(plan, out=tmp_path, methods=("minet",), ingested=plan.homes(), named={})
    monkeypatch.setattr(cells_module, "SAVE_EVERY", 1)

    class Killed(BaseException):
        pass

    def kill(done: int, _: int) -> None:
        if done == 2:
            raise Killed

    again.folder.mkdir()
    store = Store(again.homes()["sms"].store)
    with pytest.raises(Killed):
        make_cell(again, key_of(twice), store, advance=kill)
    state = training_folder(again, key_of(twice)) / "run" / "metrics.jsonl"
    assert len(state.read_text().splitlines()) == 1
    again.cells_file.write_text('{"method": "minet", "sca')
    found = {cell.patient: cell for cell in run_patients(again, quiet=True)}
    of_others = {cell.patient: cell for cell in made if cell.method == "minet"}
    same = ("psnr_db", "ssim", "nmse", "settings", "cohort", "n_steps")
    for patient, cell in of_others.items():
        assert [getattr(found[patient], name) for name in same] == [getattr(cell, name) for name in same]
    assert len(kept_cells(again)) == 3


def test_cells_of_another_recipe_are_refused_but_other_methods_may_have_one(
    plan: PatientsPlan, made: list[FoldCell]
) -> None:
    other = replace(plan, training={**plan.training, "learning_rate": 1e-3})
    with pytest.raises(ConfigurationError, match="other settings"):
        run_patients(other, quiet=True)
    alone = replace(other, methods=("zeng",))
    assert {cell.training.learning_rate for cell in run_patients(alone, quiet=True) if cell.training} == {
        1e-3
    }
    page = (plan.folder / "patients.md").read_text()
    assert "| 2 | 48 | yes | 0.001 | 0.5 |" in page
    assert "| 2 | 48 | yes | 0.002 | 0.5 |" in page
    assert len(json.loads((plan.folder / "patients.json").read_text())["rows"]) == len(made) + 3


def scored(made: list[FoldCell], **psnr_db: list[float]) -> Scored:
    """The first cell's site with these figures, by method and patient."""
    one = made[0]
    patients = ["a", "b", "c"]
    cells = [
        one.model_copy(update={"method": method.replace("_", "-"), "patient": patient, "psnr_db": value})
        for method, values in psnr_db.items()
        for patient, value in zip(patients, values, strict=True)
    ]
    return Scored("sms", 2, patients, cells)


def test_a_patient_on_whom_the_reference_costs_is_shown(plan: PatientsPlan, made: list[FoldCell]) -> None:
    found = scored(
        made,
        sinc=[30.0, 31.0, 32.0],
        edsr=[33.0, 34.0, 33.0],
        without_reference=[34.0, 33.0, 34.5],
        minet=[35.0, 32.5, 36.0],
        late_fusion=[36.0, 35.0, 37.0],
        late_fusion_alone=[33.0, 32.0, 33.0],
    )
    assert found.better_single() == "without-reference"
    rows = {(row["method"], row["patient"]): row for row in rows_of(found)}
    assert rows["minet", 2]["reference_gives_db"] == pytest.approx(-0.5)
    assert rows["minet", 2]["over_sinc_db"] == pytest.approx(1.5)
    assert rows["edsr", 3]["over_single_db"] == pytest.approx(-1.5)
    assert rows["edsr", 3]["reference_gives_db"] is None
    table = reference_table("sms", [found])
    assert table is not None
    assert [row[-1] for row in table.rows] == ["+1.00", "-0.50", "+1.50", "+3.00", "+3.00", "+4.00"]
    wanted = wanted_table([replace(found, wanted=WANTED["isotropic"])])
    assert wanted is not None
    assert wanted.rows == (
        ("MINet", "sms, 2x", "+4.5", "+3.50", "+1.0", "+0.67", "1 of 3"),
        ("Late fusion", "sms, 2x", "+4.5", "+5.00", "+1.0", "+2.17", "0 of 3"),
    )


def test_what_is_wanted_goes_by_the_scans_and_not_by_their_names(store: Store, tmp_path: Path) -> None:
    assert wanted_of(store) == WANTED["thick slices"]
    copy = Store(Path(shutil.copytree(store.path, tmp_path / "brain_of_a_hospital")))
    with h5py.File(copy.path / copy.cohort.pairs[0].file, "r+") as file:
        file.attrs["spacing_mm"] = (1.0, 1.0, 1.0)
    assert wanted_of(copy) == WANTED["isotropic"]
    cohort = copy.cohort
    roles = {"site": cohort.site, "target": cohort.target, "reference": cohort.reference}
    copy.write_cohort(make_cohort(cohort.pairs, cohort.patients, data_kind="real", **roles))
    assert wanted_of(Store(copy.path)) is None  # a hospital's own scans have no such figures


def test_in_minets_time_a_method_makes_the_steps_of_the_tables_or_of_a_timing_that_is_kept(
    plan: PatientsPlan, tmp_path: Path
) -> None:
    timed = replace(plan, out=tmp_path, n_steps=100, equal="time", training={})
    by_method = {
        method: timed.federation(key_of("a", method)).training.local_steps for method in ("minet", "edsr")
    }
    assert by_method == {"minet": 100, "edsr": 420}
    assert not (timed.folder / "pace.jsonl").exists()
    small = replace(timed, training={"batch_size": 1, "patch_px": 16})
    first = small.federation(key_of("a", "edsr"))
    assert small.federation(key_of("b", "edsr")).training == first.training
    line = json.loads((timed.folder / "pace.jsonl").read_text())
    assert first.training.local_steps == round(100 * line["steps"])


def test_the_network_without_a_reference_has_minets_size(plan: PatientsPlan) -> None:
    larger = replace(plan, model={"n_features": 24, "align_reference": True, "members": 2})
    assert larger.model_of("minet", scale=2).align_reference
    twin = larger.model_of("without-reference", scale=2)
    assert (twin.n_features, twin.members, twin.use_reference, twin.align_reference) == (24, 2, False, False)
    assert larger.model_of("lyu", scale=2) == plan.model_of("lyu", scale=2)
    ours, alone = (plan.model_of(one, scale=4) for one in ("late-fusion", "late-fusion-alone"))
    assert alone == ours.model_copy(update={"use_reference": False})


def test_a_self_ensemble_is_every_methods_that_learns_and_trains_none_otherwise(plan: PatientsPlan) -> None:
    averaged = replace(plan, self_ensemble=4)
    for method in ("minet", "edsr", "late-fusion"):
        usual, found = (one.model_of(method, scale=2) for one in (plan, averaged))
        assert (usual.self_ensemble, found.self_ensemble) == (1, 4)
        assert found.model_dump() == usual.model_dump() | {"self_ensemble": 4}
    key = FoldKey(1, 2, "edsr", "sms", "somebody")
    assert averaged.federation(key).training == plan.federation(key).training
    with pytest.raises(InvalidSetting, match="self_ensemble"):
        replace(plan, self_ensemble=3).model_of("edsr", scale=2)


@pytest.mark.parametrize("text", ["n_features", "architecture=lyu", "depth=3"])
def test_what_is_no_setting_of_the_model_is_refused(text: str) -> None:
    assert model_changes(["n_features=24", "integration=raw"]) == {"n_features": 24, "integration": "raw"}
    with pytest.raises(ConfigurationError, match="--model"):
        model_changes([text])


@pytest.mark.parametrize(
    "changes", [{"scales": (3,)}, {"methods": ("mi",)}, {"methods": ()}, {"equal": "size"}, {"preset": "no"}]
)
def test_what_is_no_choice_is_refused(plan: PatientsPlan, changes: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="is not understood"):
        replace(plan, **changes)  # type: ignore[arg-type]


def test_the_command_makes_the_page(scans: Path, tmp_path: Path) -> None:
    asked = ["experiment", "patients", "--site", f"sms={scans}", "--scale", "2", "--methods", "sinc,minet"]
    recipe = ["--steps", "1", "--batch", "1", "--model", "n_features=8", "--threads", "1", "--quiet"]
    result = CliRunner().invoke(command_line(), [*asked, *recipe, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "6 cells" in result.output
    assert "| MINet | 2x | n_features 8" in (tmp_path / "out" / "patients" / "patients.md").read_text()
