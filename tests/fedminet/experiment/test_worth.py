"""What taking part is worth: one federation, the site's own adaptation and choice, no figure of an unread patient."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fedminet.experiment.worth.cells import WorthCell, read_cell
from fedminet.experiment.worth.page import behind_the_better, difference, row_of
from fedminet.experiment.worth.picture import gains_figure
from fedminet.experiment.worth.plan import WorthKey, WorthPlan, newcomer_asked, rates_asked
from fedminet.experiment.worth.run import run_worth
from fedminet.main import command_line
from minet_core.errors import ConfigurationError
from minet_core.evaluation.metrics import psnr
from minet_core.evaluation.volume_scores import degraded_volume, interpolated_volume
from minet_core.settings.adaptation import AdaptationSettings
from minet_core.settings.yaml_file import write_settings
from sites.settings.definitions import definition
from sites.store.store import Store
from tests.faults.tiny_sites import make_volume, write_nifti
from tests.support.tiny_experiment import SHAPE, SPACING_MM


def write_scans(folder: Path, site: str, *, first: int = 0) -> None:
    """A site's scans: of one training, one validation and two test patients."""
    for patient in range(first, first + 4):
        for contrast in ("T1", "T2"):
            volume = make_volume(patient, contrast, shape=SHAPE, spacing_mm=SPACING_MM)
            write_nifti(folder / f"patient{patient}" / f"{contrast}.nii.gz", volume)
    settings = definition(site)
    split = settings.split.model_copy(update={"draw": "quota", "ratio": (1, 1, 2)})
    write_settings(folder / "site.yaml", settings.model_copy(update={"split": split}))


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> WorthPlan:
    """A site of four patients; one round and three steps of adaptation."""
    folder = tmp_path_factory.mktemp("scans")
    write_scans(folder, "sms")
    return WorthPlan(
        out=tmp_path_factory.mktemp("worth"),
        seeds=(1,),
        patients=(1,),
        rounds=1,
        local_steps=1,
        adaptation=AdaptationSettings(head_steps=1, head_learning_rate=1e-3, steps=2),
        named={"sms": folder},
    )


def test_no_test_patient_is_read_where_a_recipe_is_looked_for(plan: WorthPlan) -> None:
    searching = replace(plan, validation=True)
    for home in searching.homes(searching.keys()[0]).values():
        store = Store(home.store)
        for pair, _ in store.cohort.pairs_of("test"):
            (home.store / pair.file).rename(home.store / f"{pair.file}.away")
    cells = run_worth(searching, quiet=True)
    for home in searching.homes(searching.keys()[0]).values():
        for away in home.store.rglob("*.away"):
            away.rename(away.with_suffix(""))
    assert [cell.site for cell in cells] == ["sms"]
    assert all(
        cell.test_db == {} and set(cell.validation_db) == {"global", "adapted", "alone"} for cell in cells
    )
    rows = json.loads((searching.folder / "worth.json").read_text())["rows"]
    assert (rows[0]["alone"], rows[0]["chosen"]) == (cells[0].validation_db["alone"]["1"], None)
    page = (searching.folder / "worth.md").read_text()
    assert "No test patient was read" in page
    assert "| 1 | 1 | sms | 1x1-head1at0.001-whole2at" in page  # in the list of every trial


def test_every_cell_has_its_test_patients_and_is_made_once(plan: WorthPlan) -> None:
    cells = run_worth(plan, quiet=True)
    assert [len(cell.test_db["alone"]) for cell in cells] == [2]
    assert {cell.n_steps for cell in cells} == {4}
    assert cells[0].test_db["alone"] != cells[0].test_db["global"] != cells[0].test_db["adapted"]
    assert run_worth(plan, quiet=True) == cells
    (row,) = json.loads((plan.folder / "worth.json").read_text())["rows"]
    assert row["sinc"] == pytest.approx(np.mean(list(cells[0].test_db["sinc"].values())))
    store = Store(plan.home(plan.keys()[0]).store)
    truths = {name: degraded_volume(*volumes, scale=plan.scale) for name, *volumes in store.volumes("test")}
    by_hand = [
        psnr(truth, interpolated_volume(low, "sinc", scale=plan.scale)) for truth, low, _ in truths.values()
    ]
    assert sorted(cells[0].test_db["sinc"].values()) == pytest.approx(sorted(by_hand))
    assert (plan.folder / "worth.png").stat().st_size > 0
    other = replace(plan, adaptation=plan.adaptation.model_copy(update={"head": ("reconstruction.",)}))
    with pytest.raises(ConfigurationError, match="other settings"):
        read_cell(other, other.keys()[0])


def made(seed: int, chosen: str, **psnr_db: list[float]) -> WorthCell:
    shown = {
        name: {str(place): value for place, value in enumerate(values)} for name, values in psnr_db.items()
    }
    return WorthCell(
        site="sms",
        scale=2,
        seed=seed,
        patients=7,
        recipe="",
        n_steps=1,
        settings="",
        cohort="",
        chosen=chosen,
        validation_db={},
        test_db=shown,
        seconds=0.0,
        versions={},
    )


def test_differences_are_paired_by_patient_and_need_six_of_them() -> None:
    first = made(1, "adapted", alone=[30.0, 34.0], adapted=[31.0, 36.0], **{"global": [29.0, 35.0]})
    found = difference([first], "chosen", "alone", validation=False)
    assert found is not None
    assert (found.mean, found.low, found.n) == (1.5, None, 2)
    three = [
        first,
        made(2, "alone", alone=[30.0, 30.0], **{"global": [29.0, 29.0]}),
        first.model_copy(update={"seed": 3}),
    ]
    found = difference(three, "chosen", "alone", validation=False)
    assert found is not None
    assert found.mean == pytest.approx(1.0)
    assert found.low is not None
    assert found.n == 6
    assert behind_the_better(first) == pytest.approx(-1.5)
    wrong = first.model_copy(update={"chosen": "alone"})
    assert behind_the_better(made(1, "global", alone=[31.0], **{"global": [30.0]})) == 1.0
    assert behind_the_better(wrong) == pytest.approx(0.0)
    assert row_of(three[1], validation=False)["adapted"] is None


def test_a_loss_is_drawn_below_the_line() -> None:
    figure = gains_figure({2: {"sms": [1.0, 1.4], "umr": [-0.5]}}, wanted_db={2: 1.0}, when="it takes part")
    heights = [patch.get_height() for patch in figure.axes[0].patches]  # type: ignore[attr-defined]
    assert heights == pytest.approx([1.2, -0.5])


def test_what_is_no_number_is_refused(tmp_path: Path) -> None:
    refused = CliRunner().invoke(
        command_line(), ["experiment", "worth", "--own", "two", "--out", str(tmp_path)]
    )
    assert refused.exit_code != 0
    assert "--own" in str(refused.exception) + refused.output


def test_batch_patch_and_a_ladder_are_part_of_the_recipe() -> None:
    plan = WorthPlan(
        out=Path("out"),
        seeds=(1,),
        patients=(2,),
        rounds=3,
        batch_size=4,
        patch_px=40,
        learning_rate=4e-3,
        adaptation=AdaptationSettings.model_validate(
            {
                "steps": 5,
                "decay_fraction": 1.0,
                "alone_learning_rate": 2e-3,
                **rates_asked("1e-3,3e-4"),
            }
        ),
    )
    assert plan.recipe == "3x10-batch4-patch40-rate0.004-whole5at0.0003or0.001-decay1-alone0.002"
    assert plan.federation_folder(plan.keys()[0]).name == "2x-seed1-2patients-3x10-batch4-patch40-rate0.004"
    training = plan.federation(WorthKey(1, 1, "sms")).training
    assert (training.batch_size, training.patch_px, training.learning_rate) == (4, 40, 4e-3)
    assert plan.n_steps == 3 * 10 + 5
    assert rates_asked("1e-3") == {"learning_rate": 1e-3}
    assert rates_asked(None) == {}
    with pytest.raises(ConfigurationError, match="--adapt-rate"):
        rates_asked("fast")


def test_a_preset_is_part_of_the_recipe_and_has_its_model() -> None:
    plans = {
        preset: WorthPlan(
            out=Path("none"),
            seeds=(1,),
            patients=(1,),
            adaptation=AdaptationSettings(),
            preset=preset,
        )
        for preset in ("quick", "late")
    }
    models = {
        preset: plan.federation(WorthKey(1, 1, "sms")).model.architecture for preset, plan in plans.items()
    }
    assert models == {"quick": "minet", "late": "late-fusion"}
    key = WorthKey(1, 1, "sms")
    assert len({plan.cell_file(key) for plan in plans.values()}) == 2
    assert len({plan.federation_folder(key) for plan in plans.values()}) == 2


def test_a_cell_of_before_the_ladder_is_read() -> None:
    before = {
        name: value
        for name, value in made(1, "adapted", alone=[30.0], adapted=[31.0]).model_dump(mode="json").items()
        if name not in ("rate", "tried_db")
    }
    read = WorthCell.model_validate(before)
    assert (read.rate, read.tried_db) == (None, {})


def test_a_newcomer_of_an_unknown_kind_takes_no_part(plan: WorthPlan, tmp_path: Path) -> None:
    write_scans(tmp_path / "umr", "umr", first=4)
    named = {"sms": plan.named["sms"], "umr": tmp_path / "umr"}
    newcomer = replace(
        plan, out=tmp_path / "out", named=named, newcomer=newcomer_asked("unknown"), adapting=("sms",)
    )
    (cell,) = run_worth(newcomer, quiet=True)
    assert set(cell.test_db) == {"sinc", "global", "adapted", "alone", "ensemble"}
    rounds = newcomer.federation_folder(newcomer.keys()[0])
    assert [site.name for site in (rounds / "sites").iterdir()] == ["umr"]
    assert "a new site of a kind that they do not have" in (newcomer.folder / "worth.md").read_text()


def test_a_newcomer_of_a_known_kind_has_patients_of_its_own(tmp_path: Path) -> None:
    plans = {
        newcomer: WorthPlan(
            out=tmp_path,
            seeds=(1,),
            patients=(1,),
            adaptation=AdaptationSettings(),
            newcomer=newcomer_asked(newcomer),
        )
        for newcomer in ("known", "unknown", None)
    }
    key = WorthKey(1, 1, "fastmri")
    members = {newcomer: plan.federation(key).sites for newcomer, plan in plans.items()}
    assert members == {
        "known": ("sms", "umr", "fastmri"),
        "unknown": ("sms", "umr"),
        None: ("sms", "umr", "fastmri"),
    }
    rounds = {newcomer: plan.federation_folder(key) for newcomer, plan in plans.items()}
    assert rounds["known"] == rounds[None] != rounds["unknown"]
    assert len({plan.cell_file(key) for plan in plans.values()}) == 3
    with pytest.raises(ConfigurationError, match="--newcomer"):
        newcomer_asked("stranger")
    with pytest.raises(ConfigurationError, match="made of phantoms"):
        replace(plans["known"], named={"sms": tmp_path})
    with pytest.raises(ConfigurationError, match="no site left"):
        replace(plans["unknown"], named={"sms": tmp_path})


def test_each_patient_in_turn_is_tested_at_sites_with_scans(tmp_path: Path) -> None:
    for site, patients in (("sms", 3), ("umr", 2)):
        for patient in range(patients):
            for contrast in ("T1", "T2"):
                volume = make_volume(patient, contrast, shape=SHAPE, spacing_mm=SPACING_MM)
                write_nifti(tmp_path / site / f"patient{patient}" / f"{contrast}.nii.gz", volume)
    plan = WorthPlan(
        out=tmp_path / "worth",
        seeds=(1,),
        patients=(7,),
        rounds=1,
        local_steps=1,
        adaptation=AdaptationSettings(head_steps=0, steps=1),
        named={site: tmp_path / site for site in ("sms", "umr")},
        in_turn=True,
    )
    keys = plan.keys()
    assert [(key.turn, key.site, key.patients) for key in keys] == [
        (1, "sms", 2),
        (1, "umr", 1),
        (2, "sms", 2),
        (2, "umr", 1),
        (3, "sms", 2),
    ]
    tested = set()
    for key in keys:
        store = Store(plan.homes(key)[key.site].store)
        (pair,) = {pair.patient for pair, _ in store.cohort.pairs_of("test")}
        assert pair not in {one.patient for one, _ in store.cohort.pairs_of("training")}
        assert store.cohort.validation_from_training
        assert store.cohort.counts["training"].patients == key.patients
        tested.add((key.site, pair))
    assert len(tested) == len(keys)
    assert set(plan.members(keys[-1])) == {"sms", "umr"}  # who was tested already takes part
    (cell,) = run_worth(replace(plan, adapting=("umr",), seeds=(2,)), quiet=True)[1:]
    assert (cell.turn, cell.chosen, len(cell.test_db["ensemble"])) == (2, "ensemble", 1)
    assert "| umr | 2 (2) |" in (plan.folder / "worth.md").read_text()
    with pytest.raises(ConfigurationError, match="each patient in turn"):
        replace(plan, newcomer="unknown")
