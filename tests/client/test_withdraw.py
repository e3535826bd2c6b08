"""`fedminet site withdraw`: who is out stays out, the others keep their splits, and a kill harms nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.commands import site_commands
from client.site_home import SiteHome
from client.withdraw import runs_of_patient
from minet_core.errors import StoreDamaged
from minet_core.ledger.records import Ledger
from minet_core.protocol.cohort_declaration import DECLARATION_FILE, read_declaration
from minet_core.settings.yaml_file import settings_text
from sites.duplicates.likeness import Signatures
from sites.settings.definitions import definition
from sites.store.store import Store
from sites.store.verify import check
from sites.store.withdrawn import WITHDRAWN_FILE
from sites.withdraw import withdraw
from tests.support.killed import Killed, killed_at
from tests.support.small_scans import write_nifti_patient

SMS = definition("sms").model_copy(update={"data_kind": "phantom"})


def run(*command: object) -> str:
    result = CliRunner().invoke(site_commands, [str(part) for part in command])
    assert result.exception is None, result.output
    return result.output


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with keys and five patients, of whom training has more than one."""
    folder = tmp_path_factory.mktemp("hospital")
    for number in range(1, 6):
        write_nifti_patient(folder / "scans" / f"P{number:03d}", number)
    (folder / "site.yaml").write_text(settings_text(SMS))
    run("init", folder / "home", "--definition", folder / "site.yaml")
    run("ingest", folder / "home", folder / "scans")
    return folder


@pytest.fixture
def site(hospital: Path, tmp_path: Path) -> SiteHome:
    """The same in a folder of the test's own."""
    return SiteHome.at(Path(shutil.copytree(hospital / "home", tmp_path / "home")))


def a_training_patient(site: SiteHome) -> str:
    return next(one for one, split in Store(site.store).cohort.patients.items() if split == "training")


def files_of(site: SiteHome, patient: str) -> list[Path]:
    return sorted(site.store.glob(f"{patient}-*.h5"))


def is_withdrawn(site: SiteHome, patient: str) -> bool:
    """Whether no reader finds the patient; raises where the store is neither with nor without the patient."""
    cohort = Store(site.store).cohort
    report = check(site.store)
    named = {pair.patient for pair in cohort.pairs}
    assert report.cohort.digest == cohort.digest == cohort.computed_digest()
    assert named == set(cohort.patients)
    return patient not in named


def test_a_patient_is_out_and_the_others_keep_their_splits(site: SiteHome) -> None:
    patient = a_training_patient(site)
    before = Store(site.store).cohort
    assert files_of(site, patient)
    page = json.loads(run("withdraw", site.path, patient, "--json"))
    after = Store(site.store).cohort
    assert is_withdrawn(site, patient)
    assert not files_of(site, patient)
    assert page["files_removed"] == 1
    assert after.patients == {one: split for one, split in before.patients.items() if one != patient}
    assert {pair.sha256 for pair in after.pairs} == {
        pair.sha256 for pair in before.pairs if pair.patient != patient
    }
    assert page["cohort"] == after.digest != before.digest
    declared = read_declaration(site.path / DECLARATION_FILE)
    assert (declared.cohort_digest, declared.n_training_slices) == (
        after.digest,
        after.counts["training"].slices,
    )
    assert after.digest in site.request.read_text()
    kept = Signatures(site.store, patients={pair.file: pair.patient for pair in before.pairs})
    assert [pair.file in kept for pair in before.pairs] == [pair.patient != patient for pair in before.pairs]


def test_no_ingest_brings_the_patient_back_and_each_says_so(site: SiteHome, hospital: Path) -> None:
    patient = a_training_patient(site)
    run("withdraw", site.path, patient)
    after = Store(site.store).cohort
    said = run("ingest", site.path, hospital / "scans")
    assert f"1 pairs of patient {patient} are left out: the patient was withdrawn." in said
    assert Store(site.store).cohort.digest == after.digest
    assert not files_of(site, patient)


def test_the_ledger_has_the_act_and_not_the_patient(site: SiteHome) -> None:
    patient = a_training_patient(site)
    run("withdraw", site.path, patient)
    last = list(Ledger(site.state).records())[-1]
    assert (last["event"], last["cohort"], last["files"]) == ("withdrawn", Store(site.store).cohort.digest, 1)
    assert patient not in (site.state / "ledger.jsonl").read_text()
    assert not Ledger(site.state).verify().problems
    run("withdraw", site.path, patient)
    assert sum(one["event"] == "withdrawn" for one in Ledger(site.state).records()) == 1


def test_a_pseudonym_that_the_store_never_had_changes_nothing(site: SiteHome) -> None:
    before = Store(site.store).cohort
    result = CliRunner().invoke(site_commands, ["withdraw", str(site.path), "0123456789ab"])
    assert result.exception is not None
    assert "no patient of the store has this pseudonym" in str(result.exception)
    assert not (site.store / WITHDRAWN_FILE).exists()
    assert Store(site.store).cohort.digest == before.digest


@pytest.mark.parametrize(
    ("where", "call", "before", "withdrawn"),
    [
        ("sites.withdraw.add_withdrawn", 1, True, False),
        ("sites.withdraw.add_withdrawn", 1, False, True),
        ("sites.withdraw.remove_withdrawn", 1, True, True),
        ("sites.withdraw.remove_withdrawn", 1, False, True),
        ("client.withdraw.declare", 1, True, True),
        ("client.withdraw.note_withdrawal", 1, True, True),
        ("client.withdraw.note_withdrawal", 1, False, True),
    ],
)
def test_a_kill_between_two_steps_leaves_the_patient_in_or_out_and_a_repeat_completes_it(
    site: SiteHome,
    hospital: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    call: int,
    before: bool,
    withdrawn: bool,
) -> None:
    patient = a_training_patient(site)
    with monkeypatch.context() as patched:
        killed_at(patched, where, call=call, before=before)
        with pytest.raises(Killed):
            CliRunner().invoke(site_commands, ["withdraw", str(site.path), patient])
    assert is_withdrawn(site, patient) is withdrawn
    if withdrawn:  # an ingest before the repeat does not bring the patient back either
        run("ingest", site.path, hospital / "scans")
        assert is_withdrawn(site, patient)
        assert not files_of(site, patient)
    run("withdraw", site.path, patient)
    assert is_withdrawn(site, patient)
    assert not files_of(site, patient)
    after = Store(site.store).cohort.digest
    assert read_declaration(site.path / DECLARATION_FILE).cohort_digest == after
    noted = [one["cohort"] for one in Ledger(site.state).records() if "cohort" in one]
    assert noted[-1] == after


def test_a_list_that_cannot_be_read_stops_every_reader(site: SiteHome) -> None:
    run("withdraw", site.path, a_training_patient(site))
    (site.store / WITHDRAWN_FILE).write_text('{"schema_version": 1, "patients": {"x": "y"}}')
    with pytest.raises(StoreDamaged, match="withdrawn"):
        _ = Store(site.store).cohort


def test_the_last_patient_of_a_split_goes_too_and_it_is_said(site: SiteHome) -> None:
    cohort = Store(site.store).cohort
    tested = [one for one, split in cohort.patients.items() if split == "test"]
    for patient in tested:
        done = withdraw(site.store, patient)
    assert any("No test patient is left" in said for said in done.remarks())


def test_the_runs_are_those_that_were_answered_while_the_patient_was_in_the_store(site: SiteHome) -> None:
    ledger, present = Ledger(site.state), Store(site.store).cohort.digest
    patient = a_training_patient(site)

    def answer(run_name: str, number: int, task: str = "train") -> None:
        ledger.append("answered", task=task, study="knee", run=run_name, round=number, request="0" * 64)

    ledger.append("ingested", cohort="ab" * 32, slices={})
    answer("early", 1)
    ledger.append("ingested", cohort=present, slices={})
    answer("early", 2)
    answer("late", 1)
    answer("tested", 1, task="test")
    page = json.loads(run("withdraw", site.path, patient, "--json"))
    answer("after", 1)
    wanted = [("early", [2], [1]), ("late", [1], [])]
    assert [(one["run"], one["rounds"], one["possible_rounds"]) for one in page["runs"]] == wanted
    again = json.loads(run("withdraw", site.path, patient, "--json"))
    assert again["runs"] == page["runs"]
    records = list(ledger.records())
    tested = runs_of_patient(records, left=present, test=True, kept=site.state)
    assert [(one.run, one.certain) for one in tested] == [("tested", (1,))]


def test_the_image_and_the_scores_of_the_patient_leave_the_results(site: SiteHome) -> None:
    cohort = Store(site.store).cohort
    patient, other = list(cohort.patients)[:2]
    (site.results / "test.json").write_text(json.dumps({f"{patient}-1": {}, f"{other}-2": {}}))
    (site.results / "panel.npz").write_bytes(b"an image")
    run("withdraw", site.path, patient)
    assert json.loads((site.results / "test.json").read_text()) == {f"{other}-2": {}}
    assert not (site.results / "panel.npz").exists()
