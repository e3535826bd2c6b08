"""Super-resolving one scan: NIfTI in, NIfTI out, on a grid `scale` times as fine in the plane of the slices.

The new file has the axes, their order and directions of the low-resolution one, and its first voxel at the same
place: voxel (scale * i, scale * j, k) is where (i, j, k) was. So the affine's two in-plane columns are divided by
the scale and nothing else changes. Nothing but this geometry is taken over from the input's header. The last
scale - 1 rows and columns lie behind the outermost samples of the input: they are extrapolated.

The picture does not depend on how the files are laid out: `sites.super_resolution.refined_grid`. Where the reference
shows nothing, the picture is zero-filled sinc, into which the model's goes over smoothly. What gives reason for doubt
is said in cautions, here and in a JSON file beside the image.
"""

# S slice, h w low-resolution row and column; the frame of sites.super_resolution.refined_grid has scale * h +
# scale - 1 rows

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from minet_core.checkpoint import CheckpointManifest, load_model
from minet_core.errors import FileMissing, InvalidSetting
from minet_core.evaluation.inference import super_resolve_frame
from minet_core.imaging.kspace_band import data_inconsistency
from minet_core.imaging.mirrored_sinc import mirrored_sinc
from minet_core.imaging.scan_figures import scan_figures
from minet_core.imaging.volume import Volume
from minet_core.models.base import SuperResolver
from minet_core.runtime.files import atomic_write
from sites.registration.contour_agreement import contour_agreement
from sites.scans.nifti import read_nifti_with_remarks, require_geometry
from sites.scans.nifti_file import NiftiHeader, read_header
from sites.settings.site_settings import RegistrationSettings
from sites.super_resolution.aligned_reference import Guide, bring_guide
from sites.super_resolution.cautions import (
    Caution,
    caution_on_data,
    cautions_of_reading,
    cautions_on_guide,
    cautions_on_kind,
)
from sites.super_resolution.refined_grid import RefinedGrid, refined_grid
from sites.super_resolution.refinement_plane import Plane, find_plane, parallel_axis

HAND_OVER_MM = 6.0
"""Depth within the reference's cover over which sinc goes over into the model's picture: more than its convolutions
reach at usual pixels, less than a structure of the brain."""
MADE_BY = "fedminet infer"
PLANE_SOURCES = {
    "given": "as given",
    "dim_info": "the header says so",
    "reference": "where the reference is finer",
    "spacing": "the coarser or finer spacing of the slices",
}
FORM_TOLERANCE_MM = 0.01
"""Two forms of one header within this at every corner say the same."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class SuperResolved:
    """What was written, how the reference was brought to it, and what must be said beside it.

    shape: voxels along the file's axes. spacing_mm: between them. plane: which one was refined, and who says so.
    extrapolated: rows and columns at the far edges that lie behind the input's outermost samples. covered: share of
    the target's foreground in the reference's field of view. agreement: of the contours of both scans
    (`sites.registration.contour_agreement`); None where too little is shared. data_inconsistency:
    `minet_core.imaging.kspace_band`. moved_mm, residual_mm, block_agreement: as `sites.registration.register` defines
    them; None where the reference was taken at its scanner position. sidecar: the JSON file that says the same.
    """

    path: Path
    sidecar: Path
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    plane: Plane
    extrapolated: int
    model_sha256: str
    covered: float
    agreement: float | None
    data_inconsistency: float
    moved_mm: float | None
    residual_mm: float | None
    block_agreement: float | None
    cautions: tuple[Caution, ...]

    def as_json(self) -> dict[str, Any]:
        """What was made, as plain values: no path, and nothing of the patient.

        Returns
        -------
        dict[str, Any]
            What the sidecar holds.
        """
        content = asdict(self)
        del content["path"], content["sidecar"]
        return {"made_by": MADE_BY, "use": "research output, not for diagnosis", **content}

    def as_text(self) -> str:
        """For a person."""
        lines = [f"Refined: the {self.plane.name} plane ({PLANE_SOURCES[self.plane.source]})"]
        if self.moved_mm is not None:
            lines.append(f"Reference moved by {self.moved_mm:.2f} mm, residual {self.residual_mm:.2f} mm")
        lines.append(
            f"Reference covers {self.covered:.0%} of the anatomy"
            + ("" if self.agreement is None else f"; its contours agree by {self.agreement:.2f}")
        )
        lines.append(
            f"Extrapolated: the last {self.extrapolated} rows and columns, behind the outermost samples"
        )
        lines += [f"CAUTION {caution.code}: {caution.sentence}" for caution in self.cautions]
        voxels = f"{self.shape} voxels of {tuple(round(mm, 4) for mm in self.spacing_mm)} mm"
        return "\n".join([*lines, f"Written: {self.path}, {voxels}, and {self.sidecar.name}"])


@dataclass(frozen=True)
class _Scans:
    """The two scans as they were read, and the grid. low_res: its slices first."""

    low_res: Volume
    reference: Volume
    file: NiftiHeader
    plane: Plane
    grid: RefinedGrid
    remarks: list[Caution]


def super_resolve_file(
    model_path: Path,
    target_path: Path,
    reference_path: Path,
    out_path: Path,
    *,
    register: bool = True,
    registration: RegistrationSettings | None = None,
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
        A name in .nii or .nii.gz; the sidecar has the same name in .json.
    register
        Find the rigid motion between the scans; False trusts the scanner's coordinates.
    registration
        The limits at which a pair is refused; None: the defaults.
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
    >>> from sites.super_resolution.super_resolve import super_resolve_file
    >>> scan = make_patient(dataclasses.replace(SITES["sms"], matrix=(64, 64), n_slices=4), seed=1)
    >>> model, target, reference, out = map(Path, ("model.safetensors", "T2.nii.gz", "T1.nii.gz", "fine.nii.gz"))
    >>> write_nifti(target, scan.target)
    >>> write_nifti(reference, scan.reference)
    >>> federation = federation_of(name="pilot", sites=("north",), preset="quick", scale=2, rounds=3)
    >>> save_weights(model, federation, initial_weights(federation)[1], round_number=0)
    >>> made = super_resolve_file(model, target, reference, out, register=False)
    >>> made.shape, made.plane.name, made.sidecar.name
    ((128, 128, 4), 'axial', 'fine.json')
    """
    _check_paths(target_path, reference_path, out_path, slice_axis=slice_axis)
    model, manifest = load_model(model_path)
    scans = _read(target_path, reference_path, scale=manifest.scale, slice_axis=slice_axis)
    upsampled = _upsampled(scans.low_res, scans.grid)
    limits = (registration or RegistrationSettings()) if register else None
    guide = bring_guide(upsampled, scans.reference, scans.grid, limits=limits)
    frame = _picture(model, scans, upsampled, guide, progress=progress)
    in_file = scans.grid.in_file_axes(frame)
    made = _described(
        out_path,
        scans,
        guide,
        manifest,
        shape=in_file.shape,
        model_sha256=atomic_write.sha256_of_file(model_path),
        agreement=_agreement(scans, upsampled, guide),
        inconsistency=_inconsistency(frame, scans),
    )
    _write(out_path, in_file, scans, model_sha256=made.model_sha256)
    atomic_write.write_json(made.sidecar, made.as_json())
    return made


def _described(
    out_path: Path,
    scans: _Scans,
    guide: Guide,
    manifest: CheckpointManifest,
    *,
    shape: tuple[int, ...],
    model_sha256: str,
    agreement: float | None,
    inconsistency: float,
) -> SuperResolved:
    """What is said of the picture that is written to `out_path`. shape: of it, in the file's axes."""
    spacing = [float(step) for step in np.linalg.norm(scans.grid.file_affine[:3, :3], axis=0)]
    found = guide.registered
    return SuperResolved(
        path=out_path,
        sidecar=_sidecar(out_path),
        shape=(shape[0], shape[1], shape[2]),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        plane=scans.plane,
        extrapolated=manifest.scale - 1,
        model_sha256=model_sha256,
        covered=guide.covered_share,
        agreement=agreement,
        data_inconsistency=inconsistency,
        moved_mm=None if found is None else found.moved_mm,
        residual_mm=None if found is None else found.residual_mm,
        block_agreement=None if found is None else found.agreement,
        cautions=(
            *scans.remarks,
            *cautions_on_guide(covered_share=guide.covered_share, agreement=agreement),
            *_cautions_on_kind(scans, guide, manifest),
            *caution_on_data(inconsistency),
        ),
    )


def _agreement(scans: _Scans, upsampled: Volume, guide: Guide) -> float | None:
    return contour_agreement(
        upsampled.magnitude(),
        guide.array,
        covered=guide.covered,
        pixel_mm=(scans.grid.spacing_mm[1] * scans.grid.spacing_mm[2]) ** 0.5,
        low_res_mm=max(scans.low_res.spacing_mm[1:]),
    )


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
    if out.resolve() in (target.resolve(), reference.resolve()):
        raise InvalidSetting(
            "the output would replace a scan it is made from", got=out, action="Give another output path"
        )
    sidecar = _sidecar(out)
    if sidecar.exists() and not _is_ours(sidecar):
        raise InvalidSetting(
            "the output's JSON file would replace another one", got=sidecar, action="Give another output path"
        )
    if slice_axis not in (None, 0, 1, 2):
        raise InvalidSetting("there is no such slice axis", got=slice_axis, expected="0, 1 or 2")


def _sidecar(out: Path) -> Path:
    return out.with_name(out.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def _is_ours(sidecar: Path) -> bool:
    try:
        content = json.loads(sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("made_by") == MADE_BY


def _read(target_path: Path, reference_path: Path, *, scale: int, slice_axis: int | None) -> _Scans:
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
        slice_axis=parallel_axis(file, other, plane.slice_axis),
        trust_geometry=trusted,
    )
    remarks = [*cautions_of_reading("target", on_target), *cautions_of_reading("reference", on_reference)]
    return _Scans(low_res, reference, file, plane, refined_grid(low_res, file, scale=scale), remarks)


def _upsampled(low_res: Volume, grid: RefinedGrid) -> Volume:
    """The zero-filled interpolation on the frame: what the reference is registered to."""
    image = np.stack(
        [mirrored_sinc(torch.from_numpy(one), grid.scale).numpy() for one in low_res.magnitude()]
    )
    return Volume(array=image, spacing_mm=grid.spacing_mm, affine=grid.affine, contrast="target")


def _picture(
    model: SuperResolver,
    scans: _Scans,
    upsampled: Volume,
    guide: Guide,
    *,
    progress: Callable[[int, int], None] | None,
) -> Array:
    """The model's picture on the frame, and zero-filled sinc where the reference shows nothing."""
    high_res = super_resolve_frame(
        model,
        scans.low_res.magnitude(),
        guide.array,
        covered=guide.covered,
        scale=scans.grid.scale,
        progress=progress,
    )
    if guide.covered.all():
        return high_res
    _, down, across = scans.grid.spacing_mm
    # A slice's picture owes nothing to its neighbours: across the slices one that is half of each makes no seam.
    depth_mm = ndimage.distance_transform_edt(guide.covered, sampling=(HAND_OVER_MM / 2, down, across))
    part = np.clip(depth_mm / HAND_OVER_MM, 0, 1)
    part = (part * part * (3 - 2 * part)).astype(np.float32)  # without a bend at either end
    blended = part * np.nan_to_num(high_res) + (1 - part) * upsampled.magnitude()
    return np.asarray(blended, dtype=np.float32)


def _inconsistency(frame: Array, scans: _Scans) -> float:
    """Of the frame's part that begins with the first sample; an odd last row or column is left out."""
    scale, spare = scans.grid.scale, scans.grid.scale - 1
    h, w = (n - n % 2 for n in scans.low_res.array.shape[1:])
    image = frame[:, spare : spare + scale * h, spare : spare + scale * w]
    return data_inconsistency(image, scans.low_res.magnitude()[:, :h, :w], scale)


def _cautions_on_kind(scans: _Scans, guide: Guide, manifest: CheckpointManifest) -> list[Caution]:
    through, down, across = scans.grid.spacing_mm
    pixel_mm = (down * across) ** 0.5
    shown = guide.array[guide.covered.any(axis=(1, 2))]
    return cautions_on_kind(
        manifest.domain,
        spacing_mm=(through, down, across),
        target=scan_figures(scans.low_res.magnitude(), pixel_mm=pixel_mm * manifest.scale),
        reference=scan_figures(shown, pixel_mm=pixel_mm),
    )


def _write(path: Path, array: Array, scans: _Scans, *, model_sha256: str) -> None:
    nifti_image: Any = nibabel.Nifti1Image  # nibabel's own methods carry no types
    image = nifti_image(array, None)
    _set_forms(image.header, scans)
    image.header.set_xyzt_units("mm")
    image.header.set_dim_info(slice=scans.grid.order[0])
    said = f"fedminet, model {model_sha256[:16]}: research output, not for diagnosis; {scans.plane.name}"
    image.header["descrip"] = said
    content = image.to_bytes()
    if path.name.endswith(".gz"):
        content = gzip.compress(content, compresslevel=6, mtime=0)
    with atomic_write.replacing(path) as temporary:
        temporary.write_bytes(content)


def _set_forms(header: Any, scans: _Scans) -> None:
    """The forms that the input has, with its codes, on the finer grid.

    A quaternion holds no shear. Where the input has both forms under one code and they are not the same place, what
    the reading went by stays, sform, and qform is marked as unknown. Forms of two codes are of two spaces, and stay.
    """
    file, grid = scans.file, scans.grid
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
