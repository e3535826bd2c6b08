from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fedminet.experiment.analysis.image_shift import shift_px
from minet_core.errors import MetricInvalid
from minet_core.imaging.degradation import (
    DegradationDraw,
    apply_degradation,
    crop_to_multiple,
    low_resolution,
)
from minet_core.imaging.interpolation import BASELINES
from tests.support.surrogates import surrogate_volume

both_scales = pytest.mark.parametrize("scale", [2, 4])


def _disc() -> Tensor:
    row, column = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    return 100 * torch.sigmoid(16 - torch.hypot(row.double() - 30, column.double() - 33))


def _real() -> Tensor:
    return torch.tensor(surrogate_volume("clinical/patient01_study1/T2W")[9]).double()


slices = pytest.mark.parametrize(
    "make", [_disc, pytest.param(_real, marks=pytest.mark.surrogate)], ids=["made", "real"]
)


@slices
def test_half_a_pixel_is_found_with_its_direction(make: Callable[[], Tensor]) -> None:
    truth = make()
    # At scale 1 the degradation is the movement alone: the Fourier shift theorem.
    moved = apply_degradation(crop_to_multiple(truth, 1), DegradationDraw(shift_px=(0.5, -0.25)), 1)
    found = shift_px(moved.numpy(), crop_to_multiple(truth, 1).numpy())
    assert found == pytest.approx((0.5, -0.25), abs=0.011)  # one step of the search


def test_whole_pixels_and_no_movement_are_found() -> None:
    truth = _disc().numpy()
    assert shift_px(truth, truth) == (0.0, 0.0)
    assert shift_px(np.roll(truth, (3, -2), axis=(0, 1)), truth) == (3.0, -2.0)
    assert shift_px(5 * truth + 1, truth) == (0.0, 0.0)


@slices
@both_scales
@pytest.mark.parametrize("name", list(BASELINES))
def test_interpolations_lie_on_the_grid_of_the_truth(
    make: Callable[[], Tensor], scale: int, name: str
) -> None:
    truth = crop_to_multiple(make(), scale)
    image = BASELINES[name](low_resolution(truth, scale), scale, non_negative=True)
    assert np.abs(shift_px(image.numpy(), truth.numpy())).max() < 0.05


@slices
@both_scales
def test_edge_aligned_interpolation_is_off_by_half_of_what_scale_adds(
    make: Callable[[], Tensor], scale: int
) -> None:
    truth = crop_to_multiple(make(), scale)
    low_res = low_resolution(truth, scale)[None, None]
    image = functional.interpolate(low_res, scale_factor=scale, mode="bicubic", align_corners=False)[0, 0]
    expected = (scale - 1) / 2
    assert shift_px(image.numpy(), truth.numpy()) == pytest.approx((expected, expected), abs=0.05)


def test_images_that_have_no_shift_are_refused() -> None:
    truth = _disc().numpy()
    attacks: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = [
        (truth, truth[1:]),
        (truth[None], truth[None]),
        (np.zeros_like(truth), truth),
        (truth, truth * np.nan),
    ]
    for image, against in attacks:
        with pytest.raises(MetricInvalid, match="no shift"):
            shift_px(image, against)
