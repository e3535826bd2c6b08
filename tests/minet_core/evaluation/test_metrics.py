from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import metrics as scikit_image

from minet_core.errors import MetricInvalid
from minet_core.evaluation.metrics import (
    bootstrap_interval,
    nmse,
    peak_ratio,
    psnr,
    robust_range,
    ssim,
    volume_metrics,
)
from tests.oracles import fastmri_metrics

SCIKIT_PSNR: Callable[..., float] = scikit_image.peak_signal_noise_ratio
SCIKIT_SSIM: Callable[..., float] = scikit_image.structural_similarity

finite = st.floats(-1e3, 1e3)
figures = st.lists(finite, min_size=1, max_size=8)


def _volumes(seed: int = 2, size: tuple[int, int, int] = (3, 18, 21)) -> tuple[NDArray[np.float64], ...]:
    """A target whose slices differ in brightness, and a noisy image of it."""
    rng = np.random.default_rng(seed)
    target = rng.random(size) * np.linspace(1, 5, size[0])[:, None, None]
    return target, np.abs(target + 0.2 * rng.standard_normal(size))


@pytest.mark.parametrize("seed", range(3))
def test_the_metrics_are_the_formulas_of_the_fastmri_package(seed: int) -> None:
    target, image = _volumes(seed)
    assert psnr(target, image) == pytest.approx(fastmri_metrics.psnr(target, image), rel=1e-10)
    assert ssim(target, image) == pytest.approx(fastmri_metrics.ssim(target, image), rel=1e-10)
    assert nmse(target, image) == pytest.approx(fastmri_metrics.nmse(target, image), rel=1e-10)


def test_the_metrics_are_those_of_scikit_image() -> None:
    target, image = _volumes()
    peak = target.max()
    assert psnr(target, image) == pytest.approx(SCIKIT_PSNR(target, image, data_range=peak))
    of_slices = [SCIKIT_SSIM(t, i, data_range=peak) for t, i in zip(target, image, strict=True)]
    assert ssim(target, image) == pytest.approx(np.mean(of_slices))


def test_float32_volumes_score_as_float64_ones() -> None:
    target, image = (volume.astype(np.float32) for volume in _volumes())
    exact = volume_metrics(target.astype(np.float64), image.astype(np.float64))
    assert volume_metrics(target, image) == exact
    assert list(exact) == ["psnr_db", "ssim", "nmse"]


def test_closed_forms() -> None:
    target = np.full((2, 8, 8), 4.0)
    # Error 1 everywhere: MSE 1, so PSNR = 20 log10(4); NMSE = 1 / 16.
    assert psnr(target, target - 1) == pytest.approx(20 * math.log10(4))
    assert nmse(target, target - 1) == pytest.approx(1 / 16)
    # No structure: SSIM is its luminance term, with c1 = (0.01 * 4)^2.
    c1 = 0.04**2
    assert ssim(target, target - 1) == pytest.approx((2 * 4 * 3 + c1) / (16 + 9 + c1))


def test_equal_volumes_are_perfect() -> None:
    target, _ = _volumes()
    assert volume_metrics(target, target) == {"psnr_db": math.inf, "ssim": pytest.approx(1.0), "nmse": 0.0}


def test_the_unit_of_the_volume_does_not_matter() -> None:
    target, image = _volumes()
    scaled = volume_metrics(1e-4 * target, 1e-4 * image)
    assert scaled == pytest.approx(volume_metrics(target, image), rel=1e-9)


def test_the_data_range_is_that_of_the_volume_and_not_of_the_slice() -> None:
    target, image = _volumes()
    alone = ssim(target[:1], image[:1])
    in_volume = ssim(target[:1], image[:1], data_range=float(target.max()))
    assert in_volume > alone + 0.01
    rest = ssim(target[1:], image[1:], data_range=float(target.max()))
    assert ssim(target, image) == pytest.approx((in_volume + 2 * rest) / 3)


def test_the_psnr_of_a_part_has_the_range_of_the_whole() -> None:
    target, image = _volumes()
    peak = float(target.max())
    # A range larger by a factor is so many decibels more.
    gain_db = 20 * math.log10(peak / target[0].max())
    assert psnr(target[:1], image[:1], data_range=peak) == pytest.approx(
        psnr(target[:1], image[:1]) + gain_db
    )


@pytest.mark.parametrize("metric", [psnr, ssim, nmse])
def test_volumes_that_cannot_be_compared_are_refused(metric: object) -> None:
    assert callable(metric)
    target, image = _volumes()
    with_nan = image.copy()
    with_nan[1, 2, 3] = np.nan
    attacks = [
        (target, image[:2], "one shape"),
        (target[0], image[0], "one shape"),
        (target, image.astype(np.complex128), "magnitudes"),
        (target, with_nan, "not finite"),
        (np.zeros_like(target), image, "empty"),
        (target[:0], image[:0], "empty"),
    ]
    for attacked_target, attacked_image, message in attacks:
        with pytest.raises(MetricInvalid, match=message):
            metric(attacked_target, attacked_image)


def test_an_empty_slice_of_a_volume_has_a_similarity_and_an_empty_volume_has_none() -> None:
    empty = np.zeros((1, 8, 8))
    assert ssim(empty, empty, data_range=2.0) == 1.0
    assert ssim(empty, empty + 0.1, data_range=2.0) < 0.1
    with pytest.raises(MetricInvalid, match="empty"):
        ssim(empty, empty, data_range=0.0)


def test_ssim_refuses_slices_smaller_than_its_window() -> None:
    with pytest.raises(MetricInvalid, match="at least 7 px"):
        ssim(np.ones((2, 6, 20)), np.ones((2, 6, 20)))


@pytest.mark.parametrize("values", [[], [1.0, math.inf], [math.nan]])
def test_nothing_and_what_is_not_finite_have_no_interval(values: list[float]) -> None:
    with pytest.raises(MetricInvalid):
        bootstrap_interval(values, np.random.default_rng(0))


def test_the_bootstrap_interval_of_many_values_is_that_of_the_normal_law() -> None:
    values = np.random.default_rng(4).normal(30.0, 2.0, size=400)
    interval = bootstrap_interval(values.tolist(), np.random.default_rng(1))
    assert interval is not None
    half_width = 1.96 * values.std() / math.sqrt(400)
    # 2000 resamples place a 2.5% quantile to about 0.06 standard errors; allowed: four of those.
    assert interval == pytest.approx((values.mean() - half_width, values.mean() + half_width), abs=0.025)


def test_the_bootstrap_is_seeded_and_wider_for_a_higher_level() -> None:
    values = [30.1, 31.5, 29.2, 33.3]
    first, again = (bootstrap_interval(values, np.random.default_rng(1)) for _ in range(2))
    wider = bootstrap_interval(values, np.random.default_rng(1), level=0.99)
    assert first is not None
    assert wider is not None
    assert first == again
    assert min(values) <= wider[0] <= first[0] < first[1] <= wider[1] <= max(values)


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert bootstrap_interval([3.0, 3.0, 3.0], np.random.default_rng(1)) == (3.0, 3.0)


def test_one_volume_has_no_interval() -> None:
    assert bootstrap_interval([31.0], np.random.default_rng(1)) is None


@pytest.mark.parametrize("n_hot", [1, 5])
def test_hot_voxels_lift_psnr_by_the_maximum_and_not_by_the_robust_range(n_hot: int) -> None:
    generator = np.random.default_rng(3)
    target = generator.uniform(200, 1000, (4, 96, 96))
    image = target + generator.normal(0, 50, target.shape)
    hot = target.copy()
    hot[2, 10, 10 : 10 + n_hot] = 32000
    seen = np.where(hot == target, image, hot)  # as good an image, of the hot truth
    assert peak_ratio(target) < 1.1
    assert peak_ratio(hot) > 30
    assert psnr(hot, seen) - psnr(target, image) == pytest.approx(20 * math.log10(32), abs=0.1)
    by_range = [psnr(one, of, data_range=robust_range(one)) for one, of in ((target, image), (hot, seen))]
    assert by_range[0] == pytest.approx(by_range[1], abs=0.1)
    with pytest.raises(MetricInvalid, match="empty"):
        robust_range(np.zeros((2, 8, 8)))


@pytest.mark.parametrize("value", [2.0, 10.0, 100.0])
def test_a_hot_voxel_of_the_picture_alone_lifts_no_figure(value: float) -> None:
    target, image = _volumes()
    hot = image.copy()
    hot[1, 9, 10] = value * target.max()
    assert psnr(target, hot) < psnr(target, image)
    assert ssim(target, hot) < ssim(target, image)
    assert nmse(target, hot) > nmse(target, image)
    # the other slices are judged as before: the range is the target's
    peak = float(target.max())
    assert ssim(target[2:], hot[2:], data_range=peak) == ssim(target[2:], image[2:], data_range=peak)
