"""A BIDS tree by the rules that choose among series of DICOM: the facts of its side-cars, sessions and runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from minet_core.errors import ScanInvalid, ScanUnreadable
from minet_core.settings.yaml_file import parse_settings, parse_yaml
from sites.ingest import ingest
from sites.pairing.pairing import find_pairs
from sites.pairing.series_table import series_table, table_text
from sites.scans.dicom.acquisition_facts import AcquisitionFacts
from sites.scans.dicom.series import read_export
from sites.scans.side_cars import BidsName, SideCars, side_car_facts
from sites.settings.definitions import definition_text
from sites.settings.scan_files import DicomFiles
from sites.settings.site_settings import SiteSettings
from tests.support.small_scans import make_volume, write_nifti
from tests.support.vendor_dicom import FOLDER, vendor_folder

T1 = {
    "EchoTime": 0.01,
    "RepetitionTime": 0.6,
    "ScanningSequence": "SE",
    "ImageType": ["ORIGINAL", "PRIMARY", "M"],
}
T2 = {
    "EchoTime": 0.1,
    "RepetitionTime": 4.5,
    "ScanningSequence": "SE",
    "ImageType": ["ORIGINAL", "PRIMARY", "M"],
}
CONTENT = {
    **parse_yaml(definition_text("sms")),
    "reader": "nifti",
    "nifti": {"choose_by": "facts"},
    "data_kind": "phantom",
    "allow_few_patients": True,
}


def settings(**content: object) -> SiteSettings:
    return parse_settings({**CONTENT, **content}, SiteSettings, source="the test")


def write(
    tree: Path,
    name: str,
    car: dict | None,
    *,
    seed: int = 1,
    contrast: str = "T2",
    n_slices: int | None = None,
) -> Path:
    """A scan below the folders that its name says, with its side-car; None: without one."""
    parsed = BidsName.parse(name)
    assert parsed is not None
    session = [f"ses-{parsed.entities['ses']}"] if "ses" in parsed.entities else []
    folder = tree.joinpath(f"sub-{parsed.entities['sub']}", *session, "anat")
    folder.mkdir(parents=True, exist_ok=True)
    whole = make_volume(seed, contrast)
    path = folder / f"{name}.nii.gz"
    write_nifti(path, replace(whole, array=whole.array[:n_slices]))
    if car is not None:
        (folder / f"{name}.json").write_text(json.dumps(car))
    return path


def facts_of(path: Path) -> AcquisitionFacts:
    name = BidsName.parse(path.name.removesuffix(".nii.gz"))
    assert name is not None
    return side_car_facts(SideCars().of(path, name), name)


def test_a_nearer_side_car_overrides_a_farther_one_key_by_key(tmp_path: Path) -> None:
    path = write(tmp_path, "sub-01_ses-1_acq-tse_run-2_T2w", {"FlipAngle": 150})
    (tmp_path / "T2w.json").write_text(json.dumps({"EchoTime": 0.08, "RepetitionTime": 4, "FlipAngle": 90}))
    (tmp_path / "sub-01" / "sub-01_acq-tse_T2w.json").write_text(json.dumps({"EchoTime": 0.1}))
    (tmp_path / "acq-flash_T2w.json").write_text(json.dumps({"RepetitionTime": 9}))
    (tmp_path / "T1w.json").write_text(json.dumps({"InversionTime": 1}))
    found = facts_of(path)
    assert (found.echo_time_s, found.repetition_time_s, found.flip_angle_deg) == (0.1, 4, 150)
    assert found.inversion_time_s is None


def test_two_side_cars_of_one_folder_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "sub-01_run-1_T2w", T2)
    (path.parent / "sub-01_T2w.json").write_text(json.dumps(T1))
    with pytest.raises(ScanInvalid, match=r"FM-D202.*sub-01_T2w.json, sub-01_run-1_T2w.json"):
        facts_of(path)


@pytest.mark.parametrize(
    "content", [b"[1]", b"{", b"\xff\xfe", b"[" * 100_000], ids=["list", "cut", "bytes", "deep"]
)
def test_a_side_car_that_is_none_has_a_code(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path, "sub-01_T2w", None)
    path.with_name("sub-01_T2w.json").write_bytes(content)
    with pytest.raises(ScanUnreadable, match="FM-D201"):
        facts_of(path)


@pytest.mark.parametrize(
    "value", ["soon", [[1]], float("nan"), 10**400], ids=["word", "nested", "nan", "huge"]
)
def test_what_is_no_number_has_a_code(tmp_path: Path, value: object) -> None:
    with pytest.raises(ScanInvalid, match="FM-D202"):
        facts_of(write(tmp_path, "sub-01_T2w", {"EchoTime": value}))


@pytest.mark.parametrize(
    ("car", "name", "fact", "expected"),
    [
        ({"ScanningSequence": "GR\\IR"}, "sub-1_T1w", "sequence", ("GR", "IR")),
        ({"ScanningSequence": "GR_IR"}, "sub-1_T1w", "sequence", ("GR", "IR")),
        ({"ScanningSequence": ["GR", "IR"]}, "sub-1_T1w", "sequence", ("GR", "IR")),
        ({"ScanOptions": "PFP_FS"}, "sub-1_T1w", "options", ("PFP", "FS")),
        ({"ScanOptions": "SAT_GEMS"}, "sub-1_T1w", "options", ("SAT_GEMS",)),
        ({"ScanOptions": "PFP\\FS"}, "sub-1_T1w", "fat_suppressed", True),
        ({"ScanOptions": "SAT_GEMS\\EDR_GEMS"}, "sub-1_T1w", "fat_suppressed", False),
        ({"ContrastBolusIngredient": "GADOLINIUM"}, "sub-1_T1w", "contrast_agent", True),
        ({"ContrastBolusIngredient": "n/a"}, "sub-1_T1w", "contrast_agent", None),
        ({}, "sub-1_ce-gd_T1w", "contrast_agent", True),
        (
            {"RepetitionTimePreparation": 2.3, "RepetitionTimeExcitation": 0.007},
            "sub-1_T1w",
            "repetition_time_s",
            2.3,
        ),
        (
            {"RepetitionTime": "n/a", "RepetitionTimeExcitation": 0.007},
            "sub-1_T1w",
            "repetition_time_s",
            0.007,
        ),
        ({}, "sub-1_part-phase_T1w", "component", "phase"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "T1", "FIELDMAPHZ"]}, "sub-1_T1w", "component", "map"),
        ({"Manufacturer": "GE"}, "sub-1_T1w", "vendor", "GE"),
        ({"MRAcquisitionType": "3D"}, "sub-1_T1w", "is_3d", True),
    ],
)
def test_each_fact_is_read_as_converters_write_it(car: dict, name: str, fact: str, expected: object) -> None:
    parsed = BidsName.parse(name)
    assert parsed is not None
    assert getattr(side_car_facts(car, parsed), fact) == expected


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the vendors' files are not here")
@pytest.mark.parametrize(
    "vendor", ["siemens_xa30_enhanced_t1", "uih_t1_sag", "ge_epi", "siemens_xa10_enhanced"]
)
def test_the_facts_are_those_of_the_header_that_dcm2niix_converted(vendor: str, tmp_path: Path) -> None:
    folder = vendor_folder(vendor)
    program, options = (
        str(Path(sys.executable).parent / "dcm2niix"),
        ["-b", "y", "-z", "n", "-f", "sub-1_T1w"],
    )
    subprocess.run([program, *options, "-o", tmp_path, folder], check=True, capture_output=True)
    name = BidsName({"sub": "1"}, "T1w")
    found = side_car_facts(json.loads((tmp_path / "sub-1_T1w.json").read_text()), name)
    (series, *_) = read_export(folder).series
    stated = series.frames[0].facts
    assert found.echo_time_s is not None
    times = ("echo_time_s", "repetition_time_s", "inversion_time_s")
    for fact in (*times, "field_strength_t", "flip_angle_deg"):
        expected = getattr(stated, fact)
        assert getattr(found, fact) == (expected and pytest.approx(expected, rel=1e-3)), fact
    for fact in ("vendor", "is_3d", "component"):
        assert getattr(found, fact) == getattr(stated, fact), fact


def test_a_pair_of_each_session_is_chosen_by_facts_whatever_the_suffix_says(tmp_path: Path) -> None:
    for subject, session in (("01", "1"), ("01", "2"), ("02", "1")):
        write(
            tmp_path,
            f"sub-{subject}_ses-{session}_acq-post_T1w",
            {**T1, "ContrastBolusIngredient": "GADOLINIUM"},
        )
        write(tmp_path, f"sub-{subject}_ses-{session}_acq-pre_T1w", T1)
        write(
            tmp_path, f"sub-{subject}_ses-{session}_FLAIR", {**T2, "InversionTime": 2.5, "RepetitionTime": 9}
        )
        write(tmp_path, f"sub-{subject}_ses-{session}_T2w", T2)
    rules = {"reference": {"contrast_agent": False}}
    found = find_pairs(tmp_path, settings(dicom=rules))
    assert [(one.patient_id, one.target.name, one.reference.name) for one in found.candidates] == [
        (f"sub-{who}", f"sub-{who}_ses-{session}_T2w.nii.gz", f"sub-{who}_ses-{session}_acq-pre_T1w.nii.gz")
        for who, session in (("01", "1"), ("01", "2"), ("02", "1"))
    ]
    assert not found.refused
    swapped = write(tmp_path, "sub-03_ses-1_T1w", T2)
    write(tmp_path, "sub-03_ses-1_T2w", T1)
    (last,) = [
        one for one in find_pairs(tmp_path, settings(dicom=rules)).candidates if one.patient_id == "sub-03"
    ]
    assert last.target == swapped, "the name says T1w, and the side-car T2"


def test_of_several_runs_the_stated_order_decides_and_is_said(tmp_path: Path) -> None:
    write(tmp_path, "sub-01_T1w", T1)
    write(tmp_path, "sub-01_run-1_T2w", T2)
    write(tmp_path, "sub-01_run-2_T2w", T2)
    found = find_pairs(tmp_path, settings())
    assert found.candidates[0].target.name == "sub-01_run-2_T2w.nii.gz"
    assert found.remarks == [
        "sub-01/anat: sub-01: sub-01/anat/sub-01_run-2_T2w.nii.gz is the target by last_run; passed over: "
        "sub-01/anat/sub-01_run-1_T2w.nii.gz"
    ]
    write(tmp_path, "sub-01_run-2_T2w", T2, n_slices=6)
    assert find_pairs(tmp_path, settings()).candidates[0].target.name == "sub-01_run-1_T2w.nii.gz", (
        "more slices"
    )
    (refused,) = find_pairs(tmp_path, settings(dicom={"prefer": ["description"]})).refused
    assert refused.code == "FM-D202"


def test_a_scan_without_a_side_car_meets_no_rule_and_stops_no_other(tmp_path: Path) -> None:
    write(tmp_path, "sub-01_T1w", T1)
    write(tmp_path, "sub-01_T2w", None)
    write(tmp_path, "sub-02_T1w", T1)
    write(tmp_path, "sub-02_T2w", T2)
    broken = write(tmp_path, "sub-03_T2w", T2)
    broken.write_bytes(b"no NIfTI")
    found = find_pairs(tmp_path, settings())
    assert [one.patient_id for one in found.candidates] == ["sub-02"]
    assert [one.code for one in found.refused] == ["FM-D203", "FM-D203"]
    assert "TE not said, not 60 to 200 ms" in found.refused[0].message
    assert "FM-D201" in found.refused[1].message


def test_the_table_is_that_of_dicom(tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_text("{}")
    write(tmp_path, "sub-01_T1w", T1)
    write(tmp_path, "sub-01_T2w", T2)
    write(tmp_path, "sub-01_T1map", {**T1})
    write(tmp_path, "sub-01_FLAIR", {**T2, "InversionTime": 2.5})
    shutil.copytree(tmp_path / "sub-01", tmp_path / "derivatives" / "sub-01")
    shutil.copytree(tmp_path / "sub-01" / "anat", tmp_path / "sub-01" / "func")
    table = series_table(tmp_path, DicomFiles())
    rows = {row["series"].rpartition("_")[2].removesuffix(".nii.gz"): row for row in table["series"]}
    assert {name: row["role"] for name, row in rows.items()} == {
        "T1w": "reference",
        "T2w": "target",
        "T1map": None,
        "FLAIR": None,
    }
    assert rows["T2w"]["te_ms"] == 100
    assert rows["T2w"]["grid"] == [*make_volume(1, "T2").array.shape]
    assert rows["T2w"]["spacing_mm"] == [4, 3, 3]
    assert rows["T1map"]["why_not"].startswith("FM-D213")
    assert rows["FLAIR"]["why_not"].startswith("no target: inversion: yes; no reference: TE 100 ms")
    assert table["studies"] == [
        "target sub-01/anat/sub-01_T2w.nii.gz, reference sub-01/anat/sub-01_T1w.nii.gz"
    ]
    text = table_text(table)
    assert "left out: 4 files not below anat" in text
    assert "below the BIDS folder derivatives were passed over" in text


def test_a_tree_is_ingested_by_its_facts(tmp_path: Path) -> None:
    for number in range(3):
        for name, car, contrast in (("T1w", T1, "T1"), ("T2w", T2, "T2")):
            path = write(tmp_path / "tree", f"sub-{number}_{name}", None, seed=number + 1, contrast=contrast)
            (tmp_path / "tree" / f"{name}.json").write_text(json.dumps(car))
            assert path.is_file()
    report = ingest(tmp_path / "tree", tmp_path / "store", settings())
    assert (len(report.accepted), len(report.refused), len(report.cohort.patients)) == (3, 0, 3)
