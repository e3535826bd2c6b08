"""The phantom: what a patient's two contrasts share, and what a super-resolution can and cannot see in them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from minet_core.errors import InvalidSetting
from minet_core.evaluation.metrics import psnr
from minet_core.imaging.degradation import low_resolution
from minet_core.imaging.interpolation import sinc
from minet_core.phantom.acquisition import FASTMRI, SITES, SMS, UMR
from minet_core.phantom.patient import PhantomScan, make_patient, with_slices

N_SLICES = 4


@pytest.fixture(scope="module")
def scans() -> dict[str, PhantomScan]:
    return {
        name: make_patient(with_slices(acquisition, N_SLICES), seed=11) for name, acquisition in SITES.items()
    }


def _sinc_of(scan: PhantomScan, scale: int) -> np.ndarray:
    low = low_resolution(torch.from_numpy(scan.target.array), scale)
    return np.maximum(sinc(low, scale).numpy(), 0)


def _outer_band(volume: np.ndarray) -> np.ndarray:
    """What 2x super-resolution has to add: everything outside the central half of each k-space axis."""
    kspace = np.fft.fftshift(np.fft.fft2(volume), axes=(-2, -1))
    rows, columns = volume.shape[1] // 4, volume.shape[2] // 4
    kspace[:, rows:-rows, columns:-columns] = 0
    return np.fft.ifft2(np.fft.ifftshift(kspace, axes=(-2, -1))).real


def test_paper_protocols_are_as_printed() -> None:
    assert (SMS.reference.repetition_time_ms, SMS.reference.echo_time_ms) == (2001.0, 10.72)
    assert (SMS.target.repetition_time_ms, SMS.target.echo_time_ms) == (4511.0, 112.86)
    assert SMS.contrasts == UMR.contrasts
    assert (SMS.matrix, SMS.n_slices, SMS.slice_thickness_mm) == ((320, 320), 20, 5.0)
    assert SMS.field_of_view_mm == (230.0, 200.0)
    assert (UMR.matrix, UMR.n_slices, UMR.slice_thickness_mm) == ((320, 320), 19, 4.0)
    assert UMR.field_of_view_mm == (220.0, 250.0)
    assert FASTMRI.spacing_mm == (3.0, 0.5, 0.5)
    assert (FASTMRI.reference.fat_suppressed, FASTMRI.target.fat_suppressed) == (False, True)


def test_same_seed_gives_the_same_bytes(scans: dict[str, PhantomScan]) -> None:
    for name, acquisition in SITES.items():
        again = make_patient(with_slices(acquisition, N_SLICES), seed=11)
        assert again.target.array.tobytes() == scans[name].target.array.tobytes()
        assert again.reference.array.tobytes() == scans[name].reference.array.tobytes()


@pytest.mark.parametrize("site", SITES)
def test_another_seed_is_another_patient(scans: dict[str, PhantomScan], site: str) -> None:
    other = make_patient(with_slices(SITES[site], N_SLICES), seed=12).target.magnitude()
    mine = scans[site].target.magnitude()
    correlation = np.corrcoef(_outer_band(mine).ravel(), _outer_band(other).ravel())[0, 1]
    assert abs(correlation) < 0.2  # their folds, fibres and lesions are not the same


@pytest.mark.parametrize("site", SITES)
def test_scan_is_complex_on_one_grid_with_the_protocol_s_spacing(
    scans: dict[str, PhantomScan], site: str
) -> None:
    scan, acquisition = scans[site], SITES[site]
    for volume, contrast in zip((scan.reference, scan.target), acquisition.contrasts, strict=True):
        assert volume.array.dtype == np.complex64
        assert volume.array.shape == (N_SLICES, *acquisition.matrix)
        assert volume.contrast == contrast.name
        assert np.isfinite(volume.array).all()
        # Affine columns are the voxel's edges: their lengths are the spacing, and the frame is orthogonal.
        edges = volume.affine[:3, :3]
        np.testing.assert_allclose(np.linalg.norm(edges, axis=0), acquisition.spacing_mm, rtol=1e-12)
        np.testing.assert_allclose(edges.T @ edges, np.diag(np.square(acquisition.spacing_mm)), atol=1e-12)
    np.testing.assert_array_equal(scan.target.affine, scan.reference.affine)


def test_slices_are_about_the_protocol_s_centre() -> None:
    scan = make_patient(with_slices(SMS, 3), seed=1)
    heights = [(scan.target.affine @ [index, 0, 0, 1])[2] for index in range(3)]
    np.testing.assert_allclose(heights, [14.0, 19.0, 24.0], atol=1e-5)  # float32 positions


@pytest.mark.parametrize("site", SITES)
def test_2x_and_4x_remove_a_considerable_part(scans: dict[str, PhantomScan], site: str) -> None:
    truth = scans[site].target.magnitude()
    twofold = psnr(truth, _sinc_of(scans[site], 2))
    fourfold = psnr(truth, _sinc_of(scans[site], 4))
    assert 26 < twofold < 35
    assert fourfold < twofold - 4


@pytest.mark.parametrize("site", SITES)
def test_noise_floor_allows_40_db(scans: dict[str, PhantomScan], site: str) -> None:
    """Of the noise, 2x super-resolution cannot know what lies outside the central quarter: 3/4 of its power."""
    magnitude = scans[site].target.magnitude()
    unknowable = SITES[site].noise * SITES[site].units * math.sqrt(0.75)
    assert 20 * math.log10(magnitude.max() / unknowable) > 42


@pytest.mark.parametrize("site", SITES)
def test_lost_detail_is_where_the_reference_has_detail(scans: dict[str, PhantomScan], site: str) -> None:
    """Energy beyond 2x low resolution: where the reference has most of it, the target has far more than elsewhere."""
    target, reference = (
        _outer_band(volume.magnitude()) ** 2 for volume in (scans[site].target, scans[site].reference)
    )
    strong = reference > np.quantile(reference, 0.9)
    assert target[strong].mean() > 5 * target[~strong].mean()


@pytest.mark.parametrize("site", SITES)
def test_copying_the_reference_is_not_right(scans: dict[str, PhantomScan], site: str) -> None:
    """Even the best linear map of the reference's magnitude is far from the target."""
    target, reference = scans[site].target.magnitude(), scans[site].reference.magnitude()
    slope, offset = np.polyfit(reference.ravel(), target.ravel(), 1)
    assert psnr(target, (slope * reference + offset).astype(np.float32)) < psnr(
        target, _sinc_of(scans[site], 2)
    )


def test_background_is_rician() -> None:
    """In air both channels are noise: the magnitude's mean is sigma sqrt(pi/2)."""
    scan = make_patient(with_slices(SMS, 1), seed=3)
    air = scan.reference.magnitude()[0, :24, :24]
    expected = SMS.noise * SMS.units * math.sqrt(math.pi / 2)
    assert air.mean() == pytest.approx(expected, rel=0.1)  # 576 samples: 2% standard error


def test_noise_does_not_change_the_anatomy() -> None:
    """Anatomy, coil and noise have generators of their own."""
    quiet = dataclasses.replace(with_slices(SMS, 1), noise=0.0)
    noisy, silent = make_patient(with_slices(SMS, 1), seed=5), make_patient(quiet, seed=5)
    difference = (noisy.target.array - silent.target.array) / SMS.units
    assert difference.real.std() == pytest.approx(SMS.noise, rel=0.02)  # 102400 samples
    assert difference.imag.std() == pytest.approx(SMS.noise, rel=0.02)


def test_coil_phase_is_smooth_and_not_flat() -> None:
    quiet = dataclasses.replace(with_slices(FASTMRI, 1), noise=0.0)
    image = make_patient(quiet, seed=5).reference.array[0]
    inside = np.abs(image) > 0.2 * np.abs(image).max()
    step = np.angle(image[:, 1:] * image[:, :-1].conj())[inside[:, 1:] & inside[:, :-1]]
    assert np.percentile(np.abs(step), 99) < 0.1  # rad per pixel
    assert np.angle(image[inside]).std() > 0.2


def test_anatomy_varies_smoothly_along_slices() -> None:
    volume = make_patient(with_slices(SMS, 8), seed=7).target.magnitude()
    neighbours = [np.corrcoef(volume[i].ravel(), volume[i + 1].ravel())[0, 1] for i in range(5)]
    far = np.corrcoef(volume[0].ravel(), volume[5].ravel())[0, 1]
    assert min(neighbours) > 0.7
    assert far < min(neighbours)


def test_sites_differ_in_units() -> None:
    assert len({acquisition.units for acquisition in SITES.values()}) == 3


def test_no_slices_are_refused() -> None:
    with pytest.raises(InvalidSetting, match="number of slices"):
        with_slices(SMS, 0)
