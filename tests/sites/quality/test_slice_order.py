"""The order of a stack's slices, seen in the stack alone: exchanged, interleaved, filled in, and what only looks so."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from minet_core.phantom.acquisition import SITES
from minet_core.phantom.patient import make_patient, with_slices
from sites.quality.slice_faults import SliceFaults, find_slice_faults

N_SLICES = 20
PIXEL_MM = 0.7


@pytest.fixture(scope="module")
def stack() -> NDArray[np.float32]:
    return make_patient(with_slices(SITES["sms"], N_SLICES), seed=5).target.magnitude()


def found(stack: NDArray[np.float32], order: NDArray[np.int_]) -> SliceFaults:
    return find_slice_faults(np.ascontiguousarray(stack[order]))


def test_a_stack_as_it_was_measured_is_in_order_from_either_end(stack) -> None:
    for order in (np.arange(N_SLICES), np.arange(N_SLICES)[::-1]):
        assert not found(stack, order).named()


@pytest.mark.parametrize("first", [5, 8, 11])
def test_two_exchanged_neighbours_are_named(stack, first: int) -> None:
    order = np.arange(N_SLICES)
    order[[first, first + 1]] = order[[first + 1, first]]
    seen = found(stack, order)
    assert seen.exchanged == (first,)
    assert seen.wrong


@pytest.mark.parametrize("passes", [2, 3])
@pytest.mark.parametrize("start", [0, 1])
def test_the_order_of_acquisition_is_named(stack, passes: int, start: int) -> None:
    begins = [(start + number) % passes for number in range(passes)]
    seen = found(stack, np.concatenate([np.arange(begin, N_SLICES, passes) for begin in begins]))
    assert seen.interleaved
    assert "order of their acquisition" in seen.named()[0]


def test_a_slice_that_was_filled_in_is_named(stack) -> None:
    filled = stack.copy()
    filled[9] = np.rint((stack[8] + stack[10]) / 2)
    assert find_slice_faults(filled).blended == (9,)


def test_a_patient_who_moved_between_even_and_odd_slices_is_not_out_of_order(stack) -> None:
    moved = stack.copy()
    moved[::2] = np.roll(moved[::2], round(2 / PIXEL_MM), axis=2)
    assert not find_slice_faults(moved).wrong
