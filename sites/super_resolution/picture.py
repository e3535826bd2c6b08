"""The picture that a model makes of two scans, wherever they come from, and what must be said beside it.

Where the reference shows nothing, the picture is zero-filled sinc, into which the model's goes over smoothly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from minet_core.checkpoint import CheckpointManifest, load_model
from minet_core.errors import InvalidSetting
from minet_core.evaluation.inference import super_resolve_frame
from minet_core.evaluation.reference_gate import TILE_PX, ReferenceGate, judge_reference
from minet_core.exported.onnx_runtime import load_onnx_model
from minet_core.imaging.kspace_band import data_inconsistency, detail_outside_band
from minet_core.imaging.mirrored_sinc import mirrored_sinc
from minet_core.imaging.scan_figures import scan_figures
from minet_core.imaging.volume import Volume
from minet_core.runtime.files import atomic_write
from minet_core.runtime.json_text import parse_json
from sites.registration.contour_agreement import contour_agreement
from sites.scans.dicom.write_series import WrittenSeries
from sites.settings.site_settings import RegistrationSettings
from sites.super_resolution.aligned_reference import Guide, bring_guide
from sites.super_resolution.cautions import (
    Caution,
    caution_on_data,
    caution_on_interpolation,
    cautions_on_gate,
    cautions_on_guide,
    cautions_on_kind,
)
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


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """How the picture is made.

    register: find the rigid motion between the scans; False trusts the scanner's coordinates. registration: the limits
    at which a pair is refused; None: the defaults. gate: make the picture without the reference where it does not
    agree with the scan, if the model can; False: as the model has it, and what the gate found is still said.
    data_consistent: put what was measured back into the picture (`minet_core.imaging.data_consistency`).
    """

    register: bool = True
    registration: RegistrationSettings | None = None
    gate: bool = True
    data_consistent: bool = False

    @property
    def limits(self) -> RegistrationSettings | None:
        """Of registration; None where there is none."""
        return (self.registration or RegistrationSettings()) if self.register else None


AS_USUAL = PictureOptions()


@dataclass(frozen=True)
class GateFigures:
    """What the gate found (`minet_core.evaluation.reference_gate`) and what was done about it.

    agreement, misplacement: of the whole. trusted: share of the target's structure where the reference is believed.
    wrong: whether the reference is named. without_reference: share of the target's structure that was made on the
    target alone; 0 where the model cannot or was not to.
    """

    agreement: float
    misplacement: float
    trusted: float
    wrong: bool
    without_reference: float


@dataclass(frozen=True)
class SuperResolved:
    """What was written, how the reference was brought to it, and what must be said beside it.

    shape: voxels along the file's axes. spacing_mm: between them. plane: which one was refined, and who says so.
    extrapolated: rows and columns at the far edges that lie behind the input's outermost samples. covered: share of
    the target's foreground in the reference's field of view. agreement: of the contours of both scans
    (`sites.registration.contour_agreement`); None where too little is shared. data_inconsistency:
    `minet_core.imaging.kspace_band`. data_consistent: whether what was measured was put back. detail: energy outside
    the measured band, over the picture's. gate: None for slices too small to be judged. moved_mm, residual_mm,
    block_agreement: as `sites.registration.register` defines them; None where the reference was taken at its scanner
    position. sidecar: the JSON file that says the same. series:
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
    data_consistent: bool
    detail: float
    gate: GateFigures | None
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
        if self.gate is not None:
            lines.append(
                f"Reference believed for {self.gate.trusted:.0%} of the structure; "
                f"{self.gate.without_reference:.0%} made without it"
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

    network: nn.Module
    manifest: CheckpointManifest
    sha256: str

    @classmethod
    def read(cls, path: Path) -> Model:
        """Read one.

        Parameters
        ----------
        path
            Of the file: a checkpoint for torch, or what `fedminet export` made of one for ONNX Runtime, in .onnx.

        Returns
        -------
        Model
            On the processor.

        Raises
        ------
        ConfigurationError
            FM-C100: an exported model, and ONNX Runtime is not installed.
        CheckpointInvalid
            FM-M301: it is none.
        """
        network: nn.Module
        if path.suffix == ".onnx":
            network, manifest = load_onnx_model(path)
        else:
            network, manifest = load_model(path)
        return cls(network, manifest, atomic_write.sha256_of_file(path))


def make_picture(
    model: Model,
    scans: Scans,
    out: Path,
    *,
    options: PictureOptions = AS_USUAL,
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
    options
        How it is made.
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
    guide = bring_guide(upsampled, scans.reference, scans.grid, limits=options.limits)
    gate = _gate(upsampled, guide, scale=scans.grid.scale)
    falls_back = options.gate and model.manifest.knows_absence
    maker = _Maker(model.network, scans, options.data_consistent, progress)
    frame = maker.picture(upsampled, guide, gate if falls_back else None)
    picture = scans.grid.in_file_axes(frame)
    made = SuperResolved(
        path=out,
        sidecar=sidecar_of(out),
        shape=(picture.shape[0], picture.shape[1], picture.shape[2]),
        spacing_mm=_spacing(scans.grid),
        plane=scans.plane,
        extrapolated=model.manifest.scale - 1,
        model_sha256=model.sha256,
        covered=guide.covered_share,
        agreement=_agreement(scans, upsampled, guide),
        data_inconsistency=_inconsistency(frame, scans),
        data_consistent=options.data_consistent,
        detail=_detail(frame, scans),
        gate=None if gate is None else _gate_figures(gate, falls_back=falls_back),
        moved_mm=None if guide.registered is None else guide.registered.moved_mm,
        residual_mm=None if guide.registered is None else guide.registered.residual_mm,
        block_agreement=None if guide.registered is None else guide.registered.agreement,
        cautions=(),
    )
    return picture, replace(made, cautions=_cautions(made, scans, guide, model.manifest))


def _cautions(
    made: SuperResolved, scans: Scans, guide: Guide, manifest: CheckpointManifest
) -> tuple[Caution, ...]:
    gate = made.gate
    said = [
        *scans.remarks,
        *cautions_on_guide(covered_share=guide.covered_share, agreement=made.agreement),
        *([] if gate is None or not gate.wrong else cautions_on_gate(**asdict(gate))),
        *_cautions_on_kind(scans, guide, manifest),
        *caution_on_data(made.data_inconsistency),
    ]
    return (
        *said,
        *caution_on_interpolation(said, falls_back=gate is not None and gate.without_reference > 0),
    )


def _spacing(grid: RefinedGrid) -> tuple[float, float, float]:
    spacing = [float(step) for step in np.linalg.norm(grid.file_affine[:3, :3], axis=0)]
    return (spacing[0], spacing[1], spacing[2])


def _gate(upsampled: Volume, guide: Guide, *, scale: int) -> ReferenceGate | None:
    """None for slices of less than two tiles, of which nothing can be told."""
    if min(guide.array.shape[1:]) < 2 * TILE_PX:
        return None
    return judge_reference(upsampled.magnitude(), guide.array, scale=scale, covered=guide.covered)


def _gate_figures(gate: ReferenceGate, *, falls_back: bool) -> GateFigures:
    return GateFigures(
        agreement=round(gate.agreement, 4),
        misplacement=round(gate.misplacement, 4),
        trusted=round(gate.trusted, 4),
        wrong=gate.wrong,
        without_reference=round(1 - gate.trusted, 4) if falls_back else 0.0,
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


@dataclass(frozen=True)
class _Maker:
    """Makes the picture on the frame."""

    network: nn.Module
    scans: Scans
    data_consistent: bool
    progress: Callable[[int, int], None] | None

    def picture(self, upsampled: Volume, guide: Guide, gate: ReferenceGate | None) -> Array:
        """The model's, on the target alone where the gate does not trust, and zero-filled sinc where there is no cover.

        gate: None believes the reference everywhere.
        """
        high_res = self._by_model(guide.array, guide.covered)
        if gate is not None and float(gate.trust.min()) < 1:
            alone = self._by_model(np.zeros_like(guide.array), np.ones_like(guide.covered))
            high_res = gate.trust * np.nan_to_num(high_res) + (1 - gate.trust) * alone
        if guide.covered.all():
            return high_res
        _, down, across = self.scans.grid.spacing_mm
        # A slice's picture owes nothing to its neighbours: across the slices one that is half of each makes no seam.
        depth_mm = ndimage.distance_transform_edt(guide.covered, sampling=(HAND_OVER_MM / 2, down, across))
        part = np.clip(depth_mm / HAND_OVER_MM, 0, 1)
        part = (part * part * (3 - 2 * part)).astype(np.float32)  # without a bend at either end
        blended = part * np.nan_to_num(high_res) + (1 - part) * upsampled.magnitude()
        return np.asarray(blended, dtype=np.float32)

    def _by_model(self, reference: Array, covered: NDArray[np.bool_]) -> Array:
        return super_resolve_frame(
            self.network,
            self.scans.low_res.magnitude(),
            reference,
            covered=covered,
            scale=self.scans.grid.scale,
            data_consistent=self.data_consistent,
            progress=self.progress,
        )


def _from_first_sample(frame: Array, scans: Scans) -> Array:
    """The frame's part that begins with the first sample; an odd last row or column is left out."""
    scale, spare = scans.grid.scale, scans.grid.scale - 1
    h, w = (n - n % 2 for n in scans.low_res.array.shape[1:])
    return frame[:, spare : spare + scale * h, spare : spare + scale * w]


def _inconsistency(frame: Array, scans: Scans) -> float:
    h, w = (n - n % 2 for n in scans.low_res.array.shape[1:])
    image = _from_first_sample(frame, scans)
    return data_inconsistency(image, scans.low_res.magnitude()[:, :h, :w], scans.grid.scale)


def _detail(frame: Array, scans: Scans) -> float:
    """Energy outside the measured band, over that of the picture."""
    image = _from_first_sample(frame, scans)
    total = float(np.sum(image.astype(np.float64) ** 2))
    outside = float(detail_outside_band(image, scans.grid.scale).square().sum())
    return outside / total if total > 0 else 0.0


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
