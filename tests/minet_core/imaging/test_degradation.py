from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from minet_core.errors import ScanInvalid
from minet_core.imaging.degradation import (
    IDENTITY,
    DegradationBounds,
    DegradationDraw,
    apply_degradation,
    crop_to_multiple,
    draw_degradation,
    low_resolution,
)
from minet_core.imaging.fourier import centre_crop, centre_pad, fft2c, ifft2c
from tests.oracles.dft import degrade

both_scales = pytest.mark.parametrize("scale", [2, 4])


def _generator(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _band_limited(size: tuple[int, int], scale: int) -> torch.Tensor:
    """A non-negative image without a frequency that `low_resolution` removes, float64."""
    H, W = size
    inside = (H // scale - 1, W // scale - 1)  # odd: the Nyquist line is left out, so the image is real
    noise = torch.randn(size, generator=_generator(), dtype=torch.float64)
    image = ifft2c(centre_pad(centre_crop(fft2c(noise), inside), size)).real
    return image - image.min()


@both_scales
def test_it_is_the_literal_crop_of_the_literal_transform(scale: int) -> None:
    image = torch.randn(16, 24, generator=_generator(), dtype=torch.complex128)
    np.testing.assert_allclose(
        low_resolution(image, scale).numpy(), degrade(image.numpy(), scale), atol=1e-13
    )


@both_scales
def test_a_constant_stays_the_same_constant(scale: int) -> None:
    low_res = low_resolution(torch.full((3, 16, 24), 7.5, dtype=torch.float64), scale)
    assert low_res.shape == (3, 16 // scale, 24 // scale)
    torch.testing.assert_close(low_res, torch.full_like(low_res, 7.5))


@both_scales
def test_a_wave_inside_the_band_is_sampled_exactly(scale: int) -> None:
    n = torch.arange(32, dtype=torch.float64)
    wave = 2 + torch.cos(2 * math.pi * 3 * n / 32 + 0.4)[:, None] * torch.sin(2 * math.pi * 2 * n / 32)
    torch.testing.assert_close(low_resolution(wave, scale), wave[::scale, ::scale])


@both_scales
def test_a_wave_outside_the_band_leaves_its_mean(scale: int) -> None:
    n = torch.arange(32, dtype=torch.float64)
    cycles = 32 // (2 * scale) + 1  # the first frequency beyond the band
    wave = (2 + torch.cos(2 * math.pi * cycles * n / 32)).expand(32, 32)
    low_res = low_resolution(wave, scale)
    torch.testing.assert_close(low_res, torch.full_like(low_res, 2.0))


@both_scales
@pytest.mark.parametrize("size", [(16, 16), (24, 40)])
def test_high_res_sample_scale_n_is_low_res_sample_n(scale: int, size: tuple[int, int]) -> None:
    image = _band_limited(size, scale)
    torch.testing.assert_close(low_resolution(image, scale), image[::scale, ::scale], atol=1e-13, rtol=0)


@both_scales
def test_the_energy_is_that_of_the_kept_k_space(scale: int) -> None:
    image = torch.randn(32, 48, generator=_generator(), dtype=torch.complex128)
    kept = centre_crop(fft2c(image), (32 // scale, 48 // scale)).abs().square().sum()
    torch.testing.assert_close(low_resolution(image, scale).square().sum(), kept / scale**2)


@both_scales
def test_the_phase_of_a_complex_image_does_not_show(scale: int) -> None:
    image = _band_limited((16, 16), scale)
    turned = image * complex(math.cos(1.1), math.sin(1.1))
    torch.testing.assert_close(low_resolution(turned, scale), low_resolution(image, scale))


@pytest.mark.parametrize(("size", "scale"), [((18, 16), 2), ((16, 17), 2), ((16, 20), 4), ((12, 16), 4)])
def test_a_size_whose_grids_would_not_meet_is_refused(size: tuple[int, int], scale: int) -> None:
    with pytest.raises(ScanInvalid, match=f"multiples of {2 * scale}.*crop_to_multiple"):
        low_resolution(torch.ones(size), scale)


def test_the_crop_is_central_and_the_largest_that_fits() -> None:
    image = torch.arange(19 * 22).reshape(1, 19, 22)
    cropped = crop_to_multiple(image, 2)
    assert cropped.shape == (1, 16, 20)
    assert cropped[0, 8, 10] == image[0, 9, 11]
    assert torch.equal(crop_to_multiple(cropped, 2), cropped)
    assert crop_to_multiple(image, 4).shape == (1, 16, 16)


def test_a_slice_smaller_than_one_multiple_is_refused() -> None:
    with pytest.raises(ScanInvalid, match="too small to degrade 4x"):
        crop_to_multiple(torch.ones(7, 32), 4)


@both_scales
def test_the_identity_draw_changes_no_bit(scale: int) -> None:
    image = torch.randn(2, 16, 32, generator=_generator())
    assert torch.equal(apply_degradation(image, IDENTITY, scale), low_resolution(image, scale))
    none = draw_degradation(_generator(), DegradationBounds())
    assert torch.equal(apply_degradation(image, none, scale), low_resolution(image, scale))


def test_a_draw_can_be_replayed_and_stays_in_its_bounds() -> None:
    generator = _generator()
    bounds = DegradationBounds(noisy=1.0, max_noise_fraction=0.05, max_shift_px=0.5)
    draws = [draw_degradation(generator, bounds) for _ in range(50)]
    assert len({draw.noise_seed for draw in draws}) == 50
    assert all(0 <= draw.noise_fraction < 0.05 for draw in draws)
    assert all(abs(shift) <= 0.5 for draw in draws for shift in draw.shift_px)
    assert draws[0] == draw_degradation(_generator(), bounds)

    image = torch.rand(32, 32, generator=_generator())
    first, second = (apply_degradation(image, draw, 2) for draw in draws[:2])
    assert torch.equal(first, apply_degradation(image, draws[0], 2))
    assert not torch.equal(first, second)


def test_a_whole_pixel_shift_rolls_the_low_resolution_image() -> None:
    image = _band_limited((16, 24), 2)
    shifted = apply_degradation(image, DegradationDraw(shift_px=(1.0, -2.0)), 2)
    torch.testing.assert_close(shifted, low_resolution(image, 2).roll((1, -2), dims=(0, 1)))


def test_a_half_pixel_shift_at_2x_is_one_high_resolution_pixel() -> None:
    image = _band_limited((16, 24), 2)
    shifted = apply_degradation(image, DegradationDraw(shift_px=(0.5, 0.5)), 2)
    torch.testing.assert_close(shifted, image.roll((1, 1), dims=(0, 1))[::2, ::2], atol=1e-13, rtol=0)


def test_the_noise_of_a_bright_constant_has_the_drawn_standard_deviation() -> None:
    # At SNR 100 the Rician magnitude is Gaussian with the sigma of one channel. 128 x 128 samples estimate a
    # standard deviation to 1 / sqrt(2 * 16384) = 0.55%; allowed: five of those.
    low_res = apply_degradation(
        torch.full((256, 256), 40.0), DegradationDraw(noise_fraction=0.01, noise_seed=9), 2
    )
    assert float(low_res.std()) == pytest.approx(0.4, rel=0.028)
    assert float(low_res.mean()) == pytest.approx(40.0, abs=0.4 * 5 / 128 + 0.002)


def test_each_part_is_drawn_as_often_as_it_is_asked_for_and_within_its_bounds() -> None:
    bounds = DegradationBounds(
        noisy=0.5, max_noise_fraction=0.1, windowed=0.25, zero_filled=0.1, min_measured=0.7, other_kernel=0.2
    )
    generator, n = _generator(), 4000
    draws = [draw_degradation(generator, bounds) for _ in range(n)]
    drawn = {
        0.5: [draw.noise_fraction for draw in draws if draw.noise_fraction > 0],
        0.25: [draw.window for draw in draws if draw.window > 0],
        0.1: [draw.measured for draw in draws if draw.measured < 1],
        0.2: [draw.blur_px for draw in draws if draw.blur_px > 0],
    }
    for chance, values in drawn.items():  # five standard deviations of a binomial share
        assert len(values) / n == pytest.approx(chance, abs=5 * (chance * (1 - chance) / n) ** 0.5)
    assert max(drawn[0.5]) < 0.1
    assert max(drawn[0.25]) < 1
    assert min(drawn[0.1]) >= 0.7
    # Uniform over the whole range, though the same number has decided whether there is any.
    assert 0.5 <= min(drawn[0.2]) < 0.52
    assert 0.98 < max(drawn[0.2]) <= 1.0


@both_scales
def test_hanns_window_weights_each_frequency(scale: int) -> None:
    # cos of 3 cycles a frame of 16 low-resolution samples: Hann's weight is (1 + cos(2 pi 3 / 16)) / 2.
    n = 16 * scale
    wave = torch.cos(2 * torch.pi * 3 * (torch.arange(n, dtype=torch.float64) - n // 2) / n)
    image = 5 + wave.expand(n, n)
    plain, windowed = (apply_degradation(image, DegradationDraw(window=w), scale) for w in (0.0, 1.0))
    weight = (1 + math.cos(2 * math.pi * 3 / 16)) / 2
    torch.testing.assert_close(windowed, 5 + weight * (plain - 5), atol=1e-12, rtol=0)
    half = apply_degradation(image, DegradationDraw(window=0.5), scale)
    torch.testing.assert_close(half, (plain + windowed) / 2, atol=1e-12, rtol=0)


def test_zero_filling_takes_what_was_not_measured_and_nothing_else() -> None:
    n, place = 32, torch.arange(32, dtype=torch.float64) - 16
    low, high = (torch.cos(2 * torch.pi * cycles * place / n).expand(n, n) for cycles in (3, 7))
    image = 5 + low + high  # of the 16 low-resolution samples' band of +-8 a half is +-4
    filled = apply_degradation(image, DegradationDraw(measured=0.5), 2)
    torch.testing.assert_close(filled, low_resolution(5 + low, 2), atol=1e-12, rtol=0)


@both_scales
def test_another_kernel_blurs_and_folds(scale: int) -> None:
    """A wave within the band is weakened by the Gaussian; one of a whole cycle a sample beyond it comes back folded."""
    n, place = 16 * scale, torch.arange(16 * scale, dtype=torch.float64) - 8 * scale
    for cycles in (3, 16 + 3):  # on 16 samples both are 3 cycles
        if cycles > n // 2:
            continue
        image = 9 + torch.cos(2 * torch.pi * cycles * place / n).expand(n, n)
        made = apply_degradation(image, DegradationDraw(blur_px=0.5), scale)
        weight = math.exp(-2 * (math.pi * 0.5 * cycles / n) ** 2)
        expected = (
            9 + weight * torch.cos(2 * torch.pi * 3 * (torch.arange(16) - 8) / 16).expand(16, 16).double()
        )
        torch.testing.assert_close(made, expected, atol=1e-6, rtol=0)
