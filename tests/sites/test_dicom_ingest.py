"""From a hospital's export to a store: the right pairs, the refusals by their codes, and no identity anywhere."""

from __future__ import annotations

import json
import shutil
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydicom import dcmread
from pydicom.dataset import Dataset
from typer.testing import CliRunner

from fedminet.main import command_line
from minet_core.settings.yaml_file import parse_settings, parse_yaml
from sites.ingest import ingest
from sites.settings.definitions import definition_text
from sites.settings.site_settings import SiteSettings
from sites.store.store import Store
from tests.support.dicom_series import WAYS, Header, write_classic, write_enhanced
from tests.support.small_scans import affine_of, make_volume

T1 = {"echo_time_ms": 10.0, "repetition_time_ms": 600.0}
T2 = {"echo_time_ms": 100.0, "repetition_time_ms": 4500.0}
AFFINE = affine_of((4.0, 3.0, 3.0))
CONTENT = {
    **parse_yaml(definition_text("sms")),
    "reader": "dicom",
    "data_kind": "phantom",
    "allow_few_patients": True,
}
SETTINGS = parse_settings(CONTENT, SiteSettings, source="the test")


class Planted:
    """Identities that stand in an export; each is one of a kind, so that it can be looked for."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers = count()

    def name(self) -> str:
        self.names.append(f"QZ{next(self._numbers):04d}XJ")
        return self.names[-1]

    def into(self, one: Dataset) -> None:
        """Into every element that may name somebody, a private one, and a nested one."""
        for keyword in (
            "InstitutionName",
            "ReferringPhysicianName",
            "OperatorsName",
            "StudyDescription",
            "ProtocolName",
        ):
            setattr(one, keyword, self.name())
        for keyword in (
            "AccessionNumber",
            "StationName",
            "PatientComments",
            "DeviceSerialNumber",
            "SequenceName",
        ):
            setattr(one, keyword, self.name())
        one.private_block(0x0099, self.name(), create=True).add_new(1, "LO", self.name())
        nested = Dataset()
        nested.PatientID = self.name()
        one.OtherPatientIDsSequence = [nested]


def stored(seed: int, contrast: str) -> np.ndarray:
    return np.rint(make_volume(seed, contrast).array).astype(np.uint16)


def write_export(folder: Path, planted: Planted) -> dict[int, str]:
    """Five patients, each of another vendor, and what a PACS gives besides. By seed, the way it was written."""
    ways = dict(enumerate(sorted(WAYS), start=1))
    for seed, way in ways.items():
        patient, person = planted.name(), planted.name()
        place = folder / person / planted.name()
        for contrast, times in (("T1", T1), ("T2", T2)):
            header = Header(
                patient_id=patient, patient_name=person, series=contrast, description=planted.name(), **times
            )
            write_classic(
                place / contrast,
                stored(seed, contrast),
                AFFINE,
                way=way,
                header=header,
                change=lambda one, index: planted.into(one) if index == 0 else None,
            )
        extras(place, seed, patient, planted)
    return ways


def extras(place: Path, seed: int, patient: str, planted: Planted) -> None:
    """Beside a patient's pair: a report, a map, and a T2 with fewer slices, which the rules pass over."""

    def report(one: Dataset, index: int) -> None:
        one.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.22"
        planted.into(one)

    def derived(one: Dataset, index: int) -> None:
        one.ImageType = ["DERIVED", "SECONDARY", "MPR"]

    header = Header(patient_id=patient, series="other", description=planted.name(), **T2)
    write_classic(place / planted.name(), stored(seed, "T2")[:1], AFFINE, header=header, change=report)
    header = Header(patient_id=patient, series="map", description=planted.name(), **T2)
    write_classic(place / planted.name(), stored(seed, "T2"), AFFINE, header=header, change=derived)
    header = Header(patient_id=patient, series="short", description=planted.name(), **T2)
    write_classic(place / planted.name(), stored(seed, "T2")[:6], AFFINE, header=header)


def write_troubles(folder: Path, planted: Planted) -> list[str]:
    """Studies that make no pair; the code of each."""
    codes = []
    for number, (code, change) in enumerate(
        (("FM-D203", _gap), ("FM-D203", _askew), ("FM-D203", None), ("FM-D202", _nameless)), start=101
    ):
        patient = planted.name()
        for contrast, times in (("T1", T1), ("T2", T2)):
            header = Header(
                patient_id="" if change is _nameless else patient,
                series=contrast,
                study=str(number),
                description=planted.name(),
                **times,
            )
            if change is None and contrast == "T1":
                continue  # a target without a reference
            place = folder / planted.name() / contrast
            paths = write_classic(
                place,
                stored(number, contrast),
                AFFINE,
                header=header,
                change=change if contrast == "T2" else None,
            )
            if change is _gap and contrast == "T2":
                paths[3].unlink()
        codes.append(code)
    return codes


def _gap(one: Dataset, index: int) -> None:
    """The file is removed afterwards."""


def _nameless(one: Dataset, index: int) -> None:
    """The patient has no number."""


def _askew(one: Dataset, index: int) -> None:
    x, y, z = one.ImagePositionPatient
    one.ImagePositionPatient = [float(x), float(y) + index, float(z)]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory):
    """A site, its export, what was planted, and all that was printed."""
    folder, planted = tmp_path_factory.mktemp("hospital"), Planted()
    ways = write_export(folder / "export", planted)
    codes = write_troubles(folder / "export", planted)
    cut_off = next((folder / "export").rglob("*.dcm"))
    broken = folder / "export" / planted.name() / f"{planted.name()}.dcm"
    broken.parent.mkdir()
    broken.write_bytes(cut_off.read_bytes()[:600])
    (folder / "export" / f"{planted.name()}.txt").write_text(planted.name())
    definition = folder / "dicom.yaml"
    definition.write_text(yaml.safe_dump({**CONTENT, "name": "hospital"}))
    run, printed = CliRunner().invoke, []
    for command in (
        ["init", str(folder / "home"), "--definition", str(definition)],
        ["scan", str(folder / "export")],
        ["scan", str(folder / "export"), "--site", str(folder / "home"), "--json"],
        ["ingest", str(folder / "home"), str(folder / "export"), "--dry-run"],
        ["ingest", str(folder / "home"), str(folder / "export")],
        ["ingest", str(folder / "home"), str(folder / "export"), "--json"],
        ["check", str(folder / "home")],
    ):
        result = run(command_line(), ["site", *command])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        printed.append(result.output)
    return folder, ways, codes, planted, printed


def test_exactly_the_right_pairs_are_in_the_store(hospital) -> None:
    folder, ways, codes, _, printed = hospital
    report = json.loads(printed[5].splitlines()[0])
    assert len(report["accepted"]) == len(ways)
    assert sorted(one["code"] for one in report["refused"]) == sorted([*codes, "FM-D201"])
    store = Store(folder / "home" / "store")
    found = [store.read_pair(record) for record in store.cohort.pairs]
    for seed, way in ways.items():
        for role, contrast in (("target", "T2"), ("reference", "T1")):
            wanted = stored(seed, contrast) * np.float32(WAYS[way].slope or 1)
            arrays = [getattr(pair, role).array for pair in found]
            assert sum(one.shape == wanted.shape and np.array_equal(one, wanted) for one in arrays) == 1, (
                way,
                role,
            )


def test_the_second_ingest_takes_what_is_there(hospital) -> None:
    *_, printed = hospital
    assert all(pair["reused"] for pair in json.loads(printed[5].splitlines()[0])["accepted"])


def test_the_choice_between_two_series_is_recorded(hospital) -> None:
    *_, printed = hospital
    said = [one for one in json.loads(printed[5].splitlines()[0])["remarks"] if "passed over" in one]
    assert len(said) == 5
    assert all("is the target by more_slices" in one for one in said)


def test_no_identity_is_in_the_store_the_reports_or_the_names_of_files(hospital) -> None:
    folder, *_, planted, printed = hospital
    assert len(planted.names) > 200
    export = b"".join(path.read_bytes() for path in (folder / "export").rglob("*") if path.is_file())
    assert sum(name.encode() in export for name in planted.names) > 200, "they are planted"
    text = "\n".join(printed).replace("\n", "").encode()
    identifiers = set()
    for path in (folder / "export").rglob("*.dcm"):
        one = dcmread(path, stop_before_pixels=True, force=True)
        identifiers |= {str(one.get(f"{kind}InstanceUID")) for kind in ("Study", "Series", "SOP")}
    assert len(identifiers) > 100
    home = folder / "home"
    places = [path for path in home.rglob("*") if path.is_file()]
    assert len(places) > 5
    for content in (
        text,
        *(path.read_bytes() for path in places),
        *(str(p).encode() for p in home.rglob("*")),
    ):
        assert not [name for name in (*planted.names, *identifiers) if name.encode() in content]


def test_the_table_says_the_role_of_each_series_and_why_not(hospital) -> None:
    *_, printed = hospital
    table = json.loads(printed[2].splitlines()[0])
    roles = [row["role"] for row in table["series"]]
    assert (roles.count("target"), roles.count("reference")) == (12, 8)
    reasons = " ".join(row["why_not"] for row in table["series"])
    assert "FM-D212: it lacks slices; 1 between" in reasons
    assert "FM-D212: it is a stack that is askew" in reasons
    assert "5 x FM-D213: Enhanced SR Storage" in table["left_out"]
    assert "why" not in printed[1].splitlines()[0]


def test_moving_and_renaming_an_export_makes_no_pair_anew(hospital, tmp_path: Path) -> None:
    folder, *_ = hospital
    shutil.copytree(folder / "home" / "store", tmp_path / "store")
    moved = tmp_path / "moved"
    moved.mkdir()
    for number, path in enumerate(sorted((folder / "export").rglob("*.dcm"), reverse=True)):
        shutil.copy(path, moved / f"{number:05d}")
    settings = SETTINGS.model_copy(update={"name": "hospital"})
    report = ingest(moved, tmp_path / "store", settings)
    assert len(report.accepted) == 5
    assert all(pair.reused for pair in report.accepted)


def test_an_enhanced_target_pairs_with_a_classic_reference(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        place = tmp_path / "export" / str(seed)
        header = Header(patient_id=f"P{seed}", series="T1", **T1)
        write_classic(place, stored(seed, "T1"), AFFINE, header=header)
        header = Header(patient_id=f"P{seed}", series="T2", **T2)

        def spin_echo(one: Dataset, index: int) -> None:
            one.EchoPulseSequence = "SPIN"

        write_enhanced(place / "T2.dcm", stored(seed, "T2"), AFFINE, header=header, change=spin_echo)
    report = ingest(tmp_path / "export", tmp_path / "store", SETTINGS)
    assert len(report.accepted) == 3
    assert not report.refused


def test_two_studies_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        for series, times in (("T1", T1), ("T2", T2), ("T2 again", T2)):
            if series != "T2 again" or seed == 3:
                header = Header(patient_id=f"P{seed}", series=series, **times)
                write_classic(
                    tmp_path / "export" / f"{seed}{series}", stored(seed, series[:2]), AFFINE, header=header
                )
    report = ingest(tmp_path / "export", tmp_path / "store", SETTINGS)
    assert [refusal.code for refusal in report.refused] == ["FM-D202"]
    assert "several series of a study could be the target" in report.refused[0].message
