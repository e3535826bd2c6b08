"""Pairs of real scans with a known answer: what sites meet, made from a target and its reference.

Right pairs are one patient's two contrasts, wherever their headers put them. The others must be refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import SimpleITK as sitk  # noqa: N813 (the name its own manual uses)
from numpy.typing import NDArray

from minet_core.imaging.volume import Volume
from sites.registration.motion_search import Motion, find_motion, foreground_points, matching_image
from sites.registration.resampling import as_sitk
from sites.settings.site_settings import RegistrationSettings

Pair = tuple[Volume, Volume]


@dataclasses.dataclass(frozen=True)
class MadePair:
    """A pair of a kind, and whether it is one patient's two contrasts, slice for slice."""

    kind: str
    name: str
    pair: Pair
    right: bool


def with_array(volume: Volume, array: NDArray[np.floating]) -> Volume:
    """Other voxels, the same geometry."""
    return dataclasses.replace(volume, array=np.ascontiguousarray(array, dtype=np.float32))


def halved(volume: Volume) -> Volume:
    """Pixels twice as wide: about as registration looks at them, and read in a quarter of the time."""
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


def shifted(volume: Volume, shift_mm: tuple[float, float, float]) -> Volume:
    """Elsewhere by its header."""
    affine = volume.affine.copy()
    affine[:3, 3] += shift_mm
    return dataclasses.replace(volume, affine=affine)


def framed(volume: Volume, share: float) -> Volume:
    """In a frame of zeros that makes both axes of the plane longer by `share`."""
    pad = [0, *(round(n * share / 2) for n in volume.array.shape[1:])]
    affine = volume.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ pad
    array = np.pad(volume.array, [(n, n) for n in pad])
    return dataclasses.replace(volume, array=array, affine=affine)


def half_of_the_slices(volume: Volume) -> Volume:
    """The lower half of the stack."""
    return with_array(volume, volume.array[: volume.n_slices // 2])


def longer(volume: Volume, factor: float) -> Volume:
    """Stretched along the slices by its header."""
    affine = volume.affine.copy()
    affine[:3, 0] *= factor
    s, r, c = volume.spacing_mm
    return dataclasses.replace(volume, affine=affine, spacing_mm=(s * factor, r, c))


def mirrored(volume: Volume, axis: int) -> Volume:
    """Its orientation lost along one axis."""
    return with_array(volume, np.flip(volume.array, axis))


def without_slice(volume: Volume, place: float) -> Volume:
    """One slice left out, the rest packed."""
    return with_array(volume, np.delete(volume.array, round(place * volume.n_slices), 0))


def with_slice_twice(volume: Volume, place: float) -> Volume:
    """One slice doubled."""
    index = round(place * volume.n_slices)
    return with_array(volume, np.insert(volume.array, index, volume.array[index], 0))


def exchanged(volume: Volume) -> Volume:
    """Every two neighbours exchanged, as where an interleaved order was read wrongly."""
    order = np.arange(volume.n_slices)
    even = len(order) // 2 * 2
    order[:even] = order[:even].reshape(-1, 2)[:, ::-1].ravel()
    return with_array(volume, volume.array[order])


def _noisy(image: NDArray[np.float32], share: float) -> NDArray[np.floating]:
    noise = np.random.default_rng(1)
    sigma = share * np.percentile(image, 99)
    return np.hypot(
        image + sigma * noise.standard_normal(image.shape), sigma * noise.standard_normal(image.shape)
    )


def _subsampled(image: NDArray[np.float32]) -> NDArray[np.floating]:
    return np.repeat(np.repeat(image[:, ::2, ::2], 2, 1), 2, 2)[:, : image.shape[1], : image.shape[2]]


COPIES: dict[str, Callable[[NDArray[np.float32]], NDArray[np.floating]]] = {
    "itself": lambda image: image,
    "scaled": lambda image: 0.3 * image + 20 * (image > 0),
    "noise of 10%": lambda image: _noisy(image, 0.1),
    "every second pixel": _subsampled,
    "square root": np.sqrt,
}

RIGHT: dict[str, Callable[[Volume], Volume]] = {
    "as it lies": lambda reference: reference,
    "3 mm off": lambda reference: shifted(reference, (3.0, 0.0, 0.0)),
    "15 mm off": lambda reference: shifted(reference, (9.0, 0.0, -12.0)),
    "60 mm off": lambda reference: shifted(reference, (25.0, -30.0, 45.0)),
    "origin lost": lambda reference: shifted(reference, (400.0, -900.0, 300.0)),
    "framed, 1.5": lambda reference: framed(reference, 0.5),
    "framed, 2": lambda reference: framed(reference, 1.0),
    "framed and off": lambda reference: shifted(framed(reference, 1.0), (0.0, 40.0, 10.0)),
    "half the slices": half_of_the_slices,
    "1.2% longer": lambda reference: longer(reference, 1.012),
}


def made_pairs(patients: Mapping[str, Pair]) -> Iterator[MadePair]:
    """Every kind for every patient. patients: target and reference by name; strangers share its first letter."""
    for name, (target, reference) in patients.items():
        for kind, change in RIGHT.items():
            yield MadePair(kind, name, (target, change(reference)), right=True)
        for axis, kind in ((2, "mirrored left to right"), (1, "rows reversed"), (0, "slices reversed")):
            yield MadePair(kind, name, (target, mirrored(reference, axis)), right=False)
        for kind, change_image in COPIES.items():
            copy = with_array(target, change_image(target.magnitude()))
            yield MadePair(f"target as reference: {kind}", name, (target, copy), right=False)
        for place in (0.4, 0.6):
            yield MadePair("slice missing", name, (without_slice(target, place), reference), right=False)
            yield MadePair("slice doubled", name, (with_slice_twice(target, place), reference), right=False)
        yield MadePair("slices exchanged", name, (exchanged(target), reference), right=False)
        for other, (_, theirs) in patients.items():
            if other != name and other[0] == name[0]:
                yield MadePair("stranger", f"{name}, {other}", (target, theirs), right=False)


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
    """Elsewhere by its header, and stretched along the slices."""
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


def true_error(
    target: Volume, reference: Volume, true: NDArray[np.float64], limits: RegistrationSettings
) -> tuple[float, float]:
    """How far the motion that is found is from the true one, root mean square [mm], and its estimate.

    true: (4, 4) from points of the target to points of the reference.
    """
    fixed = matching_image(target)
    found = find_motion(fixed, matching_image(reference), limits=limits)
    points = foreground_points(fixed, n=500)
    off = points @ found.matrix.T + found.shift_mm - points @ true[:3, :3].T - true[:3, 3]
    return float(np.sqrt((off**2).sum(axis=1).mean())), found.error_mm


def found_motion(target: Volume, reference: Volume, limits: RegistrationSettings) -> Motion:
    """What registration finds, whether or not the pair would be taken."""
    return find_motion(matching_image(target), matching_image(reference), limits=limits)
