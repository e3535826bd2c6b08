"""Pairs with a known answer, made from real scans: which are taken, and what is said of the others.

The whole set is measured by `python -m tests.support.measure_pairs` (docs/results/field.md); here each kind is tried
once or twice.
"""

from __future__ import annotations

import numpy as np
import pytest

from minet_core.errors import RegistrationRefused
from sites.registration.register import Registered, register
from sites.scans.nifti import read_nifti
from sites.settings.definitions import definition
from tests.support.pair_kinds import (
    COPIES,
    RIGHT,
    Pair,
    exchanged,
    halved,
    mirrored,
    moved,
    second_contrast,
    true_error,
    with_array,
    with_slice_twice,
    without_slice,
)
from tests.support.surrogates import surrogate_folder

pytestmark = [pytest.mark.surrogate, pytest.mark.long]

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


@pytest.fixture(scope="module")
def plain(clinical) -> Registered:
    """A pair where the scanner's header puts it."""
    return taken(clinical[PATIENTS[1]])


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_pair_is_taken_wherever_its_header_puts_it(clinical, plain, name) -> None:
    target, reference = clinical[PATIENTS[1]]
    found = plain if name == "as it lies" else taken((target, RIGHT[name](reference)))
    assert found.residual_px < 0.7
    if name not in ("as it lies", "half the slices", "1.2% longer"):
        shared = found.covered & plain.covered & (target.magnitude() > 100)
        image, same = found.reference.magnitude(), plain.reference.magnitude()
        off, one_pixel = (
            np.abs(image - same)[shared].mean(),
            np.abs(np.roll(same, 1, 2) - same)[shared].mean(),
        )
        assert off < 0.25 * one_pixel  # the same place again, to a quarter of a pixel


@pytest.mark.parametrize("patient", PATIENTS)
def test_right_pairs_agree_far_better_than_the_limit(clinical, plain, patient) -> None:
    found = plain if patient == PATIENTS[1] else taken(clinical[patient])
    assert found.agreement > 1.5 * LIMITS.min_agreement


def test_a_strangers_reference_is_refused(clinical) -> None:
    """The nearest of such pairs is refused in test_register.py."""
    said = refused((clinical[PATIENTS[2]][0], clinical[PATIENTS[0]][1]))
    assert "do not show the same anatomy" in said


@pytest.mark.parametrize("axis", [2, 1, 0])
def test_a_mirrored_reference_is_called_so_and_no_stranger(clinical, axis) -> None:
    target, reference = clinical[PATIENTS[1]]
    assert "its orientation was lost" in refused((target, mirrored(reference, axis)))


@pytest.mark.parametrize(
    ("turned", "named"),
    [
        (lambda array: np.flip(array[: len(array) // 2], 0), "in reversed order of its slices"),
    ],
)
def test_a_turned_reference_is_called_so_and_no_stranger(clinical, turned, named) -> None:
    target, reference = clinical[PATIENTS[1]]
    said = refused((target, with_array(reference, turned(reference.array))))
    assert named in said
    assert "its orientation was lost" in said


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


@pytest.mark.parametrize("stretch", [0.0, 0.013])
def test_the_error_is_small_and_the_estimate_names_it(whole, stretch) -> None:
    """Against the truth: both contrasts are made from one scan, and the motion between them is known."""
    target = whole[PATIENTS[1]][0]
    contrast = second_contrast(target)
    reference = moved(contrast, rotation=(0.05, -0.03, 0.06), shift_mm=(4.0, -6.0, 3.0), stretch=stretch)
    error_mm, estimate_mm = true_error(
        target, reference, reference.affine @ np.linalg.inv(contrast.affine), LIMITS
    )
    assert error_mm < 0.35 * target.spacing_mm[1]
    assert 0.5 < estimate_mm / error_mm < 2.5
