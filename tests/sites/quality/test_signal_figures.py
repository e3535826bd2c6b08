"""Noise, ghosts, saturation, cut-off anatomy and motion between slices, each put into a scan by a known amount."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from minet_core.errors import FedminetError
from sites.quality.signal_figures import require_signal, signal_figures
from sites.settings.site_settings import QualitySettings

SHAPE = (12, 96, 80)


def anatomy(seed: int = 0) -> NDArray[np.float64]:
    """An ellipse of textured tissue of mean 1 in air, changing slowly along the slices."""
    texture = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), (2, 4, 4))
    rows, columns = np.meshgrid(np.linspace(-1, 1, SHAPE[1]), np.linspace(-1, 1, SHAPE[2]), indexing="ij")
    inside = (rows / 0.6) ** 2 + (columns / 0.6) ** 2 < 1
    return np.asarray(np.where(inside, 1 + 0.2 * texture / texture.std(), 0))


def with_noise(image: NDArray[np.float64], sigma: float) -> NDArray[np.float32]:
    draw = np.random.default_rng(9)
    return np.hypot(image + draw.normal(0, sigma, SHAPE), draw.normal(0, sigma, SHAPE)).astype(np.float32)


@pytest.mark.parametrize("snr", [5.0, 10.0, 40.0])
def test_the_ratio_of_signal_to_noise_is_found(snr: float) -> None:
    found = signal_figures(with_noise(anatomy(), 1 / snr)).snr
    assert found == pytest.approx(
        snr, rel=0.1
    )  # the mean of the anatomy is of a tenth of the maximum and more


def test_noise_of_air_that_is_zero_is_not_made_up() -> None:
    figures = signal_figures(anatomy().astype(np.float32))
    assert figures.snr is None
    require_signal(figures, QualitySettings(), role="target")


@pytest.mark.parametrize("axis", [1, 2])
def test_a_ghost_along_one_direction_is_found_by_its_share(axis: int) -> None:
    image = anatomy()
    ghost = 0.3 * np.roll(image, SHAPE[axis] // 2, axis=axis)
    assert signal_figures(with_noise(image, 0.02)).ghosting < 0.01
    found = signal_figures(with_noise(image + ghost, 0.02)).ghosting
    assert 0.04 < found <= 0.15  # at most half of the ghost's share of 0.3: the strips have air too


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_every_other_slice_that_is_shifted_is_found(shift: float) -> None:
    image = anatomy()
    moved = np.stack(
        [ndimage.shift(one, (shift * (index % 2), 0), order=1) for index, one in enumerate(image)]
    )
    assert signal_figures(with_noise(image, 0.02)).shift_px < 0.1
    assert signal_figures(with_noise(moved, 0.02)).shift_px == pytest.approx(shift, rel=0.3)


def test_saturation_and_cut_off_anatomy_are_counted() -> None:
    image = with_noise(anatomy(), 0.02)
    clipped = np.minimum(image, np.float32(1.0))
    figures = signal_figures(clipped)
    assert figures.saturated == pytest.approx(float((image[image > 0.1] >= 1).mean()), abs=0.03)
    assert figures.cut_off == 0
    assert 0.1 < signal_figures(image[:, 24:72]).cut_off < 0.21  # dark tissue is not seen


@pytest.mark.parametrize(
    ("code", "change", "limits"),
    [
        ("FM-D215", lambda image: with_noise(image, 0.5), {}),
        (
            "FM-D216",
            lambda image: with_noise(image + 0.5 * np.roll(image, 48, axis=1), 0.02),
            {"max_ghosting": 0.1},
        ),
        ("FM-D217", lambda image: np.minimum(with_noise(image, 0.02), np.float32(1.0)), {}),
        ("FM-D218", lambda image: with_noise(image, 0.02)[:, 24:72], {"max_cut_off": 0.1}),
        (
            "FM-D219",
            lambda image: with_noise(
                np.stack([np.roll(one, 3 * (index % 2), axis=0) for index, one in enumerate(image)]), 0.02
            ),
            {"max_shift_px": 1.0},
        ),
    ],
)
def test_each_limit_refuses_by_its_own_code_and_a_good_scan_by_none(code, change, limits) -> None:
    settings = QualitySettings(**limits)
    require_signal(signal_figures(with_noise(anatomy(), 0.02)), settings, role="target")
    with pytest.raises(FedminetError, match=rf"{code}: the target .* expected at (least|most)"):
        require_signal(signal_figures(change(anatomy())), settings, role="target")
