from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minet_core.errors import ScanInvalid
from minet_core.imaging.fourier import centre_crop, centre_pad, fft2c, ifft2c
from tests.oracles.dft import dft2

SIZES = [(8, 8), (7, 9), (6, 11), (5, 4), (1, 2)]


def _complex_image(size: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(3), dtype=torch.complex128)


@pytest.mark.parametrize("size", SIZES)
def test_the_transform_is_its_defining_sum(size: tuple[int, int]) -> None:
    image = _complex_image(size)
    # Sums of at most 77 terms of order 1 in float64.
    np.testing.assert_allclose(fft2c(image).numpy(), dft2(image.numpy()), atol=1e-13)


@pytest.mark.parametrize("size", SIZES)
def test_the_inverse_undoes_the_transform_and_energy_is_conserved(size: tuple[int, int]) -> None:
    image = _complex_image((3, *size))
    kspace = fft2c(image)
    torch.testing.assert_close(ifft2c(kspace), image, atol=1e-13, rtol=0)
    torch.testing.assert_close(kspace.abs().square().sum(), image.abs().square().sum())


@pytest.mark.parametrize("size", SIZES)
def test_a_constant_is_one_line_at_the_centre(size: tuple[int, int]) -> None:
    H, W = size
    kspace = fft2c(torch.ones(size, dtype=torch.float64))
    expected = torch.zeros(size, dtype=torch.complex128)
    expected[H // 2, W // 2] = (H * W) ** 0.5
    torch.testing.assert_close(kspace, expected, atol=1e-13, rtol=0)


@given(
    small=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    more=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_crop_undoes_pad_and_both_keep_the_centre(small: tuple[int, int], more: tuple[int, int]) -> None:
    large = (small[0] + more[0], small[1] + more[1])
    image = _complex_image((2, *small))
    padded = centre_pad(image, large)
    assert padded.shape == (2, *large)
    assert torch.equal(centre_crop(padded, small), image)
    centre = padded[:, large[0] // 2, large[1] // 2]
    assert torch.equal(centre, image[:, small[0] // 2, small[1] // 2])
    # The zeros are the whole difference, so pad is the adjoint of crop.
    assert padded.abs().sum() == pytest.approx(float(image.abs().sum()))


@pytest.mark.parametrize("size", [(9, 4), (4, 9), (0, 4), (4, -1)])
def test_a_crop_larger_than_the_image_or_empty_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ScanInvalid, match="cannot crop"):
        centre_crop(torch.zeros(8, 8), size)


@pytest.mark.parametrize("size", [(7, 8), (8, 7)])
def test_a_pad_smaller_than_the_image_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ScanInvalid, match="cannot pad"):
        centre_pad(torch.zeros(8, 8), size)
