"""From a stack of frames to a volume: stored values scaled frame by frame, on the axes that NIfTI scans are read on."""

from __future__ import annotations

from typing import Literal

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from minet_core.errors import ScanInvalid
from minet_core.imaging.volume import Volume
from sites.quality.scan_quality import check_image, check_shape
from sites.scans.dicom.frames import Frame
from sites.scans.dicom.pixels import stored_frames
from sites.scans.dicom.stacks import Stack
from sites.scans.nifti import ISOTROPIC, turn_to_view

Scale = Literal["rescale", "philips"]
"""rescale: slope * stored + intercept, what the scanner's screen shows. philips: that over slope and the private scale
slope, which makes scans of one patient comparable: Philips' rescale differs from series to series by what is brightest.
No standard says what United Imaging's private numbers scale, and they are not read."""


def read_stack(
    stack: Stack, *, contrast: str, what: str, scale: Scale = "rescale", slice_axis: int | None = None
) -> Volume:
    """The volume of one stack.

    Parameters
    ----------
    stack
        As `sites.scans.dicom.stacks.stack_of` gives it.
    contrast
        The contrast's name for the volume, such as "T2".
    what
        The series' name, for messages.
    scale
        Which numbers a voxel has.
    slice_axis
        Of (slice, row, column): what becomes the slices. None: the scan's own, but in an isotropic one the axial ones.

    Returns
    -------
    Volume
        (slice, row, column) float32, spacing in mm, affine to RAS+ mm; axes as `sites.scans.nifti` has them, but that
        the slices of the scan stay its slices where they are not the coarsest axis. One frame at a time is held beside
        it.

    Raises
    ------
    ScanInvalid
        FM-D202: too few slices, too large, a constant, largely negative, no private scale.
    ScanUnreadable, DecoderMissing, ScanReaderFailed
        FM-D201, FM-D214, FM-D211: as `sites.scans.dicom.pixels.stored_frames`.

    References
    ----------
    Chenevert et al., Errors in Quantitative Image Analysis due to Platform-Dependent Image Scaling, Transl. Oncol. 7
    (2014) 65-71, DOI 10.1593/tlo.13811: Philips' scale.
    """
    check_shape(stack.shape, what=what)
    values = np.empty(stack.shape, dtype=np.float32)
    for place, frame, stored in zip(values, stack.frames, stored_frames(stack.frames), strict=True):
        slope, intercept = _scale_of(frame, scale, what=what)
        plain = (slope, intercept) == (1.0, 0.0)
        place[...] = stored if plain else stored * np.float64(slope) + intercept
    isotropic = max(stack.spacing_mm) <= min(stack.spacing_mm) * (1 + ISOTROPIC)
    if slice_axis is None and not isotropic:
        slice_axis = 0
    turn = turn_to_view(stack.affine, slice_axis=slice_axis, name=what)
    affine = stack.affine @ orientations.inv_ornt_aff(turn, stack.shape)  # type: ignore[no-untyped-call]
    turned = orientations.apply_orientation(values, turn)  # type: ignore[no-untyped-call]
    return Volume(
        array=check_image(turned, what=what), spacing_mm=_spacing(affine), affine=affine, contrast=contrast
    )


def _scale_of(frame: Frame, scale: Scale, *, what: str) -> tuple[float, float]:
    if scale == "rescale":
        return frame.slope, frame.intercept
    if not frame.philips_scale:
        raise ScanInvalid(
            f"{what} has no private scale of Philips",
            got=f"a scan of {frame.facts.vendor}" if frame.facts.vendor != "Philips" else "none, or zero",
            expected="(2005,100E)",
            action="Set dicom.scale to rescale",
        )
    divisor = frame.slope * frame.philips_scale
    return 1 / frame.philips_scale, frame.intercept / divisor


def _spacing(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    return float(steps[0]), float(steps[1]), float(steps[2])
