"""The paper's tables as an experiment: every cell once, resumable, and nothing claimed that the cells do not say."""

from __future__ import annotations

import csv
import fcntl
import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from client.site_home import SiteHome
from fedminet.experiment.catalogue import EXPERIMENTS
from fedminet.experiment.cells import Cell, cell_folder
from fedminet.experiment.commands import experiment_commands
from fedminet.experiment.methods import is_learned
from fedminet.experiment.run import run_experiment
from fedminet.experiment.scores import _tested_volumes, stranger_of
from fedminet.experiment.study import Study
from fedminet.main import command_line
from fedminet.single_machine.sites import parse_sites
from minet_core.errors import ConfigurationError, FedminetError, FileMissing, SettingsMismatch
from minet_core.settings.yaml_file import write_settings
from sites.ingest import ingest
from sites.settings.definitions import definition
from sites.settings.site_settings import PolicySettings
from sites.store.store import Store
from tests.faults.tiny_sites import make_volume, write_nifti
from tests.support.killed import Killed, killed_at
from tests.support.tiny_experiment import SHAPE, SPACING_MM, tiny_study, write_tiny_scans


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_tiny_scans(tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, scans: dict[str, Path]) -> Study:
    return tiny_study(tmp_path_factory.mktemp("experiment"), scans)


@pytest.fixture(scope="module")
def cells(study: Study) -> list[Cell]:
    return run_experiment(study, "table1", quiet=True)


def test_every_cell_is_there_with_its_model_and_every_patient(study: Study, cells: list[Cell]) -> None:
    names = [key.name for key in study.cells()]
    assert names[:3] == ["federated-sinc-2x-seed1", "federated-minet-2x-seed1", "pooled-minet-2x-seed1"]
    assert len(names) == len(set(names)) == len(cells) == 1 + (1 + 1 + 2 + 2)
    for key, cell in zip(study.cells(), cells, strict=True):
        assert set(cell.sites) == ({key.member} if key.member else {"sms", "umr"})
        assert all(len(patients) == 1 for patients in cell.sites.values())
        assert (cell_folder(study, key) / "model.safetensors").exists() == is_learned(key.method)
        assert (cell.n_steps > 0, cell.settings is not None) == (is_learned(key.method),) * 2
        assert not (cell_folder(study, key) / "run").exists()  # no copies of the sites' stores are left
        (scores,) = cell.sites[next(iter(cell.sites))]
        assert set(scores.conventions) == {"volume", "slice", "slice-range", "foreground", "clamped"}
        assert ("swap_painted" in scores.faithfulness) == (key.method == "minet")
    steps = {cell.method: cell.n_steps for cell in cells if cell.mode == "federated"}
    assert steps == {"sinc": 0, "minet": 1}


def test_a_site_that_took_no_part_is_tested_by_a_model_that_never_saw_it(study: Study) -> None:
    key = next(key for key in study.cells() if key.mode == "without" and key.member == "sms")
    assert study.federation(key).sites == ("umr",)
    assert study.tested_at(key) == ("sms",)


def test_sites_that_are_ingested_already_are_read_and_left_as_they_are(
    tmp_path: Path, scans: dict[str, Path], study: Study, cells: list[Cell]
) -> None:
    """By the command, beside a site that is made of scans; their names are their own, and a policy that is the
    hospital's word to a coordinator is none to the one who sits at the hospital."""
    home = SiteHome(tmp_path / "anywhere")
    home.make_folders()
    own = {"name": "fourth", "data_kind": "surrogate", "allow_few_patients": True}
    policy = PolicySettings(federations=("another",))
    settings = definition("sms").model_copy(update={**own, "policy": policy})
    write_settings(home.path / "site.yaml", settings)
    ingest(scans["sms"], home.store, settings)
    before = {path: path.stat().st_mtime_ns for path in home.path.rglob("*")}
    out = tmp_path / "out"
    options = ["experiment", "table1", "--scale", "2", "--rounds", "1", "--local-steps", "1", "--quiet"]
    chosen = ["--mode", "federated,pooled", "--methods", "sinc,minet", "--out", str(out)]
    given = ["--site", str(home.path), "--site", f"umr={scans['umr']}"]
    done = CliRunner().invoke(command_line(), [*options, *chosen, *given])
    assert done.exit_code == 0, done.exception
    assert {path: path.stat().st_mtime_ns for path in home.path.rglob("*")} == before
    assert {path.name for path in (out / "data" / "scans" / "sites").iterdir()} == {"umr"}
    text = (out / "table1" / "table1.md").read_text()
    assert "Scans of fourth, umr" in text
    assert "3 of 3 cells are done" in text
    assert str(home.path) not in text + (out / "table1" / "manifest.json").read_text()
    cell = json.loads((out / "cells" / "pooled-minet-2x-seed1" / "cell.json").read_text())
    assert cell["data"]["fourth"] == Store(home.store).cohort.digest


def test_a_site_is_given_once(tmp_path: Path, scans: dict[str, Path]) -> None:
    write_settings(tmp_path / "site.yaml", definition("sms"))
    for twice in ([f"sms={scans['sms']}"] * 2, [str(tmp_path)] * 2, [str(tmp_path), f"sms={scans['sms']}"]):
        with pytest.raises(ConfigurationError, match="twice"):
            parse_sites(twice)
    with pytest.raises(FileMissing, match="no site is here"):
        parse_sites([str(scans["sms"])])


def test_what_is_done_is_not_done_again(study: Study, cells: list[Cell]) -> None:
    before = {path: path.stat().st_mtime_ns for path in (study.out / "cells").rglob("cell.json")}
    assert run_experiment(study, "table1", quiet=True) == cells
    assert {path: path.stat().st_mtime_ns for path in (study.out / "cells").rglob("cell.json")} == before


def test_a_cell_that_another_process_is_at_is_left_to_it(
    tmp_path: Path, study: Study, scans: dict[str, Path], cells: list[Cell]
) -> None:
    (tmp_path / "data").symlink_to(study.out / "data")
    study = tiny_study(tmp_path, scans, methods=["sinc", "bicubic"], modes=["federated"])
    first, second = study.cells()
    folder = cell_folder(study, first)
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run_experiment(study, "table1", quiet=True)
    assert [cell.method for cell in done] == [second.method]
    assert f"{1} of {2} cells are done" in (tmp_path / "table1" / "table1.md").read_text()


def test_a_cell_of_other_settings_is_refused_before_anything_is_trained(
    study: Study, scans: dict[str, Path], cells: list[Cell]
) -> None:
    other = tiny_study(study.out, scans, rounds=2)
    with pytest.raises(ConfigurationError, match="other settings"):
        run_experiment(other, "table1", quiet=True)
    assert len(list((study.out / "cells").iterdir())) == len(cells)


@pytest.mark.parametrize(
    ("mode", "training", "call", "left"),
    [
        ("federated", "client.rounds.round.local_update", 4, 3),  # of two sites in three rounds
        ("pooled", "fedminet.centralised.resumable_loop.local_update", 3, 1),
    ],
)
def test_a_cell_that_was_killed_in_the_middle_goes_on_to_the_same_model(
    tmp_path: Path,
    study: Study,
    scans: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    training: str,
    call: int,
    left: int,
) -> None:
    """Killed in training, with `left` trainings to go, and killed as the trained model is tested."""

    def begun(folder: str, **changes: object) -> Study:
        out = tmp_path / folder
        out.mkdir(exist_ok=True)
        if not (out / "data").exists():
            (out / "data").symlink_to(study.out / "data")
        return tiny_study(out, scans, modes=[mode], methods=["minet"], rounds=3, **changes)

    def model_of(study: Study) -> bytes:
        (key,) = study.cells()
        return (cell_folder(study, key) / "model.safetensors").read_bytes()

    def run(**changes: object) -> list[Cell]:
        return run_experiment(begun("killed", **changes), "table1", quiet=True)

    run_experiment(begun("whole"), "table1", quiet=True)
    with monkeypatch.context() as patch:
        killed_at(patch, training, call=call, before=True)
        with pytest.raises(Killed):
            run()
    with pytest.raises(SettingsMismatch):
        run(local_steps=2)
    with monkeypatch.context() as patch:
        killed_at(patch, training, call=left + 1, before=True)  # no step is taken twice
        killed_at(patch, "fedminet.experiment.cells.tested_patients", call=1, before=True)
        with pytest.raises(Killed, match="tested_patients"):
            run()
    with pytest.raises(SettingsMismatch):
        run(local_steps=2)
    with monkeypatch.context() as patch:
        killed_at(patch, training, call=1, before=True)
        (cell,) = run()
    assert model_of(begun("killed")) == model_of(begun("whole"))
    assert cell.n_steps == 3
    assert {path.name for path in cell_folder(study, begun("killed").cells()[0]).iterdir()} <= {
        "cell.json",
        "lock",
        "model.safetensors",
    }


def test_the_swapped_reference_is_of_another_patient_and_whole(tmp_path: Path) -> None:
    """Two patients, of whom one came twice: neither its other examination nor a held-out block of slices is taken."""
    for patient, examination in (("a", "1"), ("b", "1"), ("b", "2")):
        for contrast in ("T1", "T2"):
            volume = make_volume(
                ord(patient) + int(examination), contrast, shape=SHAPE, spacing_mm=SPACING_MM
            )
            write_nifti(tmp_path / "scans" / f"{patient}_study{examination}" / f"{contrast}.nii.gz", volume)
    settings = definition("sms").model_copy(update={"data_kind": "phantom", "allow_few_patients": True})
    ingest(tmp_path / "scans", tmp_path / "store", settings)
    store = Store(tmp_path / "store")
    assert len(store.cohort.pairs) == 3
    for pair in store.cohort.pairs:
        stranger = stranger_of(store, pair.name)
        assert stranger is not None
        first, stop = pair.usable_slices
        assert len(stranger) == stop - first == SHAPE[0]
        own = {
            store.read_pair(other).reference.array.tobytes()
            for other in store.cohort.pairs
            if other.patient == pair.patient
        }
        assert stranger.tobytes() not in own


def test_a_patient_who_was_examined_twice_counts_once(tmp_path: Path) -> None:
    """Two examinations of a patient are not independent, and intervals and p are over patients. One scan is refused."""
    for patient in range(3):
        for examination in (1, 2):
            for contrast in ("T1", "T2"):
                volume = make_volume(10 * patient + examination, contrast, shape=SHAPE, spacing_mm=SPACING_MM)
                folder = tmp_path / "scans" / f"patient{patient}_study{examination}"
                write_nifti(folder / f"{contrast}.nii.gz", volume)
    write_nifti(tmp_path / "scans" / "lonely" / "T2.nii.gz", volume)
    study = tiny_study(tmp_path / "out", {"sms": tmp_path / "scans"}, methods=["sinc"], modes=["federated"])
    (cell,) = run_experiment(study, "table1", quiet=True)
    home = study.homes(1)["sms"]
    assert Store(home.store).cohort.counts["test"].pairs == 2
    (patient_scores,) = cell.sites["sms"]
    first, second = (scores for _, scores in _tested_volumes("sinc", Store(home.store), scale=2))
    assert first.psnr_db != second.psnr_db
    assert patient_scores.psnr_db == pytest.approx((first.psnr_db + second.psnr_db) / 2)
    one, other, both = (scores.conventions["slice"]["ssim"] for scores in (first, second, patient_scores))
    assert both == pytest.approx((one + other) / 2)
    key = "data_inconsistency"
    one_key, other_key = (float(scores.faithfulness[key] or 0) for scores in (first, second))
    assert patient_scores.faithfulness[key] == pytest.approx((one_key + other_key) / 2)
    page = (study.out / "table1" / "table1.md").read_text()
    assert "sms: scans or pairs that were refused and are in no figure: 1." in page
    assert "lonely" not in page


def test_a_result_of_other_scans_is_refused(
    tmp_path: Path, study: Study, scans: dict[str, Path], cells: list[Cell]
) -> None:
    """Patients are paired between cells by their place, which other scans, or a new ingest of the same, may change."""
    copied = tiny_study(tmp_path, scans)
    shutil.copytree(study.out / "cells", tmp_path / "cells")
    with pytest.raises(ConfigurationError, match="other scans"):
        run_experiment(copied, "table1", quiet=True)


def test_an_experiments_sites_are_not_taken_for_others(
    study: Study, scans: dict[str, Path], cells: list[Cell]
) -> None:
    moved = tiny_study(study.out, {"sms": scans["umr"], "umr": scans["sms"]})
    with pytest.raises(ConfigurationError, match="made of something else"):
        run_experiment(moved, "table1", quiet=True)


def test_the_pages_have_the_tables_beside_the_papers_numbers(study: Study, cells: list[Cell]) -> None:
    folder = study.out / "table1"
    text = (folder / "table1.md").read_text()
    minet = next(cell for cell in cells if (cell.method, cell.mode) == ("minet", "federated"))
    assert f"| {minet.sites['sms'][0].psnr_db:.2f} |" in text
    assert "As published (Feng et al., MICCAI 2021, Table 1)" in text
    assert "not measured here" in text
    assert "federated by the others" in text
    assert "sms: The scans are surrogate data" in text
    assert "sms: Few patients (3)" in text
    rows = list(csv.reader((folder / "table1.csv").read_text().splitlines()))
    assert ["table", "method", "scale", "tested at", "federated", "pooled", "local only"] in [
        row[:7] for row in rows
    ]
    assert (folder / "table1.tex").read_text().count(r"\begin{tabular}") == text.count("### ")
    scores = list(csv.DictReader((folder / "scores.csv").read_text().splitlines()))
    assert len(scores) == sum(len(patients) for cell in cells for patients in cell.sites.values())
    (row,) = (
        row for row in scores if (row["method"], row["mode"], row["site"]) == ("minet", "federated", "sms")
    )
    assert float(row["psnr_db"]) == pytest.approx(minet.sites["sms"][0].psnr_db, rel=1e-5)
    assert (row["scale"], row["seed"], row["member"], row["patient"]) == ("2", "1", "", "1")
    page = (folder / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert 'class="published"' in page
    assert "<script" not in page
    manifest = json.loads((folder / "manifest.json").read_text())
    assert all(cell["done"] for cell in manifest["cells"].values())
    assert "model_sha256" in manifest["cells"]["federated-minet-2x-seed1"]
    for name in ("table1.md", "table1.csv", "scores.csv", "report.html", "manifest.json"):
        assert str(study.out) not in (folder / name).read_text()


def test_what_the_reference_adds_is_shown_against_its_resolution_and_its_place(
    study: Study, scans: dict[str, Path], cells: list[Cell]
) -> None:
    again = tiny_study(study.out, scans, methods=["edsr", "minet"], modes=["federated"])
    run_experiment(again, "reference", quiet=True)
    text = (study.out / "reference" / "reference.md").read_text()
    rows = [
        line.split(" | ")
        for line in text.splitlines()
        if line.startswith(("| EDSR | 2x | sms", "| MINet | 2x | sms"))
    ]
    edsr, minet = ([value.rstrip(" |") for value in row[3:8]] for row in rows[:2])
    assert len(set(edsr)) == 1
    whole = next(cell for cell in cells if (cell.method, cell.mode) == ("minet", "federated"))
    assert float(minet[0]) == pytest.approx(whole.sites["sms"][0].psnr_db, abs=0.02)
    assert (study.out / "reference" / "reference.png").stat().st_size > 10_000
    beside = text[text.index("How far the reference lies beside its target") :].split("\n### ")[0]
    assert "| MINet | 2x | sms | " in beside
    assert "EDSR" not in beside


def test_what_the_integration_adds_is_shown_for_each_size_after_as_many_steps(
    tmp_path: Path, study: Study, scans: dict[str, Path]
) -> None:
    (tmp_path / "data").symlink_to(study.out / "data")
    methods = ["without-integration", "minet", "without-integration-3x24", "minet-3x24"]
    sizes = tiny_study(tmp_path, scans, methods=methods, modes=["pooled"], equal="steps")
    cells = {cell.method: cell for cell in run_experiment(sizes, "integration", quiet=True)}
    assert list(cells) == methods
    assert {cell.n_steps for cell in cells.values()} == {1}
    text = (tmp_path / "integration" / "integration.md").read_text()
    first = text.index("## What F_Int adds")
    row = next(line for line in text[first:].splitlines() if line.startswith("| MINet, L=3 C=24 | "))
    added = (
        cells["minet-3x24"].sites["umr"][0].psnr_db
        - cells["without-integration-3x24"].sites["umr"][0].psnr_db
    )
    assert row.split(" | ")[-1].rstrip(" |") == f"{added:+.2f}"
    assert cells["minet-3x24"].n_parameters > 2 * cells["minet"].n_parameters
    assert "not the paper's order" not in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["table1", "--mode", "alone"],
        ["table1", "--methods", "srcnn"],
        ["table1", "--equal", "parameters"],
        ["table1", "--scale", "3"],
    ],
)
def test_what_is_no_choice_is_refused(arguments: list[str], tmp_path: Path) -> None:
    outcome = CliRunner().invoke(command_line(), ["experiment", *arguments, "--out", str(tmp_path / "out")])
    assert isinstance(outcome.exception, FedminetError)
    assert not (tmp_path / "out").exists()


def test_each_experiment_has_its_own_options_alone() -> None:
    """One list for all had 34 of them, most of which any one experiment left unread without a word."""
    experiments = typer.main.get_command(experiment_commands).commands  # type: ignore[attr-defined]
    assert list(experiments) == [*EXPERIMENTS, "worth", "patients", "gate"]
    options = {name: {option.name for option in one.params} for name, one in experiments.items()}
    assert options["gate"] == {"site", "scale", "methods", "local_steps", "out", "quiet"}
    assert options["worth"] & options["table1"] == {
        "preset",
        "site",
        "scale",
        "rounds",
        "local_steps",
        "out",
        "quiet",
    }
    unread = CliRunner().invoke(command_line(), ["experiment", "table1", "--own", "2"])
    unknown = CliRunner().invoke(command_line(), ["experiment", "table3"])
    assert (unread.exit_code, unknown.exit_code) == (2, 2)
    assert "No such option '--own'" in unread.output
    assert "No such command 'table3'" in unknown.output
