"""Super-resolving one scan: NIfTI in, NIfTI out, on a grid `scale` times as fine in the plane of the slices.

The new file has the axes, their order and directions of the low-resolution one, and its first voxel at the same
place: voxel (scale * i, scale * j, k) is where (i, j, k) was. So the affine's two in-plane columns are divided by
the scale and nothing else changes. Nothing but this geometry is taken over from the input's header. The last
scale - 1 rows and columns lie behind the outermost samples of the input: they are extrapolated.

The picture (`sites.super_resolution.picture`) does not depend on how the files are laid out:
`sites.super_resolution.refined_grid`. What gives reason for doubt is said in cautions, here and in a JSON file beside
the image. A map of error bars is a file of the same kind beside it.
"""

# S slice, h w low-resolution row and column; the frame of sites.super_resolution.refined_grid has scale * h +
# scale - 1 rows

from __future__ import annotations

import dataclasses
import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from minet_core.errors import FileMissing, InvalidSetting
from minet_core.runtime.files import atomic_write
from sites.scans.nifti import read_nifti_with_remarks, require_geometry
from sites.scans.nifti_file import NiftiHeader, read_header
from sites.super_resolution.believed_reference import AS_USUAL, PictureOptions
from sites.super_resolution.cautions import cautions_of_reading
from sites.super_resolution.picture import Array, Model, Scans, make_picture
from sites.super_resolution.refined_grid import RefinedGrid, refined_grid
from sites.super_resolution.refinement_plane import find_plane, parallel_axis
from sites.super_resolution.side_car import SuperResolved, require_sidecar

USE = "research output, not for diagnosis"
DESCRIBED = "fedminet, model "
"""How the description in a picture's header begins."""
FORM_TOLERANCE_MM = 0.01
"""Two forms of one header within this at every corner say the same."""


def super_resolve_file(
    model_path: Path,
    target_path: Path,
    reference_path: Path,
    out_path: Path,
    *,
    options: PictureOptions = AS_USUAL,
    slice_axis: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SuperResolved:
    """Super-resolve one scan, guided by another; write the image and its sidecar.

    Parameters
    ----------
    model_path
        A model's file.
    target_path, reference_path
        The low-resolution scan and the one that guides, .nii or .nii.gz.
    out_path
        A name in .nii or .nii.gz; the sidecar has the same name in .json, error bars that of `map_file_of`.
    options
        How the picture is made.
    slice_axis
        The target file's axis (0, 1, 2) through the slices; None: as `find_plane` finds
        it.
    progress
        Called with (done, in all) as the model goes through the slices.

    Returns
    -------
    SuperResolved
        What was written, and what must be said beside it.

    Raises
    ------
    FileMissing
        FM-C103: a scan is not there.
    InvalidSetting
        FM-C102: the output's name or place, the slice axis, or a plane that cannot be told.
    ScanUnreadable, ScanInvalid
        FM-D201, FM-D202: such as one slice, or NaN.
    RegistrationRefused
        FM-D204: the pair is refused, or hardly overlaps.
    CheckpointInvalid
        FM-M301: the model's file is none.
    DiskFull
        FM-S504, or another kind of FileNotWritten.

    Examples
    --------
    >>> import dataclasses
    >>> from pathlib import Path
    >>> from minet_core.checkpoint import save_weights
    >>> from minet_core.phantom.acquisition import SITES
    >>> from minet_core.phantom.patient import make_patient
    >>> from minet_core.protocol.exchange_plan import initial_weights
    >>> from minet_core.settings.presets import federation_of
    >>> from sites.phantom_files import write_nifti
    >>> from sites.super_resolution.believed_reference import PictureOptions
    >>> from sites.super_resolution.super_resolve import super_resolve_file
    >>> scan = make_patient(dataclasses.replace(SITES["sms"], matrix=(64, 64), n_slices=4), seed=1)
    >>> model, target, reference, out = map(Path, ("model.safetensors", "T2.nii.gz", "T1.nii.gz", "fine.nii.gz"))
    >>> write_nifti(target, scan.target)
    >>> write_nifti(reference, scan.reference)
    >>> federation = federation_of(name="pilot", sites=("north",), preset="quick", scale=2, rounds=3)
    >>> save_weights(model, federation, initial_weights(federation)[1], round_number=0)
    >>> made = super_resolve_file(model, target, reference, out, options=PictureOptions(register=False))
    >>> made.shape, made.plane.name, made.sidecar.name
    ((128, 128, 4), 'axial', 'fine.json')
    """
    _check_paths(target_path, reference_path, out_path, slice_axis=slice_axis)
    beside = map_file_of(out_path)
    if options.uncertainty:
        _require_own_place(beside, target_path, reference_path)
    model = Model.read(model_path)
    scans, file = _read(target_path, reference_path, scale=model.manifest.scale, slice_axis=slice_axis)
    picture, made = make_picture(model, scans, out_path, options=options, progress=progress)
    _write(out_path, picture.array, scans, file, said=f"{made.model_sha256[:16]}: {USE}; {scans.plane.name}")
    if picture.errors is not None:
        said = f"{made.model_sha256[:16]}: {picture.errors.label}, not for diagnosis"
        _write(beside, picture.errors.values, scans, file, said=said)
        made = dataclasses.replace(made, uncertainty=picture.errors.figures(picture.array, file=beside.name))
    atomic_write.write_json(made.sidecar, made.as_json())
    return made


def map_file_of(out: Path) -> Path:
    """The file of the error bars: beside the picture, `fine-uncertainty.nii.gz` of `fine.nii.gz`.

    Parameters
    ----------
    out
        The picture's file, in .nii or .nii.gz.

    Returns
    -------
    Path
        In the same folder.
    """
    suffix = ".nii.gz" if out.name.endswith(".nii.gz") else ".nii"
    return out.with_name(f"{out.name.removesuffix(suffix)}-uncertainty{suffix}")


def _check_paths(target: Path, reference: Path, out: Path, *, slice_axis: int | None) -> None:
    for role, path in (("target", target), ("reference", reference)):
        if not path.is_file():
            raise FileMissing(
                f"the {role} scan is missing", got=path, action="Give the path of an existing file"
            )
    if not out.name.endswith((".nii", ".nii.gz")):
        raise InvalidSetting(
            "the output is not a NIfTI file", got=out.name, expected="a name in .nii or .nii.gz"
        )
    _require_own_place(out, target, reference)
    require_sidecar(out)
    if slice_axis not in (None, 0, 1, 2):
        raise InvalidSetting("there is no such slice axis", got=slice_axis, expected="0, 1 or 2")


def _require_own_place(out: Path, target: Path, reference: Path) -> None:
    """The place of a new file, or of a former picture: a scan that lies there may be nowhere else."""
    if out.resolve() in (target.resolve(), reference.resolve()):
        raise InvalidSetting(
            "the output would replace a scan it is made from", got=out, action="Give another output path"
        )
    if out.exists() and not _is_ours(out):
        raise InvalidSetting(
            "the output would replace a file that `fedminet infer` did not write",
            got=out,
            expected="a new name, or that of a former picture",
            action="Give another output path",
        )


def _is_ours(path: Path) -> bool:
    """Whether the header's description, 80 bytes from byte 148 on, begins as `_write` writes it."""
    opened = gzip.open if path.name.endswith(".gz") else open
    try:
        with opened(path, "rb") as stream:
            return bytes(stream.read(228)[148:]).startswith(DESCRIBED.encode("ascii"))
    except (OSError, EOFError, zlib.error):
        return False


def _read(
    target_path: Path, reference_path: Path, *, scale: int, slice_axis: int | None
) -> tuple[Scans, NiftiHeader]:
    """Both scans with their slices in one plane. What the user says of the plane is said of the geometry too."""
    file, other = read_header(target_path), read_header(reference_path)
    trusted = slice_axis is not None
    require_geometry(file, name=target_path.name, trusted=trusted)
    require_geometry(other, name=reference_path.name, trusted=trusted)
    plane = find_plane(file, other, scale=scale, given=slice_axis)
    low_res, on_target = read_nifti_with_remarks(
        target_path, contrast="target", slice_axis=plane.slice_axis, trust_geometry=trusted
    )
    reference, on_reference = read_nifti_with_remarks(
        reference_path,
        contrast="reference",
        slice_axis=parallel_axis(file.affine, other.affine, plane.slice_axis),
        trust_geometry=trusted,
    )
    remarks = [*cautions_of_reading("target", on_target), *cautions_of_reading("reference", on_reference)]
    grid = refined_grid(low_res, file.affine, scale=scale)
    return Scans(low_res, reference, plane, grid, remarks), file


def _write(path: Path, array: Array, scans: Scans, file: NiftiHeader, *, said: str) -> None:
    """said: after "fedminet, model", in the 79 characters that a header has for a description."""
    nifti_image: Any = nibabel.Nifti1Image  # nibabel's own methods carry no types
    image = nifti_image(array, None)
    _set_forms(image.header, file, scans.grid)
    image.header.set_xyzt_units("mm")
    image.header.set_dim_info(slice=scans.grid.order[0])
    image.header["descrip"] = f"{DESCRIBED}{said}"
    content = image.to_bytes()
    if path.name.endswith(".gz"):
        content = gzip.compress(content, compresslevel=6, mtime=0)
    with atomic_write.replacing(path) as temporary:
        temporary.write_bytes(content)


def _set_forms(header: Any, file: NiftiHeader, grid: RefinedGrid) -> None:
    """The forms that the input has, with its codes, on the finer grid.

    A quaternion holds no shear. Where the input has both forms under one code and they are not the same place, what
    the reading went by stays, sform, and qform is marked as unknown. Forms of two codes are of two spaces, and stay.
    """
    header.set_qform(grid.file_affine, code=0)  # the voxel sizes
    if file.qform is not None:
        header.set_qform(grid.refined(file.qform), code=file.codes[1])
    if file.sform is None:
        header.set_sform(None, code=0)
        return
    header.set_sform(grid.refined(file.sform), code=file.codes[0])
    if file.qform is not None and file.codes[0] == file.codes[1] and not _say_the_same(header):
        header.set_qform(grid.file_affine, code=0)


def _say_the_same(header: Any) -> bool:
    shape = header.get_data_shape()
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])  # (4, 8)
    return bool(np.abs((header.get_sform() - header.get_qform()) @ corners).max() <= FORM_TOLERANCE_MM)
