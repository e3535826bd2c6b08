"""The bound on an update's norm: no site's own number moves it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minet_core.weights.update_norm import (
    drifted_apart,
    lasting_fall,
    norm,
    norm_bound,
    update_norm,
)

HONEST = st.floats(0.5, 2.0)


def test_norms_are_those_of_all_arrays_together() -> None:
    arrays = {"a": np.array([3.0], np.float32), "b": np.array([[4.0]], np.float32)}
    assert norm(arrays) == 5.0
    assert update_norm(arrays, {name: np.zeros_like(array) for name, array in arrays.items()}) == 5.0
    assert norm({}) == 0.0


def test_with_nothing_to_compare_there_is_no_bound() -> None:
    assert norm_bound([1.0], [], factor=10) is None
    assert norm_bound([1.0, 1e6], [], factor=10) is None


def test_a_lone_reply_does_not_set_its_own_bound() -> None:
    assert norm_bound([1e6], [1.0, 1.1], factor=10) == 10.0


@given(
    honest=st.lists(HONEST, min_size=2, max_size=6),
    past=st.lists(HONEST, max_size=6),
    huge=st.floats(1e3, 1e30),
)
def test_one_hostile_norm_among_honest_ones_is_beyond_the_bound_and_the_honest_are_not(
    honest: list[float], past: list[float], huge: float
) -> None:
    bound = norm_bound([*honest, huge], past, factor=10)
    assert bound is not None
    assert huge > bound
    assert all(value <= bound for value in honest)


@given(honest=st.lists(HONEST, min_size=2, max_size=6), past=st.lists(HONEST, min_size=1, max_size=6))
def test_a_tiny_hostile_norm_does_not_make_the_honest_suspect(honest: list[float], past: list[float]) -> None:
    bound = norm_bound([*honest, 0.0], past, factor=10)
    assert bound is not None
    assert all(value <= bound for value in honest)
    assert math.isfinite(bound)
    assert bound == pytest.approx(bound)


KNEES = [0.26, 0.19, 0.04, -0.03, -0.09, -0.13, -0.17, -0.21, -0.22, -0.24, -0.23, -0.25, -0.3, -0.41, -0.61]
"""Of an honest site of knees beside two of heads: docs/results/robustness.md."""


@pytest.mark.parametrize(
    ("agreements", "drifted"),
    [
        (KNEES, True),
        (KNEES[:2], False),
        ([-value for value in KNEES], False),
        ([0.4] * 9 + [-0.5] * 5, False),
        ([0.4] * 9 + [-0.5] * 4, True),  # its median is the honest one yet, and nothing is refused by it
    ],
)
def test_who_drifts_apart_does_so_by_little_and_little(agreements: list[float], drifted: bool) -> None:
    assert drifted_apart(agreements, above=0.05) == drifted


def test_a_lasting_fall_is_that_of_medians() -> None:
    assert lasting_fall([30.0, 31.0]) == 0.0
    assert lasting_fall([30.0, 31.0, 32.0, 31.5, 31.9]) == 0.0  # one low round is none
    assert lasting_fall([30.0, 32.0, 32.0, 31.0, 31.0]) == pytest.approx(1.0)
