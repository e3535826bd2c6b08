"""The map beside a picture: error bars where the model's file is calibrated for such a picture, else the bare spread.

A calibrated map is the half-width within which 68 of 100 voxels of validation patients had their error, in the units of
the picture; `factor_95` makes it that of 95. It holds for pictures made as those were: of such scans, with as many
poses, with a reference that is believed. Anything else is said to be not calibrated, and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minet_core.calibration import Calibration
from minet_core.evaluation.error_bars import error_unit
from sites.super_resolution.cautions import Caution
from sites.super_resolution.flip_spread import FLIPS

Array = NDArray[np.float32]
NOT_OF_ITS_KIND = frozenset({"target-noisy", "target-interpolated", "data-inconsistent"})
"""Cautions on a picture for which validation patients say nothing; beside them all on the training's kind of scan."""
LABELS = {True: "ERROR_BAR_68", False: "FLIP_DEVIATION"}
SENTENCES = {
    True: "Half-width of 68 of 100 voxels' error on validation patients.",
    False: "Standard deviation over four mirrored passes of the model; not calibrated.",
}


@dataclass(frozen=True)
class MapFigures:
    """What was written. file: its name, beside the series. passes: mirrored ones behind the spread.

    median, highest: over the voxels of the anatomy, in the units of the series. calibrated: whether the map is of error
    bars. why_not: else the reason. factor_95: by what the map is multiplied for bars of 95%. patients: behind the
    calibration. promised_68, promised_95: what bars of that level hold of a new patient's voxels at least, on average
    over patients of the same kind. None where it is not calibrated.
    """

    file: str
    passes: int
    median: float
    highest: float
    calibrated: bool
    why_not: str | None
    factor_95: float | None
    patients: int | None
    promised_68: float | None
    promised_95: float | None

    def as_text(self) -> str:
        """For a person.

        Returns
        -------
        str
            One sentence.
        """
        if not self.calibrated:
            return (
                f"Beside it: {self.file}, deviation over {self.passes} mirrored passes, in the anatomy "
                f"{self.median:.3g} in the middle and {self.highest:.3g} at most; not calibrated: {self.why_not}"
            )
        return (
            f"Beside it: {self.file}, error bars of 68%, in the anatomy {self.median:.3g} in the middle and "
            f"{self.highest:.3g} at most; times {self.factor_95:.3g} those of 95%. Measured on {self.patients} "
            f"validation patients, which promises that they hold {self.promised_68:.0%} and {self.promised_95:.0%} "
            "of a new patient's voxels, on average over patients of the same kind"
        )


@dataclass(frozen=True, eq=False)
class ErrorMap:
    """values: (S, H, W) float32 on the grid of the picture. calibration: None for the bare spread; then why_not.

    factor_95: by what the values are multiplied for bars of 95%: with a reference or without, as most of it is.
    """

    values: Array
    calibration: Calibration | None
    why_not: str | None
    factor_95: float | None

    @property
    def label(self) -> str:
        """DICOM's content label."""
        return LABELS[self.calibration is not None]

    @property
    def sentence(self) -> str:
        """What it shows."""
        return SENTENCES[self.calibration is not None]

    def figures(self, picture: Array, *, file: str) -> MapFigures:
        """Of the voxels that are brighter than the picture's mean: the anatomy, whatever its units.

        Parameters
        ----------
        picture : as `values`
            The picture.
        file
            The map's name.

        Returns
        -------
        MapFigures
            For the sidecar.
        """
        inside = self.values[picture > picture.mean()]
        inside = inside if inside.size else self.values.ravel()
        known = self.calibration
        return MapFigures(
            file=file,
            passes=len(FLIPS) + 1,
            median=float(f"{np.median(inside):.4g}"),
            highest=float(f"{inside.max():.4g}"),
            calibrated=known is not None,
            why_not=self.why_not,
            factor_95=None if self.factor_95 is None else round(self.factor_95, 3),
            patients=None if known is None else known.patients,
            promised_68=None if known is None else round(known.promised(0.68), 4),
            promised_95=None if known is None else round(known.promised(0.95), 4),
        )


def reason_not_calibrated(
    calibration: Calibration | None,
    *,
    poses: int,
    data_consistent: bool,
    cautions: Sequence[Caution],
    misled: bool,
) -> str | None:
    """Why error bars of a model's file do not hold for a picture.

    Parameters
    ----------
    calibration
        Of the file; None where it has none.
    poses
        Over which the picture was averaged.
    data_consistent
        Whether what was measured was put back.
    cautions
        Said of the scans.
    misled
        Whether a reference that the gate names went into the picture.

    Returns
    -------
    str or None
        None where they hold.
    """
    if calibration is None:
        return "the model's file has no calibration"
    if poses != calibration.poses:
        return f"the calibration is of pictures averaged over {calibration.poses} poses, not {poses}"
    if data_consistent:
        return "the calibration is of pictures into which nothing measured was put back"
    if misled:
        return "the reference is wrong, and was used"
    codes = sorted(
        {one.code for one in cautions if one.code in NOT_OF_ITS_KIND or one.code.startswith("training-")}
    )
    if codes:
        return f"the scan is not of the kind that was measured ({', '.join(codes)})"
    return None


def calibrated_map(spread: Array, low_res: Array, part: Array, calibration: Calibration) -> ErrorMap:
    """Error bars of a picture.

    Parameters
    ----------
    spread : (S, H, W) float32
        Over mirrored scans, on the frame.
    low_res : (S, h, w)
        Magnitude of the scan.
    part : (S, H, W) float32
        How much of the picture is made with the reference, 0 to 1. Between, the bars are between: two errors' mean is
        no larger than the mean of their sizes.
    calibration
        Of the model.

    Returns
    -------
    ErrorMap
        In the units of `low_res`.
    """
    guided, alone = calibration.guided, calibration.alone
    factor = part * guided.factor_68 + (1 - part) * alone.factor_68
    most = guided if float(part.mean()) >= 0.5 else alone
    return ErrorMap(
        values=np.asarray(error_unit(spread, low_res) * factor, dtype=np.float32),
        calibration=calibration,
        why_not=None,
        factor_95=most.factor_95 / most.factor_68,
    )
