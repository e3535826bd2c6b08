"""The mean over sites: closed forms, and the same bytes whatever the order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minet_core.algorithms.weighted_mean import (
    CHUNK_VALUES,
    cast_back,
    float64_mean,
    mean_over_sites,
    shares,
    weight_by_site,
)
from minet_core.errors import WeightsRefused


def mean_of(arrays: dict[str, np.ndarray], weight_of: dict[str, float]) -> np.ndarray[Any, Any]:
    first = next(iter(arrays.values()))
    named = {site: {"w": array} for site, array in arrays.items()}
    return mean_over_sites("w", named, weight_of=weight_of, shape=first.shape, dtype=str(first.dtype))


def test_floating_numbers_are_weighted_by_slices() -> None:
    ones, fives = np.ones(3, np.float32), np.full(3, 5, np.float32)
    mean = mean_of({"sms": ones, "umr": fives}, {"sms": 30, "umr": 10})
    np.testing.assert_array_equal(mean, np.full(3, 2, np.float32))
    assert mean.dtype == np.float32


@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_mean_keeps_shape_and_dtype(shape: tuple[int, ...], dtype: str) -> None:
    mean = mean_of({"a": np.full(shape, 2, dtype), "b": np.full(shape, 4, dtype)}, {"a": 1, "b": 1})
    assert isinstance(mean, np.ndarray)
    assert (mean.shape, str(mean.dtype)) == (shape, dtype)
    assert (mean == 3).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(order=st.permutations(range(4)), seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_sites_does_not_show(dtype: str, order: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    arrays = {f"s{n}": (1e3 * generator.normal(size=(3, 2))).astype(dtype) for n in range(4)}
    weight_of: dict[str, float] = {f"s{n}": int(generator.integers(1, 999)) for n in range(4)}
    expected = mean_of(arrays, weight_of).tobytes()
    shuffled = [f"s{n}" for n in order]
    again = mean_of({s: arrays[s] for s in shuffled}, {s: weight_of[s] for s in shuffled})
    assert again.tobytes() == expected


def test_the_bytes_are_those_of_plain_sums_in_float64_beyond_a_chunk_too() -> None:
    generator = np.random.default_rng(71)
    arrays = {f"s{n}": generator.normal(size=(3, CHUNK_VALUES // 2)).astype(np.float32) for n in range(3)}
    weight_of = {"s0": 3.0, "s1": 5.0, "s2": 1.0}
    for array in arrays.values():
        array[0, 0] = -0.0
    total = np.zeros((3, CHUNK_VALUES // 2))
    for site, share in shares(weight_of).items():
        total += arrays[site].astype(np.float64) * share
    mean = mean_of(arrays, weight_of)
    assert mean.tobytes() == total.astype(np.float32).tobytes()
    assert not np.signbit(mean[0, 0])


def test_the_mean_update_of_sites_that_did_not_move_is_zero() -> None:
    start = np.float32([0.1, -3e7, 1e-30])
    arrays = {site: {"w": start.copy()} for site in ("a", "b", "c")}
    update = float64_mean(
        "w", arrays, weight_of={"a": 1, "b": 3, "c": 7}, shape=(3,), dtype="float32", start=start
    )
    assert not update.any()


WRONG = {
    "another shape": (np.ones((1, 3), np.float32), "wrong shape"),
    "a shape that would broadcast": (np.ones(1, np.float32), "wrong shape"),
    "another dtype": (np.ones(3), "wrong number type"),
    "integers": (np.ones(3, np.int32), "wrong number type"),
    "NaN": (np.float32([1, np.nan, 1]), "not finite"),
    "infinity": (np.float32([1, np.inf, 1]), "not finite"),
}


@pytest.mark.parametrize("change", WRONG)
def test_a_tensor_that_differs_from_the_others_is_refused(change: str) -> None:
    wrong, match = WRONG[change]
    arrays = {"sms": {"w": np.ones(3, np.float32)}, "umr": {"w": wrong}}
    with pytest.raises(WeightsRefused, match=match):
        mean_over_sites("w", arrays, weight_of={"sms": 1, "umr": 1}, shape=(3,), dtype="float32")


@pytest.mark.parametrize("dtype", ["bool", "complex64", "int64", "uint8"])
def test_a_number_type_that_has_no_mean_is_refused(dtype: str) -> None:
    with pytest.raises(WeightsRefused, match="no mean"):
        mean_of({"a": np.ones(2, dtype)}, {"a": 1})


def test_no_site_and_a_site_twice_are_refused() -> None:
    with pytest.raises(WeightsRefused, match="no weights to average"):
        weight_by_site([])
    with pytest.raises(WeightsRefused, match="replied twice"):
        weight_by_site([("sms", 1), ("sms", 2)])


def test_a_value_too_large_for_the_tensor_is_refused() -> None:
    assert cast_back("w", np.array([1e38]), "float32").dtype == np.float32
    with pytest.raises(WeightsRefused, match="not finite"):
        cast_back("w", np.array([1e39]), "float32")
