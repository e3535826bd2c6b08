"""A reference that is blurred or moved; and how far it is found to lie from where a model would have it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedminet.experiment.analysis.changed_reference import Volume, low_passed, moved, reference_offset_px
from fedminet.experiment.analysis.image_shift import shift_px
from minet_core.evaluation.metrics import psnr


def noise(n_rows: int = 32, n_columns: int = 24) -> Volume:
    return np.abs(np.random.default_rng(1).normal(5, 1, (2, n_rows, n_columns))).astype(np.float32)


def test_a_reference_is_blurred_and_moved_on_its_grid() -> None:
    volume = noise()
    np.testing.assert_allclose(low_passed(volume, 1.0), volume, atol=1e-4)
    np.testing.assert_allclose(moved(volume, 3.0), np.roll(volume, 3, axis=1), atol=1e-4)
    np.testing.assert_allclose(moved(volume, -2.0, 5.0), np.roll(volume, (-2, 5), axis=(1, 2)), atol=1e-4)
    smooth = low_passed(volume, 0.5)
    assert smooth.std() < volume.std()
    np.testing.assert_allclose(low_passed(smooth, 0.5), smooth, atol=1e-3)
    assert shift_px(smooth[0], volume[0]) == (0.0, 0.0)


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.15, -0.06), (-0.3, 0.2)])
def test_the_offset_of_a_reference_that_was_moved_is_found(offset: tuple[float, float]) -> None:
    """The image is the reference blurred to half its band: as a method that copies it would make it."""
    truth = low_passed(noise(96, 80), 0.5)
    lying = moved(truth, *offset)

    def psnr_at(rows_px: float, columns_px: float) -> float:
        return psnr(truth, 0.9 * moved(lying, rows_px, columns_px) + 0.1 * truth.mean())

    assert reference_offset_px(psnr_at) == pytest.approx(offset, abs=0.03)


def test_a_method_that_does_not_care_has_no_offset() -> None:
    assert all(math.isnan(offset) for offset in reference_offset_px(lambda rows_px, columns_px: 30.0))
