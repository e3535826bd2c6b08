"""The B-spline baseline: scipy's interpolating cubic spline, on the grid of the others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from minet_core.imaging.interpolation import BASELINES, bspline


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("shape", [(13, 17), (8, 6), (2, 5)])
def test_it_is_scipys_spline(shape: tuple[int, int], scale: int) -> None:
    image = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rows, columns = np.meshgrid(*(np.arange(n * scale) / scale for n in shape), indexing="ij")
    expected = ndimage.map_coordinates(image.numpy(), [rows, columns], order=3, mode="mirror")
    np.testing.assert_allclose(bspline(image, scale).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("name", list(BASELINES))
def test_every_baseline_reproduces_the_samples_and_can_be_clamped(name: str) -> None:
    image = torch.rand(2, 3, 9, 12, generator=torch.Generator().manual_seed(2)) - 0.3
    high_res = BASELINES[name](image, 2)
    torch.testing.assert_close(high_res[..., ::2, ::2], image, atol=1e-5, rtol=0)
    assert BASELINES[name](image, 2, non_negative=True).min() >= 0
