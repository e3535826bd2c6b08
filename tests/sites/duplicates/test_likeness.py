"""One anatomy under two names: copies, altered copies and second examinations of phantoms and of real scans."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from scipy import ndimage

from minet_core.imaging.volume import Pair, Volume
from sites.duplicates.likeness import FILE, LIMIT, Signatures, images_of
from sites.duplicates.signature import (
    _ROTATIONS,
    COARSE,
    EDGE,
    MOTIONS,
    Signature,
    rank,
    signature_of,
    similarity,
)
from sites.scans.nifti import read_nifti
from tests.support.small_scans import make_volume
from tests.support.surrogates import surrogate_folder

SHAPE, SPACING_MM = (22, 64, 56), (4.0, 2.5, 2.5)
N_PATIENTS = 8


def scan(seed: int, contrast: str = "T2") -> Volume:
    return make_volume(seed, contrast, shape=SHAPE, spacing_mm=SPACING_MM)


def likeness(one: Volume | Signature, other: Volume | Signature) -> float:
    a, b = (image if isinstance(image, Signature) else signature_of(image) for image in (one, other))
    _, starts = rank(a, b.coarse[:, None])
    return similarity(a, b, starts=starts[:, 0])


def test_a_coarse_image_is_moved_as_plain_interpolation_moves_it() -> None:
    one, edge = signature_of(scan(3)), EDGE // COARSE
    where = np.flatnonzero(signature_of(scan(4)).coarse[1])
    images, inside, counts = one.moved(where)
    centres = np.stack(np.unravel_index(np.arange(edge**3), (edge,) * 3), axis=1) * COARSE + (COARSE - 1) / 2
    blurred = ndimage.gaussian_filter(one.fine, 2.0)
    for number in range(0, len(MOTIONS), 131):
        turn, shift = MOTIONS[number]
        cells = np.stack(np.unravel_index(np.arange(edge**3), (edge,) * 3), axis=1) + shift
        within = ((cells >= 0) & (cells < edge)).all(axis=1)
        places = (centres + COARSE * np.array(shift) - (EDGE - 1) / 2) @ _ROTATIONS[turn].T + (EDGE - 1) / 2
        image, shown = (
            ndimage.map_coordinates(values.astype(np.float64), places.T, order=1)
            for values in (blurred, one.mask)
        )
        shown = (shown > 0.5) & within
        assert inside[number].sum() == pytest.approx(shown[where].sum(), abs=2)  # of a half by rounding
        assert counts[number] == pytest.approx(shown.sum(), abs=3)
        both = (inside[number] > 0) & shown[where]
        np.testing.assert_allclose(images[number][both], image[where][both], atol=1e-5)
        assert not images[number][inside[number] == 0].any()


def changed(volume: Volume, array: np.ndarray) -> Volume:
    return dataclasses.replace(volume, array=np.maximum(array, 0).astype(np.float32))


def gained(volume: Volume) -> Volume:
    return changed(volume, volume.magnitude() * 3.3)


def noisy(volume: Volume, share: float = 0.05) -> Volume:
    array, generator = volume.magnitude(), np.random.default_rng(1)
    noise = generator.normal(0, share * np.percentile(array, 99), (2, *array.shape))
    return changed(volume, np.hypot(array + noise[0], noise[1]))


def smoothed(volume: Volume) -> Volume:
    return changed(volume, ndimage.gaussian_filter(volume.magnitude(), 1.5 / np.array(volume.spacing_mm)))


def shaded(volume: Volume) -> Volume:
    ramp = np.linspace(0.75, 1.25, volume.array.shape[1])[:, None]
    return changed(volume, volume.magnitude() * ramp)


def padded(volume: Volume) -> Volume:
    margins = ((2, 1), (20, 6), (3, 25))
    affine = volume.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [2, 20, 3]
    return dataclasses.replace(volume, array=np.pad(volume.array, margins), affine=affine)


def cropped(volume: Volume) -> Volume:
    first = [int(0.2 * n) for n in volume.array.shape]
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ first
    kept = volume.array[first[0] :, first[1] :, first[2] :]
    return dataclasses.replace(volume, array=np.ascontiguousarray(kept), affine=affine)


def halved(volume: Volume) -> Volume:
    return dataclasses.replace(volume, array=volume.array[: volume.n_slices // 2 + 1].copy())


def restored(volume: Volume) -> Volume:
    """The same voxels in another order of axes, with the affine that says so."""
    affine = volume.affine[:, [2, 0, 1, 3]].copy()
    array = volume.array.transpose(2, 0, 1)[::-1]
    affine[:3, 3] += affine[:3, 0] * (array.shape[0] - 1)
    affine[:3, 0] *= -1
    spacing = (volume.spacing_mm[2], volume.spacing_mm[0], volume.spacing_mm[1])
    return Volume(np.ascontiguousarray(array), spacing, affine, volume.contrast)


def moved(
    volume: Volume, *, turned_deg: float = 9.0, spacing_mm: tuple[float, float, float] = (3.0, 2.2, 2.2)
) -> Volume:
    """Turned about an oblique axis, shifted, and measured with other voxels."""
    axis = np.array([0.5, 0.6, -0.62])
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(turned_deg)
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    middle = (np.array(volume.array.shape) - 1) / 2
    shape = tuple(
        int(n * a / b) for n, a, b in zip(volume.array.shape, volume.spacing_mm, spacing_mm, strict=True)
    )
    affine = np.eye(4)
    affine[:3, :3] = volume.affine[:3, :3] / volume.spacing_mm * spacing_mm
    centre = volume.affine[:3, :3] @ middle + volume.affine[:3, 3]
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    turn = np.eye(4)
    turn[:3, :3], turn[:3, 3] = rotation, centre - rotation @ centre + [4.0, -6.0, 3.0]
    onto = np.linalg.inv(volume.affine) @ turn @ affine
    array = ndimage.affine_transform(
        volume.magnitude(), onto[:3, :3], offset=onto[:3, 3], output_shape=shape, order=1
    )
    return Volume(array.astype(np.float32), spacing_mm, affine, volume.contrast)


def second_examination(volume: Volume) -> Volume:
    return noisy(shaded(moved(volume)), 0.03)


ALTERED: list[Callable[[Volume], Volume]] = [
    gained, noisy, smoothed, shaded, padded, cropped, halved, restored, moved, second_examination,
]  # fmt: skip


@pytest.fixture(scope="module")
def strangers() -> list[Signature]:
    return [signature_of(scan(seed)) for seed in range(N_PATIENTS)]


@pytest.mark.parametrize("alter", ALTERED)
def test_an_altered_copy_is_known_again(alter: Callable[[Volume], Volume], strangers) -> None:
    assert likeness(alter(scan(3)), strangers[3]) > LIMIT


def test_strangers_are_told_apart(strangers) -> None:
    figures = [likeness(one, other) for one, other in combinations(strangers, 2)]
    assert len(figures) == 28
    assert max(figures) < LIMIT - 0.1


def test_an_image_of_air_is_like_no_other(strangers) -> None:
    air = Volume(np.zeros((4, 16, 16), np.float32), (4.0, 2.0, 2.0), np.eye(4), "T2")
    assert likeness(air, strangers[0]) == likeness(strangers[0], air) == -1


def pair_of(target: Volume, reference: Volume, patient: str) -> Pair:
    return Pair(target=target, reference=reference, patient=patient)


def test_one_image_that_two_patients_share_is_enough(tmp_path) -> None:
    signatures = Signatures(tmp_path, patients={})
    signatures.add(images_of(pair_of(scan(1), scan(1, "T1"), "aa")), file="aa-1-1.h5", patient="aa")
    for target, reference, role in ((1, 2, "target"), (2, 1, "reference")):
        images = images_of(pair_of(scan(target), scan(reference, "T1"), "bb"))
        match = signatures.nearest(images, patient="bb", limit=LIMIT)
        assert match is not None
        assert (match.file, match.role) == ("aa-1-1.h5", role)
        assert signatures.nearest(images, patient="aa", limit=LIMIT) is None  # a patient's own examinations
    swapped = images_of(pair_of(scan(1, "T1"), scan(1), "bb"))
    assert signatures.nearest(swapped, patient="bb", limit=LIMIT) is not None


def test_signatures_outlive_the_ingest_and_a_damaged_file_is_made_anew(tmp_path) -> None:
    images = images_of(pair_of(scan(1), scan(1, "T1"), "aa"))
    signatures = Signatures(tmp_path, patients={})
    for file, patient in (("aa-1-1.h5", "aa"), ("cc-1-1.h5", "cc")):
        signatures.add(images, file=file, patient=patient)
    signatures.save({"aa-1-1.h5"})
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    again = Signatures(tmp_path, patients={"aa-1-1.h5": "aa"})
    assert "aa-1-1.h5" in again
    assert "cc-1-1.h5" not in again
    assert again.nearest(images, patient="bb", limit=LIMIT) is not None
    before = (tmp_path / FILE).stat().st_mtime_ns
    again.save({"aa-1-1.h5"})
    assert (tmp_path / FILE).stat().st_mtime_ns == before
    (tmp_path / FILE).write_bytes(b"damaged")
    assert "aa-1-1.h5" not in Signatures(tmp_path, patients={"aa-1-1.h5": "aa"})


@pytest.mark.surrogate
def test_real_patients_are_told_apart_and_known_again() -> None:
    folder = surrogate_folder("clinical")
    scans = [read_nifti(path, contrast="T2") for path in sorted(folder.glob("*/T2*"))]
    signatures = [signature_of(one) for one in scans]
    assert max(likeness(one, other) for one, other in combinations(signatures, 2)) < LIMIT - 0.2
    for volume, signature in zip(scans, signatures, strict=True):
        second = noisy(shaded(moved(volume, spacing_mm=(volume.spacing_mm[0], 0.9, 0.9))), 0.03)
        assert likeness(second, signature) > LIMIT
