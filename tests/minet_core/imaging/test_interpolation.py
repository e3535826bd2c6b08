from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from minet_core.errors import ScanInvalid
from minet_core.imaging.degradation import low_resolution
from minet_core.imaging.interpolation import INTERPOLATIONS, bicubic, sinc
from tests.oracles.interpolation import along_both_axes, keys_cubic, trigonometric

both_scales = pytest.mark.parametrize("scale", [2, 4])
every_method = pytest.mark.parametrize("name", list(INTERPOLATIONS))
even_and_odd = pytest.mark.parametrize("size", [(8, 6), (7, 8), (9, 5), (1, 3)])


def _low_res(*size: int) -> torch.Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(11), dtype=torch.float64)


def _smooth_disc(n: int) -> torch.Tensor:
    """A disc with a soft edge of about two pixels, off the centre, float64 (n, n)."""
    row, column = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    radius = torch.hypot(row - 0.47 * n, column - 0.53 * n).double()
    return torch.sigmoid(0.25 * n - radius)


@both_scales
@even_and_odd
def test_sinc_is_the_trigonometric_polynomial_through_the_samples(scale: int, size: tuple[int, int]) -> None:
    low_res = _low_res(*size)
    expected = along_both_axes(low_res.numpy(), scale, trigonometric)
    np.testing.assert_allclose(sinc(low_res, scale).numpy(), expected, atol=1e-13)


@both_scales
@even_and_odd
def test_bicubic_is_keys_cubic_convolution(scale: int, size: tuple[int, int]) -> None:
    low_res = _low_res(*size)
    expected = along_both_axes(low_res.numpy(), scale, keys_cubic)
    np.testing.assert_allclose(bicubic(low_res, scale).numpy(), expected, atol=1e-13)


@every_method
@pytest.mark.parametrize("scale", [2, 3, 4])
@even_and_odd
def test_every_low_res_sample_is_reproduced_at_scale_n(name: str, scale: int, size: tuple[int, int]) -> None:
    low_res = _low_res(2, 3, *size)
    high_res = INTERPOLATIONS[name](low_res, scale)
    assert high_res.shape == (2, 3, scale * size[0], scale * size[1])
    assert not high_res.is_complex()
    torch.testing.assert_close(high_res[..., ::scale, ::scale], low_res, atol=1e-13, rtol=0)


@every_method
@both_scales
def test_a_constant_stays_the_same_constant(name: str, scale: int) -> None:
    high_res = INTERPOLATIONS[name](torch.full((7, 8), 3.25), scale)
    # Float32: a few roundings of 3.25.
    torch.testing.assert_close(high_res, torch.full((7 * scale, 8 * scale), 3.25), atol=2e-6, rtol=0)


@both_scales
@pytest.mark.parametrize("n", [32, 40])
def test_sinc_undoes_the_degradation_of_a_wave_inside_the_band(scale: int, n: int) -> None:
    m = torch.arange(n, dtype=torch.float64)
    wave = 2 + torch.cos(2 * math.pi * 3 * m / n + 0.3)[:, None] * torch.cos(2 * math.pi * m / n - 1)
    torch.testing.assert_close(sinc(low_resolution(wave, scale), scale), wave)


@both_scales
def test_bicubic_reproduces_a_quadratic_away_from_the_edge(scale: int) -> None:
    n = torch.arange(10, dtype=torch.float64)
    m = torch.arange(10 * scale, dtype=torch.float64) / scale
    low_res = (0.3 * n**2 - n + 2)[:, None] * torch.ones(10)
    quadratic = (0.3 * m**2 - m + 2)[:, None] * torch.ones(10 * scale)
    inside = slice(scale, 7 * scale)
    torch.testing.assert_close(bicubic(low_res, scale)[inside, inside], quadratic[inside, inside])


@every_method
@both_scales
def test_there_is_no_half_pixel_between_the_truth_and_the_interpolation(name: str, scale: int) -> None:
    truth = _smooth_disc(64)
    spectrum = (
        torch.fft.fft2(truth)
        * torch.fft.fft2(INTERPOLATIONS[name](low_resolution(truth, scale), scale)).conj()
    )
    # A shift of d pixels along an axis turns the lowest frequency there by 2 pi d / 64.
    shifts = torch.stack([spectrum[1, 0].angle(), spectrum[0, 1].angle()]) * 64 / (2 * math.pi)
    assert float(shifts.abs().max()) < 0.01


@both_scales
def test_edge_aligned_interpolation_is_worse_by_more_than_two_decibels(scale: int) -> None:
    truth = _smooth_disc(64)
    low_res = low_resolution(truth, scale)
    edge_aligned = functional.interpolate(
        low_res[None, None], scale_factor=scale, mode="bicubic", align_corners=False
    )[0, 0]
    error = (bicubic(low_res, scale) - truth).square().mean()
    error_edge_aligned = (edge_aligned - truth).square().mean()
    assert 10 * math.log10(float(error_edge_aligned / error)) > 2.0


@every_method
def test_the_clamp_removes_negative_values_and_nothing_else(name: str) -> None:
    low_res = torch.zeros(8, 8)
    low_res[4, 4] = 1.0
    free = INTERPOLATIONS[name](low_res, 2)
    assert float(free.min()) < -0.01
    assert torch.equal(INTERPOLATIONS[name](low_res, 2, non_negative=True), free.clamp_min(0))


@every_method
def test_a_complex_image_is_refused(name: str) -> None:
    with pytest.raises(ScanInvalid, match="a magnitude image"):
        INTERPOLATIONS[name](torch.zeros(8, 8, dtype=torch.complex64), 2)
