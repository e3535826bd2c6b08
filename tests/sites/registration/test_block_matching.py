"""Blocks of one scan in another: each agreement beside the plain correlation, and the share that is covered."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (the name its own manual uses)
from numpy.typing import NDArray

from sites.registration.block_matching import _squared_correlations, compare_blocks, covered_share
from sites.registration.motion_search import matching_image
from tests.support.small_scans import make_volume

Array = NDArray[np.float32]


def squared_correlations(still: Array, other: Array, *, finer: int, reach: tuple[int, int, int]) -> Array:
    """(block, places along slice, row, column), of blocks that come first."""
    centred = still - still.mean(axis=(1, 2, 3), keepdims=True)
    here, there = (np.ascontiguousarray(np.moveaxis(one, 0, -1)) for one in (centred, other))
    return np.moveaxis(_squared_correlations(here, there, finer=finer, reach=np.array(reach)), -1, 0)


@pytest.mark.parametrize(("shape", "finer", "reach"), [((2, 5, 4), 1, (1, 2, 1)), ((3, 6, 6), 2, (2, 0, 0))])
def test_an_agreement_is_the_squared_correlation_of_the_voxels(shape, finer, reach) -> None:
    generator = np.random.default_rng(71)
    s, r, c = shape
    wide = [(s - 1) * finer + 1 + 2 * reach[0], r + 2 * reach[1], c + 2 * reach[2]]
    still, other = (generator.random((3, *edges), np.float32) for edges in (shape, wide))
    found = squared_correlations(still, other, finer=finer, reach=reach)
    assert found.shape == (3, *(2 * n + 1 for n in reach))
    for block, ds, dr, dc in np.ndindex(*found.shape):
        there = other[block, ds : ds + (s - 1) * finer + 1 : finer, dr : dr + r, dc : dc + c]
        plain = np.corrcoef(still[block].ravel(), there.ravel())[0, 1] ** 2
        assert found[block, ds, dr, dc] == pytest.approx(plain, abs=1e-5)  # sums in float32


def test_a_place_without_structure_agrees_with_nothing() -> None:
    still = np.random.default_rng(71).random((1, 2, 5, 5), np.float32)
    flat = np.full((1, 2, 5, 5), 0.7, np.float32)
    found = squared_correlations(still, flat, finer=1, reach=(0, 0, 0))
    assert found.ravel() == [0.0]


@pytest.mark.parametrize(
    "shift_mm", [(0.0, 0.0, 0.0), (30.0, 0.0, 0.0), (0.0, -40.0, 10.0), (500.0, 0.0, 0.0)]
)
def test_the_covered_share_is_that_of_a_comparison(shift_mm) -> None:
    fixed, moving = (matching_image(make_volume(1, contrast)) for contrast in ("T2", "T1"))
    transform = sitk.Euler3DTransform([0.0, 0.0, 0.0], 0.05, 0.02, -0.1, shift_mm)
    blocks = compare_blocks(fixed, moving, transform, reach_mm=(0, 0, 0), max_blocks=300)
    share = covered_share(fixed, moving, transform, max_blocks=300)
    assert share == pytest.approx(blocks.inside_share, abs=1e-9)
    assert (share > 0) == (abs(shift_mm[0]) < 500)
