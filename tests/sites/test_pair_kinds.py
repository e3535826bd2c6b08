"""Pairs with a known answer, made from real scans: which are taken, and what is said of the others.

The whole set is measured by `python -m tests.measure_pairs` (docs/results/field.md); here each kind is tried once or
twice.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (the name its own manual uses)

from minet_core.runtime.errors import RegistrationRefused
from minet_core.volume import Volume
from sites.definitions import definition
from sites.read_nifti import read_nifti
from sites.registration import Registered, as_sitk, find_motion, foreground_points, matching_image, register
from tests.pair_kinds import (
    COPIES,
    RIGHT,
    Pair,
    exchanged,
    halved,
    mirrored,
    with_array,
    with_slice_twice,
    without_slice,
)
from tests.surrogates import surrogate_folder

pytestmark = pytest.mark.surrogate

LIMITS = definition("umr").registration
PATIENTS = ("patient01_study1", "patient04_study1", "patient12_study1")


@pytest.fixture(scope="module")
def whole() -> dict[str, Pair]:
    folder = surrogate_folder("clinical")
    return {
        name: tuple(read_nifti(folder / name / f"{c}W.nii.gz", contrast=c) for c in ("T2", "T1"))  # type: ignore[misc]
        for name in PATIENTS
    }


@pytest.fixture(scope="module")
def clinical(whole) -> dict[str, Pair]:
    return {name: (halved(target), halved(reference)) for name, (target, reference) in whole.items()}


def taken(pair: Pair) -> Registered:
    return register(*pair, limits=LIMITS)


def refused(pair: Pair) -> str:
    with pytest.raises(RegistrationRefused, match="FM-D204") as caught:
        taken(pair)
    return str(caught.value)


LASTING = [pytest.param(patient, marks=pytest.mark.long) for patient in PATIENTS[::2]]


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("patient", [PATIENTS[1], *LASTING])
def test_a_right_pair_is_taken_wherever_its_header_puts_it(clinical, patient, name) -> None:
    target, reference = clinical[patient]
    found = taken((target, RIGHT[name](reference)))
    assert found.residual_px < 0.7
    plain = taken((target, reference))
    if name not in ("half the slices", "1.2% longer"):
        shared = found.covered & plain.covered & (target.magnitude() > 100)
        image, same = found.reference.magnitude(), plain.reference.magnitude()
        off, one_pixel = (
            np.abs(image - same)[shared].mean(),
            np.abs(np.roll(same, 1, 2) - same)[shared].mean(),
        )
        assert off < 0.25 * one_pixel  # the same place again, to a quarter of a pixel


def test_right_pairs_agree_far_better_than_the_limit(clinical) -> None:
    assert all(taken(pair).agreement > 1.5 * LIMITS.min_agreement for pair in clinical.values())


STRANGERS = [(a, b) for a in PATIENTS for b in PATIENTS if a != b]


@pytest.mark.parametrize("pair", [STRANGERS[0], pytest.param(STRANGERS[4], marks=pytest.mark.long)])
def test_a_strangers_reference_is_refused(clinical, pair) -> None:
    said = refused((clinical[pair[0]][0], clinical[pair[1]][1]))
    assert "do not show the same anatomy" in said


@pytest.mark.parametrize("axis", [2, 1, 0])
def test_a_mirrored_reference_is_called_so_and_no_stranger(clinical, axis) -> None:
    target, reference = clinical[PATIENTS[1]]
    assert "its orientation was lost" in refused((target, mirrored(reference, axis)))


@pytest.mark.parametrize("kind", COPIES)
def test_the_target_as_its_own_reference_is_refused(clinical, kind) -> None:
    target = clinical[PATIENTS[1]][0]
    said = refused((target, with_array(target, COPIES[kind](target.magnitude()))))
    assert "the target itself" in said


@pytest.mark.parametrize("place", [0.25, 0.8])
@pytest.mark.parametrize("change", [without_slice, with_slice_twice])
def test_a_slice_that_is_missing_or_doubled_is_found_with_its_place(clinical, change, place) -> None:
    target, reference = clinical[PATIENTS[1]]
    said = refused((change(target, place), reference))
    assert "missing or doubled" in said
    index = round(place * target.n_slices)
    assert any(f"from slice {near} to" in said for near in range(index - 1, index + 3))


def test_a_slice_missing_in_the_reference_is_found(clinical) -> None:
    target, reference = clinical[PATIENTS[1]]
    assert "missing or doubled" in refused((target, without_slice(reference, 0.5)))


def test_exchanged_slices_are_refused(clinical) -> None:
    target, reference = clinical[PATIENTS[1]]
    refused((exchanged(target), reference))


def second_contrast(target: Volume) -> Volume:
    """A made-up T1 on the very voxels of a T2: dark where it is bright, with noise and a slope over the plane."""
    image = target.magnitude()
    level = image / np.percentile(image[image > 0.1 * image.max()], 95)
    tissue = np.clip((level - 0.03) / 0.15, 0, 1)
    inverted = np.where(level < 0.08, level, 0.08 + np.clip(1.25 - level, 0, None) * 0.75 * tissue)
    slope = 1 + 0.25 * np.linspace(-1, 1, image.shape[1])[:, None]
    noise = 0.03 * np.random.default_rng(0).standard_normal((2, *image.shape))
    return with_array(target, 900 * np.hypot(inverted * slope + noise[0], noise[1]))


def moved(
    volume: Volume, *, rotation: tuple[float, ...], shift_mm: tuple[float, ...], stretch: float
) -> Volume:
    """Elsewhere by its header, and stretched along the slices; with the true motion of its centre."""
    image = as_sitk(volume)
    centre = np.array(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))
    normal = volume.affine[:3, 0] / np.linalg.norm(volume.affine[:3, 0])
    turn = np.array(sitk.Euler3DTransform(centre.tolist(), *rotation, shift_mm).GetMatrix()).reshape(3, 3)
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ (np.eye(3) + stretch * np.outer(normal, normal))
    matrix[:3, 3] = centre + shift_mm - matrix[:3, :3] @ centre
    affine = matrix @ volume.affine
    spacing = tuple(float(step) for step in np.linalg.norm(affine[:3, :3], axis=0))
    return dataclasses.replace(volume, affine=affine, spacing_mm=spacing)  # type: ignore[arg-type]


@pytest.mark.parametrize("stretch", [0.0, 0.013])
def test_the_error_is_small_and_the_estimate_names_it(whole, stretch) -> None:
    """Against the truth: both contrasts are made from one scan, and the motion between them is known."""
    target = whole[PATIENTS[1]][0]
    contrast = second_contrast(target)
    reference = moved(contrast, rotation=(0.05, -0.03, 0.06), shift_mm=(4.0, -6.0, 3.0), stretch=stretch)
    fixed = matching_image(target)
    found = find_motion(fixed, matching_image(reference), limits=LIMITS)
    points = foreground_points(fixed, n=500)
    true = (reference.affine @ np.linalg.inv(contrast.affine))[:3]
    error_mm = np.linalg.norm(
        points @ found.matrix.T + found.shift_mm - points @ true[:, :3].T - true[:, 3], axis=1
    )
    rms = float(np.sqrt((error_mm**2).mean()))
    assert rms < 0.35 * target.spacing_mm[1]
    assert 0.5 < found.error_mm / rms < 2.5
