# mypy: disallow-untyped-calls=False
"""Reading one NIfTI scan into a volume on (slice, row, column).

The slice axis is the one of the largest spacing; for isotropic data the superior-inferior one. Axes are permuted and
turned, never resampled, so that an axial slice has its first row anterior and its first column at the patient's
right (the radiologist's view); sagittal and coronal slices have their first row superior. The affine follows.

A header that says nothing of the geometry is not believed: voxels of 1 x 1 x 1 mm at no place, on a grid that is a
stack of few slices.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from minet_core.errors import ScanInvalid
from minet_core.imaging.volume import Volume
from sites.quality.scan_quality import NOT_ONE_VOLUME, check_image
from sites.scans.nifti_file import NiftiHeader, read_stored
from sites.scans.wrapped_integers import unwrapped

ISOTROPIC = 0.05
"""Largest relative difference of spacings that still counts as isotropic."""
SPACING_LIMITS_MM = (0.01, 50.0)
UNIT_TOLERANCE = 1e-3
FORM_TOLERANCE = 1e-3
"""Two forms within this in every number say the same: mm, and mm a voxel."""
WRONG_GEOMETRY = "Convert the scan again from DICOM; its header does not say where its voxels lie"
VIEWS = {0: "LIP", 1: "PIL", 2: "SPL"}
"""Where slice, row and column lead, as nibabel's axis codes, by the world's axis that runs through the slices."""
LEADS = (("left", "right"), ("back", "front"), ("feet", "head"))
"""Where the world's axes lead from and to."""
FEW_SLICES = 0.5
"""Of the second smallest number of voxels: a head in voxels of 1 mm has more along every axis (0.59 in the smallest
field of view that is usual, 256 x 256 x 150); a stack of thick slices has less."""


def read_nifti(path: Path, *, contrast: str, slice_axis: int | None = None) -> Volume:
    """The volume of `read_nifti_with_remarks`, without the remarks.

    Parameters
    ----------
    path
        A .nii or .nii.gz file.
    contrast
        The contrast's name for the volume, such as "T2".
    slice_axis
        The file's axis (0, 1, 2) that runs through the slices; None: found from the spacing.

    Returns
    -------
    Volume
        (slice, row, column) float32, spacing in mm, affine to RAS+ mm.

    Raises
    ------
    ScanUnreadable, ScanInvalid
        As `read_nifti_with_remarks`.
    """
    return read_nifti_with_remarks(path, contrast=contrast, slice_axis=slice_axis)[0]


def read_nifti_with_remarks(
    path: Path, *, contrast: str, slice_axis: int | None = None, trust_geometry: bool = False
) -> tuple[Volume, tuple[str, ...]]:
    """The scan in one file, and what a person should know of how it was read.

    Parameters
    ----------
    path
        A .nii or .nii.gz file.
    contrast
        The contrast's name for the volume, such as "T2".
    slice_axis
        The file's axis (0, 1, 2) that runs through the slices; None: found from the spacing.
    trust_geometry
        A person has said which axis that is, so a header that says nothing is no reason to refuse.

    Returns
    -------
    tuple[Volume, tuple[str, ...]]
        The volume: (slice, row, column) float32, spacing in mm, affine to RAS+ mm. The remarks: what was repaired or
        taken on trust; they hold no path.

    Raises
    ------
    ScanUnreadable
        FM-D201: truncated, failed checksum, not NIfTI.
    ScanInvalid
        FM-D202: not three axes, too few slices, too large, NaN, infinite, constant, negative, not in mm, no geometry.
    """
    header, stored = read_stored(path)
    if header.unit not in ("mm", "unknown"):
        raise ScanInvalid(
            f"{path.name} is not in millimetres",
            got=header.unit,
            expected="mm",
            action="Convert the scan again; where only the unit is wrong, correct xyzt_units of its header",
        )
    turn = turn_to_view(header.affine, slice_axis=slice_axis, name=path.name)
    remarks = _remarks_on_geometry(header, trusted=trust_geometry, name=path.name)
    if header.inter == 0:  # with an offset zero is stored as any number, and negative ones mean nothing
        stored, remark = unwrapped(stored, what=path.name)
        remarks += [] if remark is None else [remark]
    affine = header.affine @ orientations.inv_ornt_aff(turn, stored.shape)
    turned = orientations.apply_orientation(stored, turn)
    array = _scaled(turned, header)
    del stored, turned
    spacing = tuple(float(step) for step in np.linalg.norm(affine[:3, :3], axis=0))
    volume = Volume(
        array=check_image(array, what=path.name),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        affine=affine,
        contrast=contrast,
    )
    return volume, tuple(remarks)


def require_geometry(header: NiftiHeader, *, name: str, trusted: bool) -> None:
    """Refuse a header whose geometry `read_nifti` would refuse, before its voxels are read.

    Parameters
    ----------
    header
        As `sites.scans.nifti_file.read_header` gives it.
    name
        The file's name, for the message.
    trusted
        A person has said which axis runs through the slices.

    Raises
    ------
    ScanInvalid
        FM-D202: an impossible voxel size, axes not at right angles, no geometry.
    """
    turn_to_view(header.affine, slice_axis=None, name=name)
    _remarks_on_geometry(header, trusted=trusted, name=name)


def grid_of(header: NiftiHeader, *, name: str) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Shape and spacing of the volume that `read_nifti` would give, from the header alone.

    Parameters
    ----------
    header
        As `sites.scans.nifti_file.read_header` gives it.
    name
        The file's name, for the message.

    Returns
    -------
    tuple[tuple[int, int, int], tuple[float, float, float]]
        Voxels and mm along (slice, row, column).

    Raises
    ------
    ScanInvalid
        FM-D202: not three axes, an impossible voxel size, axes not at right angles.
    """
    if len(header.shape) != 3:
        raise ScanInvalid(
            f"{name} is no single volume", got=header.shape, expected="three axes", action=NOT_ONE_VOLUME
        )
    lengths = np.linalg.norm(header.affine[:3, :3], axis=0)
    turn = turn_to_view(header.affine, slice_axis=None, name=name)
    axes = [int(np.argmax(turn[:, 0] == axis)) for axis in range(3)]
    shape, spacing = [header.shape[axis] for axis in axes], [float(lengths[axis]) for axis in axes]
    return (shape[0], shape[1], shape[2]), (spacing[0], spacing[1], spacing[2])


def _scaled(stored: NDArray[Any], header: NiftiHeader) -> NDArray[np.float32]:
    """slope * stored + inter as contiguous float32, computed slice by slice in float64: no whole copy in between."""
    values = np.empty(stored.shape, dtype=np.float32)
    plain = (header.slope, header.inter) == (1.0, 0.0)
    with np.errstate(over="ignore"):  # what is no float32 becomes infinite, and is refused as such
        for index, of_slice in enumerate(stored):
            values[index] = of_slice if plain else of_slice * np.float64(header.slope) + header.inter
    return values


def _remarks_on_geometry(header: NiftiHeader, *, trusted: bool, name: str) -> list[str]:
    """What of the geometry was taken on trust. Raises ScanInvalid where the header says none and the shape another."""
    nowhere = _is_at_no_place(header)
    if nowhere and _is_unit(header.affine):
        pixel_mm = np.abs(header.pixel_mm)
        if (np.abs(pixel_mm - 1) > ISOTROPIC).any() and (pixel_mm > 0).all():
            raise ScanInvalid(
                f"{name} has an affine that says nothing, beside other voxel sizes",
                got=f"an identity affine, voxel sizes {[round(float(mm), 4) for mm in pixel_mm]} mm",
                action="Export it again with its geometry (sform or qform)",
            )
        few, middle = sorted(header.shape)[:2]
        if few < FEW_SLICES * middle and not trusted:
            raise ScanInvalid(
                f"{name} says nothing of its geometry",
                got=f"voxels of 1 x 1 x 1 mm at no place, on a grid of {tuple(header.shape)}",
                expected="an affine, or voxel sizes",
                action="Export it again from the DICOM files, or write the voxel sizes into its header",
            )
        return [
            f"the header says nothing of the geometry: voxels of 1 mm, {_axes_of(header)}, are taken on trust"
        ]
    if header.codes == (0, 0):
        return [
            "the header says how large the voxels are and not how they lie: "
            f"{_axes_of(header)}, are taken on trust; other programs may turn or mirror it"
        ]
    if header.sform is not None and not np.allclose(header.affine, header.sform, atol=FORM_TOLERANCE):
        return ["its sform is of a standard space: it is read as it lay in the scanner, by its qform"]
    return []


def _axes_of(header: NiftiHeader) -> str:
    """Where the file's axes lead, in words."""
    first, second, third = orientations.aff2axcodes(header.affine, LEADS)
    return f"first axis to the {first}, second to the {second}, third to the {third}"


def _is_unit(affine: NDArray[np.float64]) -> bool:
    """Whether the axes are the world's, in some order and direction, with steps of 1 mm."""
    steps = np.abs(affine[:3, :3])
    return bool(
        (np.abs(steps - np.rint(steps)) < UNIT_TOLERANCE).all() and (np.rint(steps).sum(axis=0) == 1).all()
    )


def _is_at_no_place(header: NiftiHeader) -> bool:
    """Whether the first voxel, or the middle of the grid, is simply the world's origin."""
    if header.codes == (0, 0):
        return True
    middle = header.affine @ [*((n - 1) / 2 for n in header.shape), 1]
    return any(bool((np.abs(point[:3]) < UNIT_TOLERANCE).all()) for point in (header.affine[:, 3], middle))


def turn_to_view(affine: NDArray[np.float64], *, slice_axis: int | None, name: str) -> NDArray[np.float64]:
    """How a grid's axes become slice, row and column.

    Parameters
    ----------
    affine
        (4, 4), from the grid's indices to RAS+ mm.
    slice_axis
        The grid's axis (0, 1, 2) that runs through the slices; None: found from the spacing.
    name
        The scan's, for messages.

    Returns
    -------
    NDArray[np.float64]
        (3, 2): nibabel's orientation transform.

    Raises
    ------
    ScanInvalid
        FM-D202: an impossible voxel size, axes not at right angles.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    low, high = SPACING_LIMITS_MM
    if not np.isfinite(affine).all() or spacing.min() < low or spacing.max() > high:
        raise ScanInvalid(
            f"{name} has an impossible voxel size",
            got=spacing.tolist(),
            expected=f"{low} to {high} mm",
            action=WRONG_GEOMETRY,
        )
    if abs(np.linalg.det(affine[:3, :3] / spacing)) < 0.5:
        raise ScanInvalid(
            f"{name} has an affine whose axes are not at right angles",
            got=affine[:3, :3].tolist(),
            expected="three axes that are perpendicular to each other",
            action=WRONG_GEOMETRY,
        )
    found = orientations.io_orientation(affine)
    if slice_axis is None:
        isotropic = spacing.max() <= spacing.min() * (1 + ISOTROPIC)
        slice_axis = int(np.argmax(found[:, 0] == 2) if isotropic else np.argmax(spacing))
    wanted = orientations.axcodes2ornt(VIEWS[int(found[slice_axis, 0])])
    return np.asarray(orientations.ornt_transform(found, wanted))
