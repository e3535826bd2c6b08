"""A volume's spline along one axis after the other, beside the spline of SimpleITK that takes all axes at once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (the name its own manual uses)
from scipy import ndimage
from scipy.spatial.transform import Rotation

from minet_core.imaging.volume import Volume
from sites.registration.motion_search import Motion
from sites.registration.resampling import as_sitk, resample
from sites.registration.separable_spline import HORIZON, _coefficients, axes_in_order, interpolate
from tests.support.small_scans import make_volume

SHAPE, SPACING_MM = (14, 60, 52), (4.0, 2.5, 2.5)


def scan(contrast: str = "T1") -> Volume:
    return make_volume(1, contrast, shape=SHAPE, spacing_mm=SPACING_MM)


def at_once(reference: Volume, target: Volume, motion: Motion) -> np.ndarray:
    """SimpleITK's cubic B-spline, held to the range of the reference; 0 outside."""
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(as_sitk(target))
    resampler.SetTransform(motion.as_sitk())
    resampler.SetInterpolator(sitk.sitkBSpline)
    values = sitk.GetArrayFromImage(resampler.Execute(as_sitk(reference)))
    return np.clip(values, reference.array.min(), reference.array.max())


def motion_of(degrees: tuple[float, float, float], shift_mm: tuple[float, float, float]) -> Motion:
    return Motion(Rotation.from_euler("xyz", degrees, degrees=True).as_matrix(), np.array(shift_mm))


def difference(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> float:
    """Root mean square over that of the image, where the reference has data."""
    return float(np.linalg.norm((one - other)[where]) / np.linalg.norm(other[where]))


def inner(covered: np.ndarray) -> np.ndarray:
    """Without three voxels of the rim, beyond which the two splines go on differently."""
    return np.asarray(ndimage.binary_erosion(covered, iterations=3))


def test_a_shift_is_that_of_the_spline_that_takes_all_axes_at_once() -> None:
    reference, target, motion = scan(), scan("T2"), motion_of((0, 0, 0), (1.3, -0.7, 0.9))
    moved, covered = resample(reference, target=target, transform=motion.as_sitk())
    assert difference(moved.array, at_once(reference, target, motion), inner(covered)) < 1e-5  # float32


@pytest.mark.parametrize("degrees", [(2, 0, 0), (0, 2, 0), (0, 0, 2), (2, -2, 2)])
def test_a_small_turn_is_nearly_that(degrees: tuple[float, float, float]) -> None:
    reference, target, motion = scan(), scan("T2"), motion_of(degrees, (1.3, -0.7, 0.9))
    moved, covered = resample(reference, target=target, transform=motion.as_sitk())
    # Pixels of 2.5 mm: what a cubic spline itself is wrong by is ten times as much.
    assert difference(moved.array, at_once(reference, target, motion), inner(covered)) < 0.005


def test_a_grid_of_other_spacing_is_reached() -> None:
    reference, target = scan(), make_volume(1, "T2", shape=(18, 70, 61), spacing_mm=(3.1, 2.1, 2.1))
    motion = motion_of((0, 0, 1), (0.4, 0.2, -0.3))
    moved, covered = resample(reference, target=target, transform=motion.as_sitk())
    assert moved.array.shape == target.array.shape
    assert difference(moved.array, at_once(reference, target, motion), inner(covered)) < 0.005


def test_axes_in_another_order_are_brought_into_the_targets() -> None:
    reference, target = scan(), scan("T2")
    order = [2, 0, 1]
    spacing = tuple(reference.spacing_mm[axis] for axis in order)
    turned = Volume(
        np.ascontiguousarray(reference.array.transpose(order)),
        (spacing[0], spacing[1], spacing[2]),
        reference.affine[:, [*order, 3]],
        "T1",
    )
    motion = motion_of((0, 0, 0), (0.4, 0.2, -0.3)).as_sitk()
    plain, _ = resample(reference, target=target, transform=motion)
    again, _ = resample(turned, target=target, transform=motion)
    np.testing.assert_array_equal(again.array, plain.array)


def test_an_oblique_reference_goes_simpleitks_way() -> None:
    target, motion = scan("T2"), motion_of((0, 0, 0), (0, 0, 0))
    tilt = np.eye(4)
    tilt[:3, :3] = Rotation.from_euler("x", 25, degrees=True).as_matrix()
    oblique = dataclasses.replace(scan(), affine=tilt @ scan().affine)
    assert axes_in_order(target.affine[:3, :3], oblique.affine[:3, :3]) is None
    moved, covered = resample(oblique, target=target, transform=motion.as_sitk())
    np.testing.assert_array_equal(moved.array[covered], at_once(oblique, target, motion)[covered])


def test_a_polynomial_of_second_degree_is_met_inside() -> None:
    s, r, c = np.indices((12, 40, 40), dtype=np.float64)
    image = (0.3 * s**2 + 0.02 * r**2 - 0.01 * c**2 + 0.1 * r + 5).astype(np.float32)
    places = np.eye(4)
    places[:3, 3] = 0.3, -0.4, 0.45
    seen = interpolate(image, places, shape=(12, 40, 40))
    s, r, c = s + 0.3, r - 0.4, c + 0.45
    true = 0.3 * s**2 + 0.02 * r**2 - 0.01 * c**2 + 0.1 * r + 5
    middle = (slice(4, 8), slice(12, 28), slice(12, 28))
    # The spline reproduces it; the mirror at the ends reaches here by 0.27 to the power of the distance: 0.5%.
    np.testing.assert_allclose(seen[middle], true[middle], rtol=0.01)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("n_samples", [1, 2, 3, 4, 5, HORIZON - 1, HORIZON, HORIZON + 1, 3 * HORIZON])
def test_the_coefficients_are_scipys(n_samples: int, axis: int) -> None:
    shape = [6, 5, 7]
    shape[axis] = n_samples
    image = np.random.default_rng(71).random(shape, np.float32)
    found = _coefficients(image, axis)
    plain = ndimage.spline_filter1d(image.astype(np.float64), 3, axis=axis, mode="mirror")
    beyond = [(1, 2) if one == axis else (0, 0) for one in range(3)]
    expected = np.pad(plain, beyond, mode="reflect")
    # Each sample's sums are of about ten numbers in float32.
    np.testing.assert_allclose(found.swapaxes(1, 2) if axis == 2 else found, expected, atol=1e-5)
