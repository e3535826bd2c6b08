"""Means of blocks beside the mean written out."""

from __future__ import annotations

import numpy as np
import pytest

from minet_core.imaging.block_means import block_means


@pytest.mark.parametrize("factors", [(1, 1, 1), (2, 3, 4), (1, 5, 1), (7, 1, 2)])
def test_they_are_the_means_of_whole_blocks(factors: tuple[int, int, int]) -> None:
    array = np.random.default_rng(3).normal(100, 30, (15, 22, 9)).astype(np.float32)
    found = block_means(array, factors)
    assert found.shape == tuple(n // f for n, f in zip(array.shape, factors, strict=True))
    for place in np.ndindex(*found.shape):
        block = array[tuple(slice(i * f, (i + 1) * f) for i, f in zip(place, factors, strict=True))]
        assert found[place] == pytest.approx(float(block.astype(np.float64).mean()), rel=1e-6)


def test_truth_values_give_the_share_of_a_block() -> None:
    found = block_means(np.indices((4, 4, 4)).sum(axis=0) % 2 == 0, (2, 2, 2))
    assert (found == 0.5).all()
