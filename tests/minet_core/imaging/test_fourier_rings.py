"""Ring correlation by window: what is invented is found at its place, and what is the truth's is let be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from minet_core.errors import MetricInvalid
from minet_core.imaging.degradation import low_resolution
from minet_core.imaging.fourier_rings import (
    STEP_PX,
    WINDOW_PX,
    half_bit_threshold,
    invented_share,
    scan_rings,
)
from minet_core.imaging.interpolation import sinc

Array = NDArray[np.float64]
both_scales = pytest.mark.parametrize("scale", [2, 4])


def textured(seed: int, *, shape: tuple[int, int, int] = (2, 128, 96), blur_px: float = 0.7) -> Array:
    """Detail up to the last frequencies, on a ground."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    detail: Array = 10 + 3 * gaussian_filter(noise, (0, blur_px, blur_px))
    return detail


@both_scales
def test_the_truth_itself_invents_nothing(scale: int) -> None:
    truth = textured(1)
    scan = scan_rings(truth, truth, scale=scale)
    assert scan.correlation == pytest.approx(1.0)
    assert invented_share(truth, truth, scale=scale) == 0.0


@both_scales
def test_another_patients_detail_is_nearly_all_invented(scale: int) -> None:
    share = invented_share(textured(1), textured(2), scale=scale)
    assert share is not None
    assert share > 0.9


@both_scales
def test_one_invented_place_is_found_where_it_is(scale: int) -> None:
    """A patch of another's detail in an image that is right elsewhere: the whole volume's figure hardly sees it."""
    truth = textured(1)
    image = truth.copy()
    row, column = 64, 32
    image[1, row : row + 32, column : column + 32] = textured(2)[1, row : row + 32, column : column + 32]
    invented = scan_rings(image, truth, scale=scale).invented
    place = np.unravel_index(int(invented.argmax()), invented.shape)
    assert place == (1, row // STEP_PX, column // STEP_PX)
    assert invented[0].max() == 0.0
    far = [(n, m) for n in range(invented.shape[1]) for m in range(invented.shape[2]) if n < 2 or m > 4]
    assert max(invented[1, n, m] for n, m in far) == 0.0


@both_scales
def test_a_right_image_that_is_too_weak_or_noisy_is_not_invented(scale: int) -> None:
    truth = textured(1)
    smooth = sinc(low_resolution(torch.from_numpy(truth), scale), scale).numpy()
    half = smooth + 0.5 * (truth - smooth)
    assert invented_share(half, truth, scale=scale) == pytest.approx(0.0, abs=1e-3)
    noisy = truth + 0.2 * truth.std() * np.random.default_rng(3).standard_normal(truth.shape)
    assert invented_share(noisy, truth, scale=scale) == pytest.approx(0.0, abs=0.02)


def test_detail_in_the_wrong_sense_is_invented() -> None:
    """Edges drawn in the reference's contrast: dark where the truth is bright."""
    truth = textured(1)
    assert invented_share(20 - truth, truth, scale=2) == 1.0


def test_of_images_without_a_common_detail_few_windows_pass_by_chance() -> None:
    """What the half-bit curve lets through of pairs that have nothing in common, over many windows."""
    scan = scan_rings(textured(4, shape=(6, 160, 160)), textured(5, shape=(6, 160, 160)), scale=2)
    assert float((scan.correlation > scan.threshold).mean()) < 0.02


def test_the_half_bit_curve_is_that_of_the_paper() -> None:
    assert half_bit_threshold(np.array([10**9])) == pytest.approx(0.2071 / 1.2071, rel=1e-3)
    curve = half_bit_threshold(np.arange(6, 16))
    assert (np.diff(curve) < 0).all()


def test_an_image_with_nothing_there_has_no_share() -> None:
    assert invented_share(np.zeros((1, 64, 64)), textured(1, shape=(1, 64, 64)), scale=2) is None


def test_an_image_smaller_than_a_window_has_no_share() -> None:
    small = np.ones((1, WINDOW_PX - 8, 64))
    assert invented_share(small, small, scale=2) is None


@pytest.mark.parametrize(
    "image",
    [
        np.ones((1, WINDOW_PX - 1, 64)),
        np.ones((64, 64)),
        np.ones((2, 64, 64)),
        np.full((1, 64, 64), np.nan),
    ],
)
def test_what_cannot_be_compared_is_refused(image: Array) -> None:
    with pytest.raises(MetricInvalid):
        scan_rings(image, np.ones((1, *image.shape[-2:])), scale=2)
