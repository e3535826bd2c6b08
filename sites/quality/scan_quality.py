"""What a scan must be before it is worth a place in the store, and which of its slices show anatomy."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minet_core.errors import ScanInvalid
from minet_core.imaging.volume import Image

MIN_SLICES = 4
"""Cubic interpolation and registration between slices need four."""
MIN_EDGE = 16
MAX_EDGE = 4096
MAX_VOXELS = 1 << 28
"""1 GiB of float32: a 640 x 640 x 640 scan passes. Checked before anything is decoded."""
MAX_NEGATIVE = 0.02
"""Share of the intensity that may be negative: resampling rings below zero, CT and z-scores do not stop there."""

SPARSE = 8
"""`bright_percentile` looks first at one row and column in so many."""

FOREGROUND_LEVEL = 0.1
"""Of the 99th percentile: above the noise of air, below fat-suppressed tissue."""
ANATOMY_SHARE = 0.1
"""A slice is used when its foreground is at least this share of the largest slice's foreground."""
COVERED_SHARE = 0.95
"""... and this share of its foreground lies inside the reference's field of view."""

NOT_ONE_VOLUME = (
    "Give one file a volume: of several, as echoes or time points, split it; of one slice, give the stack"
)
"""What to do where a scan has more or fewer than three axes."""


def check_shape(shape: Sequence[int], *, what: str) -> None:
    """Refuse a shape that is no stack of slices, or larger than a scan is.

    Parameters
    ----------
    shape
        Voxels along the axes, in any order.
    what
        The scan's name, for the message.

    Raises
    ------
    ScanInvalid
        FM-D202: not three axes, under `MIN_SLICES` or `MIN_EDGE`, over `MAX_EDGE` or `MAX_VOXELS`.
    """
    if len(shape) != 3:
        raise ScanInvalid(
            f"{what} is not one volume",
            got=f"shape {tuple(shape)}",
            expected="three axes",
            action=NOT_ONE_VOLUME,
        )
    if min(shape) < MIN_SLICES or sorted(shape)[1] < MIN_EDGE:
        raise ScanInvalid(
            f"{what} has too few slices or voxels",
            got=f"shape {tuple(shape)}",
            expected=f"{MIN_SLICES} slices of {MIN_EDGE} x {MIN_EDGE} or more",
            action="Give the whole stack of slices, not a single one and not a localiser",
        )
    if max(shape) > MAX_EDGE or math.prod(shape) > MAX_VOXELS:
        raise ScanInvalid(
            f"{what} is too large",
            got=f"shape {tuple(shape)}",
            expected=f"at most {MAX_EDGE} an axis and {MAX_VOXELS} voxels",
            action="Give a scan as it was measured; one that was interpolated or stitched is larger",
        )


def check_image(array: NDArray[np.generic], *, what: str) -> Image:
    """An image in the number type that the project works with; slight negative magnitudes are set to zero.

    Parameters
    ----------
    array
        (slice, row, column), real or complex.
    what
        The scan's name, for the message.

    Returns
    -------
    Image
        Contiguous float32, or complex64 for a complex array.

    Raises
    ------
    ScanInvalid
        FM-D202: too few slices, NaN, infinity, a constant, or an image that is largely negative.
    """
    check_shape(array.shape, what=what)
    if array.shape[0] > min(array.shape[1:]) * 8:
        raise ScanInvalid(
            f"{what} is no stack of slices",
            got=f"shape {array.shape}",
            expected="at most eight times as many slices as the shorter edge of one has pixels",
            action="See which axis of the file runs through the slices, and convert the scan again",
        )
    image: Image
    with np.errstate(over="ignore"):
        if array.dtype.kind == "c":
            image = np.ascontiguousarray(array, dtype=np.complex64)
        else:
            image = np.ascontiguousarray(array, dtype=np.float32)
    # Each look at all voxels counts: least and largest are NaN where one of them is.
    negative_voxels = image.dtype == np.float32 and float(image.min()) < 0
    magnitude = image if image.dtype == np.float32 and not negative_voxels else np.abs(image)
    low, high = float(magnitude.min()), float(magnitude.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ScanInvalid(
            f"{what} holds values that are not finite",
            got="NaN or infinity",
            expected="finite numbers",
            action="Convert the scan again from DICOM; a programme between may have divided by zero",
        )
    if low == high:
        raise ScanInvalid(
            f"{what} is constant",
            got=high,
            expected="an image of anatomy",
            action="Export or convert the scan again: the file holds no image",
        )
    if negative_voxels:
        negative = -float(image[image < 0].sum(dtype=np.float64)) / float(magnitude.sum(dtype=np.float64))
        if negative > MAX_NEGATIVE:
            raise ScanInvalid(
                f"{what} is no magnitude image",
                got=f"{negative:.0%} of its intensity negative",
                expected=f"at most {MAX_NEGATIVE:.0%}",
                action="Give the magnitude images: phase, real, imaginary and normalised ones are others",
            )
        image = np.maximum(image, 0)
    return image


def foreground(magnitude: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Voxels that are no air: above a tenth of the 99th percentile.

    Parameters
    ----------
    magnitude
        (slice, row, column).

    Returns
    -------
    NDArray[np.bool_]
        (slice, row, column).
    """
    return np.asarray(magnitude > FOREGROUND_LEVEL * bright_percentile(magnitude, 99))


def bright_percentile(values: NDArray[np.float32], percent: float) -> float:
    """`np.percentile` of a percentage near 100, found among the bright values alone: most of an image is darker.

    Parameters
    ----------
    values
        Any shape, magnitudes.
    percent
        0 to 100.

    Returns
    -------
    float
        The same number as `np.percentile`, to rounding.
    """
    n_above = (values.size - 1) * (1 - percent / 100)
    few = values[..., ::SPARSE, ::SPARSE] if values.ndim > 1 else values[::SPARSE]
    if few.size:
        # Of a few values the level that twice as many exceed: those above it hold the percentile, or all are looked at.
        bright = values[values > np.percentile(few, max(0.0, 2 * percent - 100))]
        if bright.size >= n_above + 2:
            return float(np.percentile(bright, 100 * (1 - n_above / (bright.size - 1))))
    return float(np.percentile(values, percent))


@dataclass(frozen=True)
class SliceUse:
    """Which slices are used: the run [first, stop), and how many of those with anatomy are not, and why.

    faulty: empty, dark or bright between others. unguided: outside the reference's view. cut_off: good, beyond these.
    """

    first: int
    stop: int
    anatomy: int
    faulty: int
    unguided: int
    cut_off: int


def use_of_slices(
    target: NDArray[np.float32], *, covered: NDArray[np.bool_] | None, faulty: Collection[int] = ()
) -> SliceUse:
    """The longest run of slices that show anatomy of the target within the reference's view, and what it leaves out.

    Training, validation and test all use this run, so that slices of air neither teach nor flatter.

    Parameters
    ----------
    target
        (slice, row, column) magnitude.
    covered
        The reference's field of view on the target's grid; None: all.
    faulty
        Numbers of slices, from 0, that are not to be used.

    Returns
    -------
    SliceUse
        The run [first, stop), and counts of slices.

    Raises
    ------
    ScanInvalid
        FM-D202: no slice qualifies.
    """
    anatomy = foreground(target)
    area = anatomy.sum(axis=(1, 2))  # (slice,)
    shows = area >= max(1.0, ANATOMY_SHARE * float(area.max()))
    broken = np.isin(np.arange(len(area)), list(faulty))
    guided = np.ones_like(shows)
    if covered is not None:
        guided = (anatomy & covered).sum(axis=(1, 2)) >= COVERED_SHARE * area
    usable = shows & guided & ~broken
    edges = np.flatnonzero(np.diff(np.concatenate([[0], usable.astype(np.int8), [0]])))
    if edges.size == 0:
        raise ScanInvalid(
            "no slice shows anatomy in both contrasts",
            got=f"0 of {target.shape[0]} slices: {int(shows.sum())} show anatomy, {len(faulty)} are faulty, "
            f"{int((shows & ~guided).sum())} are not in the reference's view",
            expected="at least one",
            action="See that both scans are of one region",
        )
    starts, stops = edges[::2], edges[1::2]
    longest = int(np.argmax(stops - starts))
    first, stop = int(starts[longest]), int(stops[longest])
    return SliceUse(
        first=first,
        stop=stop,
        anatomy=int((shows | broken).sum()),
        faulty=int(broken.sum()),
        unguided=int((shows & ~guided & ~broken).sum()),
        cut_off=int(usable.sum()) - (stop - first),
    )
