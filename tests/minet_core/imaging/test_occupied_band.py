from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from minet_core.errors import ScanInvalid
from minet_core.evaluation.metrics import nmse, psnr
from minet_core.evaluation.volume_scores import degraded_volume, interpolated_volume
from minet_core.imaging.fourier import centre_crop, centre_pad, fft2c, ifft2c
from minet_core.imaging.occupied_band import crop_to_measured, occupied_band
from minet_core.imaging.volume import Volume
from minet_core.phantom.acquisition import SITES
from minet_core.phantom.patient import make_patient, with_slices
from tests.support.surrogates import surrogate_volume

Array = NDArray[np.float32]
ROW, COLUMN = 1, 2


@pytest.fixture(scope="module")
def measured() -> Volume:
    """A phantom on the matrix it was measured on, stored in whole numbers as scanners do."""
    target = make_patient(with_slices(SITES["sms"], 4), seed=5).target
    return dataclasses.replace(target, array=np.rint(target.magnitude()))


def zero_filled(magnitude: Array, size: tuple[int, int]) -> Array:
    """(S, H, W) on a finer grid, with a phase as scans have, as whole numbers."""
    rows, columns = (np.linspace(-1, 1, n, dtype=np.float32) for n in magnitude.shape[1:])
    phase = np.exp(1j * (2 * rows[:, None] + 1.5 * columns[None] - rows[:, None] ** 2))
    kspace = centre_pad(fft2c(torch.from_numpy((magnitude * phase).astype(np.complex64))), size)
    gain = np.sqrt(size[0] * size[1] / (magnitude.shape[1] * magnitude.shape[2]))
    return np.rint(ifft2c(kspace).abs().numpy() * gain).astype(np.float32)


def share(magnitude: Array, axis: int) -> float:
    band = occupied_band(magnitude, axis=axis)
    assert band is not None
    return band.to_half


def sinc_db(volume: Volume) -> float:
    truth, low_res, _ = degraded_volume(volume.array, volume.array, scale=2)
    return psnr(truth, interpolated_volume(low_res, "sinc", scale=2))


def test_a_scan_on_its_own_matrix_holds_all_frequencies(measured: Volume) -> None:
    assert share(measured.magnitude(), ROW) == share(measured.magnitude(), COLUMN) == 1


@pytest.mark.parametrize("n_rows", [356, 400, 534, 800])
def test_the_share_of_a_zero_filled_axis_is_found_and_the_other_axis_is_whole(
    measured: Volume, n_rows: int
) -> None:
    image = zero_filled(measured.magnitude(), (n_rows, 320))
    assert share(image, ROW) == pytest.approx(320 / n_rows, abs=0.02)
    assert share(image, COLUMN) == 1


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("factor", [1.2, 1.5, 2.0])
def test_the_share_of_an_interpolated_axis_is_found(measured: Volume, order: int, factor: float) -> None:
    image = ndimage.zoom(
        measured.magnitude(), (1, 1, factor), order=order, mode="nearest", grid_mode=True
    ).clip(0)
    assert share(image, COLUMN) == pytest.approx(1 / factor, abs=0.02)
    assert share(image, ROW) == 1


@pytest.mark.surrogate
def test_the_share_of_zero_filled_real_anatomy_is_found() -> None:
    scan = surrogate_volume("clinical/patient04_study1/T2W", every=4)
    assert share(scan, ROW) == pytest.approx(0.93, abs=0.02)  # what the scanner stored
    assert share(scan, COLUMN) == pytest.approx(0.67, abs=0.02)
    kspace = centre_crop(fft2c(torch.from_numpy(scan)), (246, 208))
    native = np.rint(ifft2c(kspace).abs().numpy())
    assert share(native, ROW) == share(native, COLUMN) == 1
    for size in ((492, 208), (308, 208)):
        assert share(zero_filled(native, size), ROW) == pytest.approx(246 / size[0], abs=0.02)


def test_a_short_axis_is_not_measured(measured: Volume) -> None:
    assert occupied_band(measured.magnitude(), axis=0) is None
    assert occupied_band(measured.magnitude()[:, :, 140:180], axis=COLUMN) is None
    assert occupied_band(np.zeros((4, 80, 80), np.float32), axis=ROW) is None


def test_a_cropped_target_is_the_measured_one_and_sinc_scores_as_on_it(measured: Volume) -> None:
    finer = zero_filled(measured.magnitude(), (640, 640))
    affine = measured.affine.copy()
    affine[:3, 1:3] /= 2
    stored = Volume(array=finer, spacing_mm=(5.0, 0.3, 0.3), affine=affine, contrast="T2")
    assert sinc_db(stored) > sinc_db(measured) + 12
    shares = (share(finer, ROW), share(finer, COLUMN))
    assert abs(sinc_db(crop_to_measured(stored, shares)) - sinc_db(measured)) < 1
    exact = crop_to_measured(stored, (0.5, 0.5))
    # Not to rounding: a magnitude has a kink where the complex image it was taken of passes through zero.
    assert nmse(measured.array, exact.array) < 0.005


@pytest.mark.parametrize(("shape", "shares"), [((3, 40, 36), (0.5, 0.75)), ((3, 41, 37), (0.6, 1.0))])
def test_a_crop_keeps_amplitudes_type_and_the_place_of_the_centre(
    shape: tuple[int, int, int], shares: tuple[float, float]
) -> None:
    affine = np.diag([4.0, 1.0, 2.0, 1.0])
    affine[:3, 3] = (7, 8, 9)
    for kind in (np.float32, np.complex64):
        volume = Volume(np.full(shape, 3, kind), (4.0, 1.0, 2.0), affine, "T2")
        cropped = crop_to_measured(volume, shares)
        h, w = cropped.array.shape[1:]
        assert cropped.array.dtype == kind
        assert h == pytest.approx(shape[1] * shares[0], abs=1)
        np.testing.assert_allclose(cropped.array, 3, rtol=1e-5)
        centre = cropped.affine @ [1, h // 2, w // 2, 1]
        np.testing.assert_allclose(centre, affine @ [1, shape[1] // 2, shape[2] // 2, 1])
        assert cropped.spacing_mm == pytest.approx(np.linalg.norm(cropped.affine[:3, :3], axis=0))


def test_a_share_that_is_none_is_refused(measured: Volume) -> None:
    for shares in ((0.0, 1.0), (1.0, 1.2)):
        with pytest.raises(ScanInvalid, match="cropped"):
            crop_to_measured(measured, shares)
