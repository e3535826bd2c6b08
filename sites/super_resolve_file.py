"""Super-resolving one scan: NIfTI in, NIfTI out, on a grid `scale` times as fine in the plane of the slices.

The new file has the axes, their order and directions of the low-resolution one, and its first voxel at the same
place: voxel (scale * i, scale * j, k) is where (i, j, k) was. So the affine's two in-plane columns are divided by
the scale and nothing else changes. Nothing but this geometry is taken over from the input's header.

Inside, slices are turned to the view the model was trained on. Where that reverses an axis, the grid's spare
samples lie before the first low-resolution sample and not behind the last; zero-filled interpolation is periodic,
so the arrays are rolled by that many samples on the way in and back on the way out.
"""

# S slice, h w low-resolution row and column, H = scale * h, W = scale * w

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813 (the name its own manual uses)
import torch
from numpy.typing import NDArray

from minet_core.checkpoint import load_model
from minet_core.inference import super_resolve
from minet_core.interpolation import sinc
from minet_core.runtime import durable
from minet_core.runtime.errors import FileMissing, InvalidSetting, RegistrationRefused
from minet_core.volume import Volume
from sites.quality import foreground
from sites.read_nifti import ISOTROPIC, read_nifti
from sites.registration import Registered, resample, same_grid
from sites.registration import register as register_reference
from sites.site_settings import RegistrationSettings

LEAST_COVERED = 0.5
"""Share of the target's foreground that the reference must show; outside it the model is guided by nothing."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class SuperResolved:
    """What was written, and how the reference was brought to it.

    shape: voxels along the file's axes. spacing_mm: between them. covered: share of the target's foreground in
    the reference's field of view. moved_mm, residual_mm, agreement: as `sites.registration` defines them; None
    where the reference was taken at its scanner position.
    """

    path: Path
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    model_sha256: str
    covered: float
    moved_mm: float | None
    residual_mm: float | None
    agreement: float | None


@dataclass(frozen=True)
class Grid:
    """The high-resolution grid in the turned axes (slice, row, column), and how it lies to the file's.

    roll: samples by which (row, column) arrays are rolled between the model's order and the grid's.
    order: file axis of each turned axis. flips: turned axes that the file counts the other way.
    file_affine: of the new file, to RAS+ mm.
    """

    affine: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    roll: tuple[int, int]
    order: tuple[int, int, int]
    flips: tuple[int, ...]
    file_affine: NDArray[np.float64]


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
    """Super-resolve the scan in `target_path`, guided by the one in `reference_path`, and write `out_path`.

    register: find the rigid motion between the scans; False trusts the scanner's coordinates. registration: the
    limits at which a pair is refused. slice_axis: the target file's axis (0, 1, 2) through the slices; None: the
    one whose spacing differs from the two others, or the largest, or superior-inferior for isotropic voxels.

    Raises FileMissing (FM-C103), InvalidSetting (FM-C102), ScanUnreadable (FM-D201), ScanInvalid (FM-D202) for one
    slice or NaN, RegistrationRefused (FM-D204), CheckpointInvalid (FM-M301), DiskFull (FM-S504).
    """
    _check_paths(target_path, reference_path, out_path, slice_axis=slice_axis)
    model, manifest = load_model(model_path)
    low_res, file_affine = _read_target(target_path, slice_axis=slice_axis)
    reference = read_nifti(reference_path, contrast="reference")
    grid = _high_res_grid(low_res, file_affine, scale=manifest.scale)
    upsampled = _upsampled(low_res, grid, scale=manifest.scale)
    if register:
        found = _registered(upsampled, reference, limits=registration or RegistrationSettings())
        guide, in_view = found.reference, found.covered
    else:
        found = None
        guide, in_view = _as_it_lies(upsampled, reference)
    covered = _covered_share(upsampled, in_view)

    high_res = super_resolve(
        model,
        low_res.magnitude(),
        _rolled(guide.magnitude(), grid, sign=-1),
        scale=manifest.scale,
        progress=progress,
    )
    in_file = _in_file_axes(_rolled(high_res, grid, sign=+1), grid)
    digest = durable.sha256_of_file(model_path)
    _write(out_path, in_file, grid, model_sha256=digest)
    spacing = np.linalg.norm(grid.file_affine[:3, :3], axis=0)
    return SuperResolved(
        path=out_path,
        shape=(in_file.shape[0], in_file.shape[1], in_file.shape[2]),
        spacing_mm=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        model_sha256=digest,
        covered=covered,
        moved_mm=None if found is None else found.moved_mm,
        residual_mm=None if found is None else found.residual_mm,
        agreement=None if found is None else found.agreement,
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
    if slice_axis not in (None, 0, 1, 2):
        raise InvalidSetting("there is no such slice axis", got=slice_axis, expected="0, 1 or 2")


def _read_target(path: Path, *, slice_axis: int | None) -> tuple[Volume, NDArray[np.float64]]:
    """The low-resolution volume, its slices first, and the affine in the file's own axes."""
    volume = read_nifti(path, contrast="target", slice_axis=slice_axis)
    image: Any = nibabel.load(path)
    file_affine = np.asarray(image.affine, dtype=np.float64)
    thin_axis = _thin_axis(np.linalg.norm(file_affine[:3, :3], axis=0))
    if slice_axis is None and thin_axis is not None:
        volume = read_nifti(path, contrast="target", slice_axis=thin_axis)
    return volume, file_affine


def _thin_axis(spacing: NDArray[np.float64]) -> int | None:
    """The axis of the smallest spacing where the two others are alike: slices thinner than their coarse pixels."""
    axis = int(np.argmin(spacing))
    others = np.delete(spacing, axis)
    alike = others.max() <= others.min() * (1 + ISOTROPIC)
    return axis if alike and others.min() > spacing[axis] * (1 + ISOTROPIC) else None


def _high_res_grid(low_res: Volume, file_affine: NDArray[np.float64], *, scale: int) -> Grid:
    turned = np.linalg.solve(file_affine[:3, :3], low_res.affine[:3, :3])  # a signed permutation
    order = tuple(int(axis) for axis in np.abs(turned).argmax(axis=0))
    flips = tuple(axis for axis in range(3) if turned[order[axis], axis] < 0)
    affine, new_file_affine = low_res.affine.copy(), file_affine.copy()
    for axis in (1, 2):
        if axis in flips:
            affine[:, 3] -= low_res.affine[:, axis] * (scale - 1) / scale
        affine[:, axis] /= scale
        new_file_affine[:, order[axis]] /= scale
    through, down, across = low_res.spacing_mm
    return Grid(
        affine=affine,
        spacing_mm=(through, down / scale, across / scale),
        roll=((scale - 1) * (1 in flips), (scale - 1) * (2 in flips)),
        order=(order[0], order[1], order[2]),
        flips=flips,
        file_affine=new_file_affine,
    )


def _upsampled(low_res: Volume, grid: Grid, *, scale: int) -> Volume:
    """The zero-filled interpolation: what the reference is registered to."""
    image = sinc(torch.from_numpy(low_res.magnitude()), scale, non_negative=True).numpy()  # (S, H, W)
    return Volume(
        array=_rolled(image, grid, sign=+1), spacing_mm=grid.spacing_mm, affine=grid.affine, contrast="target"
    )


def _registered(upsampled: Volume, reference: Volume, *, limits: RegistrationSettings) -> Registered:
    return register_reference(upsampled, reference, limits=limits)


def _as_it_lies(upsampled: Volume, reference: Volume) -> tuple[Volume, NDArray[np.bool_] | None]:
    """The reference on the target's grid by the scanner's coordinates alone, and where it has data."""
    if same_grid(upsampled, reference):
        return reference, None
    identity = sitk.Transform()  # type: ignore[no-untyped-call]
    return resample(reference, target=upsampled, transform=identity)


def _covered_share(upsampled: Volume, in_view: NDArray[np.bool_] | None) -> float:
    if in_view is None:
        return 1.0
    covered = float(in_view[foreground(upsampled.magnitude())].mean())
    if covered < LEAST_COVERED:
        raise RegistrationRefused(
            "the reference does not show the target's field of view",
            got=f"{covered:.0%} of the target's foreground",
            expected=f"at least {LEAST_COVERED:.0%}",
            action="See that both scans are of one patient and one region",
        )
    return covered


def _rolled(array: Array, grid: Grid, *, sign: int) -> Array:
    """(S, H, W) from the model's order to the grid's (+1), or back (-1)."""
    return np.roll(array, (sign * grid.roll[0], sign * grid.roll[1]), axis=(1, 2))


def _in_file_axes(array: Array, grid: Grid) -> Array:
    return np.transpose(np.flip(array, grid.flips), np.argsort(grid.order))


def _write(path: Path, array: Array, grid: Grid, *, model_sha256: str) -> None:
    nifti_image: Any = nibabel.Nifti1Image  # nibabel's own methods carry no types
    image = nifti_image(array, grid.file_affine)
    image.set_sform(grid.file_affine, code="scanner")
    image.set_qform(grid.file_affine, code="scanner")
    image.header.set_xyzt_units("mm")
    image.header.set_dim_info(slice=grid.order[0])
    image.header["descrip"] = f"fedminet, model {model_sha256[:16]}: research output, not for diagnosis"
    content = image.to_bytes()
    if path.name.endswith(".gz"):
        content = gzip.compress(content, compresslevel=6, mtime=0)
    with durable.replacing(path) as temporary:
        temporary.write_bytes(content)
