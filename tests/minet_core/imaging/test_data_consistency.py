"""What was measured comes back, nothing outside the band changes, and a truth without phase only comes nearer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from minet_core.errors import ScanInvalid
from minet_core.imaging.data_consistency import impose_measured, impose_measured_on_frame
from minet_core.imaging.degradation import low_resolution
from minet_core.imaging.kspace_band import data_inconsistency, detail_outside_band
from minet_core.imaging.mirrored_sinc import mirrored_sinc

both_scales = pytest.mark.parametrize("scale", [2, 4])


def _truth(size: tuple[int, ...] = (2, 48, 64)) -> Tensor:
    """Well above zero: the clamp has no part in it."""
    generator = torch.Generator().manual_seed(3)
    return 10 + torch.rand(size, generator=generator, dtype=torch.float64)


@both_scales
def test_the_result_says_in_the_band_what_was_measured(scale: int) -> None:
    truth = _truth()
    low_res = low_resolution(truth, scale)
    painted = truth.roll(1, dims=-1) * 0.8 + 1
    image = impose_measured(painted, low_res, scale)
    assert data_inconsistency(painted, low_res, scale) > 0.05
    assert data_inconsistency(image, low_res, scale) < 1e-4


@both_scales
def test_nothing_outside_the_band_changes(scale: int) -> None:
    truth = _truth()
    painted = truth.roll(1, dims=-1) * 0.8 + 1
    image = impose_measured(painted, low_resolution(truth, scale), scale)
    before, after = (detail_outside_band(volume, scale) for volume in (painted, image))
    assert float((after - before).abs().max()) < 1e-9
    assert float(before.abs().max()) > 0.1


@both_scales
@pytest.mark.parametrize("noise", [0.01, 0.3, 3.0])
def test_an_image_of_a_truth_without_phase_comes_nearer_to_it(scale: int, noise: float) -> None:
    truth = _truth()
    painted = (
        truth + noise * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    ).clamp_min(0)
    image = impose_measured(painted, low_resolution(truth, scale), scale)
    assert float((image - truth).norm()) < float((painted - truth).norm())


def test_the_truth_stays_as_it_is() -> None:
    truth = _truth()
    np.testing.assert_allclose(impose_measured(truth, low_resolution(truth, 2), 2), truth, atol=1e-9)


def test_an_image_is_never_negative() -> None:
    truth = torch.zeros(32, 32)
    truth[12:20, 12:20] = 100.0
    image = impose_measured(truth.roll(3, 0), low_resolution(truth, 2), 2)
    assert float(image.min()) == 0.0
    assert float(image.max()) > 50


def test_a_side_that_is_odd_is_refused() -> None:
    with pytest.raises(ScanInvalid):
        impose_measured(torch.ones(18, 20), torch.ones(9, 10), 2)


@both_scales
@pytest.mark.parametrize("size", [(9, 14), (10, 12)])
def test_a_frame_keeps_its_grid(scale: int, size: tuple[int, int]) -> None:
    """A smooth slice, interpolated: there is nothing to put right, and half a pixel would show."""
    rows, columns = torch.arange(size[0]), torch.arange(size[1])
    low_res = 50 + 10 * torch.cos(torch.pi * rows / max(size[0] - 1, 1))[:, None] + columns[None, :]
    frame = mirrored_sinc(low_res.double(), scale)
    image = impose_measured_on_frame(frame, low_res.double(), scale)
    spare = scale - 1
    assert image.shape == frame.shape
    # The lines at the Nyquist frequency are shared by both signs, which no magnitude can tell.
    assert float((image - frame)[spare:, spare:].abs().max()) < 0.35


@both_scales
def test_a_frame_owes_nothing_to_its_opposite_edge(scale: int) -> None:
    """A bright first row and a dark last one: neither shows in the other, as it would in a period."""
    low_res = torch.full((16, 16), 10.0, dtype=torch.float64)
    low_res[0] = 100.0
    frame = mirrored_sinc(low_res, scale) * 0.9
    image = impose_measured_on_frame(frame, low_res, scale)
    assert float(image[scale - 1 + scale * 15].mean()) == pytest.approx(10.0, abs=0.5)
    assert float(image[scale - 1].mean()) == pytest.approx(100.0, rel=0.05)


def test_a_frame_of_one_row_comes_back_as_it_is() -> None:
    frame = torch.ones(3, 15)
    assert impose_measured_on_frame(frame, torch.full((1, 7), 5.0), 2) is frame
