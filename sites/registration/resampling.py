# mypy: disallow-untyped-calls=False
"""A volume on another volume's grid: by cubic B-spline, with where it has data, and when no resampling is needed."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk  # noqa: N813 (the name its own manual uses)
from numpy.typing import NDArray

from minet_core.imaging.volume import Volume

GRID_TOLERANCE_MM = 0.01
"""Two affines within this at every corner are one grid: headers round at the sixth digit."""


def same_grid(one: Volume, other: Volume) -> bool:
    """Whether two volumes' voxels lie at the same places.

    Parameters
    ----------
    one, other
        Volumes of any shape.

    Returns
    -------
    bool
        True where shapes are equal and no corner differs by more than `GRID_TOLERANCE_MM` along an axis.
    """
    if one.array.shape != other.array.shape:
        return False
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in one.array.shape])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])  # (4, 8)
    return bool(np.abs((one.affine - other.affine) @ corners).max() <= GRID_TOLERANCE_MM)


def resample(
    reference: Volume, *, target: Volume, transform: sitk.Transform
) -> tuple[Volume, NDArray[np.bool_]]:
    """The reference by cubic B-spline on the target's grid, held to its own range (no ringing beyond it).

    Parameters
    ----------
    reference
        The scan to be interpolated; its magnitude is taken.
    target
        The scan that has the grid.
    transform
        From points of the target to points of the reference, world mm; an affine one.

    Returns
    -------
    tuple[Volume, NDArray[np.bool_]]
        The reference on the grid, float32, 0 where it has no data; and where it has, (slice, row, column).
    """
    moving, fixed = as_sitk(reference), as_sitk(target)
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(fixed)
    resampler.SetTransform(transform)
    resampler.SetInterpolator(sitk.sitkBSpline)
    values = sitk.GetArrayFromImage(resampler.Execute(moving))
    covered = _in_view(reference, target=target, transform=transform)
    magnitude = reference.magnitude()
    array = np.where(covered, np.clip(values, magnitude.min(), magnitude.max()), 0).astype(np.float32)
    volume = Volume(
        array=array, spacing_mm=target.spacing_mm, affine=target.affine, contrast=reference.contrast
    )
    return volume, covered


def _in_view(reference: Volume, *, target: Volume, transform: sitk.Transform) -> NDArray[np.bool_]:
    """Where the target's voxels lie within the reference's outermost voxels: (slice, row, column)."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.array(transform.TransformPoint(point)) - origin for point in np.eye(3).tolist()]
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = np.array(columns).T, origin  # every transform here is affine
    place = np.linalg.solve(reference.affine, motion @ target.affine)  # target index -> reference index
    steps = [np.arange(n, dtype=np.float32) for n in target.array.shape]
    inside = np.ones(target.array.shape, dtype=bool)
    for axis, n_voxels in enumerate(reference.array.shape):
        s, r, c = (place[axis, k].astype(np.float32) * step for k, step in enumerate(steps))
        index = s[:, None, None] + (r[:, None] + c[None, :] + np.float32(place[axis, 3]))
        inside &= (index >= -0.5) & (index <= n_voxels - 0.5)
    return inside


def as_sitk(volume: Volume) -> sitk.Image:
    """The magnitude as a SimpleITK image whose world is RAS+ mm (SimpleITK does not care which).

    Parameters
    ----------
    volume
        (slice, row, column).

    Returns
    -------
    sitk.Image
        float32; SimpleITK counts its axes (column, row, slice).
    """
    image = sitk.GetImageFromArray(volume.magnitude())
    matrix = volume.affine[:3, [2, 1, 0]]  # SimpleITK's index is (column, row, slice)
    spacing = np.linalg.norm(matrix, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix / spacing).ravel().tolist())
    image.SetOrigin(volume.affine[:3, 3].tolist())
    return image
