"""The benchmark of steps: it times the models it names, and says what does not fit."""

from __future__ import annotations

import sys

import pytest
import torch

from fedminet.bench import steps as bench
from fedminet.main import run
from minet_core.models.minet.model import MINet


def ended_with(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["fedminet", "bench", "steps", *arguments])
    with pytest.raises(SystemExit) as ending:
        run()
    return int(ending.value.code or 0)


def test_the_table_has_each_method_both_ways(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = ("--preset=quick", "--edge-px=16", "--batch-size=1,2", "--steps=2")
    assert ended_with(monkeypatch, *tiny, "--methods=zeng,minet") == 0
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [tuple(row[:4]) for row in rows] == [
        (*method, way, batch)
        for method in (("Zeng et al.", "58,862"), ("MINet", "67,819"))
        for batch in ("1", "2")
        for way in ("all stored", "recomputed")
    ]
    assert all(float(row[6].rstrip("%")) > 0 for row in rows)
    if not torch.cuda.is_available():
        assert {row[-1] for row in rows} == {"-"}


def test_the_first_steps_are_not_counted_and_the_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    steps = bench.train_steps
    monkeypatch.setattr(
        bench,
        "train_steps",
        lambda *args, **kwargs: (taken.append(args[2].first_step), steps(*args, **kwargs)),
    )
    (one,) = bench.bench_steps(
        ["minet"], preset="quick", scale=4, edge_px=16, batch_sizes=[1], n_steps=2, recomputed=[True]
    )
    assert taken == list(range(bench.UNTIMED_STEPS + 2))
    assert one.seconds is not None
    assert len(one.seconds) == 2
    assert f"{1e3 * sum(one.seconds) / 2:,.1f} (" in bench.steps_table([one])


def test_a_model_that_the_memory_does_not_hold_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(MINet, "training_images", full)
    times = bench.bench_steps(
        ["minet", "zeng"], preset="quick", scale=2, edge_px=16, batch_sizes=[1], n_steps=1, recomputed=[False]
    )
    assert [one.seconds is None for one in times] == [True, False]
    assert "| does not fit | " in bench.steps_table(times)


@pytest.mark.parametrize(
    "wrong",
    [
        "--batch-size=0",
        "--batch-size=1,two",
        "--methods=bicubic",
        "--methods=srcnn",
        "--preset=large",
        "--scale=3",
        "--edge-px=33",
    ],
)
def test_what_cannot_be_timed_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    assert ended_with(monkeypatch, wrong) == 2
    assert capsys.readouterr().err.startswith("FM-C102: ")


def test_a_steps_flops_are_counted_and_recomputing_makes_more_of_them() -> None:
    stored, recomputed = bench.bench_steps(
        ["minet"], preset="quick", scale=2, edge_px=16, batch_sizes=[2], n_steps=1
    )
    assert stored.flops is not None
    assert recomputed.flops is not None
    assert 0 < stored.flops < recomputed.flops < 2 * stored.flops
    (half,) = bench.bench_steps(
        ["minet"], preset="quick", scale=2, edge_px=16, batch_sizes=[1], n_steps=1, recomputed=[False]
    )
    assert half.flops is not None
    assert stored.flops == pytest.approx(2 * half.flops, rel=1e-3)  # but for what is not of a sample
    assert stored.roof > 0
