"""Progress where there is no terminal: plain lines, not many, and the last one always."""

from __future__ import annotations

import time

import pytest

from minet_core.runtime.progress import over_passes, progress


def test_plain_lines_are_few_and_end_with_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Rounds") as advance:
        for done in (0, 0, 1, 2, 3, 3, 3):
            advance(done, 3)
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert [line.split(",")[0] for line in lines] == ["Rounds: 0 of 3", "Rounds: 3 of 3"]


def test_the_time_left_of_a_run_that_is_continued_is_judged_by_its_own_rounds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with progress("Rounds") as advance:
        advance(8, 12)
        clock[0] = 20.0
        advance(10, 12)
    assert capsys.readouterr().err.splitlines() == [
        "Rounds: 8 of 12, 0 s",
        "Rounds: 10 of 12, 20 s, about 20 s left",
    ]


def test_a_script_that_asks_for_json_sees_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Rounds", quiet=True) as advance:
        advance(3, 3)
    assert capsys.readouterr().err == ""


def test_progress_over_several_passes_counts_on() -> None:
    told: list[tuple[int, int]] = []
    advance = over_passes(lambda done, total: told.append((done, total)), 2)
    for done in (1, 2, 1, 2):
        advance(done, 2)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
