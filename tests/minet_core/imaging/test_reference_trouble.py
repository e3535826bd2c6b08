"""A reference's trouble against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from minet_core.imaging.reference_trouble import RIGHT, ReferenceDraw, apply_reference_trouble


def _blob(row: float, column: float, n: int = 48) -> NDArray[np.float32]:
    """A Gaussian of 3 px, smooth enough for splines to be exact to 1e-3."""
    rows, columns = np.indices((n, n))
    return (100 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 18)).astype(np.float32)


def test_no_trouble_is_the_slice_itself() -> None:
    image = _blob(20, 20)
    assert apply_reference_trouble(image, RIGHT) is image


def test_a_whole_pixel_shift_is_exact_and_brings_in_zeros() -> None:
    image = np.random.default_rng(1).random((12, 15)).astype(np.float32) + 1
    moved = apply_reference_trouble(image, ReferenceDraw(shift_px=(2.0, -1.0)))
    np.testing.assert_allclose(moved[2:, :-1], image[:-2, 1:], rtol=1e-5)
    assert not moved[:2].any()
    assert not moved[:, -1].any()


@pytest.mark.parametrize("shift", [(0.5, -0.25), (3.0, 2.7)])
def test_a_part_of_a_pixel_moves_a_blob_by_it(shift: tuple[float, float]) -> None:
    moved = apply_reference_trouble(_blob(20, 22), ReferenceDraw(shift_px=shift))
    np.testing.assert_allclose(moved, _blob(20 + shift[0], 22 + shift[1]), atol=0.2)


def test_a_quarter_turn_is_that_of_the_array() -> None:
    image = np.random.default_rng(2).random((16, 16)).astype(np.float32)
    turned = apply_reference_trouble(image, ReferenceDraw(rotation_degrees=90.0))
    # From the rows' axis towards the columns': what lay down lies to the right.
    np.testing.assert_allclose(turned[1:-1, 1:-1], np.rot90(image)[1:-1, 1:-1], atol=1e-4)


def test_a_small_turn_moves_a_blob_along_its_circle() -> None:
    angle, centre = math.radians(2.0), 23.5
    turned = apply_reference_trouble(_blob(36, centre), ReferenceDraw(rotation_degrees=2.0))
    expected = _blob(centre + 12.5 * math.cos(angle), centre + 12.5 * math.sin(angle))
    np.testing.assert_allclose(turned, expected, atol=0.2)


def test_bending_by_a_wave_of_no_cycle_is_a_shift() -> None:
    constant = ((0.0, 0.0, 0.25), (0.0, 0.0, -0.25))  # sines of 1 and of -1 everywhere
    bent = apply_reference_trouble(_blob(20, 22), ReferenceDraw(bend_px=1.0, bend_waves=constant))
    np.testing.assert_allclose(bent, _blob(21, 21), atol=0.2)


def test_no_anatomy_is_bent_farther_than_the_draw_says() -> None:
    draw = ReferenceDraw(bend_px=2.0, bend_waves=((1.0, 2.0, 0.1), (2.0, -1.0, 0.6)))
    for row, column in ((16, 30), (24, 24), (32, 14)):
        bent = apply_reference_trouble(_blob(row, column), draw).astype(np.float64)
        rows, columns = np.indices(bent.shape)
        place = np.array([(bent * rows).sum(), (bent * columns).sum()]) / bent.sum()
        moved = np.abs(place - (row, column))
        assert 0 < moved.max() <= 2.1


def test_gamma_keeps_bright_tissue_and_bends_the_rest() -> None:
    image = np.full((20, 20), 100.0, np.float32)
    image[0, 0] = 25.0
    toned = apply_reference_trouble(image, ReferenceDraw(gamma=0.5))
    np.testing.assert_allclose([toned[5, 5], toned[0, 0]], [100.0, 50.0], rtol=1e-5)


def test_gain_is_the_exponential_of_its_wave() -> None:
    image = np.full((16, 16), 10.0, np.float32)
    toned = apply_reference_trouble(image, ReferenceDraw(gain=0.3, gain_wave=(0.0, 1.0, 0.0)))
    expected = 10 * np.exp(0.3 * np.sin(2 * np.pi * np.arange(16) / 16))
    np.testing.assert_allclose(toned, np.broadcast_to(expected, (16, 16)), rtol=1e-5)


def test_noise_in_air_is_rayleigh_and_in_bright_tissue_gaussian() -> None:
    image = np.zeros((200, 200), np.float32)
    image[:, 100:] = 50.0
    noisy = apply_reference_trouble(image, ReferenceDraw(noise_fraction=0.1, noise_seed=3))
    # 20,000 samples estimate a mean to sigma / 141; five of those.
    air, tissue = noisy[:, :100], noisy[:, 100:]
    assert float(air.mean()) == pytest.approx(5 * math.sqrt(math.pi / 2), abs=5 * 3.3 / 141)
    assert float(tissue.mean()) == pytest.approx(50 + 25 / (2 * 50), abs=5 * 5 / 141 + 0.01)
    assert float(tissue.std()) == pytest.approx(5.0, rel=5 / 200)
    again = apply_reference_trouble(image, ReferenceDraw(noise_fraction=0.1, noise_seed=3))
    np.testing.assert_array_equal(noisy, again)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_the_missing_part_lies_beyond_a_straight_line(share: float) -> None:
    image = np.ones((40, 30), np.float32)
    partial = apply_reference_trouble(image, ReferenceDraw(missing_share=share))
    kept = round(40 * (1 - share))
    assert partial[:kept].all()
    assert not partial[kept:].any()
    slanted = apply_reference_trouble(image, ReferenceDraw(missing_share=share, missing_degrees=130.0))
    assert float((slanted == 0).mean()) == pytest.approx(share, abs=0.02)


def test_an_absent_reference_is_zeros() -> None:
    assert not apply_reference_trouble(_blob(20, 20), ReferenceDraw(absent=True)).any()
