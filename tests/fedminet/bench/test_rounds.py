"""What a round costs, taken apart: by moments that are given, and of a real deployment."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fedminet.bench.rounds import PARTS, bench_rounds, parts_of_rounds
from fedminet.main import run
from minet_core.errors import FileMissing


def event(second: float, name: str, number: int, site: str | None = None) -> dict[str, Any]:
    return {"time": f"1970-01-01T00:00:{second:06.3f}+00:00", "event": name, "round": number, "site": site}


def test_the_parts_of_the_slowest_site_add_up_to_the_round() -> None:
    events = [
        event(1, "round-started", 1),
        event(9, "reply-accepted", 1, "a"),
        event(10, "round-completed", 1),
        event(10.5, "round-started", 2),
        event(13, "reply-accepted", 2, "b"),
        event(12, "reply-accepted", 2, "a"),
        event(13.5, "round-completed", 2),
        event(14, "round-started", 3),
        event(16, "reply-accepted", 3, "a"),
        event(17, "round-completed", 3),
    ]
    worked = {(2, "a"): (10.6, 11.0), (2, "b"): (11.0, 12.25), (3, "a"): (14.5, 15.5)}
    found = parts_of_rounds(events, worked)
    assert found == {
        "whole": pytest.approx([3.5, 3.0]),
        "request": pytest.approx([0.5, 0.5]),
        "work": pytest.approx([1.25, 1.0]),
        "reply": pytest.approx([0.75, 0.5]),
        "coordinator": pytest.approx([1.0, 1.0]),
    }


def test_a_baseline_that_is_no_checkout_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="no checkout of fedminet"):
        bench_rounds(tmp_path, n_rounds=2, n_runs=1, n_patients=3, baseline=tmp_path)


@pytest.mark.e2e
@pytest.mark.long
def test_a_real_round_is_taken_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = ("round", "--rounds=3", "--runs=1", "--patients=3", f"--out={tmp_path / 'rounds'}")
    monkeypatch.setattr(sys, "argv", ["fedminet", "bench", *asked])
    with pytest.raises(SystemExit) as ending:
        run()
    assert not ending.value.code
    printed = capsys.readouterr().out
    assert all(words in printed for words in PARTS.values())
    (side,) = json.loads((tmp_path / "rounds.json").read_text())["sides"]
    seconds = side["seconds"]
    assert side["n_bytes"] > 0
    for number in range(2):
        parts = [seconds[part][number] for part in PARTS if part != "whole"]
        assert sum(parts) == pytest.approx(seconds["whole"][number], abs=0.01)
        assert min(parts) > 0
