"""Files that are named the wrong way round, told by the echo times of the side-cars beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sites.pairing.pairing import find_pairs
from sites.settings.definitions import definition

SMS = definition("sms")


def patient(folder: Path, echo_times_s: dict[str, object]) -> Path:
    for name in ("T1", "T2"):
        (folder / "P01").mkdir(parents=True, exist_ok=True)
        (folder / "P01" / f"{name}.nii.gz").touch()
        if name in echo_times_s:
            car = json.dumps({"EchoTime": echo_times_s[name], "PatientName": "DOE"})
            (folder / "P01" / f"{name}.json").write_text(car)
    return folder


def test_echo_times_that_are_each_others_refuse_the_pair_with_both(tmp_path: Path) -> None:
    found = find_pairs(patient(tmp_path, {"T1": 0.1, "T2": 0.011}), SMS)
    assert not found.candidates
    assert "TE 0.011 s beside T2.nii.gz, 0.1 s beside T1.nii.gz" in found.refused[0].message
    assert "DOE" not in found.refused[0].message


@pytest.mark.parametrize(
    "echo_times_s",
    [
        {},
        {"T1": 0.011, "T2": 0.1},
        {"T2": 0.011},
        {"T1": 0.05, "T2": 0.011},
        {"T1": "0.1", "T2": None},
        {"T1": True, "T2": 0.0},
    ],
)
def test_side_cars_that_do_not_say_so_stand_against_nothing(
    tmp_path: Path, echo_times_s: dict[str, object]
) -> None:
    assert len(find_pairs(patient(tmp_path, echo_times_s), SMS).candidates) == 1


def test_a_side_car_that_cannot_be_read_stands_against_nothing(tmp_path: Path) -> None:
    patient(tmp_path, {"T1": 0.1})
    (tmp_path / "P01" / "T2.json").write_bytes(b"{")
    assert len(find_pairs(tmp_path, SMS).candidates) == 1
