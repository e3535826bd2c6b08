"""Pairing by lists: who is whose partner, whose patient, and in which split."""

from __future__ import annotations

import pytest

from minet_core.errors import FileMissing, InvalidSetting
from minet_core.settings.yaml_file import parse_settings
from sites.pairing.candidates import Found
from sites.pairing.pairing import find_pairs
from sites.settings.definitions import definition
from sites.settings.site_settings import SiteSettings
from tests.support.small_scans import write_fastmri


def with_files(**fastmri: object) -> SiteSettings:
    content = definition("fastmri").model_dump(mode="json")
    content["fastmri"] |= fastmri
    return parse_settings(content, SiteSettings, source="test")


ONE_LIST = with_files(pairing="pair_list", pair_list="pairs.csv")
BY_SPLIT = {"training": "train.csv", "validation": "val.csv", "test": "test.csv"}
LIST_A_SPLIT = with_files(pairing="split_lists", split_lists=BY_SPLIT)


def write_scans(folder, **patients: str | None) -> None:
    """Two scans of each patient: `a="p1"` writes a1.h5 (PD) and a2.h5 (FS-PD) of patient p1."""
    for name, patient_id in patients.items():
        write_fastmri(folder / f"{name}1.h5", 1, "CORPD_FBK", patient_id=patient_id)
        write_fastmri(folder / f"{name}2.h5", 1, "CORPDFS_FBK", patient_id=patient_id)


def write_list(path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n")


def found_by(tmp_path, *lines: str) -> Found:
    write_list(tmp_path / "pairs.csv", *lines)
    return find_pairs(tmp_path, ONE_LIST)


def placed(found: Found) -> list[tuple[str, str, str | None]]:
    return [(one.reference.stem, one.target.stem, one.split) for one in found.candidates]


def test_a_pair_list_has_the_reference_first(tmp_path) -> None:
    write_scans(tmp_path, a="p1")
    found = found_by(tmp_path, "a1,a2,0.3", "b1,a2,1", "")
    assert placed(found) == [("a1", "a2", None)]
    assert found.candidates[0].patient_id == "p1"
    assert [refusal.code for refusal in found.refused] == ["FM-D203"]
    assert "b1.h5" in found.refused[0].message


def test_scans_on_no_list_are_passed_over(tmp_path) -> None:
    write_scans(tmp_path, a="p1", b="p2")
    assert found_by(tmp_path, "a1,a2").ignored == ["b1.h5", "b2.h5"]


def test_swapped_columns_are_refused(tmp_path) -> None:
    write_scans(tmp_path, a="p1")
    assert "other contrasts" in found_by(tmp_path, "a2,a1,0").refused[0].message


def test_a_list_that_joins_two_patients_is_refused(tmp_path) -> None:
    write_scans(tmp_path, a="p1", b="p2")
    assert "two patients" in found_by(tmp_path, "a1,b2,0").refused[0].message


def test_a_list_may_say_alone_whose_the_scans_are(tmp_path) -> None:
    write_scans(tmp_path, a="p1", b="p2")
    write_list(tmp_path / "pairs.csv", "a1,b2", "b1,a2")
    settings = with_files(pairing="pair_list", pair_list="pairs.csv", ignore_patient_id=True)
    found = find_pairs(tmp_path, settings)
    assert [one.patient_id for one in found.candidates] == ["a2", "b2"]
    assert not found.refused


def test_a_scan_that_lies_in_two_folders_is_refused(tmp_path) -> None:
    write_scans(tmp_path / "singlecoil_train", a="p1")
    write_scans(tmp_path / "multicoil_train", a="p1")
    found = found_by(tmp_path, "a1,a2")
    assert [refusal.code for refusal in found.refused] == ["FM-D202"]
    assert "more than once" in found.refused[0].message


def test_a_damaged_list_is_refused(tmp_path) -> None:
    with pytest.raises(InvalidSetting, match="line 2"):
        found_by(tmp_path, "a,b,0", "only-one")
    with pytest.raises(FileMissing):
        find_pairs(tmp_path, LIST_A_SPLIT)


def test_pairs_that_name_no_patient_are_a_patient_each(tmp_path) -> None:
    write_scans(tmp_path, a=None, b=None)
    found = found_by(tmp_path, "a1,a2", "b1,b2")
    assert [one.patient_id for one in found.candidates] == ["a2", "b2"]


def test_a_pair_of_which_one_scan_names_the_patient_is_that_patients(tmp_path) -> None:
    write_scans(tmp_path, a="p1", b=None)
    assert [one.patient_id for one in found_by(tmp_path, "b1,a2").candidates] == ["p1"]


def test_a_scan_that_names_no_patient_is_in_one_pair_only(tmp_path) -> None:
    write_scans(tmp_path, a=None, b=None)
    found = found_by(tmp_path, "a1,a2", "a1,b2")
    assert placed(found) == [("a1", "a2", None)]
    assert "listed twice" in found.refused[0].message


def test_each_list_puts_its_pairs_into_its_split(tmp_path) -> None:
    write_scans(tmp_path / "singlecoil_train", a="p1", b=None)
    write_scans(tmp_path / "singlecoil_val", c="p3", d=None)
    for name, lines in (("train", ("a1,a2", "b1,b2")), ("val", ("c1,c2",)), ("test", ("d1,d2",))):
        write_list(tmp_path / f"{name}.csv", *lines)
    found = find_pairs(tmp_path, LIST_A_SPLIT)
    assert placed(found) == [
        ("a1", "a2", "training"),
        ("b1", "b2", "training"),
        ("c1", "c2", "validation"),
        ("d1", "d2", "test"),
    ]


@pytest.mark.parametrize("patient_id", ["p1", None])
def test_a_patient_who_is_listed_for_training_too_stays_in_the_test(tmp_path, patient_id) -> None:
    write_scans(tmp_path, a=patient_id, b=patient_id)
    lines = {"train": "b1,b2" if patient_id else "a1,a2", "val": "", "test": "a1,a2"}
    for name, line in lines.items():
        write_list(tmp_path / f"{name}.csv", line)
    found = find_pairs(tmp_path, LIST_A_SPLIT)
    assert placed(found) == [("a1", "a2", "test")]
    assert "two splits" in found.refused[0].message


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"pairing": "split_lists"}, "belong together"),
        ({"split_lists": BY_SPLIT}, "belong together"),
        ({"pairing": "pair_list", "split_lists": BY_SPLIT}, "belong together"),
        ({"pairing": "split_lists", "split_lists": {"training": "train.csv"}}, "one for the test"),
        ({"pairing": "split_lists", "split_lists": {"test": "test.csv"}}, "one for the test"),
        ({"ignore_patient_id": True}, "cannot ignore"),
    ],
)
def test_lists_and_pairing_that_do_not_fit_are_refused(settings, reason: str) -> None:
    with pytest.raises(InvalidSetting, match=reason):
        with_files(**settings)
