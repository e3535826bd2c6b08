"""The picture that a model makes of two scans, wherever they come from, and what must be said beside it.

Where the reference shows nothing, or is not believed, something stands in for the picture that it would have given
(`sites.super_resolution.believed_reference`); one goes over into the other smoothly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from minet_core.calibration import Calibration
from minet_core.checkpoint import load_model
from minet_core.checkpoint_manifest import CheckpointManifest
from minet_core.evaluation.inference import super_resolve_frame
from minet_core.exported.onnx_runtime import load_onnx_model
from minet_core.imaging.kspace_band import data_inconsistency, detail_outside_band
from minet_core.imaging.mirrored_sinc import mirrored_sinc
from minet_core.imaging.scan_figures import scan_figures
from minet_core.imaging.volume import Volume
from minet_core.runtime.files import atomic_write
from minet_core.runtime.progress import over_passes
from sites.registration.contour_agreement import contour_agreement
from sites.super_resolution.aligned_reference import Guide
from sites.super_resolution.believed_reference import AS_USUAL, Believed, PictureOptions, bring_believed
from sites.super_resolution.cautions import (
    Caution,
    caution_on_data,
    caution_on_interpolation,
    cautions_of_spacing,
    cautions_on_gate,
    cautions_on_guide,
    cautions_on_kind,
)
from sites.super_resolution.error_map import ErrorMap, calibrated_map, reason_not_calibrated
from sites.super_resolution.flip_spread import FLIPS, flipped, spread_over_flips
from sites.super_resolution.refined_grid import RefinedGrid
from sites.super_resolution.refinement_plane import Plane
from sites.super_resolution.side_car import SuperResolved, sidecar_of

HAND_OVER_MM = 6.0
"""Depth within the reference's cover over which what stands in goes over into the picture with it: more than the
model's convolutions reach at usual pixels, less than a structure of the brain."""
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Scans:
    """The two scans as they were read, and the grid. low_res: its slices first."""

    low_res: Volume
    reference: Volume
    plane: Plane
    grid: RefinedGrid
    remarks: list[Caution]


@dataclass(frozen=True)
class Picture:
    """array: along the axes of what was read. errors: on the same grid; None where no map is wanted."""

    array: Array
    errors: ErrorMap | None


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
) -> tuple[Picture, SuperResolved]:
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
    tuple[Picture, SuperResolved]
        The second without the figures of what will be written.

    Raises
    ------
    RegistrationRefused
        FM-D204: the pair is refused, or hardly overlaps.
    """
    upsampled = _upsampled(scans.low_res, scans.grid)
    believed = bring_believed(upsampled, scans.reference, scans.grid, model.manifest, options=options)
    guide = believed.guide
    n_poses = options.self_ensemble or model.manifest.model.self_ensemble
    n_passes = _passes_of(believed) * (1 if not options.uncertainty else 1 + len(FLIPS) + (n_poses > 1))
    maker = _Maker(
        model.network,
        scans,
        options.data_consistent,
        n_poses,
        None if progress is None else over_passes(progress, n_passes),
    )
    frame = maker.picture(upsampled, believed)
    spread = maker.spread(frame, upsampled, believed) if options.uncertainty else None
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
        self_ensemble=n_poses,
        detail=_detail(frame, scans),
        gate=believed.figures(),
        moved_mm=None if guide.registered is None else guide.registered.moved_mm,
        residual_mm=None if guide.registered is None else guide.registered.residual_mm,
        block_agreement=None if guide.registered is None else guide.registered.agreement,
        cautions=(),
    )
    made = replace(made, cautions=_cautions(made, scans, believed, model.manifest))
    errors = None
    if spread is not None:
        on_frame = _error_map(spread, made, maker, believed, model.manifest.calibration)
        errors = replace(on_frame, values=scans.grid.in_file_axes(on_frame.values))
    return Picture(picture, errors), made


def _error_map(
    spread: Array, made: SuperResolved, maker: _Maker, believed: Believed, calibration: Calibration | None
) -> ErrorMap:
    """On the frame: error bars where the model's calibration holds for this picture."""
    gate = made.gate
    why_not = reason_not_calibrated(
        calibration,
        poses=made.self_ensemble,
        data_consistent=made.data_consistent,
        cautions=made.cautions,
        misled=gate is not None and gate.wrong and not believed.is_left_out and gate.without_reference == 0,
    )
    if why_not is not None or calibration is None:
        return ErrorMap(spread, None, why_not, None)
    return calibrated_map(spread, maker.scans.low_res.magnitude(), maker.part(believed), calibration)


def _cautions(
    made: SuperResolved, scans: Scans, believed: Believed, manifest: CheckpointManifest
) -> tuple[Caution, ...]:
    gate, guide = made.gate, believed.guide
    said = [
        *scans.remarks,
        *cautions_of_spacing(scans.low_res.spacing_mm, scans.reference.spacing_mm),
        *believed.remarks,
        *cautions_on_guide(
            covered_share=guide.covered_share, agreement=made.agreement, stand_in=believed.stand_in
        ),
        *([] if gate is None or not gate.wrong else cautions_on_gate(**asdict(gate))),
        *_cautions_on_kind(scans, believed, manifest),
        *caution_on_data(made.data_inconsistency),
    ]
    return (
        *said,
        *caution_on_interpolation(said, falls_back=believed.trust is not None),
    )


def _spacing(grid: RefinedGrid) -> tuple[float, float, float]:
    spacing = [float(step) for step in np.linalg.norm(grid.file_affine[:3, :3], axis=0)]
    return (spacing[0], spacing[1], spacing[2])


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


def _passes_of(believed: Believed) -> int:
    """How often a picture takes the model through the slices: see `_Maker.picture`."""
    if believed.trust is None and believed.guide.covered.all():
        return 1
    return (believed.stand_in == "model") + (not believed.is_left_out)


@dataclass(frozen=True)
class _Maker:
    """Makes the picture on the frame."""

    network: nn.Module
    scans: Scans
    data_consistent: bool
    n_poses: int
    progress: Callable[[int, int], None] | None

    def picture(self, upsampled: Volume, believed: Believed) -> Array:
        """The model's, and what stands in for it where the reference is not believed or ends."""
        guide, trust = believed.guide, believed.trust
        if trust is None and guide.covered.all():
            return self._by_model(guide.array, guide.covered)
        stand_in = upsampled.magnitude()
        if believed.stand_in == "model":
            stand_in = self._by_model(np.zeros_like(guide.array), np.ones_like(guide.covered))
        if believed.is_left_out:
            return stand_in
        part, shown = self.part(believed), guide.covered
        if trust is not None:
            # What is not believed neither counts for the normalisation nor makes an edge: as if it were not covered.
            shown = shown & (trust > 0)
        high_res = np.nan_to_num(self._by_model(guide.array, shown))
        return np.asarray(part * high_res + (1 - part) * stand_in, dtype=np.float32)

    def part(self, believed: Believed) -> Array:
        """How much of the picture is made with the reference, 0 to 1, at each place of the frame."""
        covered, trust = believed.guide.covered, believed.trust
        part = np.ones(covered.shape, dtype=np.float32) if trust is None else trust
        return part if covered.all() else part * self._depth(covered)

    def _depth(self, covered: NDArray[np.bool_]) -> Array:
        """How far a place lies within the reference's cover, from 0 at its border to 1 from `HAND_OVER_MM` on."""
        _, down, across = self.scans.grid.spacing_mm
        # A slice's picture owes nothing to its neighbours: across the slices one that is half of each makes no seam.
        depth_mm = ndimage.distance_transform_edt(covered, sampling=(HAND_OVER_MM / 2, down, across))
        part = np.clip(depth_mm / HAND_OVER_MM, 0, 1)
        return np.asarray(part * part * (3 - 2 * part), dtype=np.float32)  # without a bend at either end

    def spread(self, frame: Array, upsampled: Volume, believed: Believed) -> Array:
        """How far the picture of one pose moves when everything is mirrored; `frame` is the picture."""
        if self.n_poses > 1:  # a mean over poses hardly moves, and its detail hangs on the network no less
            alone = replace(self, n_poses=1)
            return alone.spread(alone.picture(upsampled, believed), upsampled, believed)

        def again(axes: tuple[int, ...]) -> Array:
            scans = replace(self.scans, low_res=_flipped_volume(self.scans.low_res, axes))
            mirrored = replace(self, scans=scans).picture(
                _flipped_volume(upsampled, axes), believed.flipped(axes)
            )
            return np.flip(mirrored, axes)

        return spread_over_flips(frame, again)

    def _by_model(self, reference: Array, covered: NDArray[np.bool_]) -> Array:
        return super_resolve_frame(
            self.network,
            self.scans.low_res.magnitude(),
            reference,
            covered=covered,
            scale=self.scans.grid.scale,
            data_consistent=self.data_consistent,
            n_poses=self.n_poses,
            progress=self.progress,
        )


def _flipped_volume(volume: Volume, axes: tuple[int, ...]) -> Volume:
    """Mirrored in its array alone: what looks at its affine would be misled."""
    return replace(volume, array=flipped(volume.magnitude(), axes))


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


def _cautions_on_kind(scans: Scans, believed: Believed, manifest: CheckpointManifest) -> list[Caution]:
    through, down, across = scans.grid.spacing_mm
    pixel_mm = (down * across) ** 0.5
    return cautions_on_kind(
        manifest.domain,
        spacing_mm=(through, down, across),
        target=scan_figures(scans.low_res.magnitude(), pixel_mm=pixel_mm * manifest.scale),
        reference=believed.shown,
        stand_in=believed.stand_in if believed.is_left_out else None,
        max_reference_noise=believed.max_noise,
    )
