"""Which plane of a scan is refined: the two axes that run within its slices.

The witnesses, in their order: the header's `dim_info`; the reference, where just two axes of it are finer by about the
scale; the target's own spacing, where one axis is far the coarsest. Where two of them disagree, or none speaks and no
axis stands out, nobody is believed and the user is asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import nibabel
import numpy as np
from numpy.typing import NDArray

from minet_core.errors import InvalidSetting
from sites.scans.nifti import ISOTROPIC
from sites.scans.nifti_file import NiftiHeader

PLANES = ("sagittal", "coronal", "axial")
"""By the world axis that runs through the slices: left-right, posterior-anterior, inferior-superior."""
ABOUT = 1.25
"""Up to this factor a ratio of spacings is about the scale: headers round, and a T1 seldom has a T2's pixels."""
APART = 1.5
"""From this factor on a ratio is another than the scale."""
FAR_COARSER = 2.0
"""Slices at least this much thicker than their pixels are slices whatever else is said."""
COARSER = 1.25
PARALLEL = 0.9
"""Least cosine between an axis of the target and the reference's that it is compared with."""


@dataclass(frozen=True)
class Plane:
    """slice_axis: the target file's axis (0, 1, 2) through the slices. name: axial, sagittal or coronal, the nearest.
    source: who says so: given, dim_info, reference, spacing, or in DICOM the frames."""

    slice_axis: int
    name: str
    source: str


def find_plane(target: NiftiHeader, reference: NiftiHeader, *, scale: int, given: int | None) -> Plane:
    """The plane that is refined.

    Parameters
    ----------
    target, reference
        Headers of the two files.
    scale
        Super-resolution factor.
    given
        The target file's axis (0, 1, 2) through the slices as the user said it, which is believed; None: not said.

    Returns
    -------
    Plane
        With who says so.

    Raises
    ------
    InvalidSetting
        FM-C102: the witnesses disagree, or there is none.
    """
    if given is not None:
        return Plane(given, plane_name(target.affine, given), "given")
    spacing = _spacing(target.affine)
    witnesses = {
        "dim_info": target.slice_axis,
        "reference": _by_reference(target, reference, scale=scale),
        "spacing": _far_coarser(spacing),
    }
    said = {source: axis for source, axis in witnesses.items() if axis is not None}
    if not said and (axis := _standing_out(spacing)) is not None:
        said = {"spacing": axis}
    if len(set(said.values())) != 1:
        seen = ", ".join(
            f"{source} says axis {axis} ({plane_name(target.affine, axis)})" for source, axis in said.items()
        )
        raise InvalidSetting(
            "the plane of the slices cannot be told"
            if not said
            else "the plane of the slices is contradicted",
            got=seen or f"voxels of {' x '.join(f'{step:.3g}' for step in spacing)} mm and no dim_info",
            expected="one axis through the slices",
            action="Give it with --slice-axis: "
            + ", ".join(f"{axis} {plane_name(target.affine, axis)}" for axis in range(3)),
        )
    source, axis = next(iter(said.items()))
    return Plane(axis, plane_name(target.affine, axis), source)


def plane_name(affine: NDArray[np.float64], slice_axis: int) -> str:
    """The plane of the slices that an axis runs through.

    Parameters
    ----------
    affine
        (4, 4), from a scan's indices to RAS+ mm.
    slice_axis
        The scan's axis, 0 to 2.

    Returns
    -------
    str
        One of `PLANES`, the nearest.
    """
    codes = nibabel.orientations.io_orientation(affine)  # type: ignore[no-untyped-call]
    return PLANES[int(codes[slice_axis, 0])]


def parallel_axis(affine: NDArray[np.float64], other: NDArray[np.float64], axis: int) -> int:
    """The axis of another scan that lies nearest to the direction of an axis of this one.

    Parameters
    ----------
    affine
        (4, 4), of this scan.
    other
        (4, 4), of the other.
    axis
        Of this scan, 0 to 2.

    Returns
    -------
    int
        Of the other scan, 0 to 2.
    """
    return int(np.argmax(_cosines(affine, other)[axis]))


def _spacing(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(affine[:3, :3], axis=0))


def _cosines(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3): between each axis of one file and each of the other, without sign."""
    first = one[:3, :3] / _spacing(one)
    second = other[:3, :3] / _spacing(other)
    return np.asarray(np.abs(first.T @ second))


def _by_reference(target: NiftiHeader, reference: NiftiHeader, *, scale: int) -> int | None:
    """The axis along which the reference is not finer by about the scale, where along both others it is."""
    cosines = _cosines(target.affine, reference.affine)
    nearest = cosines.argmax(axis=1)
    if cosines.max(axis=1).min() < PARALLEL or len(set(nearest.tolist())) < 3:
        return None
    ratios = _spacing(target.affine) / _spacing(reference.affine)[nearest]
    off = np.abs(np.log(ratios / scale))  # 0: just the scale
    axis = int(np.argmax(off))
    fits = np.delete(off, axis).max() <= np.log(ABOUT) and off[axis] >= np.log(APART)
    return axis if fits else None


def _far_coarser(spacing: NDArray[np.float64]) -> int | None:
    """The axis that is far coarser than the two others, which are not far from each other."""
    fine, middle, coarse = np.sort(spacing)
    return int(np.argmax(spacing)) if coarse >= FAR_COARSER * middle and middle <= APART * fine else None


def _standing_out(spacing: NDArray[np.float64]) -> int | None:
    """The axis whose spacing differs from those of two that are alike; else the one that is clearly the coarsest."""
    fine, middle, coarse = np.sort(spacing)
    low_alike, high_alike = middle <= fine * (1 + ISOTROPIC), coarse <= middle * (1 + ISOTROPIC)
    if low_alike != high_alike:
        return int(np.argmax(spacing) if low_alike else np.argmin(spacing))
    if low_alike or coarse < COARSER * middle or coarse / middle <= middle / fine:
        return None
    return int(np.argmax(spacing))
