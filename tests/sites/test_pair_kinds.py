"""Pairs with a known answer, made from real scans: which are taken, and what is said of the others.

The kinds are those that sites meet: a lost position, a frame of zeros, a stranger, a mirrored scan, the target as its
own reference, slices that a converter packed. Every one is tried on the clinical pairs; what takes longer is `long`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from minet_core.runtime.errors import RegistrationRefused
from minet_core.volume import Volume
from sites.definitions import definition
from sites.read_nifti import read_nifti
from sites.registration import Registered, register
from tests.surrogates import surrogate_folder

pytestmark = pytest.mark.surrogate

LIMITS = definition("umr").registration
PATIENTS = ("patient01_study1", "patient04_study1", "patient12_study1")
Pair = tuple[Volume, Volume]


@pytest.fixture(scope="module")
def clinical() -> dict[str, Pair]:
    folder = surrogate_folder("clinical")
    return {
        name: tuple(halved(read_nifti(folder / name / f"{c}W.nii.gz", contrast=c)) for c in ("T2", "T1"))  # type: ignore[misc]
        for name in PATIENTS
    }


def halved(volume: Volume) -> Volume:
    """Pixels of 1.0 to 1.8 mm: as registration looks at them, and read in a quarter of the time."""
    array = volume.magnitude()
    rows, columns = (n // 2 * 2 for n in array.shape[1:])
    mean = array[:, :rows, :columns].reshape(len(array), rows // 2, 2, columns // 2, 2).mean(axis=(2, 4))
    affine = volume.affine.copy()
    affine[:3, 3] += (affine[:3, 1] + affine[:3, 2]) / 2
    affine[:3, 1:3] *= 2
    s, r, c = volume.spacing_mm
    return Volume(
        array=mean.astype(np.float32), spacing_mm=(s, 2 * r, 2 * c), affine=affine, contrast=volume.contrast
    )


def with_array(volume: Volume, array: NDArray[np.floating]) -> Volume:
    return dataclasses.replace(volume, array=np.ascontiguousarray(array, dtype=np.float32))


def shifted(volume: Volume, shift_mm: tuple[float, float, float]) -> Volume:
    affine = volume.affine.copy()
    affine[:3, 3] += shift_mm
    return dataclasses.replace(volume, affine=affine)


def framed(volume: Volume, share: float) -> Volume:
    """In a frame of zeros that makes every axis of the plane longer by `share`."""
    pad = [0, *(round(n * share / 2) for n in volume.array.shape[1:])]
    affine = volume.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ pad
    array = np.pad(volume.array, [(n, n) for n in pad])
    return dataclasses.replace(volume, array=array, affine=affine)


def cropped(volume: Volume, axis: int, keep: slice) -> Volume:
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, axis] * (keep.start or 0)
    index = [slice(None)] * 3
    index[axis] = keep
    return dataclasses.replace(volume, array=np.ascontiguousarray(volume.array[tuple(index)]), affine=affine)


def taken(pair: Pair) -> Registered:
    return register(*pair, limits=LIMITS)


def refused(pair: Pair) -> str:
    with pytest.raises(RegistrationRefused, match="FM-D204") as caught:
        taken(pair)
    return str(caught.value)


RIGHT: dict[str, Callable[[Volume], Volume]] = {
    "as it lies": lambda reference: reference,
    "3 mm off": lambda reference: shifted(reference, (3.0, 0.0, 0.0)),
    "60 mm off": lambda reference: shifted(reference, (25.0, -30.0, 45.0)),
    "origin lost": lambda reference: shifted(reference, (400.0, -900.0, 300.0)),
    "framed, 1.5": lambda reference: framed(reference, 0.5),
    "framed, 2": lambda reference: framed(reference, 1.0),
    "framed and off": lambda reference: shifted(framed(reference, 1.0), (0.0, 40.0, 10.0)),
    "half the slices": lambda reference: cropped(reference, 0, slice(0, reference.n_slices // 2)),
    "1.2% longer": lambda reference: longer(reference, 1.012),
}


def longer(volume: Volume, factor: float) -> Volume:
    affine = volume.affine.copy()
    affine[:3, 0] *= factor
    s, r, c = volume.spacing_mm
    return dataclasses.replace(volume, affine=affine, spacing_mm=(s * factor, r, c))


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize(
    "patient", [PATIENTS[1], *(pytest.param(p, marks=pytest.mark.long) for p in PATIENTS[::2])]
)
def test_a_right_pair_is_taken_wherever_its_header_puts_it(clinical, patient, name) -> None:
    target, reference = clinical[patient]
    found = taken((target, RIGHT[name](reference)))
    assert found.residual_px < 0.7
    plain = taken((target, reference))
    if name not in ("half the slices", "1.2% longer"):
        shared = found.covered & plain.covered & (target.magnitude() > 100)
        off = np.abs(found.reference.magnitude() - plain.reference.magnitude())[shared].mean()
        one_pixel = np.abs(np.roll(plain.reference.magnitude(), 1, 2) - plain.reference.magnitude())[
            shared
        ].mean()
        assert off < 0.25 * one_pixel  # the same place again, to a quarter of a pixel


def test_a_longer_reference_is_followed(clinical) -> None:
    target, reference = clinical[PATIENTS[1]]
    plain, found = taken((target, reference)), taken((target, longer(reference, 1.012)))
    lengths = [
        np.linalg.svd(np.array(one.transform.GetMatrix()).reshape(3, 3))[1].max() for one in (plain, found)
    ]
    assert lengths[1] - lengths[0] == pytest.approx(0.012, abs=0.004)


def test_a_right_pair_agrees_far_better_than_a_strangers(clinical) -> None:
    assert all(taken(pair).agreement > 0.35 for pair in clinical.values())


STRANGERS = [(a, b) for a in PATIENTS for b in PATIENTS if a != b]


@pytest.mark.parametrize(
    "pair", [STRANGERS[0], *(pytest.param(pair, marks=pytest.mark.long) for pair in STRANGERS[1:])]
)
def test_a_strangers_reference_is_refused(clinical, pair) -> None:
    said = refused((clinical[pair[0]][0], clinical[pair[1]][1]))
    assert "do not show the same anatomy" in said


@pytest.mark.parametrize("axis", [2, 1, 0])
def test_a_mirrored_reference_is_called_mirrored_and_no_stranger(clinical, axis) -> None:
    target, reference = clinical[PATIENTS[1]]
    said = refused((target, with_array(reference, np.flip(reference.array, axis))))
    assert "its orientation was lost" in said


def copies() -> dict[str, Callable[[NDArray[np.float32]], NDArray[np.floating]]]:
    noise = np.random.default_rng(1)

    def noisy(image: NDArray[np.float32], share: float) -> NDArray[np.floating]:
        sigma = share * np.percentile(image, 99)
        return np.hypot(
            image + sigma * noise.standard_normal(image.shape), sigma * noise.standard_normal(image.shape)
        )

    return {
        "itself": lambda image: image,
        "scaled": lambda image: 0.3 * image + 20 * (image > 0),
        "noise of 10%": lambda image: noisy(image, 0.1),
        "every second pixel": lambda image: np.repeat(np.repeat(image[:, ::2, ::2], 2, 1), 2, 2),
        "square root": np.sqrt,
    }


@pytest.mark.parametrize("kind", copies())
def test_the_target_as_its_own_reference_is_refused(clinical, kind) -> None:
    target = clinical[PATIENTS[1]][0]
    said = refused((target, with_array(target, copies()[kind](target.magnitude()))))
    assert "the target itself" in said


@pytest.mark.parametrize("place", [0.25, 0.5, 0.8])
@pytest.mark.parametrize("kind", ["missing", "doubled", "missing in the reference"])
def test_a_slice_that_is_missing_or_doubled_is_found(clinical, kind, place) -> None:
    target, reference = clinical[PATIENTS[1]]
    index = round(place * target.n_slices)
    if kind == "missing":
        target = with_array(target, np.delete(target.array, index, 0))
    elif kind == "doubled":
        target = with_array(target, np.insert(target.array, index, target.array[index], 0))
    else:
        reference = with_array(reference, np.delete(reference.array, round(place * reference.n_slices), 0))
    said = refused((target, reference))
    assert "missing or doubled" in said
    assert f"{index}" in said or f"{index + 1}" in said or kind == "missing in the reference"


def test_slices_in_another_order_are_refused(clinical) -> None:
    target, reference = clinical[PATIENTS[1]]
    order = np.arange(target.n_slices)
    order[: len(order) // 2 * 2] = order[: len(order) // 2 * 2].reshape(-1, 2)[:, ::-1].ravel()
    refused((with_array(target, target.array[order]), reference))
