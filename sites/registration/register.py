"""Bringing the reference onto the target's grid, and measuring how well that went.

1. Blocks of the target are looked for in the reference where the scanner's coordinates put them, up to 6 mm away.
   Where that is clear, no search is made: patients move by less, as a rule.
2. Else the motion is looked for from several starts, until one is good: the scanner's coordinates, the centres of both
   heads' boxes, their centres of mass. Each start is a rigid search by Mattes mutual information, coarse alone, on the
   foreground's box (a frame of zeros around a head is cut off first).
3. The motion is refined by the blocks' displacements: a rigid motion and, up to `max_stretch`, a stretch. A pair on one
   grid that is found within a fraction of a pixel is not moved. Another that may be used is brought together by a rigid
   motion alone where that has no larger error.

Everything runs on one thread with fixed seeds: the same scans give the same bytes.

agreement: the share of blocks that are found within NEAR_MM of where the motion puts them. Two contrasts of one anatomy
agree about most blocks with structure; of unrelated images a block is found anywhere, so near by chance alone.
residual_mm: what is left, root mean square over the foreground (`sites.registration.motion_fit`): an estimate of the
true error, and not of how well a search repeats itself. For a pair taken as it lies, with the motion that was left.

How the agreement separates: docs/results/field.md. On the open_ms_data pairs (blocks of five patients):

    pairs                                     agreement
    5 real, one patient                       0.44 to 0.69
    8 real, two patients of one kind          0.01 to 0.03
    5 real, the reference mirrored            0.02 to 0.13
    default                                   at least 0.2
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # noqa: N813 (the name its own manual uses)
from numpy.typing import NDArray

from minet_core.imaging.volume import Volume
from sites.registration.checks import MotionUnsure, require_registered, require_two_contrasts
from sites.registration.motion_search import (
    IDENTITY,
    find_motion,
    matching_image,
    moved_by,
    surer_without_stretch,
)
from sites.registration.resampling import resample, same_grid
from sites.settings.site_settings import RegistrationSettings


@dataclass(frozen=True)
class Registered:
    """A reference on the target's grid.

    reference: the volume. covered: (slice, row, column) where it has data; None: everywhere.
    resampled: whether its voxels were interpolated. moved_mm: mean displacement that registration found.
    residual_mm, residual_px: what is left, in mm and in pixels of the target's plane. agreement: see above.
    stretch: largest relative change of length that was corrected. transform: from target to reference, world mm.
    unsure: whether the motion is less sure than the site asks for, and the pair was proven to lie right as it is.
    """

    reference: Volume
    covered: NDArray[np.bool_] | None
    resampled: bool
    residual_mm: float
    residual_px: float
    moved_mm: float
    agreement: float
    stretch: float
    transform: sitk.Transform
    unsure: bool = False


Proof = Callable[[Volume, Volume], bool]
"""Of target and reference on one grid: whether the reference lies right as it is."""


def register(
    target: Volume, reference: Volume, *, limits: RegistrationSettings, proof: Proof | None = None
) -> Registered:
    """The reference on the target's grid; resampled only where it is on another grid or has moved.

    Parameters
    ----------
    target
        The scan to be super-resolved; it is never changed.
    reference
        The scan that guides, on any grid.
    limits
        The site's, from site.yaml.
    proof
        Asked where the pair lies on one grid, no motion was found beyond its own error, and that error is above the
        limit; None: such a pair is refused.

    Returns
    -------
    Registered
        The reference, magnitude and float32 where it was resampled, with what was measured on the way.

    Raises
    ------
    RegistrationRefused
        FM-D204 with what was seen: no common anatomy, mirrored, another patient, slices missing or out of order, the
        target itself, an error above the limit.

    References
    ----------
    Mattes et al., PET-CT image registration in the chest using free-form deformations, IEEE TMI 22 (2003).
    """
    fixed, moving = matching_image(target), matching_image(reference)
    pixel = float(min(target.spacing_mm[1:]))
    on_one_grid = same_grid(target, reference)
    motion = find_motion(fixed, moving, limits=limits)
    moved = moved_by(fixed, motion)
    unsure = False
    try:
        require_registered(target, reference, fixed=fixed, moving=moving, motion=motion, limits=limits)
    except MotionUnsure:
        unsure = proof is not None and on_one_grid and moved <= 2 * motion.error_mm < float("inf")
        if proof is None or not unsure or not proof(target, reference):
            raise
    # A pair that lies within the site's own limit is left there, by whichever motion.
    lies_there = on_one_grid and moved <= limits.max_offset_px * pixel
    if not unsure and not lies_there:
        motion = surer_without_stretch(fixed, moving, motion, limits=limits)
        moved = moved_by(fixed, motion)
    # Within twice its own error a motion is none: to interpolate for it would blur the reference and gain nothing.
    if on_one_grid and moved <= max(limits.max_offset_px * pixel, 2 * motion.error_mm):
        require_two_contrasts(target, reference, covered=None, limits=limits)
        left = float(np.hypot(moved, motion.error_mm))
        return Registered(
            reference=reference,
            covered=None,
            resampled=False,
            residual_mm=left,
            residual_px=left / pixel,
            moved_mm=moved,
            agreement=motion.agreement,
            stretch=0.0,
            transform=IDENTITY.as_sitk(),
            unsure=unsure,
        )
    resampled, covered = resample(reference, target=target, transform=motion.as_sitk())
    require_two_contrasts(target, resampled, covered=covered, limits=limits)
    error = motion.error_mm
    return Registered(
        reference=resampled,
        covered=covered,
        resampled=True,
        residual_mm=error,
        residual_px=error / pixel,
        moved_mm=moved,
        agreement=motion.agreement,
        stretch=motion.stretch(),
        transform=motion.as_sitk(),
    )
