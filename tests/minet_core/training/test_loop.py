"""The training step: its schedule, that it learns, and that it stops before a bad step."""

from __future__ import annotations

import itertools
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minet_core.errors import InvalidSetting, TrainingDiverged
from minet_core.models.activation_checkpointing import recompute
from minet_core.models.minet.model import MINet
from minet_core.runtime.cpu_threading import cpu_threading_environment
from minet_core.settings.federation import TrainingSettings
from minet_core.training.batches import Batch
from minet_core.training.device import autocast_dtype_for
from minet_core.training.gradient_rules import ControlVariates
from minet_core.training.loop import (
    OPTIMIZER_WARMUP_STEPS,
    StepPlan,
    TrainingReport,
    adam,
    learning_rate_at,
    train_steps,
)
from minet_core.weights.manifest import learnable

PLAN: dict[str, Any] = {
    "learning_rate": 2e-3,
    "warmup_steps": 0,
    "decay_fraction": 0.0,
    "clip_norm": 1.0,
    "alpha": 0.9,
    "beta": 0.1,
}


def taken(model: torch.nn.Module, batches: Iterator[Batch], **given: Any) -> TrainingReport:
    """`train_steps` by the settings and the plan in `given`."""
    settings = TrainingSettings(**{name: given.pop(name) for name in PLAN})
    rest = {name: given.pop(name) for name in ("optimizer", "gradient_rule", "progress") if name in given}
    return train_steps(model, batches, StepPlan(settings=settings, **given), **rest)


def make_model() -> MINet:
    torch.manual_seed(0)
    return MINet(scale=2, n_groups=1, n_blocks=1, n_features=8, reduction=2)


def make_batch(seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    high_res = [torch.randn(2, 1, 12, 12, generator=generator) for _ in range(3)]
    low_res = torch.randn(2, 1, 6, 6, generator=generator)
    return Batch(low_res=low_res, upsampled=high_res[0], reference=high_res[1], target=high_res[2])


def endless() -> Iterator[Batch]:
    return itertools.repeat(make_batch())


def test_learning_rate_rises_stays_and_falls_linearly() -> None:
    plan = {"total_steps": 100, "learning_rate": 1.0, "warmup_steps": 10, "decay_fraction": 0.25}
    rates = [learning_rate_at(step, **plan) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10:75] == [1.0] * 65
    assert rates[75:] == pytest.approx([left / 26 for left in range(25, 0, -1)])


@given(total_steps=st.integers(1, 200), warmup_steps=st.integers(0, 300), decay_fraction=st.floats(0, 1))
def test_learning_rate_is_never_zero_nor_above_the_plateau(
    total_steps: int, warmup_steps: int, decay_fraction: float
) -> None:
    for step in range(total_steps):
        rate = learning_rate_at(
            step,
            total_steps=total_steps,
            learning_rate=1e-3,
            warmup_steps=warmup_steps,
            decay_fraction=decay_fraction,
        )
        assert 0 < rate <= 1e-3


@pytest.mark.parametrize("step", [-1, 10])
def test_a_step_outside_the_run_is_refused(step: int) -> None:
    with pytest.raises(InvalidSetting, match="outside the run"):
        learning_rate_at(step, total_steps=10, learning_rate=1.0, warmup_steps=0, decay_fraction=0.0)


def test_training_lowers_the_loss_of_a_batch() -> None:
    model, done = make_model(), []
    first = taken(model, endless(), first_step=0, n_steps=1, total_steps=40, **PLAN)
    rest = taken(
        model,
        endless(),
        first_step=1,
        n_steps=39,
        total_steps=40,
        progress=lambda *counts: done.append(counts),
        **PLAN,
    )
    assert first.loss_mean == first.loss_last
    assert rest.loss_last < rest.loss_mean < first.loss_last
    assert rest.loss_last < 0.9 * first.loss_last
    assert (rest.n_steps, rest.n_samples) == (39, 78)
    assert done == [(n, 39) for n in range(1, 40)]


def test_a_run_in_pieces_with_one_optimizer_is_the_run_in_one_piece() -> None:
    whole, pieces = make_model(), make_model()
    plan = {**PLAN, "warmup_steps": 3, "decay_fraction": 0.5}
    taken(whole, endless(), first_step=0, n_steps=6, total_steps=6, optimizer=adam(whole), **plan)
    optimizer = adam(pieces)
    for first in (0, 2, 4):
        taken(pieces, endless(), first_step=first, n_steps=2, total_steps=6, optimizer=optimizer, **plan)
    for name, array in learnable(whole).items():
        assert (array == learnable(pieces)[name]).all(), name


@pytest.mark.parametrize(("is_fresh", "length"), [(True, 2e-3 / (OPTIMIZER_WARMUP_STEPS + 1)), (False, 2e-3)])
def test_an_adam_with_fresh_moments_settles_before_it_takes_the_full_rate(
    is_fresh: bool, length: float
) -> None:
    """Adam's first step is the rate in every weight that has a gradient, for both moments are its own."""
    model = make_model()
    before = learnable(model)
    settling = OPTIMIZER_WARMUP_STEPS if is_fresh else 0
    taken(model, endless(), n_steps=1, total_steps=1, settling_steps=settling, **PLAN)
    moved = abs(learnable(model)["reference_head.weight"] - before["reference_head.weight"]).max()
    assert moved == pytest.approx(length, rel=1e-3)


def test_bfloat16_autocast_keeps_float32_weights_and_stays_near_float32() -> None:
    full, half = make_model(), make_model()
    reports = [
        taken(model, endless(), first_step=0, n_steps=5, total_steps=5, autocast_dtype=dtype, **PLAN)
        for model, dtype in ((full, None), (half, torch.bfloat16))
    ]
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}
    # bfloat16 keeps 8 bits; the loss is a mean of absolute values near one.
    assert reports[1].loss_last == pytest.approx(reports[0].loss_last, abs=2**-7)


@pytest.mark.parametrize("field", ["target", "low_res"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_weights_are_touched(field: str, value: float) -> None:
    model, batch = make_model(), make_batch()
    getattr(batch, field)[0, 0, 0, 0] = value
    before = learnable(model)
    with pytest.raises(TrainingDiverged, match="the loss of step 7"):
        taken(model, iter([batch]), first_step=7, n_steps=1, total_steps=10, **PLAN)
    for name, array in learnable(model).items():
        assert (array == before[name]).all(), name


def test_a_model_that_has_lost_the_image_stops_though_every_figure_is_finite() -> None:
    model = make_model()
    with torch.no_grad():
        model.target_reconstruction.weight.mul_(1e9)
    before = learnable(model)
    with pytest.raises(TrainingDiverged, match="the loss of step 7 is of no image"):
        taken(model, endless(), first_step=7, n_steps=1, total_steps=10, **PLAN)
    for name, array in learnable(model).items():
        assert (array == before[name]).all(), name


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_touched(clip_norm: float | None) -> None:
    model = make_model()
    model.target_reconstruction.weight.register_hook(lambda gradient: gradient * float("inf"))
    before = learnable(model)
    with pytest.raises(TrainingDiverged, match="the gradient of step 0"):
        taken(
            model,
            endless(),
            first_step=0,
            n_steps=1,
            total_steps=1,
            **{**PLAN, "clip_norm": clip_norm},
        )
    for name, array in learnable(model).items():
        assert (array == before[name]).all(), name


def test_clipping_bounds_the_step_of_plain_gradient_descent() -> None:
    model = make_model()
    before = learnable(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    plan = {**PLAN, "clip_norm": 1e-3, "learning_rate": 1.0}
    taken(model, endless(), first_step=0, n_steps=1, total_steps=1, optimizer=optimizer, **plan)
    moved = sum(float(((array - before[name]) ** 2).sum()) for name, array in learnable(model).items())
    # The norm is clipped to 1e-3 and the weights are near one: some float32 rounding of each difference.
    assert moved**0.5 == pytest.approx(1e-3, rel=2e-3)


def test_a_gradient_below_the_bound_is_left_as_it_is() -> None:
    ends = []
    for clip_norm in (None, 1e6):
        model = make_model()
        plan = {**PLAN, "clip_norm": clip_norm}
        taken(model, endless(), first_step=0, n_steps=2, total_steps=2, **plan)
        ends.append(learnable(model))
    assert all((array == ends[1][name]).all() for name, array in ends[0].items())


def test_batches_that_run_out_are_not_taken_for_a_finished_round() -> None:
    with pytest.raises(InvalidSetting, match="ran out"):
        taken(make_model(), iter([make_batch()]), first_step=0, n_steps=2, total_steps=2, **PLAN)
    with pytest.raises(InvalidSetting, match="no step"):
        taken(make_model(), endless(), first_step=0, n_steps=0, total_steps=2, **PLAN)


def test_a_gradient_rule_acts_after_the_backward_pass_and_before_clipping() -> None:
    """A rule that makes every gradient ten thousand times as large is clipped as any other gradient is."""
    norms = []

    class Magnified:
        def correct(self, model: torch.nn.Module) -> None:
            for parameter in model.parameters():
                parameter.grad *= 1e4
            norms.append(sum(float((p.grad**2).sum()) for p in model.parameters()) ** 0.5)

        def kept(self) -> dict[str, Any]:
            return {}

        sent = kept

    plain, magnified = make_model(), make_model()
    plan = {**PLAN, "clip_norm": 1e-3, "learning_rate": 1.0, "total_steps": 2}
    for model, rule in ((plain, None), (magnified, Magnified())):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        taken(model, endless(), first_step=0, n_steps=2, optimizer=optimizer, gradient_rule=rule, **plan)
    assert len(norms) == 2
    assert min(norms) > 1
    for name, array in learnable(plain).items():
        # Steps of 1e-3 in all, clipped from another length: some float32 rounding of weights near one.
        assert abs(array - learnable(magnified)[name]).max() <= 4 * 2**-23, name


def test_scaffolds_control_is_the_mean_gradient_of_the_steps() -> None:
    """c_i+ = c_i - c + (x - y) / (K eta), with all of MINet and plain gradient descent."""
    model = make_model()
    before, rate, n_steps = learnable(model), 2.0**-4, 4
    generator = np.random.default_rng(0)
    c, c_i = (
        {n: 1e-2 * generator.normal(size=w.shape).astype(np.float32) for n, w in before.items()} for _ in "12"
    )
    rule = ControlVariates(c, c_i)
    taken(
        model,
        endless(),
        first_step=0,
        n_steps=n_steps,
        total_steps=n_steps,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
        gradient_rule=rule,
        **{**PLAN, "clip_norm": None, "learning_rate": rate},
    )
    control = rule.new_local_control()
    for name, after in learnable(model).items():
        expected = c_i[name] - c[name] + (before[name] - after) / (n_steps * rate)
        # Each step rounds a weight by half a unit; the sum of their differences is divided by K eta.
        tolerance = n_steps * np.spacing(np.abs(before[name]).max() + 1) / (n_steps * rate)
        assert np.abs(control[name] - expected).max() <= tolerance, name


def test_training_ends_with_the_first_step_past_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock of one second a look: at the start, then after each step."""
    for seconds, expected in ((0.5, 1), (1.0, 1), (2.5, 3), (100.0, 6)):
        clock = itertools.count()
        monkeypatch.setattr(
            "minet_core.training.loop.time.perf_counter", lambda clock=clock: float(next(clock))
        )
        done: list[tuple[int, int]] = []
        report = taken(
            make_model(),
            endless(),
            first_step=0,
            n_steps=6,
            total_steps=6,
            seconds=seconds,
            progress=lambda *counts, done=done: done.append(counts),
            **PLAN,
        )
        assert (report.n_steps, report.n_samples) == (expected, 2 * expected)
        assert len(done) == expected


def test_steps_within_their_time_are_those_without_a_limit() -> None:
    limited, free = make_model(), make_model()
    reports = [
        taken(model, endless(), first_step=0, n_steps=2, total_steps=2, seconds=seconds, **PLAN)
        for model, seconds in ((limited, 1e6), (free, None))
    ]
    assert reports[0].loss_mean == reports[1].loss_mean
    for name, array in learnable(limited).items():
        assert (array == learnable(free)[name]).all(), name


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_no_time_to_train_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidSetting, match="no time to train"):
        taken(make_model(), endless(), first_step=0, n_steps=1, total_steps=1, seconds=seconds, **PLAN)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 99))
def test_the_same_batches_give_the_same_bytes(seed: int) -> None:
    results = []
    for _ in range(2):
        model = make_model()
        batches = (make_batch(seed + n) for n in itertools.count())
        taken(model, batches, first_step=0, n_steps=2, total_steps=2, **PLAN)
        results.append(learnable(model))
    assert all(results[0][name].tobytes() == results[1][name].tobytes() for name in results[0])


def test_autocast_dtype_is_bfloat16_only_where_the_processor_has_it() -> None:
    capabilities = torch.cpu.get_capabilities()
    native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    assert autocast_dtype_for(torch.device("cpu")) == (torch.bfloat16 if native else None)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the variables are those of glibc's allocator")
def test_a_child_process_under_the_environment_reuses_freed_memory() -> None:
    program = """
import resource, numpy
for _ in range(20):
    kept = [numpy.ones(2**17) for _ in range(64)]
    del kept
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""

    def page_faults(extra: dict[str, str]) -> int:
        set_here = cpu_threading_environment()
        plain = {name: value for name, value in os.environ.items() if name not in set_here}
        environment = {**plain, "OMP_NUM_THREADS": "1", **extra}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    # 64 MiB, 16384 pages: asked for once, where the allocator left alone gives them back and asks 20 times.
    assert page_faults(cpu_threading_environment()) < 0.2 * page_faults({})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_a_gpu_lowers_the_loss_with_checkpointed_groups() -> None:
    model = make_model().cuda()
    recompute(model, True)
    dtype = autocast_dtype_for(torch.device("cuda"))
    plan = {**PLAN, "total_steps": 40, "autocast_dtype": dtype}
    first = taken(model, endless(), first_step=0, n_steps=1, **plan)
    rest = taken(model, endless(), first_step=1, n_steps=39, **plan)
    assert rest.loss_last < 0.9 * first.loss_last
