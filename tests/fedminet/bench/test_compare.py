"""The comparison: sides that are measured in turn, what is counted of them, and where it cannot run."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from fedminet.bench import compare as bench
from fedminet.bench import side
from fedminet.bench.side import WORKS
from fedminet.main import run
from minet_core.errors import FileMissing, ProcessDied
from tests.support.warm_python import warm_python

SMALL = bench.BenchSize(edge=16, batch=1, sites=2, slice_px=32)
CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _sides_find_torch_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", warm_python())


def test_the_sides_of_a_step_are_counted_and_measured_in_turn() -> None:
    result = bench.compare("train", SMALL, n_rounds=2, threads=1, baseline=CHECKOUT)
    assert list(result.seconds) == ["this code", "baseline", "literal", "roof"]
    assert {len(seconds) for seconds in result.seconds.values()} == {2}
    # The baseline is this checkout: the same work is counted.
    assert result.counted["baseline"] == result.counted["this code"]
    assert result.counted["literal"]["operations"] > 2 * result.counted["this code"]["operations"]
    assert result.ratio("this code") == 1
    assert min(result.peak_bytes.values()) > 10_000_000
    assert min(result.first_seconds.values()) > 0


@pytest.mark.parametrize("task", ["train", "infer"])
def test_a_compiled_side_does_the_work_by_what_was_compiled(task: str) -> None:
    """By the compiler that needs no C++ compiler."""
    sides = bench._sides_of(task, SMALL, None, exported=False, compiled=True)
    assert sides["compiled"] == (bench.CHECKOUT, f"compiled-{task}")
    counters.clear()
    work = WORKS[f"compiled-{task}"]({"preset": "quick", "edge": 16, "batch": 1, "backend": "aot_eager"})
    work()
    work()
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


def test_a_side_computes_in_float32_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    asked = bench._options(bench.Comparison("train", SMALL), "train", replace(SMALL, float32=True))
    assert side._autocast_dtype(asked) is None
    assert side._autocast_dtype({**asked, "float32": False}) is torch.bfloat16


def test_the_roof_fills_this_code_s_flops() -> None:
    result = bench.compare("infer", SMALL, n_rounds=1, threads=1)
    options = bench._options(result, "convolution", SMALL)
    assert options["flops"] == result.counted["this code"]["flops"] > 0
    assert (options["backward"], options["features"], options["conv_batch"]) == (False, 16, 1)
    assert result.counted["this code"]["saved_bytes"] == 0


def test_the_command_prints_and_writes_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = ("aggregate", "--sites=2", "--steps=3", f"--out={tmp_path / 'speed'}")
    monkeypatch.setattr(sys, "argv", ["fedminet", "bench", *asked])
    with pytest.raises(SystemExit) as ending:
        run()
    assert not ending.value.code
    printed = capsys.readouterr().out
    assert "### The mean of 2 replies, quick preset, 3 interleaved rounds" in printed
    assert (tmp_path / "speed.md").read_text().endswith(printed)
    (row,) = json.loads((tmp_path / "speed.json").read_text())["comparisons"]
    assert len(row["seconds"]["this code"]) == 3
    assert row["ratios"]["this code"] == 1


def test_a_baseline_that_is_no_checkout_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="no checkout of fedminet"):
        bench.compare("data", SMALL, n_rounds=1, threads=1, baseline=tmp_path)


def test_outside_a_checkout_the_literal_model_is_missed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "CHECKOUT", tmp_path)
    with pytest.raises(FileMissing, match="from a checkout"):
        bench.compare("train", SMALL, n_rounds=1, threads=1)


def test_a_side_that_ends_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "side.py"
    broken.write_text("raise SystemExit(3)\n")
    monkeypatch.setattr(bench, "SIDE", broken)
    with pytest.raises(ProcessDied, match="exit code 3"):
        bench.compare("data", SMALL, n_rounds=1, threads=1)
