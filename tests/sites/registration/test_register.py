"""How far registration can be trusted: known displacements, wrong patients, noise."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (the name its own manual uses)

from minet_core.errors import RegistrationRefused
from minet_core.imaging.reference_trouble import ReferenceDraw, apply_reference_trouble
from minet_core.imaging.volume import Volume
from minet_core.phantom.acquisition import SITES
from minet_core.phantom.patient import PhantomScan, make_patient
from minet_core.seeds import derived_seed
from sites.registration.checks import MotionNotFound, MotionUnsure
from sites.registration.lies_right import lies_right
from sites.registration.register import Registered, register
from sites.registration.resampling import as_sitk, same_grid
from sites.scans.nifti import read_nifti
from sites.settings.definitions import definition
from tests.support.small_scans import make_volume
from tests.support.surrogates import surrogate_folder

LIMITS = definition("sms").registration
SMALL = {"shape": (12, 56, 52), "spacing_mm": (4.0, 2.5, 2.5)}


def found(target: Volume, reference: Volume) -> Registered:
    return register(target, reference, limits=LIMITS)


def displaced(
    volume: Volume, *, rotation: tuple[float, float, float], shift_mm: tuple[float, float, float]
) -> Volume:
    """The same voxels in a patient who lies elsewhere: the affine alone says so, nothing is interpolated."""
    image = as_sitk(volume)
    centre = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
    motion = sitk.Euler3DTransform(centre, *rotation, shift_mm)
    matrix, moved = np.eye(4), np.eye(4)
    matrix[:3, :3] = np.array(motion.GetMatrix()).reshape(3, 3)
    moved[:3, 3] = np.array(motion.TransformPoint((0.0, 0.0, 0.0)))
    return dataclasses.replace(volume, affine=moved @ matrix @ volume.affine)


@pytest.fixture(scope="module")
def patient() -> tuple[Volume, Volume]:
    return make_volume(1, "T2", **SMALL), make_volume(1, "T1", **SMALL)


def test_a_pair_on_one_grid_is_taken_as_it_is(patient) -> None:
    target, reference = patient
    taken = found(target, reference)
    assert taken.reference is reference
    assert not taken.resampled
    assert taken.covered is None
    assert taken.moved_mm <= taken.residual_mm < 0.5


@functools.cache
def thick_slices() -> PhantomScan:
    """Of 5 mm, pixels of 0.7 mm, both contrasts on one grid."""
    return make_patient(SITES["sms"], seed=1)


def test_thick_slices_are_registered_to_a_fraction_of_a_pixel() -> None:
    """The phantom lies on one grid, so what registration moves it by is its error."""
    phantom = thick_slices()
    taken = found(phantom.target, phantom.reference)
    assert taken.moved_mm < 0.25


def test_a_known_motion_is_recovered(patient) -> None:
    target, reference = patient
    shift = (3.0, -4.0, 2.0)
    moved = displaced(reference, rotation=(0.0, 0.0, 0.0), shift_mm=shift)
    taken = found(target, moved)
    assert taken.resampled
    assert taken.moved_mm == pytest.approx(np.linalg.norm(shift), abs=0.2)
    inside = taken.covered & (target.array > 100)
    error = np.abs(taken.reference.array - reference.array)[inside].mean()
    assert error < 0.5 * np.abs(np.roll(reference.array, 1, axis=2) - reference.array)[inside].mean()


def test_a_patient_who_moved_on_one_grid_is_registered(patient) -> None:
    target, reference = patient
    moved = dataclasses.replace(reference, array=np.roll(reference.array, 2, axis=2))  # 5 mm
    assert same_grid(target, moved)
    taken = found(target, moved)
    assert taken.resampled
    assert taken.moved_mm == pytest.approx(5.0, abs=0.2)
    assert taken.residual_mm < 0.4


def brought_px(taken: Registered, target: Volume, moved: Volume, reference: Volume) -> np.ndarray:
    """How far from their true place points all over the frame are looked for, pixels in the plane, root mean square.

    moved: the voxels of `reference`, whose place is right, under another affine.
    """
    true = moved.affine @ np.linalg.inv(reference.affine)
    corners = itertools.product(*[(n // 5, n // 2, 4 * n // 5) for n in target.array.shape])
    places = [(target.affine @ [*corner, 1.0])[:3] for corner in corners]
    seen = np.array([taken.transform.TransformPoint(place.tolist()) for place in places])
    wrong = seen - [(true @ [*place, 1.0])[:3] for place in places]
    in_plane = np.linalg.solve(moved.affine[:3, :3], wrong.T)[1:]
    return np.sqrt((in_plane**2).sum(0).mean())


def test_the_rim_of_the_brain_is_not_taken_for_a_stretch() -> None:
    """Two contrasts have their contours in different places: a stretch of 0.3% by them, 0.06 px beside the place."""
    phantom = thick_slices()
    moved = displaced(phantom.reference, rotation=(0.0, 0.0, 0.02), shift_mm=(2.0, -3.0, 1.0))
    taken = found(phantom.target, moved)
    assert taken.resampled
    assert taken.stretch < 1e-6
    assert brought_px(taken, phantom.target, moved, phantom.reference) < 0.05


def test_a_stretch_that_is_there_is_corrected() -> None:
    phantom = thick_slices()
    longer = np.diag([1.0, 1.0, 1.012, 1.0])
    stretched = dataclasses.replace(phantom.reference, affine=longer @ phantom.reference.affine)
    taken = found(phantom.target, stretched)
    assert taken.stretch == pytest.approx(0.012, abs=0.005)


def test_registration_repeats_to_the_bit() -> None:
    target, reference = make_volume(1, "T2"), make_volume(1, "T1")
    moved = displaced(reference, rotation=(0.02, 0.0, 0.03), shift_mm=(2.0, 1.0, 0.0))
    first, second = found(target, moved), found(target, moved)
    np.testing.assert_array_equal(first.reference.array, second.reference.array)
    assert (first.residual_mm, first.agreement) == (second.residual_mm, second.agreement)


def test_the_view_of_a_shorter_reference_is_known(patient) -> None:
    target, reference = patient
    affine = reference.affine.copy()
    affine[:3, 3] += 2 * affine[:3, 0]
    taken = found(target, dataclasses.replace(reference, array=reference.array[2:], affine=affine))
    assert taken.covered is not None
    assert not taken.covered[:1].any()
    assert taken.covered[3:, 8:-8, 8:-8].all()
    assert (taken.reference.array[~taken.covered] == 0).all()


@functools.cache
def right_pair(*, small: bool) -> tuple[Volume, Volume]:
    """The control of all attacks: a pair of that size, which is taken."""
    size = SMALL if small else {}
    target, reference = make_volume(1, "T2", **size), make_volume(1, "T1", **size)
    found(target, reference)
    return target, reference


def noise(reference: Volume) -> Volume:
    generator = np.random.default_rng(1)
    return dataclasses.replace(reference, array=generator.random(reference.array.shape, dtype=np.float32))


def shuffled(reference: Volume) -> Volume:
    voxels = np.random.default_rng(1).permutation(reference.array.ravel())
    return dataclasses.replace(reference, array=voxels.reshape(reference.array.shape))


def other_patient(reference: Volume) -> Volume:
    assert reference.contrast == "T1"
    return make_volume(7, "T1", **SMALL)


def ramp(reference: Volume) -> Volume:
    values = np.linspace(1, 2, reference.array.size, dtype=np.float32).reshape(reference.array.shape)
    return dataclasses.replace(reference, array=values)


@pytest.mark.parametrize("attack", [noise, shuffled, other_patient, ramp])
def test_a_reference_that_is_not_the_patients_is_refused(attack) -> None:
    target, reference = right_pair(small=attack is other_patient)
    with pytest.raises(RegistrationRefused, match="FM-D204"):
        found(target, attack(reference))


def test_a_registration_that_is_not_sure_enough_is_refused_with_the_figure(patient) -> None:
    target, reference = patient
    sure = LIMITS.model_copy(update={"max_error_px": 1e-3})
    with pytest.raises(RegistrationRefused, match=r"an error of about \d\.\d+ mm .* expected at most 0\.00"):
        register(target, reference, limits=sure)


def test_a_pair_that_no_motion_is_sure_of_is_taken_as_it_lies_where_that_is_proven(patient) -> None:
    target, reference = patient
    sure = LIMITS.model_copy(update={"max_error_px": 1e-3})
    taken = register(target, reference, limits=sure, proof=lambda *_: True)
    assert taken.unsure
    assert taken.reference is reference
    assert taken.residual_px > 1e-3
    with pytest.raises(MotionUnsure):
        register(target, reference, limits=sure, proof=lambda *_: False)
    elsewhere = dataclasses.replace(reference, array=np.roll(reference.array, 2, axis=2))
    with pytest.raises(MotionUnsure):  # a motion beyond its own error: as it lies it is wrong
        register(target, elsewhere, limits=sure, proof=lambda *_: True)


@functools.cache
def unsure_knee() -> tuple[Volume, Volume]:
    """An old knee on a noisy scanner, on one grid as fastMRI's files are: blocks scatter by nearly a pixel."""
    scan = make_patient(SITES["fastmri"], seed=derived_seed(81, "phantom", "fastmri", 9), varied=True)
    return scan.target, scan.reference


def test_a_knee_of_weak_contrast_is_not_lost_to_its_hospital() -> None:
    target, reference = unsure_knee()
    knees = definition("fastmri").registration.model_copy(update={"max_error_px": 0.5})
    with pytest.raises(MotionUnsure, match="not sure enough"):
        register(target, reference, limits=knees)
    taken = register(target, reference, limits=knees, proof=lies_right)
    assert taken.unsure
    assert not taken.resampled


def test_a_knee_that_lies_a_pixel_off_is_not_taken_as_it_lies() -> None:
    target, reference = unsure_knee()
    moved = dataclasses.replace(reference, array=np.roll(reference.array, 1, axis=2))
    knees = definition("fastmri").registration.model_copy(update={"max_error_px": 0.5})
    with pytest.raises(MotionUnsure):
        register(target, moved, limits=knees, proof=lies_right)


def noisy(volume: Volume, share: float) -> Volume:
    draws = [ReferenceDraw(noise_fraction=share, noise_seed=number) for number in range(volume.n_slices)]
    slices = [apply_reference_trouble(one, draw) for one, draw in zip(volume.magnitude(), draws, strict=True)]
    return dataclasses.replace(volume, array=np.stack(slices))


def test_noise_is_no_missing_slice() -> None:
    """Slices of a noisy reference are liker to the mean of two of them: their offsets jump by half a spacing."""
    scan = make_patient(SITES["sms"], seed=derived_seed(601, "gate", "calibration", 0))
    taken = found(scan.target, noisy(scan.reference, 0.15))
    assert not taken.resampled
    packed = np.concatenate([scan.reference.array[:10], scan.reference.array[11:], scan.reference.array[-1:]])
    with pytest.raises(RegistrationRefused, match="missing or doubled"):
        found(scan.target, noisy(dataclasses.replace(scan.reference, array=packed), 0.1))


def test_noise_that_hides_the_anatomy_is_said_to_be_noise(patient) -> None:
    target, reference = patient
    with pytest.raises(MotionNotFound, match="too noisy to tell"):
        found(target, noisy(reference, 0.6))


CLINICAL = ("patient01_study1", "patient04_study1", "patient12_study1")


@pytest.fixture(scope="module")
def clinical() -> dict[str, tuple[Volume, Volume]]:
    folder = surrogate_folder("clinical")
    return {
        name: tuple(read_nifti(folder / name / f"{c}W.nii.gz", contrast=c) for c in ("T2", "T1"))  # type: ignore[misc]
        for name in CLINICAL
    }


@pytest.mark.surrogate
def test_the_patient_who_moved_is_found_and_corrected(clinical) -> None:
    taken = found(*clinical["patient12_study1"])
    assert taken.resampled
    assert 2.2 < taken.moved_mm < 3.2  # known to be about 2.7 mm
    assert taken.residual_mm < 0.5


@pytest.mark.surrogate
def test_a_known_motion_of_a_real_scan_is_recovered(clinical) -> None:
    """Register a real T1 to itself moved by a known rotation and shift: 0.2 mm is a quarter of its pixel."""
    _, reference = clinical["patient04_study1"]
    rotation, shift = (0.03, -0.02, 0.05), (3.0, -2.0, 4.0)
    moved = displaced(reference, rotation=rotation, shift_mm=shift)
    taken = register(reference, moved, limits=LIMITS.model_copy(update={"max_likeness": 1.0}))
    inside = taken.covered & (reference.array > 100)
    rows, columns = (np.gradient(reference.array, axis=axis)[inside] for axis in (1, 2))
    difference = (taken.reference.array - reference.array)[inside]
    # Optical flow: the in-plane shift that explains what is left, in pixels of 0.91 mm.
    left, *_ = np.linalg.lstsq(np.stack([rows, columns], 1), difference, rcond=None)
    assert np.linalg.norm(left) * reference.spacing_mm[1] < 0.2
    assert taken.residual_mm < 0.2


@pytest.mark.surrogate
@pytest.mark.long
def test_another_patients_real_reference_is_refused(clinical) -> None:
    with pytest.raises(RegistrationRefused, match="FM-D204"):
        found(clinical["patient01_study1"][0], clinical["patient04_study1"][1])  # the nearest of six: 1.024


def test_grids_that_differ_in_shape_or_place_are_two(patient) -> None:
    target, reference = patient
    assert same_grid(target, reference)
    for axis, step in itertools.product(range(3), (-0.1, 0.1)):
        affine = reference.affine.copy()
        affine[axis, 3] += step
        assert not same_grid(target, dataclasses.replace(reference, affine=affine))
    assert not same_grid(target, dataclasses.replace(reference, array=reference.array[1:]))
