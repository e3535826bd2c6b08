"""Cubic B-spline interpolation of a whole volume along one axis after the other.

A grid that lies in another one with little rotation is reached by three steps, each along a single axis: first the
slices come where the new grid has them, then the rows, then the columns. Each step is an interpolation of lines, of 4
coefficients a voxel in place of the 64 that a volume's spline takes at one point. What comes out is the same to 1e-5
of the image where the grids are parallel; turned by 2 degrees to 0.0002 to 0.0008, by 10 degrees to 0.0006 to 0.004,
where a cubic and a quintic spline differ by 0.01 to 0.02 (root mean square over that of the image: a phantom and a
clinical T1, five rotations). 2.7 to 7 times as fast as SimpleITK's (0.09 for 0.45 s of a processor, 2 million voxels).

s r c slice, row, column.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]
Floats = NDArray[np.float64]

MAX_TURN_DEGREES = 10.0
"""Between an axis of the one grid and the next one of the other: beyond it steps along the axes lose detail."""

POLE = 3**0.5 - 2
"""Of the cubic spline's filter."""
HORIZON = 28
"""Samples after which the pole's power is nothing in float32: 1e-16."""
MIN_LINES = 3
"""Of an axis that has two mirrored samples behind it."""


def axes_in_order(target_axes: Floats, reference_axes: Floats) -> tuple[int, int, int] | None:
    """The reference's axes in the order of the target's, where the two grids are near to parallel.

    Parameters
    ----------
    target_axes, reference_axes
        (3, 3): steps of a grid as columns, world, in any units.

    Returns
    -------
    tuple[int, int, int] | None
        The axis of the reference along each of the target's; None where one is turned by more than
        `MAX_TURN_DEGREES` from every axis, or the grids are no box's.
    """
    units = [axes / np.linalg.norm(axes, axis=0) for axes in (target_axes, reference_axes)]
    cosines = np.abs(units[0].T @ units[1])  # (target axis, reference axis)
    order = cosines.argmax(axis=1)
    if cosines.max(axis=1).min() < np.cos(np.deg2rad(MAX_TURN_DEGREES)) or len(set(order.tolist())) < 3:
        return None
    return int(order[0]), int(order[1]), int(order[2])


def interpolate(image: Image, places: Floats, *, shape: tuple[int, int, int]) -> Image:
    """The image's cubic spline on another grid whose axes are nearly its own.

    Parameters
    ----------
    image
        (s, r, c).
    places
        (4, 4): from an index of the new grid to one of the image, which may be no whole number. Affine, and near to
        diagonal in world units (`axes_in_order`).
    shape
        Of the new grid.

    Returns
    -------
    NDArray[np.float32]
        On the new grid; beyond the outermost voxels by half a voxel and more, the value there.

    References
    ----------
    Unser, Thevenaz and Yaroslavsky, Convolution-based interpolation for fast, high-quality rotation of images, IEEE
    Transactions on Image Processing 4 (1995). Catmull and Smith, 3-D transformations of images in scanline order,
    SIGGRAPH 1980.
    """
    steps, origin = places[:3, :3], places[:3, 3]
    # The slice that a new slice takes at a row and column of the image: the new row and column are solved for.
    across = steps[0, 1:] @ np.linalg.inv(steps[1:, 1:])
    slices = [steps[0, 0] - across @ steps[1:, 0], *across, origin[0] - across @ origin[1:]]
    # The row at a new slice and row, and a column of the image.
    slope = steps[1, 2] / steps[2, 2]
    rows = [*(steps[1, :2] - slope * steps[2, :2]), slope, origin[1] - slope * origin[2]]
    columns = [*steps[2], origin[2]]
    for axis, place in enumerate((slices, rows, columns)):
        image = _along(image, axis, n_places=shape[axis], place=np.array(place))
    return image


def _along(image: Image, axis: int, *, n_places: int, place: Floats) -> Image:
    """New samples along one axis, where it is place @ (s, r, c, 1) of the result."""
    n = image.shape[axis]
    shape = tuple(n_places if one == axis else edge for one, edge in enumerate(image.shape))
    coefficients = _coefficients(image, axis)
    rows, columns = image.shape[1] + 3 * (axis == 1), image.shape[2] + 3 * (axis == 2)
    stride = (rows * columns, columns, 1)[axis]
    row, column = np.arange(shape[1])[:, None], np.arange(shape[2])
    beside = (row * columns + column, column + 0 * row, row * columns + 0 * column)[axis]
    in_slice = place[1] * row + (place[2] * column + place[3])
    made = np.empty(shape, np.float32)
    for index, of_slice in enumerate(made):
        at = np.clip(in_slice + place[0] * index, -0.5, n - 0.5)
        whole = np.floor(at)
        first = whole.astype(np.intp) * stride + beside
        source = coefficients if axis == 0 else coefficients[index]
        source = np.ascontiguousarray(source.T) if axis == 2 else source
        _cubic(source.reshape(-1), first, stride, (at - whole).astype(np.float32), out=of_slice)
    return made


def _coefficients(image: Image, axis: int) -> Image:
    """The spline's coefficients along an axis, mirrored by one before it and two after it: four lie around every place.

    For columns with rows and columns exchanged: so each step is one of whole lines. `scipy.ndimage.spline_filter1d`
    gives the same to 2e-7 of the largest, line by line, in 2 to 6 times the time.
    """
    exchanged = image.swapaxes(1, 2) if axis == 2 else image
    along = min(axis, 1)
    if image.shape[axis] < MIN_LINES:
        plain = ndimage.spline_filter1d(exchanged, 3, axis=along, output=np.float32, mode="mirror")
        return np.pad(plain, [(1, 2) if one == along else (0, 0) for one in range(3)], mode="reflect")
    padded = np.empty([edge + 3 * (one == along) for one, edge in enumerate(exchanged.shape)], np.float32)
    lines = np.moveaxis(padded, along, 0)  # (sample, ...)
    inner = lines[1:-2]
    np.multiply(np.moveaxis(exchanged, along, 0), np.float32(6), out=inner)
    n = len(inner)
    powers = POLE ** np.arange(min(n, HORIZON))
    if n <= HORIZON:  # the sum over all mirror images
        powers[1:-1] += POLE ** (2 * n - 2 - np.arange(1, n - 1))
        powers /= 1 - POLE ** (2 * n - 2)
    inner[0] = np.tensordot(powers.astype(np.float32), inner[: len(powers)], 1)
    pole = np.float32(POLE)
    for before, here in itertools.pairwise(inner):
        here += pole * before
    inner[-1] = np.float32(POLE / (POLE**2 - 1)) * (inner[-1] + pole * inner[-2])
    for after, here in itertools.pairwise(inner[::-1]):
        np.subtract(after, here, out=here)
        here *= pole
    lines[0], lines[-2], lines[-1] = inner[1], inner[-2], inner[-3]
    return padded


def _cubic(source: Image, first: NDArray[np.intp], stride: int, part: Image, *, out: Image) -> None:
    """The cubic B-spline of the four coefficients from `first` on, at `part` of the way from the second to the third.

    `first` is used up. As a polynomial of `part`, from its highest power on, in place: this is where the time goes.
    """
    taken = []
    for _ in range(4):
        taken.append(source.take(first, mode="clip"))
        first += stride
    before, here, after, beyond = taken
    np.subtract(here, after, out=out)
    out *= np.float32(3)
    out += beyond
    out -= before
    out *= part
    out *= np.float32(1 / 6)
    mean = np.add(before, after, out=beyond)
    mean *= np.float32(0.5)
    out += mean
    out -= here
    out *= part
    after -= before
    after *= np.float32(0.5)
    out += after
    out *= part
    mean *= np.float32(1 / 3)
    here *= np.float32(2 / 3)
    out += mean
    out += here
