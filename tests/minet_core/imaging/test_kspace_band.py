from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from minet_core.errors import MetricInvalid
from minet_core.imaging.interpolation import bicubic, sinc
from minet_core.imaging.kspace_band import correlation_outside_band, data_inconsistency, energy_outside_band
from tests.support.made_patients import detail_of, low_res_of, made_patient, zero_filled

Array = NDArray[np.float64]
both_scales = pytest.mark.parametrize("scale", [2, 4])


def _wave(frequency: int, *, size: int = 32, phase: float = 0.4) -> Array:
    """(1, size, size), so many periods along the rows, amplitude 1."""
    n = np.arange(size)
    along_rows = np.cos(2 * np.pi * frequency * n / size + phase)
    return np.broadcast_to(along_rows[:, None], (1, size, size)).copy()


@both_scales
def test_the_truth_agrees_with_its_own_data_and_a_gain_is_its_own_error(scale: int) -> None:
    truth, _ = made_patient(0)
    low_res = low_res_of(truth, scale)
    assert data_inconsistency(truth, low_res, scale) < 1e-14
    # Without the lines at -h/2 a little is missing from the numerator.
    assert data_inconsistency(1.1 * truth, low_res, scale) == pytest.approx(0.1, rel=1e-2)


@both_scales
def test_zero_filled_sinc_agrees_with_the_data_but_for_its_clamp_and_bicubic_does_not(scale: int) -> None:
    truth, _ = made_patient(0)
    low_res = low_res_of(truth + 500.0, scale)  # nowhere near zero: neither a magnitude nor a clamp bites
    assert data_inconsistency(zero_filled(low_res, scale), low_res, scale) < 1e-14
    low_res = low_res_of(truth, scale)
    clamped = sinc(torch.tensor(low_res), scale, non_negative=True).numpy()
    cubic = bicubic(torch.tensor(low_res), scale, non_negative=True).numpy()
    assert data_inconsistency(clamped, low_res, scale) < 0.02
    assert data_inconsistency(cubic, low_res, scale) > 3 * data_inconsistency(clamped, low_res, scale)


def test_detail_outside_the_band_does_not_contradict_the_data_and_inside_it_does() -> None:
    low_res = low_res_of(50 + _wave(3), 2)
    assert data_inconsistency(50 + _wave(3) + 5 * _wave(11), low_res, 2) < 1e-14
    # 5 cos against a volume of about 50: 5 / sqrt(2) / 50.
    expected = 5 / math.sqrt(2) / math.sqrt(50**2 + 0.5)
    assert data_inconsistency(50 + _wave(3) + 5 * _wave(6), low_res, 2) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("image", "energy", "correlation"),
    [
        (_wave(11), 1 / 4, 1.0),
        (-4 * _wave(11), 4.0, -1.0),
        (3 * _wave(13), 9 / 4, 0.0),
        (2 * _wave(11) + 2 * _wave(13), 2.0, math.sqrt(1 / 2)),
        (2 * _wave(11, phase=0.4 + math.pi / 3), 1.0, 0.5),
        (9 * _wave(5), 0.0, None),
        (9 * _wave(8), 0.0, None),  # the line at +h/2 is that at -h/2
    ],
)
def test_detail_is_measured_outside_the_band_alone(
    image: Array, energy: float, correlation: float | None
) -> None:
    truth = 40 + 7 * _wave(4) + 2 * _wave(11)
    assert energy_outside_band(50 + image, truth, 2) == pytest.approx(energy, abs=1e-12)
    found = correlation_outside_band(50 + image, truth, 2)
    assert found is None if correlation is None else found == pytest.approx(correlation, abs=1e-12)


@both_scales
def test_the_truth_has_all_detail_and_zero_filled_sinc_none(scale: int) -> None:
    truth, _ = made_patient(0)
    image = zero_filled(low_res_of(truth, scale), scale)
    assert energy_outside_band(truth, truth, scale) == 1
    assert correlation_outside_band(truth, truth, scale) == pytest.approx(1)
    assert energy_outside_band(image, truth, scale) < 1e-14
    assert correlation_outside_band(image, truth, scale) is None
    # Stored in float32 the rounding is no detail either.
    assert correlation_outside_band(image.astype(np.float32), truth, scale) is None


@both_scales
def test_the_detail_of_another_patient_is_invented(scale: int) -> None:
    truth, _ = made_patient(0)
    other, _ = made_patient(1)
    image = zero_filled(low_res_of(truth, scale), scale) + detail_of(torch.tensor(other), scale).numpy()
    correlation = correlation_outside_band(image, truth, scale)
    assert correlation is not None
    assert abs(correlation) < 0.1
    assert energy_outside_band(image, truth, scale) == pytest.approx(1, abs=0.3)


def test_volumes_that_cannot_be_checked_are_refused() -> None:
    truth, _ = made_patient(0)
    low_res = low_res_of(truth, 2)
    with_nan = truth.copy()
    with_nan[0, 0, 0] = np.nan
    images: list[tuple[NDArray[Any], str]] = [
        (truth[0], "slice, row, column"),
        (truth[:0], "slice, row, column"),
        (truth[:, 2:], "multiples of 4"),
        (truth * 1j, "expected real"),
        (with_nan, "not finite"),
    ]
    for image, message in images:
        with pytest.raises(MetricInvalid, match=message):
            energy_outside_band(image, image if image.shape != truth.shape else truth, 2)
        with pytest.raises(MetricInvalid, match=message):
            data_inconsistency(image, low_res, 2)
    for measured in (low_res[1:], 0 * low_res):
        with pytest.raises(MetricInvalid, match="with signal"):
            data_inconsistency(truth, measured, 2)
    with pytest.raises(MetricInvalid, match="one shape"):
        correlation_outside_band(truth, truth[1:], 2)
    with pytest.raises(MetricInvalid, match="no detail to compare"):
        energy_outside_band(truth, zero_filled(low_res, 2), 2)
