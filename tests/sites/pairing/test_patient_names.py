from __future__ import annotations

import pytest

from minet_core.errors import PatientNamesDoubtful
from sites.pairing.patient_names import judge_names, require_plain

PLAIN: list[list[str]] = [
    ["P01", "P02"],
    ["sub-01", "sub-02"],
    ["patient07", "patient19"],
    ["patient001", "patient002", "patient010"],
    ["P_1", "P_2", "P_3"],
    [
        "patient_1",
        "patient_2",
        "patient_3",
        "patient_4",
        "patient_5",
        "patient_6",
        "patient_7",
        "patient_8",
        "patient_9",
        "patient_10",
        "patient_11",
        "patient_12",
        "patient_13",
        "patient_14",
        "patient_15",
        "patient_16",
        "patient_17",
        "patient_18",
        "patient_19",
        "patient_20",
        "patient_21",
        "patient_22",
        "patient_23",
        "patient_24",
        "patient_25",
        "patient_26",
        "patient_27",
        "patient_28",
        "patient_29",
        "patient_30",
    ],
    ["a", "b", "c"],
    ["Meier", "Schmidt", "Smart"],
    ["19731", "20391", "118"],
    ["Guys_001", "Guys_002", "HH_001", "HH_002"],
    ["IXI002", "IXI012"],
    ["0001", "0002"],
    ["copy-of-001", "Mueller001", "Mueller004", "lonely", "shuffled", "truncated"],
    ["P001", "P002", "P003"],
    ["file1000002", "file1000004"],
    ["MS01", "MS02", "HC01", "HC02"],
    ["case_a", "case_b"],
    ["12345678", "87654321"],
    ["ffffffff", "a1b2c3d4"],
    ["sub-CON01", "sub-CON02", "sub-PAT01"],
    ["s1", "s2"],
    ["subject_01", "subject_02"],
    ["T001", "T002", "T003", "T004", "T005"],
    ["Pavel", "Mary", "Anna"],
    ["1", "2", "3"],
    ["M01", "M02", "F01"],
    ["V001", "V002", "V003", "V004", "V005"],
    ["XNAT_S0001", "XNAT_S0002"],
    ["A1", "A2", "B1", "B2"],
    ["OAS1_0001", "OAS1_0002"],
    ["UKB_1", "UKB_2", "UKB_3", "UKB_4", "UKB_5", "UKB_6"],
    ["control1", "control2", "patient1", "patient2"],
    ["D1", "D2"],
    ["another", "other"],
    ["1.2.840.1", "1.2.840.2", "1.2.840.3", "1.2.840.4", "1.2.840.5"],
]
DOUBTFUL: list[list[str]] = [
    ["20240131", "20240205"],
    ["2024-01-31"],
    ["31.01.2024", "01.02.2024"],
    ["2024_01_31", "2024_02_01"],
    ["20240131_101500", "20240202_0915"],
    ["2024-01-31T10:15:00", "x"],
    ["31-Jan-2024", "02-Feb-2024"],
    ["NAME_MR1", "NAME_MR2"],
    ["MEIER_1", "MEIER_2", "SCHMIDT_1"],
    ["P01scan1", "P01scan2"],
    ["P01_visit2", "P01_visit1"],
    ["P01_V01", "P01_V02"],
    ["P01_pre", "P01_post"],
    ["P01_baseline", "P01_followup"],
    ["P01a", "P01b", "P02"],
    ["P01_t0", "P01_t1"],
    ["P01_L", "P01_R"],
    ["P01_left", "P01_right"],
    ["Meier", "meier"],
    ["P-01", "P_01"],
    ["P1", "P01"],
    ["Müller", "Müller"],
    ["P01_1", "P01_2"],
    ["P01", "P01_2"],
    ["P01", "P01_followup"],
    ["P01-01", "P01-02"],
    ["visit1", "visit2"],
    ["baseline", "followup"],
    ["MEIER^HANS", "HANS_MEIER"],
    ["P01 (1)", "P01"],
    ["P01_MR", "P02", "P01"],
    ["Meier_2", "Meier", "Huber"],
    ["patient01_scan1", "patient01_scan2"],
    ["sub-01_ses-1", "sub-01_ses-2"],
    ["MEIER-MR1", "MEIER-MR2"],
    ["P01_day0", "P01_day30"],
    ["P01_m06", "P01_m12"],
    ["P01_6mo", "P01_12mo"],
    ["P01_20240101", "P01_20240505"],
    ["20240101_P01", "20240505_P01"],
    ["P01_copy", "P01"],
    ["OAS1_0001_MR1", "OAS1_0001_MR2"],
    ["ses-01", "ses-02"],
    ["pre", "post"],
    ["P01_2023", "P01_2024"],
    ["1_left", "1_right"],
    ["MR1_NAME", "MR2_NAME"],
]


def places(names: list[str]) -> dict[str, list[str]]:
    return {name: [f"{name}: {name}"] for name in names}


@pytest.mark.parametrize("names", PLAIN, ids=lambda names: names[0])
def test_the_usual_ways_to_call_patients_pass_without_a_word(names: list[str]) -> None:
    assert judge_names(places(names)) == []


@pytest.mark.parametrize("names", DOUBTFUL, ids=lambda names: "+".join(names[:2]))
def test_dates_sessions_and_spellings_stop(names: list[str]) -> None:
    with pytest.raises(PatientNamesDoubtful, match=r"FM-D210.*--accept-names"):
        require_plain(judge_names(places(names)))


def test_two_names_that_differ_by_a_counter_alone_are_said_where_nothing_else_tells() -> None:
    for names in (["NAME_1", "NAME_2"], ["scan001", "scan002", "scan003", "scan004", "scan005"]):
        said = judge_names(places(names))
        assert [one.stops for one in said] == [False], names
        assert names[0] in said[0].message


def test_a_visit_below_several_patients_is_no_patient() -> None:
    said = judge_names(
        {f"visit{n}": [f"P01/visit{n}: visit{n}", f"P02/visit{n}: visit{n}"] for n in range(1, 7)}
    )
    assert any(one.stops for one in said)


def test_one_patient_with_every_examination_is_said() -> None:
    said = judge_names({"export": ["a: export", "b: export"]})
    assert any("all 2 examinations are of one patient" in one.message for one in said)
