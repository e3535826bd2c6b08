"""Batches by their number: the same whatever was drawn before, by how many processes, and from which step on."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from minet_core.errors import InvalidSetting, NoScansFound, ProcessDied, StoreDamaged
from minet_core.training.batches import (
    MIN_FOREGROUND,
    Batch,
    BatchRecipe,
    PlannedBatch,
    PlannedSamples,
    drawn_batches,
    named_worker_deaths,
    plan_batches,
)
from minet_core.training.samples import PreparedSlices
from tests.support.repository import ROOT
from tests.support.warm_python import warm_python

PATCHES = BatchRecipe(scale=2, batch_size=4, patch_px=16, seed=1, label="test")
WHOLE = replace(PATCHES, patch_px=None)
both_recipes = pytest.mark.parametrize("recipe", [PATCHES, WHOLE], ids=["patches", "whole slices"])


class MadeSlices:
    """Slices made from their numbers; one number may be damaged. May be pickled."""

    def __init__(
        self, shapes: list[tuple[int, int]], *, damaged: int | None = None, air: bool = False
    ) -> None:
        self.shapes, self.damaged, self.air = shapes, damaged, air

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        if index == self.damaged:
            raise StoreDamaged("a slice cannot be read", got=index)
        target, reference = np.random.default_rng(index).random((2, *self.shapes[index]), dtype=np.float32)
        if self.air:
            target[:, : target.shape[1] * 3 // 4] *= 1e-3
        return target, reference


SMALL = MadeSlices([(32, 40), (32, 40), (36, 32), (32, 40), (36, 33), (32, 40), (32, 40)])
"""Two sizes: at 2x a slice of (36, 33) is one of (36, 32)."""


def drawn(
    source: MadeSlices,
    recipe: BatchRecipe,
    *,
    first: int = 0,
    stop: int = 9,
    n_workers: int = 0,
    places: range | None = None,
) -> list[Batch]:
    samples = PlannedSamples(
        PreparedSlices(source, scale=2, cache_bytes=200_000),
        recipe,
        places=places or range(recipe.batch_size),
    )
    plan = itertools.islice(plan_batches(source.shapes, recipe), first, stop)
    return list(drawn_batches(samples, plan, n_workers=n_workers, pin_memory=False))


def tensors(batch: Batch) -> tuple[torch.Tensor, ...]:
    return batch.low_res, batch.upsampled, batch.reference, batch.target


def same(first: list[Batch], second: list[Batch]) -> bool:
    return all(
        torch.equal(one, other)
        for left, right in zip(first, second, strict=True)
        for one, other in zip(tensors(left), tensors(right), strict=True)
    )


@both_recipes
def test_a_batch_is_the_same_from_whichever_step_drawing_begins(recipe: BatchRecipe) -> None:
    whole = drawn(SMALL, recipe)
    for first in range(1, 9):
        assert same(drawn(SMALL, recipe, first=first), whole[first:])


@both_recipes
def test_batches_are_the_same_in_whichever_order_they_are_drawn(recipe: BatchRecipe) -> None:
    plan = list(itertools.islice(plan_batches(SMALL.shapes, recipe), 6))
    samples = PlannedSamples(
        PreparedSlices(SMALL, scale=2, cache_bytes=0), recipe, places=range(recipe.batch_size)
    )
    forwards = [samples[planned] for planned in plan]
    backwards = [samples[planned] for planned in reversed(plan)][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        assert all(torch.equal(left, right) for left, right in zip(one, other, strict=True))


@both_recipes
@pytest.mark.parametrize("n_workers", [1, 2])
def test_batches_are_the_same_for_any_number_of_workers(recipe: BatchRecipe, n_workers: int) -> None:
    assert same(drawn(SMALL, recipe, n_workers=n_workers), drawn(SMALL, recipe))


def test_a_large_slice_is_the_same_from_a_worker_as_from_a_process_of_several_threads() -> None:
    """Beyond 32768 samples torch sums in one part a thread: another rounding of the mean, and so of the sample."""
    source = MadeSlices([(256, 256)] * 4)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        image = torch.from_numpy(source[0][0])
        here = drawn(source, WHOLE, stop=2)
        assert torch.get_num_threads() == 2
        means = [float(image.mean())]
        torch.set_num_threads(1)
        means.append(float(image.mean()))
    finally:
        torch.set_num_threads(n_threads)
    print("the mean on two threads and on one:", *means)
    assert same(drawn(source, WHOLE, stop=2, n_workers=1), here)


@both_recipes
@pytest.mark.parametrize("world", [2, 4])
def test_the_parts_of_all_ranks_are_the_batch(recipe: BatchRecipe, world: int) -> None:
    whole = drawn(SMALL, recipe, stop=3)
    parts = [drawn(SMALL, recipe, stop=3, places=range(rank, 4, world)) for rank in range(world)]
    for number, batch in enumerate(whole):
        for rank in range(world):
            for part, all_ in zip(tensors(parts[rank][number]), tensors(batch), strict=True):
                assert torch.equal(part, all_[rank::world])


@settings(max_examples=25, deadline=None)
@given(n_slices=st.integers(1, 30), batch_size=st.integers(1, 7), seed=st.integers(0, 99))
def test_every_slice_is_planned_once_in_a_pass(n_slices: int, batch_size: int, seed: int) -> None:
    recipe = replace(PATCHES, batch_size=batch_size, seed=seed)
    n_passes = batch_size  # whose slices fill whole batches
    plan = list(itertools.islice(plan_batches([(32, 32)] * n_slices, recipe), n_slices))
    assert [planned.number for planned in plan] == list(range(n_slices))
    order = [index for planned in plan for index in planned.slices]
    for number in range(n_passes):
        assert sorted(order[number * n_slices : (number + 1) * n_slices]) == list(range(n_slices))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([(32, 32), (33, 34), (40, 32)]), min_size=1, max_size=20))
def test_whole_slices_of_several_sizes_make_batches_of_one_size_and_none_is_left_out(
    shapes: list[tuple[int, int]],
) -> None:
    """(33, 34) is cropped to (32, 32)."""
    plan = list(itertools.islice(plan_batches(shapes, WHOLE), len(shapes)))
    for planned in plan:
        assert len({(shapes[index][0] // 4, shapes[index][1] // 4) for index in planned.slices}) == 1
    counts = Counter(index for planned in plan for index in planned.slices)
    passes = [counts[index] for index in range(len(shapes))]
    assert sum(passes) == 4 * len(shapes)
    assert max(passes) - min(passes) <= 4  # a size may wait with up to three of a batch


def test_batches_depend_on_the_seed_and_on_the_label() -> None:
    here = drawn(SMALL, PATCHES)
    assert not same(here, drawn(SMALL, replace(PATCHES, seed=2)))
    assert not same(here, drawn(SMALL, replace(PATCHES, label="another")))


def test_a_patch_of_air_is_passed_over() -> None:
    """Three quarters of each slice are air: 29% of the places give a tenth of foreground, and 93% within 8 draws."""
    source = MadeSlices([(32, 96)] * 5, air=True)
    recipe = replace(PATCHES, batch_size=16)
    samples = PlannedSamples(PreparedSlices(source, scale=2, cache_bytes=2**20), recipe, places=range(16))
    plan = itertools.islice(plan_batches(source.shapes, recipe), 4)
    patches = torch.cat([samples[planned][3] for planned in plan])[:, 0]
    # Normalised, the mean of the slice is zero: air lies below it, and all but a few samples of the rest above.
    foreground = (patches > 0).float().mean(dim=(1, 2))
    assert (foreground >= MIN_FOREGROUND).float().mean() > 0.8


@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_damaged_slice_is_said_as_it_is_by_whoever_meets_it(n_workers: int) -> None:
    source = MadeSlices(SMALL.shapes, damaged=3)
    with pytest.raises(StoreDamaged) as failure:
        drawn(source, WHOLE, n_workers=n_workers)
    assert str(failure.value) == "FM-D207: a slice cannot be read; got 3."


def test_a_killed_worker_is_named() -> None:
    """In a process of its own, for torch's signal handler raises wherever that is."""
    code = f"import runpy; runpy.run_path({__file__!r})['lose_a_worker']()"
    ended = subprocess.run(
        [warm_python(), "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "FM-S503: a process that draws batches was ended" in ended.stdout


def lose_a_worker() -> None:
    """What the test's own process does."""
    samples = PlannedSamples(PreparedSlices(SMALL, scale=2, cache_bytes=0), PATCHES, places=range(4))
    batches = drawn_batches(samples, plan_batches(SMALL.shapes, PATCHES), n_workers=1, pin_memory=False)
    try:
        with named_worker_deaths():
            next(batches)
            (worker,) = multiprocessing.active_children()
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            for _ in batches:
                pass
    except ProcessDied as failure:
        print(failure)


def test_another_failure_of_torch_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="out of memory"), named_worker_deaths():
        raise RuntimeError("CUDA out of memory")


def test_no_slice_and_a_patch_that_does_not_fit_the_scale_are_refused() -> None:
    with pytest.raises(NoScansFound, match="nothing to train on"):
        plan_batches([], PATCHES)
    with pytest.raises(InvalidSetting, match="does not fit the scale"):
        plan_batches([(32, 32)], replace(PATCHES, patch_px=15))


def test_a_planned_batch_is_small_to_send_to_a_worker() -> None:
    planned = next(plan_batches(SMALL.shapes, PATCHES))
    assert planned == PlannedBatch(0, planned.slices)
    assert len(planned.slices) == 4
