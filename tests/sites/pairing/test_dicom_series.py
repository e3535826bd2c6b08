"""Which series gets which role: the site's rules on acquisition facts, and the order of preference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from minet_core.errors import InvalidSetting, ReferenceMissing, ScanInvalid
from minet_core.settings.yaml_file import parse_settings
from sites.pairing.dicom_series import DicomScan, scans_in
from sites.pairing.series_choice import choose_scan, role_of
from sites.pairing.series_table import series_table, table_text
from sites.scans.dicom.series import read_export
from sites.settings.scan_files import DicomFiles
from tests.support.dicom_series import Header, write_classic
from tests.support.small_scans import affine_of, make_volume
from tests.support.vendor_dicom import FOLDER, vendor_folder

STORED = np.rint(make_volume(1, "T2").array).astype(np.uint16)
AFFINE = affine_of((4.0, 3.0, 3.0))
DEFAULT = DicomFiles()


def rules(**content: object) -> DicomFiles:
    return parse_settings(content, DicomFiles, source="the test")


def write(folder: Path, name: str, *, shape: tuple[int, int] = (8, 40), **header: object) -> None:
    array = STORED[: shape[0], : shape[1]]
    write_classic(folder / name, array, AFFINE, header=Header(series=name, **header))  # type: ignore[arg-type]


def scans(folder: Path, chosen: DicomFiles = DEFAULT) -> list[DicomScan]:
    export = read_export(folder)
    names = {series.uid: export.paths[series.label].split("/")[0] for series in export.series}
    return scans_in(export, chosen, name=lambda series: names[series.uid])


def roles(folder: Path, chosen: DicomFiles = DEFAULT) -> dict[str, str | None]:
    return {scan.label: role_of(scan, chosen)[0] for scan in scans(folder, chosen)}


def test_contrasts_are_told_by_their_times(tmp_path: Path) -> None:
    write(tmp_path, "T1", echo_time_ms=10, repetition_time_ms=600)
    write(
        tmp_path,
        "MPRAGE",
        echo_time_ms=2.4,
        repetition_time_ms=1800,
        inversion_time_ms=900,
        sequence=("GR", "IR"),
    )
    write(tmp_path, "T2", echo_time_ms=100, repetition_time_ms=4500)
    write(tmp_path, "PD", echo_time_ms=20, repetition_time_ms=4500)
    write(
        tmp_path,
        "FLAIR",
        echo_time_ms=100,
        repetition_time_ms=9000,
        inversion_time_ms=2500,
        sequence=("SE", "IR"),
    )
    write(tmp_path, "T2star", echo_time_ms=70, repetition_time_ms=3000, sequence=("GR",))
    assert roles(tmp_path) == {
        "T1": "reference",
        "MPRAGE": "reference",
        "T2": "target",
        "PD": None,
        "FLAIR": None,
        "T2star": None,
    }


def test_the_reason_has_the_figure_and_what_was_asked(tmp_path: Path) -> None:
    write(tmp_path, "FLAIR", echo_time_ms=100, repetition_time_ms=9000, inversion_time_ms=2500)
    (scan,) = scans(tmp_path)
    assert role_of(scan, DEFAULT)[1] == (
        "no target: inversion: yes; no reference: TE 100 ms, not 0 to 30 ms, TR 9000 ms, not 0 to 2600 ms"
    )


@pytest.mark.parametrize(
    ("header", "rule", "meets"),
    [
        ({"options": ("FS",)}, {"fat_suppressed": True}, True),
        ({"options": ("FS",)}, {"fat_suppressed": False}, False),
        ({"options": ("SAT_GEMS",)}, {"fat_suppressed": True}, False),
        ({}, {"fat_suppressed": False}, True),
        ({}, {"fat_suppressed": True}, False),
        ({"agent": "GADOVIST"}, {"contrast_agent": False}, False),
        ({"agent": "GADOVIST"}, {"contrast_agent": True}, True),
        ({"agent": "NONE"}, {"contrast_agent": True}, False),
        ({"agent": "ANONYMIZED"}, {"contrast_agent": True}, False),
        ({"agent": "Anonymous"}, {"contrast_agent": False}, True),
        ({}, {"contrast_agent": False}, True),
        ({}, {"three_dimensional": True}, False),
        ({}, {"image_type": ["NORM"]}, True),
        ({}, {"not_image_type": ["NORM"]}, False),
        ({}, {"options": ["PFF"]}, False),
        ({"options": ("PFF",)}, {"not_options": ["PFF"]}, False),
        ({}, {"inversion_time_s": [0.5, 1.0], "inverted": None}, False),
    ],
)
def test_each_fact_decides(tmp_path: Path, header: dict, rule: dict, meets: bool) -> None:
    write(tmp_path, "T2", **header)
    assert (roles(tmp_path, rules(target=rule))["T2"] == "target") == meets


def test_a_description_decides_only_between_series_that_meet_the_facts(tmp_path: Path) -> None:
    write(tmp_path, "a", description="Sag T2 TSE", shape=(8, 40))
    write(tmp_path, "b", description="ax T2 tse", shape=(7, 40))
    write(tmp_path, "c", description="ax T2 localizer", echo_time_ms=10, repetition_time_ms=600)
    chosen = rules(target={"description": "AX.*T2"})
    found, said = choose_scan(scans(tmp_path, chosen), "target", chosen)
    assert (found.label, said) == ("b", "b is the target by description; passed over: a")


@pytest.mark.parametrize(
    ("prefer", "chosen"), [(["more_slices"], "many"), (["finer_plane"], "many"), (["thinner_slices"], "thin")]
)
def test_the_stated_order_decides_and_is_said(tmp_path: Path, prefer: list[str], chosen: str) -> None:
    write(tmp_path, "many")
    thin = affine_of((2.0, 3.5, 3.5))
    write_classic(tmp_path / "thin", STORED[:6], thin, header=Header(series="thin"))
    found, said = choose_scan(scans(tmp_path), "target", rules(prefer=prefer))
    assert found.label == chosen
    assert f"by {prefer[0]}; passed over" in said


def test_what_no_preference_tells_apart_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "one")
    write(tmp_path, "two")
    with pytest.raises(ScanInvalid, match=r"FM-D202.*got one, two"):
        choose_scan(scans(tmp_path), "target", DEFAULT)
    with pytest.raises(
        ReferenceMissing, match=r"FM-D203.*no series for the reference; got one: the other role"
    ):
        choose_scan(scans(tmp_path), "reference", DEFAULT)


def test_the_echoes_of_one_series_are_two_contrasts(tmp_path: Path) -> None:
    for number, echo_time_ms in enumerate((20.0, 100.0)):

        def echo(one: Dataset, index: int, number: int = number) -> None:
            one.SOPInstanceUID = f"2.25.1{number}{index}"

        header = Header(series="dual", echo_time_ms=echo_time_ms)
        write_classic(tmp_path / "dual" / str(number), STORED, AFFINE, header=header, change=echo)
    assert roles(tmp_path) == {"dual (1 of 2)": None, "dual (2 of 2)": "target"}


def write_under_one_identifier(folder: Path, patients: tuple[str, str]) -> None:
    """As a de-identification may leave them that blanks identifiers: two patients' two contrasts in one series."""

    def blank(one: Dataset, _: int) -> None:
        one.StudyInstanceUID = one.SeriesInstanceUID = "2.25.1"

    for patient_id, echo_time_ms in zip(patients, (10.0, 100.0), strict=True):
        header = Header(
            patient_id=patient_id, echo_time_ms=echo_time_ms, repetition_time_ms=8 * echo_time_ms**1.3
        )
        write_classic(folder / f"{echo_time_ms:g}", STORED, AFFINE, header=header, change=blank)


def test_a_series_of_several_patients_has_no_role(tmp_path: Path) -> None:
    write_under_one_identifier(tmp_path, ("P1", "P2"))
    found = scans(tmp_path)
    assert len(found) == 2
    for scan in found:
        assert isinstance(scan.failure, ScanInvalid)
        assert "P1" not in str(scan.failure)
        assert role_of(scan, DEFAULT)[0] is None
    with pytest.raises(ReferenceMissing, match="several patients"):
        choose_scan(found, "target", DEFAULT)


def test_spaces_around_an_identifier_make_no_other_patient(tmp_path: Path) -> None:
    """PS3.5, 6.2: of a long string they are padding."""
    write_under_one_identifier(tmp_path, ("P1", " P1"))
    found = scans(tmp_path)
    assert [scan.failure for scan in found] == [None, None]
    assert {scan.patient_id for scan in found} == {"P1"}


def test_a_patient_whose_identifier_is_padded_in_one_study_has_one_pseudonym(tmp_path: Path) -> None:
    """Else one of the two studies could be trained on and the other tested."""
    for study, padded in enumerate(("P1", " P1", "P1  ")):
        header = Header(series=f"s{study}", patient_id=padded)
        write_classic(tmp_path / str(study), STORED, AFFINE, header=header)
    assert {scan.patient_id for scan in scans(tmp_path)} == {"P1"}


def test_no_slice_of_a_diffusion_weighted_series_gets_a_role(tmp_path: Path) -> None:
    def weighted(one: Dataset, index: int) -> None:
        one.DiffusionBValue = 0.0 if index < 4 else 1000.0

    write_classic(tmp_path / "dwi", STORED, AFFINE, header=Header(series="dwi"), change=weighted)
    assert set(roles(tmp_path).values()) == {None}


@pytest.mark.parametrize(
    "content", [{"target": {"echo_time_s": [0.2, 0.1]}}, {"target": {"description": "("}}]
)
def test_a_rule_that_is_none_is_refused(content: dict) -> None:
    with pytest.raises(InvalidSetting, match="FM-C102"):
        rules(**content)


EXPECTED = {
    "ge_epi": (1, ["FM-D212"]),
    "philips_classic_dti": (2, ["FM-D202", "FM-D212"]),
    "philips_classic_fmri": (3, ["no target: TE 30.001 ms"] * 3),
    "philips_enhanced_b0": (1, ["reference"]),
    "siemens_xa10_enhanced": (2, ["reference"] * 2),
    "siemens_xa30_enhanced_t1": (1, ["reference"]),
    "uih_t1_sag": (1, ["reference"]),
    "siemens_skyra_mosaic": (0, []),
    "siemens_trio_jpeg2000": (0, []),
    "siemens_trio_jpeg_lossless": (0, []),
    "siemens_xa30_derived_fa": (0, []),
    "siemens_xa30_report": (0, []),
    "uih_vframe_dti": (0, []),
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_table_of_each_vendors_folder(name: str) -> None:
    table = series_table(vendor_folder(name), DEFAULT)
    n_series, said = EXPECTED[name]
    assert len(table["series"]) == n_series
    for row, expected in zip(table["series"], said, strict=True):
        assert (row["role"] or row["why_not"]).startswith(expected)
    assert bool(table["left_out"]) == (n_series == 0)
    assert f"{table['n_files']} files" in table_text(table)
    assert set(EXPECTED) == {folder.name for folder in FOLDER.iterdir()}
