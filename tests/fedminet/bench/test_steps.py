"""The benchmark of steps: it times the models it names, and says what does not fit."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fedminet.bench import step_times
from fedminet.bench import steps as bench
from fedminet.main import run
from minet_core.errors import FileMissing, ProcessDied
from minet_core.models.minet.model import MINet
from minet_core.training import loop

CHECKOUT = Path(__file__).resolve().parents[3]


def ended_with(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["fedminet", "bench", "steps", *arguments])
    with pytest.raises(SystemExit) as ending:
        run()
    return int(ending.value.code or 0)


def asked(**different: Any) -> bench.StepsAsked:
    usual: dict[str, Any] = {
        "methods": ["minet"],
        "preset": "quick",
        "scale": 2,
        "edge_px": 16,
        "batch_sizes": [1],
    }
    return bench.StepsAsked(**{**usual, "n_steps": 1, **different})


def test_the_table_has_each_method_both_ways(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tiny = ("--preset=quick", "--edge-px=16", "--batch-size=1,2", "--steps=2", f"--out={tmp_path / 'steps'}")
    assert ended_with(monkeypatch, *tiny, "--methods=zeng,minet") == 0
    printed = capsys.readouterr().out
    rows = [line.strip("| ").split(" | ") for line in printed.splitlines()[2:]]
    assert [tuple(row[:5]) for row in rows] == [
        (*method, "this code", way, batch)
        for method in (("Zeng et al.", "58,862"), ("MINet", "67,819"))
        for batch in ("1", "2")
        for way in ("all stored", "recomputed")
    ]
    assert all(float(row[8].rstrip("%")) > 0 for row in rows)
    if not torch.cuda.is_available():
        assert {row[-1] for row in rows} == {"-"}
    assert (tmp_path / "steps.md").read_text() == printed
    assert len(json.loads((tmp_path / "steps.json").read_text())["times"]) == 8


def test_the_first_steps_are_not_counted_and_the_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    steps = loop.train_steps
    monkeypatch.setattr(
        loop,
        "train_steps",
        lambda *args, **kwargs: (taken.append(args[2].n_steps), steps(*args, **kwargs))[1],
    )
    found = bench.bench_steps(asked(scale=4, n_steps=2, ways=["recomputed"]))
    (one,) = found.times
    # One whose FLOPs are counted, those that are not timed, and two.
    assert taken == [1] * (1 + step_times.UNTIMED_STEPS + 2)
    assert one.seconds is not None
    assert len(one.seconds) == 2
    assert f"{1e3 * sum(one.seconds) / 2:,.1f} (" in bench.steps_table(found)


def test_a_model_that_the_memory_does_not_hold_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(MINet, "training_images", full)
    found = bench.bench_steps(asked(methods=["minet", "zeng"], ways=["all stored"]))
    assert [one.seconds is None for one in found.times] == [True, False]
    assert "| does not fit | " in bench.steps_table(found)


def test_another_commit_stands_beside_with_its_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The baseline is this checkout, so it learns the same."""
    monkeypatch.setattr(bench, "SEEDS", (0, 1))
    found = bench.bench_steps(asked(ways=["all stored"], baseline=CHECKOUT, curve_steps=4))
    own, other = found.times
    assert (own.code, other.code) == ("this code", "baseline")
    assert own.flops == other.flops
    curves = {(one.code, one.seed): one.losses for one in found.curves}
    assert len(curves) == 4
    for seed in (0, 1):
        assert len(curves["this code", seed]) == 4
        assert curves["baseline", seed] == pytest.approx(curves["this code", seed], rel=1e-6)
    assert curves["this code", 0] != curves["this code", 1]
    last = bench.steps_table(found).splitlines()[-1]
    assert last.startswith("| MINet | baseline | all stored | ")
    assert last.endswith(" 0.00 |")


def test_a_compiled_step_is_one_graph_and_learns_as_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced as for a GPU, whose kernels no machine without one can make: a part that breaks the graph fails."""
    monkeypatch.setattr(bench, "SEEDS", (0,))
    monkeypatch.setitem(step_times.COMPILERS, "compiled", {"backend": "aot_eager", "fullgraph": True})
    found = bench.bench_steps(asked(batch_sizes=[2], ways=["all stored", "compiled"], curve_steps=4))
    assert [one.seconds is not None for one in found.times] == [True, True]
    stored, compiled = (one.losses for one in found.curves)
    # Other orders of sums, in bfloat16 where the processor has it.
    assert compiled == pytest.approx(stored, rel=0.01)


def test_a_compiler_that_ends_is_said_and_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError("no compiler here")

    monkeypatch.setattr(bench, "SEEDS", (0,))
    monkeypatch.setitem(step_times.COMPILERS, "compiled", {"backend": broken})
    states: list[int] = []
    found = bench.bench_steps(
        asked(ways=["compiled", "all stored"], curve_steps=1),
        seen=lambda found: states.append(len(found.times) + len(found.curves)),
    )
    compiled, stored = found.times
    assert compiled.failure == "BackendCompilerFailed"
    assert stored.seconds is not None
    assert [one.way for one in found.curves] == ["all stored"]
    assert states == [1, 2, 3]
    assert "| BackendCompilerFailed | " in bench.steps_table(found)


def test_a_baseline_that_is_no_checkout_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="no checkout of fedminet"):
        bench.bench_steps(asked(baseline=tmp_path))


def test_a_baseline_that_ends_is_said(tmp_path: Path) -> None:
    (tmp_path / "minet_core").mkdir()
    (tmp_path / "minet_core" / "__init__.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(ProcessDied, match="exit code 3"):
        bench.bench_steps(asked(baseline=tmp_path, ways=["all stored"]))


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
        "--ways=all stored,fast",
    ],
)
def test_what_cannot_be_timed_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    assert ended_with(monkeypatch, wrong) == 2
    assert capsys.readouterr().err.startswith(("FM-C100: ", "FM-C102: "))


def test_a_steps_flops_are_counted_and_recomputing_makes_more_of_them() -> None:
    found = bench.bench_steps(asked(batch_sizes=[2]))
    stored, recomputed = found.times
    assert stored.flops is not None
    assert recomputed.flops is not None
    assert 0 < stored.flops < recomputed.flops < 2 * stored.flops
    (half,) = bench.bench_steps(asked(ways=["all stored"])).times
    assert half.flops is not None
    assert stored.flops == pytest.approx(2 * half.flops, rel=1e-3)  # but for what is not of a sample
    assert found.roofs[2] > 0
