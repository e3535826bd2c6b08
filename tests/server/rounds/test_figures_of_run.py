"""Each site's figures over a run: the same as a reading of every line gives, and old lines are read once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from minet_core.runtime.files.atomic_write import write_text
from minet_core.settings.federation import FederationSettings
from server.rounds.figures_of_run import MAY_CHANGE_ROUNDS, FiguresOfRun, SiteFigures
from server.runs import run_directory
from server.runs.run_directory import RunDirectory

N_ROUNDS = 40


def line_of(number: int, *, shift: float = 0.0) -> dict[str, Any]:
    """The second site is there in every second round, and was refused in every fourth: it has no score then."""
    sites = {
        "sms": {
            "refused": None,
            "agreement": number / 100 + shift,
            "validation": {"psnr_db": 30 + number / 10},
        }
    }
    if number % 2 == 0:
        sites["umr"] = {"refused": "FM-F412" if number % 4 == 0 else None, "agreement": -number / 100}
        sites["umr"] |= {} if number % 4 == 0 else {"validation": {"psnr_db": 20 + number / 10}}
    return {"round": number, "sites": sites}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    federation = FederationSettings(
        name="study", sites=("sms", "umr"), rounds=99, participation={"quorum": 1}
    )
    return RunDirectory.create(tmp_path / "first", federation, engine="in-process")


def complete(run: RunDirectory, n_rounds: int, **options: float) -> list[dict[str, Any]]:
    """As many rounds as if they were completed; `options` of the last one."""
    lines = [line_of(number) for number in range(1, n_rounds)] + [line_of(n_rounds, **options)]
    write_text(run.path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    run.transition(lambda state: run_directory.replace(state, round=n_rounds))
    return lines


def read_whole(lines: list[dict[str, Any]]) -> dict[str, SiteFigures]:
    there = {
        site: [line["sites"][site] for line in lines if site in line["sites"]] for site in ("sms", "umr")
    }
    return {
        site: SiteFigures(
            [entry["agreement"] for entry in entries],
            [entry["validation"]["psnr_db"] for entry in entries if "validation" in entry],
        )
        for site, entries in there.items()
        if entries
    }


def test_figures_are_those_of_every_line_also_after_a_round_was_made_again(run: RunDirectory) -> None:
    figures = FiguresOfRun()
    assert figures.of(run) == {}
    for n_rounds in range(1, N_ROUNDS):
        rolled_back = [n_rounds - 1] if n_rounds > 1 else []
        for completed, shift in (
            (n_rounds, 1.0),
            *((number, 0.0) for number in rolled_back),
            (n_rounds, 0.0),
        ):
            lines = complete(run, completed, shift=shift)
            assert figures.of(run) == read_whole(lines)


def test_old_lines_are_read_once(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    parse = run_directory.parse_line
    monkeypatch.setattr(
        run_directory, "parse_line", lambda line, kind: parsed.append(line) or parse(line, kind)
    )
    complete(run, N_ROUNDS)
    figures = FiguresOfRun()
    figures.of(run)
    assert len(parsed) == N_ROUNDS
    for n_rounds in (N_ROUNDS + 1, N_ROUNDS + 2):
        lines = complete(run, n_rounds)
        parsed.clear()
        assert figures.of(run) == read_whole(lines)
        assert len(parsed) == MAY_CHANGE_ROUNDS + 1
