from __future__ import annotations

import numpy as np
import pytest

from minet_core.errors import ScanInvalid
from sites.quality.scan_quality import bright_percentile, check_shape, use_of_slices
from tests.support.small_scans import make_volume


def stack_with_air() -> np.ndarray:
    head = make_volume(1, "T2").array
    noise = np.abs(np.random.default_rng(0).normal(0, 15, (3, *head.shape[1:]))).astype(np.float32)
    return np.concatenate([noise, head, noise])


def test_slices_of_air_are_not_used() -> None:
    array = stack_with_air()
    use = use_of_slices(array, covered=None)
    assert (use.first, use.stop) == (3, len(array) - 3)


def test_slices_outside_the_references_view_are_not_used() -> None:
    array = stack_with_air()
    covered = np.ones(array.shape, dtype=bool)
    covered[:5] = False
    use = use_of_slices(array, covered=covered)
    assert (use.first, use.stop, use.unguided) == (5, len(array) - 3, 2)


def test_a_pair_that_shares_no_slice_is_refused() -> None:
    array = stack_with_air()
    with pytest.raises(ScanInvalid, match="no slice"):
        use_of_slices(array, covered=np.zeros(array.shape, dtype=bool))


@pytest.mark.parametrize(
    "shape", [(1, 320, 320), (320, 320), (4, 8, 320), (4, 5000, 320), (2000, 2000, 2000)]
)
def test_a_shape_that_is_no_scan_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ScanInvalid):
        check_shape(shape, what="scan")


@pytest.mark.parametrize("shape", [(4, 16, 16), (182, 218, 182), (36, 448, 406)])
def test_the_shape_of_a_scan_passes(shape: tuple[int, ...]) -> None:
    check_shape(shape, what="scan")


@pytest.mark.parametrize("percent", [95, 99, 99.9])
@pytest.mark.parametrize(
    "kind", ["noise", "air with a few bright voxels", "constant", "zeros", "one hot voxel"]
)
def test_a_bright_percentile_is_the_percentile(kind: str, percent: float) -> None:
    values = np.random.default_rng(5).rayleigh(10, (6, 40, 40)).astype(np.float32)
    if kind == "air with a few bright voxels":
        values[2, 10:20, 10:20] = 900
    elif kind == "constant":
        values[:] = 7
    elif kind == "zeros":
        values[:] = 0
    elif kind == "one hot voxel":
        values[0, 0, 0] = 1e6
    assert bright_percentile(values, percent) == pytest.approx(
        float(np.percentile(values, percent)), rel=1e-5
    )
