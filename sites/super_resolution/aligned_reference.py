"""The reference brought to the frame of a scan that is super-resolved, and where it shows anything.

On request the rigid motion between the scans is found (`sites.registration.register`); else the scanner's coordinates
are taken as they are. A reference whose voxels lie on the frame's own is never interpolated unless it has moved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # noqa: N813 (the name its own manual uses)
from numpy.typing import NDArray

from minet_core.errors import RegistrationRefused
from minet_core.imaging.volume import Volume
from sites.quality.scan_quality import foreground
from sites.registration.register import Registered, register
from sites.registration.resampling import resample
from sites.settings.site_settings import RegistrationSettings
from sites.super_resolution.refined_grid import RefinedGrid, on_frame

MIN_COVERED = 0.1
"""Share of the target's foreground that the reference must show: with less there is no guide to speak of."""


@dataclass(frozen=True)
class Guide:
    """The reference on the frame (slice, row, column), magnitude.

    covered: where it has data. covered_share: of the target's foreground. registered: what registration found; None
    where the scanner's coordinates were trusted.
    """

    array: NDArray[np.float32]
    covered: NDArray[np.bool_]
    covered_share: float
    registered: Registered | None


def bring_guide(
    upsampled: Volume, reference: Volume, grid: RefinedGrid, *, limits: RegistrationSettings | None
) -> Guide:
    """The reference on the frame of the scan that is super-resolved.

    Parameters
    ----------
    upsampled
        The interpolated target on the frame.
    reference
        As it was read, on its own grid.
    grid
        The frame.
    limits
        Of registration; None trusts the scanner's coordinates.

    Returns
    -------
    Guide
        Magnitude on the frame; rows and columns beyond the outermost low-resolution samples repeat those next to them
        where the reference ends.

    Raises
    ------
    RegistrationRefused
        FM-D204: registration refuses the pair, or too little of the target's foreground is covered.
    """
    placed = on_frame(reference, grid)
    found = None
    if limits is not None:
        # Placed without interpolation only where it fills the frame: registration would take what is repeated beyond
        # its edges for anatomy.
        fills = placed is not None and bool(placed[1][grid.inner()].all())
        found = register(
            upsampled,
            placed[0] if placed is not None and fills else reference,
            # A pixel of what was measured: the finer one says nothing about what could be found.
            limits=limits.model_copy(update={"max_error_px": limits.max_error_px * grid.scale}),
        )
        volume, covered = found.reference, found.covered
        if covered is None:
            covered = np.ones(grid.shape, dtype=bool) if placed is None or not fills else placed[1]
    elif placed is not None:
        volume, covered = placed
    else:
        identity = sitk.Transform()  # type: ignore[no-untyped-call]
        volume, covered = resample(reference, target=upsampled, transform=identity)
    array, covered = _beyond_the_samples(volume.magnitude(), covered, grid)
    return Guide(array, covered, _covered_share(upsampled, covered, grid), found)


def _beyond_the_samples(
    array: NDArray[np.float32], covered: NDArray[np.bool_], grid: RefinedGrid
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Rows and columns beyond the outermost low-resolution samples, where a reference may end, as those next to them.

    A reference that covers just the target's samples is whole, and no hand-over to another method begins there.
    """
    n_rows, n_columns = grid.shape[1:]
    spare = grid.scale - 1
    rows = np.clip(np.arange(n_rows), spare, n_rows - 1 - spare)
    columns = np.clip(np.arange(n_columns), spare, n_columns - 1 - spare)
    index = np.ix_(np.arange(grid.shape[0]), rows, columns)
    return np.where(covered, array, array[index]), covered | covered[index]


def _covered_share(upsampled: Volume, covered: NDArray[np.bool_], grid: RefinedGrid) -> float:
    inner = grid.inner()
    share = float(covered[inner][foreground(upsampled.magnitude()[inner])].mean())
    if share < MIN_COVERED:
        raise RegistrationRefused(
            "the reference does not show the target's field of view",
            got=f"{share:.0%} of the target's foreground",
            expected=f"at least {MIN_COVERED:.0%}",
            action="See that both scans are of one patient and one region",
        )
    return share
