"""How a scan's power falls with spatial frequency: what it is of a known field, and what does not change it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from minet_core.imaging.spectral_slope import spectral_slope
from minet_core.training.blur import BlurDraw, blur_slice


def field(exponent: float, *, shape: tuple[int, int, int] = (6, 96, 80)) -> NDArray[np.float32]:
    """Random slices whose power is the frequency to an exponent."""
    rng = np.random.default_rng(3)
    frequency = np.hypot(np.fft.fftfreq(shape[1])[:, None], np.fft.fftfreq(shape[2])[None])
    frequency[0, 0] = np.inf if exponent < 0 else 1.0
    noise = np.fft.fft2(rng.normal(size=shape))
    return np.fft.ifft2(noise * frequency ** (exponent / 2)).real.astype(np.float32)


@pytest.mark.parametrize("exponent", [0.0, -2.0, -3.0])
def test_the_slope_of_a_known_field_is_found(exponent: float) -> None:
    found = spectral_slope(field(exponent))
    assert found == pytest.approx(exponent, abs=0.15)


def test_a_blur_makes_it_steeper_and_a_gain_does_not() -> None:
    sharp = field(-2.5)
    soft = np.stack([blur_slice(one - sharp.min(), BlurDraw(0.8, 0.4, 30.0)) for one in sharp])
    slope, softer = spectral_slope(sharp), spectral_slope(soft)
    assert slope is not None
    assert softer is not None
    assert softer < slope - 0.3
    assert spectral_slope(1000 * sharp) == pytest.approx(slope, abs=1e-6)


def test_only_what_was_measured_is_looked_at() -> None:
    fine = field(-2.5, shape=(6, 128, 128))
    kspace = np.fft.fft2(fine)
    measured = (np.abs(np.fft.fftfreq(128)) < 0.25).astype(float)
    filled = np.fft.ifft2(kspace * measured[:, None] * measured[None]).real.astype(np.float32)
    assert spectral_slope(filled, band=0.5) == pytest.approx(-2.5, abs=0.3)
    empty_beyond = spectral_slope(filled)
    assert empty_beyond is not None
    assert empty_beyond < -6


@pytest.mark.parametrize("volume", [np.zeros((2, 64, 64), np.float32), np.ones((2, 4, 4), np.float32)])
def test_nothing_is_told_of_too_little(volume: NDArray[np.float32]) -> None:
    assert spectral_slope(volume) is None
