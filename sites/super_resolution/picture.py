"""The picture that a model makes of two scans, wherever they come from, and what must be said beside it.

Where the reference shows nothing, the picture is zero-filled sinc, into which the model's goes over smoothly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from minet_core.checkpoint import CheckpointManifest, load_model
from minet_core.errors import InvalidSetting
from minet_core.evaluation.inference import super_resolve_frame
from minet_core.imaging.kspace_band import data_inconsistency
from minet_core.imaging.mirrored_sinc import mirrored_sinc
from minet_core.imaging.scan_figures import scan_figures
from minet_core.imaging.volume import Volume
from minet_core.models.base import SuperResolver
from minet_core.runtime.files import atomic_write
from minet_core.runtime.json_text import parse_json
from sites.registration.contour_agreement import contour_agreement
from sites.scans.dicom.write_series import WrittenSeries
from sites.settings.site_settings import RegistrationSettings
from sites.super_resolution.aligned_reference import Guide, bring_guide
from sites.super_resolution.cautions import Caution, caution_on_data, cautions_on_guide, cautions_on_kind
from sites.super_resolution.refined_grid import RefinedGrid
from sites.super_resolution.refinement_plane import Plane

HAND_OVER_MM = 6.0
"""Depth within the reference's cover over which sinc goes over into the model's picture: more than its convolutions
reach at usual pixels, less than a structure of the brain."""
MADE_BY = "fedminet infer"
PLANE_SOURCES = {
    "given": "as given",
    "frames": "the scanner's own slices",
    "dim_info": "the header says so",
    "reference": "where the reference is finer",
    "spacing": "the coarser or finer spacing of the slices",
}
Array = NDArray[np.float32]


@dataclass(frozen=True)
class SuperResolved:
    """What was written, how the reference was brought to it, and what must be said beside it.

    shape: voxels along the file's axes. spacing_mm: between them. plane: which one was refined, and who says so.
    extrapolated: rows and columns at the far edges that lie behind the input's outermost samples. covered: share of
    the target's foreground in the reference's field of view. agreement: of the contours of both scans
    (`sites.registration.contour_agreement`); None where too little is shared. data_inconsistency:
    `minet_core.imaging.kspace_band`. moved_mm, residual_mm, block_agreement: as `sites.registration.register` defines
    them; None where the reference was taken at its scanner position. sidecar: the JSON file that says the same. series:
    None where a NIfTI file was written.
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
    series: WrittenSeries | None = None

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
        if self.series is not None:
            kind = "enhanced" if self.series.enhanced else "classic"
            voxels += (
                f", {kind} DICOM ({self.series.n_files} files), values in steps of {self.series.step:.3g}"
            )
        return "\n".join([*lines, f"Written: {self.path}, {voxels}, and {self.sidecar.name}"])


@dataclass(frozen=True)
class Scans:
    """The two scans as they were read, and the grid. low_res: its slices first."""

    low_res: Volume
    reference: Volume
    plane: Plane
    grid: RefinedGrid
    remarks: list[Caution]


@dataclass(frozen=True)
class Model:
    """A model's file as it was read."""

    network: SuperResolver
    manifest: CheckpointManifest
    sha256: str

    @classmethod
    def read(cls, path: Path) -> Model:
        """Read one.

        Parameters
        ----------
        path
            Of the file.

        Returns
        -------
        Model
            On the processor.

        Raises
        ------
        CheckpointInvalid
            FM-M301: it is none.
        """
        network, manifest = load_model(path)
        return cls(network, manifest, atomic_write.sha256_of_file(path))


def make_picture(
    model: Model,
    scans: Scans,
    out: Path,
    *,
    limits: RegistrationSettings | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[Array, SuperResolved]:
    """The picture, and what is to be said of it; nothing is written.

    Parameters
    ----------
    model
        As `Model.read` gives it.
    scans
        Both, as they were read.
    out
        Where the picture will be written.
    limits
        At which registration refuses a pair; None trusts the scanner's coordinates.
    progress
        Called with (done, in all) as the model goes through the slices.

    Returns
    -------
    tuple[NDArray[np.float32], SuperResolved]
        The picture along the axes of what was read.

    Raises
    ------
    RegistrationRefused
        FM-D204: the pair is refused, or hardly overlaps.
    """
    upsampled = _upsampled(scans.low_res, scans.grid)
    guide = bring_guide(upsampled, scans.reference, scans.grid, limits=limits)
    frame = _picture(model.network, scans, upsampled, guide, progress=progress)
    picture = scans.grid.in_file_axes(frame)
    made = _described(
        out,
        scans,
        guide,
        model.manifest,
        shape=picture.shape,
        model_sha256=model.sha256,
        agreement=_agreement(scans, upsampled, guide),
        inconsistency=_inconsistency(frame, scans),
    )
    return picture, made


def _described(
    out_path: Path,
    scans: Scans,
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
        sidecar=sidecar_of(out_path),
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


def _agreement(scans: Scans, upsampled: Volume, guide: Guide) -> float | None:
    return contour_agreement(
        upsampled.magnitude(),
        guide.array,
        covered=guide.covered,
        pixel_mm=(scans.grid.spacing_mm[1] * scans.grid.spacing_mm[2]) ** 0.5,
        low_res_mm=max(scans.low_res.spacing_mm[1:]),
    )


def _upsampled(low_res: Volume, grid: RefinedGrid) -> Volume:
    """The zero-filled interpolation on the frame: what the reference is registered to."""
    image = np.stack(
        [mirrored_sinc(torch.from_numpy(one), grid.scale).numpy() for one in low_res.magnitude()]
    )
    return Volume(array=image, spacing_mm=grid.spacing_mm, affine=grid.affine, contrast="target")


def _picture(
    model: SuperResolver,
    scans: Scans,
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


def _inconsistency(frame: Array, scans: Scans) -> float:
    """Of the frame's part that begins with the first sample; an odd last row or column is left out."""
    scale, spare = scans.grid.scale, scans.grid.scale - 1
    h, w = (n - n % 2 for n in scans.low_res.array.shape[1:])
    image = frame[:, spare : spare + scale * h, spare : spare + scale * w]
    return data_inconsistency(image, scans.low_res.magnitude()[:, :h, :w], scale)


def _cautions_on_kind(scans: Scans, guide: Guide, manifest: CheckpointManifest) -> list[Caution]:
    through, down, across = scans.grid.spacing_mm
    pixel_mm = (down * across) ** 0.5
    shown = guide.array[guide.covered.any(axis=(1, 2))]
    return cautions_on_kind(
        manifest.domain,
        spacing_mm=(through, down, across),
        target=scan_figures(scans.low_res.magnitude(), pixel_mm=pixel_mm * manifest.scale),
        reference=scan_figures(shown, pixel_mm=pixel_mm),
    )


def sidecar_of(out: Path) -> Path:
    """The JSON file that says what was made: beside the output, with its name in .json.

    Parameters
    ----------
    out
        A NIfTI file or a folder.

    Returns
    -------
    Path
        In the same folder as `out`.
    """
    return out.with_name(out.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def require_sidecar(out: Path) -> None:
    """Refuse an output whose sidecar would replace a file that is none.

    Parameters
    ----------
    out
        As `sidecar_of` takes it.

    Raises
    ------
    InvalidSetting
        FM-C102: another JSON file is there.
    """
    sidecar = sidecar_of(out)
    if sidecar.exists() and not _is_ours(sidecar):
        raise InvalidSetting(
            "the output's JSON file would replace another one", got=sidecar, action="Give another output path"
        )


def _is_ours(sidecar: Path) -> bool:
    try:
        content = parse_json(sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("made_by") == MADE_BY
