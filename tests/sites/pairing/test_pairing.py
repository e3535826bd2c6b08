from __future__ import annotations

import pytest

from minet_core.errors import FileMissing
from minet_core.settings.yaml_file import parse_settings
from sites.pairing.pairing import find_pairs
from sites.settings.definitions import definition
from sites.settings.site_settings import SiteSettings
from tests.support.small_scans import write_fastmri

SMS, FASTMRI = definition("sms"), definition("fastmri")


def changed(settings: SiteSettings, **sections: object) -> SiteSettings:
    return parse_settings(settings.model_dump(mode="json") | sections, SiteSettings, source="test")


def touch(folder, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def pairs(found) -> list[tuple[str, str, str]]:
    return [(c.patient_id, c.target.name, c.reference.name) for c in found.candidates]


def test_the_usual_names_are_found(tmp_path) -> None:
    touch(
        tmp_path,
        "a/T1.nii.gz",
        "a/T2.nii.gz",
        "b_study1/T1W.nii",
        "b_study1/t2w.nii",
        "c/x_T1.nii",
        "c/x-T2.nii",
    )
    assert pairs(find_pairs(tmp_path, SMS)) == [
        ("a", "T2.nii.gz", "T1.nii.gz"),
        ("b", "t2w.nii", "T1W.nii"),
        ("c", "x-T2.nii", "x_T1.nii"),
    ]


def test_other_scans_and_hidden_files_are_no_targets(tmp_path) -> None:
    touch(
        tmp_path,
        "a/T1.nii.gz",
        "a/T2.nii.gz",
        "a/FLAIR.nii.gz",
        "a/x_T2_mask.nii",
        "a/._T2.nii.gz",
        ".trash/T2.nii",
    )
    found = find_pairs(tmp_path, SMS)
    assert len(found.candidates) == 1
    assert found.ignored == ["a/FLAIR.nii.gz", "a/x_T2_mask.nii"]
    assert not found.refused


def test_a_missing_reference_is_named(tmp_path) -> None:
    touch(tmp_path, "a/T2.nii.gz", "b/T1.nii.gz")
    found = find_pairs(tmp_path, SMS)
    assert [(refusal.label, refusal.code) for refusal in found.refused] == [
        ("a: a", "FM-D203"),
        ("b: b", "FM-D203"),
    ]
    assert "no reference" in found.refused[0].message
    assert "no target" in found.refused[1].message


def test_two_files_that_could_be_the_target_are_refused(tmp_path) -> None:
    touch(tmp_path, "a/T1.nii", "a/T2.nii", "a/T2.nii.gz")
    found = find_pairs(tmp_path, SMS)
    assert [refusal.code for refusal in found.refused] == ["FM-D202"]


def test_patients_in_one_folder_are_told_apart_by_their_file_names(tmp_path) -> None:
    touch(tmp_path, "P1_T1.nii", "P1_T2.nii", "P2_T1.nii", "P2_T2.nii", "notes_T1.nii.gz")
    settings = changed(SMS, nifti={"patient_id": r"(?P<patient>P[0-9]+)_T[12]\.nii"})
    found = find_pairs(tmp_path, settings)
    assert [pair[0] for pair in pairs(found)] == ["P1", "P2"]
    assert [refusal.label for refusal in found.refused] == ["notes_T1.nii.gz"]


EXAMINATION = r"(?P<examination>(?P<patient>P[0-9]+)_[0-9]+)_T[12]\.nii"


def test_two_folders_pair_by_the_examination_in_the_file_names(tmp_path) -> None:
    touch(tmp_path, "T1/P1_1_T1.nii", "T1/P1_2_T1.nii", "T2/P1_1_T2.nii", "T2/P1_2_T2.nii", "T2/P2_1_T2.nii")
    found = find_pairs(tmp_path, changed(SMS, nifti={"patient_id": EXAMINATION}))
    assert pairs(found) == [("P1", "P1_1_T2.nii", "P1_1_T1.nii"), ("P1", "P1_2_T2.nii", "P1_2_T1.nii")]
    assert [(refusal.label, refusal.code) for refusal in found.refused] == [("P2_1: P2", "FM-D203")]


def test_one_examination_in_two_folders_is_no_pair_of_either(tmp_path) -> None:
    touch(tmp_path, "a/P1_1_T1.nii", "a/P1_1_T2.nii", "b/P1_1_T1.nii")
    found = find_pairs(tmp_path, changed(SMS, nifti={"patient_id": EXAMINATION}))
    assert [refusal.code for refusal in found.refused] == ["FM-D202"]


def test_one_patients_folder_can_be_the_source(tmp_path) -> None:
    touch(tmp_path, "patient7/T1.nii", "patient7/T2.nii")
    assert pairs(find_pairs(tmp_path / "patient7", SMS))[0][0] == "patient7"


def test_a_folder_that_is_not_there_is_refused(tmp_path) -> None:
    with pytest.raises(FileMissing):
        find_pairs(tmp_path / "nowhere", SMS)


def test_the_store_inside_the_source_is_not_entered(tmp_path) -> None:
    write_fastmri(tmp_path / "store" / "x.h5", 1, "CORPD_FBK", patient_id="p")
    assert not find_pairs(tmp_path, FASTMRI, skip=tmp_path / "store").refused


def test_fastmri_scans_pair_by_patient(tmp_path) -> None:
    for index, acquisition in enumerate(["CORPD_FBK", "CORPDFS_FBK", "AXT2"]):
        write_fastmri(tmp_path / f"file{index}.h5", 1, acquisition, patient_id="p1")
    write_fastmri(tmp_path / "file8.h5", 2, "CORPD_FBK", patient_id="p2")
    (tmp_path / "file9.h5").write_bytes(b"no HDF5")
    found = find_pairs(tmp_path, FASTMRI)
    assert pairs(found) == [("p1", "file1.h5", "file0.h5")]
    assert [(refusal.label, refusal.code) for refusal in found.refused] == [
        ("file9.h5", "FM-D201"),
        ("file8.h5", "FM-D203"),
    ]
    assert found.ignored == ["file2.h5"]


def test_scans_that_pair_in_more_than_one_way_are_refused(tmp_path) -> None:
    for index, acquisition in enumerate(["CORPD_FBK", "CORPD_FBK", "CORPDFS_FBK"]):
        write_fastmri(tmp_path / f"file{index}.h5", 1, acquisition, patient_id="p1")
    found = find_pairs(tmp_path, FASTMRI)
    assert not found.candidates
    assert found.refused[0].code == "FM-D202"
    assert "pair list" in found.refused[0].message


def test_of_several_references_the_one_with_as_many_slices_is_taken(tmp_path) -> None:
    write_fastmri(tmp_path / "a.h5", 1, "CORPD_FBK", patient_id="p1", n_slices=6)
    write_fastmri(tmp_path / "b.h5", 1, "CORPD_FBK", patient_id="p1")
    write_fastmri(tmp_path / "c.h5", 1, "CORPDFS_FBK", patient_id="p1")
    found = find_pairs(tmp_path, FASTMRI)
    assert pairs(found) == [("p1", "c.h5", "b.h5")]
    assert [refusal.label for refusal in found.refused] == ["a.h5"]


def test_scans_that_name_no_patient_do_not_pair_by_patient(tmp_path) -> None:
    for index, acquisition in enumerate(["CORPD_FBK", "CORPDFS_FBK"]):
        write_fastmri(tmp_path / f"file{index}.h5", 1, acquisition, patient_id=None)
    found = find_pairs(tmp_path, FASTMRI)
    assert not found.candidates
    assert [refusal.code for refusal in found.refused] == ["FM-D202", "FM-D202"]
    assert "split_lists" in found.refused[0].message


@pytest.mark.parametrize(
    "names",
    [
        ("P01_T1.nii.gz", "P01_T2.nii.gz", "P02_T1.nii.gz", "P02_T2.nii.gz"),
        ("P01-T1w.nii", "P01-T2w.nii", "P02-T1w.nii", "P02-T2w.nii"),
    ],
)
def test_patients_side_by_side_in_one_folder_need_no_expression(tmp_path, names) -> None:
    touch(tmp_path, *names)
    found = find_pairs(tmp_path, SMS)
    assert [pair[0] for pair in pairs(found)] == ["P01", "P02"]
    assert "2 patients lie side by side" in found.remarks[0]
    assert not found.refused


def test_several_names_in_one_folder_that_may_be_one_patient_give_the_expression_to_set(tmp_path) -> None:
    touch(tmp_path, *(f"{name}_{role}.nii" for name in ("Meier", "Huber") for role in ("T1", "T2")))
    found = find_pairs(tmp_path, SMS)
    assert not found.candidates
    expression = found.refused[0].message.split("nifti.patient_id: '")[1].split("'")[0]
    again = find_pairs(tmp_path, changed(SMS, nifti={"patient_id": expression}))
    assert [pair[0] for pair in pairs(again)] == ["Huber", "Meier"]
    assert not again.refused


@pytest.mark.parametrize("ends", [("run1", "run2"), ("1", "2"), ("pre", "post")])
def test_two_examinations_in_a_patients_folder_are_no_two_patients(tmp_path, ends) -> None:
    touch(tmp_path, *(f"P07/P07_{end}_{role}.nii" for end in ends for role in ("T1", "T2")))
    assert {pair[0] for pair in pairs(find_pairs(tmp_path, SMS))} <= {"P07"}


def test_a_bids_tree_needs_no_expression(tmp_path) -> None:
    touch(
        tmp_path,
        "dataset_description.json",
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_T2w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_T1w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_run-1_T2w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_run-2_T2w.nii.gz",
        "sub-02/ses-b/anat/sub-02_ses-b_acq-tse_T1w.nii.gz",
        "sub-02/ses-b/anat/sub-02_ses-b_acq-tse_T2w.nii.gz",
        "sub-03/anat/sub-03_T1w.nii.gz",
        "sub-03/anat/sub-03_acq-se_T2w.nii.gz",
        "sub-03/anat/sub-03_acq-tse_T2w.nii.gz",
        "derivatives/prep/sub-01/anat/sub-01_desc-preproc_T2w.nii.gz",
        "sourcedata/sub-01/anat/sub-01_T2w.nii.gz",
    )
    found = find_pairs(tmp_path, SMS)
    assert pairs(found) == [
        ("sub-01", "sub-01_T2w.nii.gz", "sub-01_T1w.nii.gz"),
        ("sub-02", "sub-02_ses-a_run-2_T2w.nii.gz", "sub-02_ses-a_T1w.nii.gz"),
        ("sub-02", "sub-02_ses-b_acq-tse_T2w.nii.gz", "sub-02_ses-b_acq-tse_T1w.nii.gz"),
    ]
    assert [(one.label, one.code) for one in found.refused] == [("sub-03/anat: sub-03", "FM-D202")]
    assert "sub-03_acq-se_T2w.nii.gz" in found.refused[0].message
    said = " ".join(found.remarks)
    assert "derivatives" in said
    assert "sourcedata" in said
    assert "passed over: sub-02_ses-a_run-1_T2w.nii.gz" in said


def test_a_bids_set_in_one_folder_is_told_apart_by_subject(tmp_path) -> None:
    names = ("sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1")
    touch(tmp_path, *(f"{name}_{role}.nii" for name in names for role in ("T1w", "T2w")))
    assert [pair[0] for pair in pairs(find_pairs(tmp_path, SMS))] == ["sub-01", "sub-01", "sub-02"]


DCM2NIIX = changed(SMS, nifti={"target": ["*t2_tse*.nii*"], "reference": ["T1.nii*"]})


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("t2_tse_4.nii", "t2_tse_4_Eq_1.nii"), "unevenly spaced"),
        (("t2_tse_4_Eq_1.nii",), "unevenly spaced"),
        (("t2_tse_4.nii", "t2_tse_4_Tilt_1.nii"), "askew"),
        (("t2_tse_4_e1.nii", "t2_tse_4_e2.nii"), "echoes"),
        (("t2_tse_4.nii", "t2_tse_4a.nii"), "one name"),
        (("t2_tse_4_ph.nii",), "no magnitude"),
        (("t2_tse_4_real.nii", "t2_tse_4_imaginary.nii"), "no magnitude"),
    ],
)
def test_a_file_that_a_converter_altered_or_doubled_is_refused_by_name(tmp_path, names, told) -> None:
    touch(tmp_path, "P01/T1.nii", *(f"P01/{name}" for name in names))
    found = find_pairs(tmp_path, DCM2NIIX)
    assert not found.candidates
    (refusal,) = found.refused
    assert told in refusal.message
    assert names[0] in refusal.message
    assert refusal.action


def test_a_plain_file_beside_an_interpolated_one_is_refused_by_the_pages_patterns_too(tmp_path) -> None:
    touch(tmp_path, "P01/T1.nii", "P01/T2.nii", "P01/T2_Eq_1.nii")
    (refusal,) = find_pairs(tmp_path, SMS).refused
    assert "unevenly spaced" in refusal.message
    assert "Export the whole series again" in refusal.action


@pytest.mark.parametrize("other", ["t2_tse_4_ph.nii", "t2_tse_4_ROI1.nii", "t2_tse_4_Crop_1.nii"])
def test_what_is_passed_over_is_said(tmp_path, other) -> None:
    touch(tmp_path, "P01/T1.nii", "P01/t2_tse_4.nii", f"P01/{other}")
    found = find_pairs(tmp_path, DCM2NIIX)
    assert pairs(found) == [("P01", "t2_tse_4.nii", "T1.nii")]
    assert other in found.remarks[0]
