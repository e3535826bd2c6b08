from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import metrics as scikit_image

from fedminet.experiment.analysis.metric_conventions import conventional_metrics, foreground
from minet_core.errors import MetricInvalid
from minet_core.evaluation.metrics import volume_metrics
from minet_core.imaging.degradation import crop_to_multiple, low_resolution
from minet_core.imaging.interpolation import sinc
from tests.support.surrogates import surrogate_volume

SCIKIT_PSNR: Callable[..., float] = scikit_image.peak_signal_noise_ratio
SCIKIT_SSIM: Callable[..., Any] = scikit_image.structural_similarity
SCIKIT_NRMSE: Callable[..., float] = scikit_image.normalized_root_mse

Array = NDArray[np.float64]
NAMES = ["volume", "slice", "slice-range", "foreground", "clamped"]


def _discs(n_slices: int = 4, side: int = 40) -> Array:
    """Textured discs in air, each slice of another size and brightness."""
    rng = np.random.default_rng(5)
    row, column = np.mgrid[:side, :side] - side / 2
    radius = np.hypot(row, column)
    tissue = 1 + 0.2 * rng.standard_normal((n_slices, side, side))
    sizes = np.linspace(0.25, 0.4, n_slices)[:, None, None] * side
    return np.abs(tissue) * (radius < sizes) * np.linspace(60, 100, n_slices)[:, None, None]


def _noisy(truth: Array, *, sigma: float = 5.0) -> Array:
    noisy: Array = np.abs(truth + sigma * np.random.default_rng(8).standard_normal(truth.shape))
    return noisy


def _real() -> tuple[Array, Array]:
    """A real volume and its zero-filled sinc at 2x."""
    truth = crop_to_multiple(torch.tensor(surrogate_volume("clinical/patient01_study1/T2W", every=4)), 2)
    image = sinc(low_resolution(truth, 2), 2, non_negative=True)
    return truth.double().numpy(), image.double().numpy()


def _made() -> tuple[Array, Array]:
    return _discs(), _noisy(_discs())


def _wrong_where(truth: Array, image: Array, where: NDArray[np.bool_]) -> Array:
    """The image there, the truth elsewhere."""
    return np.where(where, image, truth)


@pytest.mark.parametrize(
    "volumes", [_made, pytest.param(_real, marks=pytest.mark.surrogate)], ids=["made", "real"]
)
def test_every_convention_is_what_scikit_image_gives(volumes: Callable[[], tuple[Array, Array]]) -> None:
    truth, image = volumes()
    peak = truth.max()
    slices = list(zip(truth, image, strict=True))
    inside = foreground(truth)
    bound = np.array([s.mean() + 6 * s.std() for s in truth])[:, None, None]
    low, high = np.minimum(truth, bound), np.minimum(image, bound)
    maps = np.array([SCIKIT_SSIM(t, i, data_range=peak, full=True)[1] for t, i in slices])
    nmse_of_slices = np.mean([SCIKIT_NRMSE(t, i) ** 2 for t, i in slices])
    expected = {
        "volume": {
            "psnr_db": SCIKIT_PSNR(truth, image, data_range=peak),
            "ssim": np.mean([SCIKIT_SSIM(t, i, data_range=peak) for t, i in slices]),
            "nmse": SCIKIT_NRMSE(truth, image) ** 2,
        },
        "slice": {
            "psnr_db": np.mean([SCIKIT_PSNR(t, i, data_range=peak) for t, i in slices]),
            "ssim": np.mean([SCIKIT_SSIM(t, i, data_range=peak) for t, i in slices]),
            "nmse": nmse_of_slices,
        },
        "slice-range": {
            "psnr_db": np.mean([SCIKIT_PSNR(t, i, data_range=t.max()) for t, i in slices]),
            "ssim": np.mean([SCIKIT_SSIM(t, i, data_range=t.max()) for t, i in slices]),
            "nmse": nmse_of_slices,
        },
        "foreground": {
            "psnr_db": SCIKIT_PSNR(truth[inside], image[inside], data_range=peak),
            "ssim": maps[inside].mean(),
            "nmse": SCIKIT_NRMSE(truth[inside], image[inside]) ** 2,
        },
        "clamped": {
            "psnr_db": SCIKIT_PSNR(low, high, data_range=low.max()),
            "ssim": np.mean(
                [SCIKIT_SSIM(t, i, data_range=low.max()) for t, i in zip(low, high, strict=True)]
            ),
            "nmse": SCIKIT_NRMSE(low, high) ** 2,
        },
    }
    reached = conventional_metrics(truth, image)
    assert list(reached) == list(expected) == NAMES
    for name, figures in expected.items():
        assert reached[name] == pytest.approx(figures, rel=1e-6)


def test_the_volume_convention_is_the_primary_one() -> None:
    truth, image = _made()
    assert conventional_metrics(truth, image)["volume"] == volume_metrics(truth, image)


@given(st.integers(0, 2**32 - 1))
def test_the_mean_over_slices_never_lies_below_the_volume_nor_its_own_range_above(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random((3, 9, 8)) * rng.uniform(0.5, 2, size=(3, 1, 1))
    image = np.abs(truth + rng.uniform(0.01, 0.3, size=(3, 1, 1)) * rng.standard_normal(truth.shape))
    psnr_db = {name: figures["psnr_db"] for name, figures in conventional_metrics(truth, image).items()}
    # The logarithm is concave; a slice's maximum is at most the volume's. Ties: rounding of decibels.
    assert psnr_db["slice-range"] <= psnr_db["slice"] + 1e-9
    assert psnr_db["volume"] <= psnr_db["slice"] + 1e-9


def test_slices_of_one_brightness_and_one_error_are_the_volume() -> None:
    truth = np.repeat(_discs(1), 3, axis=0)
    image = np.repeat(_noisy(_discs(1)), 3, axis=0)
    reached = conventional_metrics(truth, image)
    assert reached["slice"] == pytest.approx(reached["volume"], rel=1e-12)
    assert reached["slice-range"] == pytest.approx(reached["volume"], rel=1e-12)


def test_a_dim_slice_counts_by_its_own_range_and_own_norm() -> None:
    truth, image = _made()
    truth[0] /= 50
    image[0] = np.abs(truth[0] + 0.5)
    image[1:] = truth[1:] + 1
    reached = conventional_metrics(truth, image)
    assert reached["slice"]["psnr_db"] - reached["slice-range"]["psnr_db"] > 6
    assert reached["slice"]["ssim"] - reached["slice-range"]["ssim"] > 0.1
    assert reached["slice"]["nmse"] == reached["slice-range"]["nmse"] > 2 * reached["volume"]["nmse"]


def test_air_that_is_right_is_worth_decibels_that_the_foreground_does_not_count() -> None:
    truth = _discs()
    inside = foreground(truth)
    reached = conventional_metrics(truth, _wrong_where(truth, truth + 3, inside))
    # All the error lies inside: the mean over all samples is smaller by the fraction inside.
    share_db = 10 * math.log10(inside.mean())
    assert reached["foreground"]["psnr_db"] == pytest.approx(reached["volume"]["psnr_db"] + share_db)
    assert reached["foreground"]["ssim"] < reached["volume"]["ssim"]


def test_noise_in_the_air_is_not_an_error_of_the_foreground() -> None:
    truth = _discs()
    reached = conventional_metrics(truth, _wrong_where(truth, _noisy(truth), ~foreground(truth)))
    assert reached["foreground"]["psnr_db"] == math.inf
    assert reached["foreground"]["nmse"] == 0
    assert reached["foreground"]["ssim"] > reached["volume"]["ssim"] + 0.1
    assert reached["volume"]["psnr_db"] < 40


def test_the_clamp_forgives_an_error_above_it_and_takes_its_range() -> None:
    truth = _discs()
    truth[2, 20, 20] = 5000.0
    above = truth.copy()
    above[2, 20, 20] = 2500.0
    reached = conventional_metrics(truth, above)
    assert reached["clamped"]["psnr_db"] == math.inf
    assert reached["volume"]["nmse"] > 0.05

    elsewhere = truth.copy()
    elsewhere[:, 5:10, 5:10] += 2.0
    reached = conventional_metrics(truth, elsewhere)
    bound = truth[2].mean() + 6 * truth[2].std()
    loss_db = 20 * math.log10(5000.0 / bound)
    assert reached["clamped"]["psnr_db"] == pytest.approx(reached["volume"]["psnr_db"] - loss_db)


def test_a_dark_slice_is_passed_over_by_the_means_over_slices() -> None:
    truth, image = _made()
    dark = np.zeros_like(truth[:1])
    without = conventional_metrics(truth, image)
    for shown in (dark, dark + 2.0):
        with_dark = conventional_metrics(np.concatenate([dark, truth]), np.concatenate([shown, image]))
        assert with_dark["slice"] == without["slice"]
        assert with_dark["slice-range"] == without["slice-range"]
        assert with_dark["foreground"] == pytest.approx(without["foreground"], rel=0.05)
        assert all(math.isfinite(value) for figures in with_dark.values() for value in figures.values())
    assert with_dark["volume"]["nmse"] > without["volume"]["nmse"]


def test_the_foreground_is_the_object_with_its_holes_also_at_the_edge_of_the_frame() -> None:
    row, column = np.mgrid[:60, :60]
    scan = np.zeros((2, 60, 60))
    radius = np.hypot(row - 30, column - 30)
    scan[0] = 100.0 * ((radius < 20) & ~(radius < 9))  # a ring: its inside is filled
    scan[0, 28:30, 45:55] = 0  # a gap in the ring, narrower than the closing
    scan[1, :25, :25] = 80.0  # a corner of the frame
    inside = foreground(scan)
    assert inside[0][radius < 17].all()
    assert not inside[0][radius > 23].any()
    np.testing.assert_array_equal(inside[1], scan[1] > 0)


def test_the_foreground_knows_no_units_and_a_constant_is_all_foreground() -> None:
    truth = _discs()
    np.testing.assert_array_equal(foreground(truth), foreground(1e-6 * truth))
    assert foreground(np.full((2, 8, 8), 3.0)).all()


def test_what_the_primary_convention_refuses_is_refused() -> None:
    truth, image = _made()
    for attacked, message in [(image[1:], "one shape"), (image * np.nan, "not finite")]:
        with pytest.raises(MetricInvalid, match=message):
            conventional_metrics(truth, attacked)
    with pytest.raises(MetricInvalid, match="empty"):
        conventional_metrics(np.zeros_like(truth), image)
