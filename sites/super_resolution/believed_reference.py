"""The reference as far as it is believed: brought to the scan, judged there, and what stands in where it is not.

Registration comes first. Where it finds no motion that it can rely on, the reference is taken where the scanner put it,
if the gate finds that it lies right there. What the gate does not believe, and a reference noisier than any of the
training, is left out of the picture, as is what lies beyond its edges: the model works on the target alone, if it was
trained to; else zero-filled sinc stands there. A wrong reference then costs what it could have given, and nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from minet_core.checkpoint_manifest import CheckpointManifest
from minet_core.errors import InvalidSetting, RegistrationRefused
from minet_core.evaluation.contours import TILE_PX
from minet_core.evaluation.reference_gate import ReferenceGate, judge_reference
from minet_core.imaging.scan_figures import ScanFigures, scan_figures
from minet_core.imaging.volume import Volume
from sites.registration.checks import MotionNotFound
from sites.registration.lies_right import found_right
from sites.settings.site_settings import RegistrationSettings
from sites.super_resolution.aligned_reference import Guide, bring_guide
from sites.super_resolution.cautions import Caution, caution_on_motion, noise_limit
from sites.super_resolution.flip_spread import flipped
from sites.super_resolution.refined_grid import RefinedGrid

StandIn = Literal["model", "sinc"]


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """How the picture is made.

    register: find the rigid motion between the scans; False trusts the scanner's coordinates. registration: the limits
    at which a pair is refused; None: the defaults. gate: make the picture without the reference where it does not
    agree with the scan, if the model can; False: as the model has it, and what the gate found is still said.
    data_consistent: put what was measured back into the picture (`minet_core.imaging.data_consistency`).
    uncertainty: write an `error_map` beside the picture; it takes three more passes of the model.
    self_ensemble: poses over which the picture is averaged (`minet_core.evaluation.self_ensemble`); None: as the model
    has it. Raises InvalidSetting (FM-C102) for other numbers than 1, 2, 4 and 8.
    """

    register: bool = True
    registration: RegistrationSettings | None = None
    gate: bool = True
    data_consistent: bool = False
    uncertainty: bool = False
    self_ensemble: int | None = None

    def __post_init__(self) -> None:
        if self.self_ensemble not in (None, 1, 2, 4, 8):
            raise InvalidSetting(
                "a picture cannot be averaged over so many poses",
                got=self.self_ensemble,
                expected="1, 2, 4 or 8",
            )

    @property
    def limits(self) -> RegistrationSettings | None:
        """Of registration; None where there is none."""
        return (self.registration or RegistrationSettings()) if self.register else None


AS_USUAL = PictureOptions()


@dataclass(frozen=True)
class GateFigures:
    """What the gate found (`minet_core.evaluation.reference_gate`) and what was done about it.

    agreement, misplacement: of the whole. trusted: share of the target's structure where the reference is believed.
    wrong: whether the reference is named. without_reference: share of the target's structure that was made without it;
    0 where it was not to be. stand_in: what is there in its stead, "model" on the target alone or "sinc"; None where
    all is made with the reference.
    """

    agreement: float
    misplacement: float
    trusted: float
    wrong: bool
    without_reference: float
    stand_in: StandIn | None


@dataclass(frozen=True, eq=False)
class Believed:
    """A reference and how far it is believed.

    gate: None for slices too small to be judged. trust: (S, H, W) float32, 0 to 1; None: all of it goes into the
    picture. stand_in: what is there where trust or the reference ends. shown: figures of the reference; None where it
    shows too little. max_noise: beyond which a reference is noisier than those of the training. remarks: what must be
    said beside what follows from the figures.
    """

    guide: Guide
    gate: ReferenceGate | None
    trust: NDArray[np.float32] | None
    stand_in: StandIn
    shown: ScanFigures | None
    max_noise: float
    remarks: tuple[Caution, ...]

    @property
    def is_left_out(self) -> bool:
        """Whether nothing of the reference goes into the picture."""
        return self.trust is not None and not self.trust.any()

    def flipped(self, axes: tuple[int, ...]) -> Believed:
        """The same for scans that are mirrored along some axes.

        Parameters
        ----------
        axes
            Of (slice, row, column).

        Returns
        -------
        Believed
            On the mirrored frame.
        """
        guide = replace(
            self.guide, array=flipped(self.guide.array, axes), covered=flipped(self.guide.covered, axes)
        )
        return replace(self, guide=guide, trust=None if self.trust is None else flipped(self.trust, axes))

    def figures(self) -> GateFigures | None:
        """For the sidecar.

        Returns
        -------
        GateFigures | None
            None where nothing was judged.
        """
        if self.gate is None:
            return None
        without = 0.0
        if self.trust is not None:
            without = 1.0 if self.is_left_out else 1 - self.gate.used
        return GateFigures(
            agreement=round(self.gate.agreement, 4),
            misplacement=round(self.gate.misplacement, 4),
            trusted=round(self.gate.trusted, 4),
            wrong=self.gate.wrong,
            without_reference=round(without, 4),
            stand_in=self.stand_in if without > 0 else None,
        )


def bring_believed(
    upsampled: Volume,
    reference: Volume,
    grid: RefinedGrid,
    manifest: CheckpointManifest,
    *,
    options: PictureOptions,
) -> Believed:
    """Bring the reference to the frame, judge it, and say what stands in for it.

    Parameters
    ----------
    upsampled
        The interpolated target on the frame.
    reference
        As it was read, on its own grid.
    grid
        The frame.
    manifest
        Of the model: whether it can work alone, and how noisy its references were.
    options
        Whether to register, and whether the gate may leave the reference out.

    Returns
    -------
    Believed
        On the frame.

    Raises
    ------
    RegistrationRefused
        FM-D204: the pair is refused, or hardly overlaps.
    """
    guide, gate, remarks = _brought(upsampled, reference, grid, limits=options.limits)
    shown = scan_figures(
        guide.array[guide.covered.any(axis=(1, 2))],
        pixel_mm=(grid.spacing_mm[1] * grid.spacing_mm[2]) ** 0.5,
    )
    trust = None
    max_noise = noise_limit(manifest.domain, known_noise=manifest.known_reference_noise)
    if options.gate:
        if shown is not None and shown.noise > max_noise:
            trust = np.zeros_like(guide.array)
        elif gate is not None and float(gate.trust.min()) < 1:
            trust = gate.part
    stand_in: StandIn = "model" if manifest.knows_absence else "sinc"
    return Believed(guide, gate, trust, stand_in, shown, max_noise, remarks)


def _brought(
    upsampled: Volume, reference: Volume, grid: RefinedGrid, *, limits: RegistrationSettings | None
) -> tuple[Guide, ReferenceGate | None, tuple[Caution, ...]]:
    """Registered; or, where no motion was found and none is needed, as it lies."""
    try:
        guide = bring_guide(upsampled, reference, grid, limits=limits)
        return guide, _judged(upsampled, guide, scale=grid.scale), ()
    except MotionNotFound as not_found:
        refusal = not_found
    try:
        guide = bring_guide(upsampled, reference, grid, limits=None)
    except RegistrationRefused:
        raise refusal from None
    gate = _judged(upsampled, guide, scale=grid.scale)
    if gate is None or not found_right(gate):
        raise refusal
    return guide, gate, caution_on_motion(gate.agreement)


def _judged(upsampled: Volume, guide: Guide, *, scale: int) -> ReferenceGate | None:
    """None for slices of less than two tiles, of which nothing can be told."""
    if min(guide.array.shape[1:]) < 2 * TILE_PX:
        return None
    return judge_reference(upsampled.magnitude(), guide.array, scale=scale, covered=guide.covered)
