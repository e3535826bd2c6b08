# mypy: disallow-untyped-calls=False
"""Reading one NIfTI scan into a volume on (slice, row, column).

The slice axis is the one of the largest spacing; for isotropic data the superior-inferior one. Axes are permuted and
turned, never resampled, so that an axial slice has its first row anterior and its first column at the patient's
right (the radiologist's view); sagittal and coronal slices have their first row superior. The affine follows.

A gzip file is read to its end so that its checksum is verified, and never past what its header announces.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from minet_core.runtime.errors import ScanInvalid, ScanUnreadable
from minet_core.volume import Volume
from sites.quality import check_image, check_shape

ISOTROPIC = 0.05
"""Largest relative difference of spacings that still counts as isotropic."""
SPACING_LIMITS_MM = (0.01, 50.0)
HEADER_BYTES = 16 << 20
"""Room for a NIfTI header with its extensions, beyond the voxels."""

_BROKEN = (OSError, EOFError, zlib.error, ImageFileError, HeaderDataError, ValueError, KeyError)


def read_nifti(path: Path, *, contrast: str, slice_axis: int | None = None) -> Volume:
    """The scan in `path` (.nii or .nii.gz), float32, spacing in mm, affine to RAS+ mm.

    slice_axis: the file's axis (0, 1, 2) that runs through the slices; None: found from the spacing.
    Raises ScanUnreadable (FM-D201): truncated, failed checksum, not NIfTI.
    Raises ScanInvalid (FM-D202): not three axes, too few slices, too large, NaN, infinite, constant, negative.
    """
    try:
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Pair):
            raise ImageFileError(f"{type(image).__name__}")
        shape = image.shape
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        check_shape(shape, what=path.name)
        image = _decoded(path, image)
        affine = np.asarray(image.affine, dtype=np.float64)
        voxels = np.asanyarray(image.dataobj).reshape(shape)
        unit = image.header.get_xyzt_units()[0]
    except _BROKEN as failure:
        raise ScanUnreadable(
            "a NIfTI file cannot be read",
            got=f"{path.name}: {failure}",
            expected="a whole .nii or .nii.gz",
            action="Export it again",
        ) from failure
    if voxels.dtype.kind not in "iuf":
        raise ScanInvalid(f"{path.name} holds no magnitude image", got=voxels.dtype, expected="real numbers")
    if unit not in ("mm", "unknown"):
        raise ScanInvalid(f"{path.name} is not in millimetres", got=unit, expected="mm")
    order, flips = _orientation(affine, slice_axis=slice_axis, name=path.name)
    array, affine = _turned(voxels, affine, order=order, flips=flips)
    spacing = tuple(float(step) for step in np.linalg.norm(affine[:3, :3], axis=0))
    return Volume(
        array=check_image(array, what=path.name),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        affine=affine,
        contrast=contrast,
    )


def _decoded(path: Path, header_only: nibabel.Nifti1Pair) -> nibabel.Nifti1Pair:
    """The image decoded from bytes whose number the header bounds; for gzip the checksum is verified."""
    bound = int(np.prod(header_only.shape)) * header_only.get_data_dtype().itemsize + HEADER_BYTES
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        content = stream.read(bound + 1)
    if len(content) > bound:
        raise ScanInvalid(f"{path.name} is longer than its header says", got=f"over {bound} bytes")
    decoded: nibabel.Nifti1Pair = type(header_only).from_bytes(content)  # type: ignore[attr-defined]
    return decoded


def _orientation(
    affine: NDArray[np.float64], *, slice_axis: int | None, name: str
) -> tuple[tuple[int, int, int], tuple[bool, ...]]:
    """Which file axis becomes slice, row and column, and which of these is turned round."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    low, high = SPACING_LIMITS_MM
    if not np.isfinite(affine).all() or spacing.min() < low or spacing.max() > high:
        raise ScanInvalid(
            f"{name} has an impossible voxel size", got=spacing.tolist(), expected=f"{low} to {high} mm"
        )
    if abs(np.linalg.det(affine[:3, :3] / spacing)) < 0.5:
        raise ScanInvalid(
            f"{name} has an affine whose axes are not at right angles", got=affine[:3, :3].tolist()
        )
    codes = nibabel.orientations.io_orientation(affine)
    world = [
        int(axis) for axis in codes[:, 0]
    ]  # file axis -> 0 left-right, 1 posterior-anterior, 2 inferior-superior
    if slice_axis is None:
        isotropic = spacing.max() <= spacing.min() * (1 + ISOTROPIC)
        slice_axis = world.index(2) if isotropic else int(np.argmax(spacing))
    through = world[slice_axis]
    row_world, column_world = {2: (1, 0), 0: (2, 1), 1: (2, 0)}[through]
    order = (slice_axis, world.index(row_world), world.index(column_world))
    # Wanted directions: left, posterior; superior through axial slices, inferior down the rows of the others.
    wanted = {0: -1.0, 1: -1.0, 2: 1.0 if through == 2 else -1.0}
    return order, tuple(bool(codes[axis, 1] != wanted[world[axis]]) for axis in order)


def _turned(
    voxels: NDArray[np.generic],
    affine: NDArray[np.float64],
    *,
    order: tuple[int, int, int],
    flips: tuple[bool, ...],
) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """The array with permuted and flipped axes, and the affine that says the same of every voxel."""
    array = voxels.transpose(order)
    turned = affine[:, [*order, 3]].copy()
    for axis, flip in enumerate(flips):
        if flip:
            array = np.flip(array, axis)
            turned[:, 3] += turned[:, axis] * (array.shape[axis] - 1)
            turned[:, axis] *= -1
    return array, turned
