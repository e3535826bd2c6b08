"""The grid of a super-resolved scan: within the model's frame, and in the file.

The model works on slices that are turned to the view it was trained on, and its samples lie behind the last one of the
low resolution in that view. A file that counts an axis the other way has its own spare samples on the other side. So
everything is made on a frame that has both: along row and column from (scale - 1) samples before the first
low-resolution sample to (scale - 1) behind the last. A file gets its part of it. The picture does not depend on how the
file is laid out, and voxel (scale * i, scale * j, k) is where (i, j, k) was.

S slice, h w low-resolution row and column; frame: scale * h + scale - 1 rows, columns alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minet_core.imaging.volume import Volume
from sites.registration.resampling import GRID_TOLERANCE_MM

Array = NDArray[np.float32]
Affine = NDArray[np.float64]


@dataclass(frozen=True)
class RefinedGrid:
    """The frame in the turned axes (slice, row, column), and how it lies to the file's.

    affine, spacing_mm, shape: of the frame. order: file axis of each turned axis. flips: turned axes that the file
    counts the other way. file_affine: of the new file, to RAS+ mm.
    """

    scale: int
    affine: Affine
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    order: tuple[int, int, int]
    flips: tuple[int, ...]
    file_affine: Affine

    def in_file_axes(self, frame: Array) -> Array:
        """The file's part of an array on the frame, along the file's axes.

        Parameters
        ----------
        frame
            Of this grid's `shape`.

        Returns
        -------
        NDArray[np.float32]
            `scale` times the low-resolution rows and columns, in the file's order and directions.
        """
        spare = self.scale - 1
        parts = [
            slice(0, n - spare) if axis in self.flips else slice(spare, n)
            for axis, n in enumerate(self.shape)
            if axis > 0
        ]
        return np.transpose(np.flip(frame[:, parts[0], parts[1]], self.flips), np.argsort(self.order))

    def inner(self) -> tuple[slice, slice, slice]:
        """From the first low-resolution sample to the last: what the input says something of on both sides.

        Returns
        -------
        tuple[slice, slice, slice]
            Of (slice, row, column) on the frame.
        """
        spare = self.scale - 1
        return (slice(None), slice(spare, self.shape[1] - spare), slice(spare, self.shape[2] - spare))

    def refined(self, form: Affine) -> Affine:
        """A form of the input's header, for the new file.

        Parameters
        ----------
        form
            (4, 4) from the input file's indices to mm.

        Returns
        -------
        NDArray[np.float64]
            (4, 4) with the two in-plane columns divided by the scale.
        """
        return _divided(form, (self.order[1], self.order[2]), self.scale)


def refined_grid(low_res: Volume, file_affine: Affine, *, scale: int) -> RefinedGrid:
    """The grid for a low-resolution volume.

    Parameters
    ----------
    low_res
        As it was read, slices first.
    file_affine
        (4, 4), of what it was read from: from its indices to RAS+ mm.
    scale
        Super-resolution factor.

    Returns
    -------
    RefinedGrid
        `scale - 1` rows and columns more on either side than the samples span.
    """
    turned = np.linalg.solve(file_affine[:3, :3], low_res.affine[:3, :3])  # a signed permutation
    order = tuple(int(axis) for axis in np.abs(turned).argmax(axis=0))
    through, down, across = low_res.spacing_mm
    n_slices, h, w = low_res.array.shape
    affine = _divided(low_res.affine, (1, 2), scale)
    affine[:, 3] -= (scale - 1) * (affine[:, 1] + affine[:, 2])
    return RefinedGrid(
        scale=scale,
        affine=affine,
        spacing_mm=(through, down / scale, across / scale),
        shape=(n_slices, scale * h + scale - 1, scale * w + scale - 1),
        order=(order[0], order[1], order[2]),
        flips=tuple(axis for axis in range(3) if turned[order[axis], axis] < 0),
        file_affine=_divided(file_affine, (order[1], order[2]), scale),
    )


def on_frame(reference: Volume, grid: RefinedGrid) -> tuple[Volume, NDArray[np.bool_]] | None:
    """The reference on the frame without interpolation.

    Parameters
    ----------
    reference
        As it was read, on its own grid.
    grid
        The frame.

    Returns
    -------
    tuple[Volume, NDArray[np.bool_]] | None
        The reference, whose outermost values are repeated beyond its edges, and where it has data. None where its
        voxels lie elsewhere than the frame's.
    """
    offset = np.linalg.solve(grid.affine, reference.affine)
    first = np.rint(offset[:3, 3]).astype(int)  # frame index of the reference's first voxel
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in reference.array.shape])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])  # (4, 8)
    shifted = np.eye(4)
    shifted[:3, 3] = first
    if np.abs((grid.affine @ shifted - reference.affine) @ corners).max() > GRID_TOLERANCE_MM:
        return None
    indices = [np.arange(n) - start for n, start in zip(grid.shape, first, strict=True)]
    inside = [(index >= 0) & (index < n) for index, n in zip(indices, reference.array.shape, strict=True)]
    nearest = [np.clip(index, 0, n - 1) for index, n in zip(indices, reference.array.shape, strict=True)]
    array = reference.magnitude()[np.ix_(*nearest)]
    volume = Volume(array=array, spacing_mm=grid.spacing_mm, affine=grid.affine, contrast=reference.contrast)
    return volume, np.asarray(inside[0][:, None, None] & inside[1][:, None] & inside[2])


def _divided(affine: Affine, axes: tuple[int, int], scale: int) -> Affine:
    finer = np.array(affine, dtype=np.float64)
    finer[:, list(axes)] /= scale
    return finer
