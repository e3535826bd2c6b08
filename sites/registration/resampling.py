# mypy: disallow-untyped-calls=False
"""A volume on another volume's grid: by cubic B-spline, with where it has data, and when no resampling is needed."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk  # noqa: N813 (the name its own manual uses)
from numpy.typing import NDArray

from minet_core.imaging.volume import Volume
from sites.registration.separable_spline import axes_in_order, interpolate

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
    motion = _as_matrix(transform)
    # target index -> reference index
    places = np.asarray(np.linalg.solve(reference.affine, motion @ target.affine), np.float64)
    magnitude = reference.magnitude()
    order = axes_in_order(motion[:3, :3] @ target.affine[:3, :3], reference.affine[:3, :3])
    if order is None:
        resampler = sitk.ResampleImageFilter()
        resampler.SetReferenceImage(as_sitk(target))
        resampler.SetTransform(transform)
        resampler.SetInterpolator(sitk.sitkBSpline)
        values = sitk.GetArrayFromImage(resampler.Execute(as_sitk(reference)))
    else:
        turned = places[[*order, 3]]
        n_slices, rows, columns = target.array.shape
        values = interpolate(magnitude.transpose(order), turned, shape=(n_slices, rows, columns))
    np.clip(values, magnitude.min(), magnitude.max(), out=values)
    covered = _in_view(places, of=magnitude.shape, grid=target.array.shape)
    values[~covered] = 0
    volume = Volume(
        array=values, spacing_mm=target.spacing_mm, affine=target.affine, contrast=reference.contrast
    )
    return volume, covered


def _as_matrix(transform: sitk.Transform) -> NDArray[np.float64]:
    """(4, 4), of an affine transform."""
    motion = np.eye(4)
    motion[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    motion[:3, :3] = np.array([transform.TransformPoint(point) for point in np.eye(3).tolist()]).T
    motion[:3, :3] -= motion[:3, 3:]
    return motion


def _in_view(places: NDArray[np.float64], *, of: tuple[int, ...], grid: tuple[int, ...]) -> NDArray[np.bool_]:
    """Where the grid's voxels lie within the outermost voxels of a volume of this shape: (slice, row, column)."""
    within = np.ones(grid, dtype=bool)
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(grid) - 1)
    ends = np.array([-0.5, 0.5]) + [[0, n - 1] for n in of]  # (axis, 2)
    at = corners @ places[:3, :3].T + places[:3, 3]
    if ((at >= ends[:, 0]) & (at <= ends[:, 1])).all():
        return within
    steps = [np.arange(n, dtype=np.float32) for n in grid]
    for axis, (low, high) in enumerate(ends.tolist()):
        if at[:, axis].min() >= low and at[:, axis].max() <= high:  # an affine map is largest at a corner
            continue
        s, r, c = (places[axis, k].astype(np.float32) * step for k, step in enumerate(steps))
        index = s[:, None, None] + (r[:, None] + c[None, :] + np.float32(places[axis, 3]))
        within &= (index >= low) & (index <= high)
    return within


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
