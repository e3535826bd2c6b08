"""Looking at a pair's images before they become truth and guide.

`examine` looks at target and reference as they were read, each on its own grid; `Examined.used_with` at the pair after
registration. What cannot be a truth or a guide is refused with the figure; what flatters or weakens is kept in figures
that the cohort repeats beside every table. The limits were set on the ten real volumes of five patients and on 24
phantom volumes of twelve; each constant's docstring has their range.

Nothing is repaired: no voxel is replaced, no slice invented. The one change is the crop of an interpolated target's
k-space to what was measured, which leaves out what was never there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minet_core.errors import ScanInvalid
from minet_core.imaging.occupied_band import Occupied, crop_to_measured, occupied_band
from minet_core.imaging.volume import Volume
from sites.quality.bright_artefacts import bright_figures, why_too_bright
from sites.quality.derived_images import value_figures, value_remarks, why_derived
from sites.quality.pair_quality import PairQuality, Shares, SignalQuality
from sites.quality.scan_quality import SliceUse, use_of_slices
from sites.quality.signal_figures import SignalFigures, require_signal, signal_figures
from sites.quality.slice_faults import SliceFaults, find_slice_faults
from sites.settings.site_settings import QualitySettings

Bands = tuple[Occupied | None, Occupied | None, Occupied | None]
"""Of (slice, row, column)."""


@dataclass(frozen=True)
class ScanFigures:
    """What one scan shows. bands: of its axes. remarks: what must be said of its values."""

    bands: Bands
    peak_ratio: float
    faults: SliceFaults
    remarks: tuple[str, ...]
    signal: SignalFigures

    @property
    def shares(self) -> Shares:
        """Along (slice, row, column), to half the amplitude."""
        through, down, across = (None if band is None else round(band.to_half, 3) for band in self.bands)
        return through, down, across


@dataclass(frozen=True)
class Examined:
    """A pair before registration. target: the scan to go on with, cropped where `cropped`."""

    target: Volume
    cropped: bool
    target_figures: ScanFigures
    reference_figures: ScanFigures
    reference_step: float

    def used_with(self, covered: NDArray[np.bool_] | None) -> tuple[SliceUse, PairQuality]:
        """Which slices are used where the reference covers this much, and the figures for the cohort.

        Parameters
        ----------
        covered
            (slice, row, column) on the target's grid; None: all.

        Returns
        -------
        tuple[SliceUse, PairQuality]
            The run of slices, and the pair's figures, rounded as the cohort keeps them.

        Raises
        ------
        ScanInvalid
            FM-D202: no slice is left.
        """
        lost = self.target_figures.faults.lost
        use = use_of_slices(self.target.magnitude(), covered=covered, faulty=lost)
        return use, PairQuality(
            occupied=self.target_figures.shares,
            reference_occupied=self.reference_figures.shares,
            cropped=self.cropped,
            peak_ratio=round(self.target_figures.peak_ratio, 3),
            reference_step=round(self.reference_step, 3),
            anatomy_slices=use.anatomy,
            faulty_slices=use.faulty,
            unguided_slices=use.unguided,
            cut_off_slices=use.cut_off,
            remarks=tuple(
                f"{role}: {remark}"
                for role, figures in (("target", self.target_figures), ("reference", self.reference_figures))
                for remark in figures.remarks
            ),
            target_signal=SignalQuality(**self.target_figures.signal.rounded()),
            reference_signal=SignalQuality(**self.reference_figures.signal.rounded()),
        )


def examine(target: Volume, reference: Volume, *, limits: QualitySettings) -> Examined:
    """Look at both scans, each on its own grid.

    Parameters
    ----------
    target, reference
        As they were read.
    limits
        The site's, from site.yaml.

    Returns
    -------
    Examined
        With the target to go on with: the given one, or its k-space cropped to what was measured.

    Raises
    ------
    ScanInvalid
        FM-D202, with what was seen and the figure.
    """
    seen = [
        examine_scan(volume, role=role, limits=limits)
        for volume, role in ((target, "target"), (reference, "reference"))
    ]
    if seen[1].faults.lost:
        raise _faulty("reference", seen[1].faults)
    steps = _step_ratios(target, reference)
    if max(steps) > limits.max_reference_step:
        raise ScanInvalid(
            "the reference is too coarse for its target",
            got=f"voxels of {_in_mm(reference)} for {_in_mm(target)}: {max(steps):.1f} times along an axis",
            expected=f"at most {limits.max_reference_step:g} times",
            action="Give a finer reference, or raise quality.max_reference_step in site.yaml",
        )
    detail = _step_ratios(target, reference, target_bands=seen[0].bands, reference_bands=seen[1].bands)
    measured = tuple(1.0 if band is None else band.to_quarter for band in seen[0].bands[1:])
    cropped = False
    if min(measured) < limits.min_occupied and limits.interpolated_target != "remark":
        if limits.interpolated_target == "refuse":
            raise ScanInvalid(
                "the target was interpolated before it was stored",
                got=f"signal in {measured[0]:.2f} of the row and {measured[1]:.2f} of the column frequencies",
                expected=f"at least {limits.min_occupied:g}",
                action="Export the scan without interpolation, or set quality.interpolated_target: crop in site.yaml",
            )
        target, cropped = crop_to_measured(target, (measured[0], measured[1])), True
    return Examined(target, cropped, seen[0], seen[1], max(detail))


def examine_scan(volume: Volume, *, role: str, limits: QualitySettings) -> ScanFigures:
    """Look at one scan.

    Parameters
    ----------
    volume
        On its own grid.
    role
        "target" or "reference", for the message.
    limits
        The site's: what is refused, and what is taken with a remark.

    Returns
    -------
    ScanFigures
        Figures of the whole volume, its remarks, and slices that are lost; these refuse a reference in `examine`.

    Raises
    ------
    ScanInvalid
        FM-D202: a derived image or a bright artefact where the site refuses them; slices repeated, foreign, blended,
        exchanged or in the order of their acquisition.
    SignalTooWeak, ImageGhosted, ImageSaturated, AnatomyCutOff, MotionBetweenSlices
        FM-D215 to FM-D219: beyond the site's limits.
    """
    magnitude = volume.magnitude()
    values, bright = value_figures(magnitude), bright_figures(magnitude)
    remarks = value_remarks(values)
    for found, policy, what in (
        (why_derived(values), limits.derived_images, "is no magnitude image of anatomy"),
        (why_too_bright(bright), limits.bright_artefacts, "holds what is no anatomy"),
    ):
        if found is not None and policy == "refuse":
            action = "Export the scan itself; site.yaml's section quality can take it with a remark"
            raise ScanInvalid(f"the {role} {what}", got=found[0], expected=found[1], action=action)
        if found is not None:
            remarks.append(found[0])
    faults = find_slice_faults(magnitude)
    if faults.wrong:
        raise _faulty(role, faults)
    through, down, across = (occupied_band(magnitude, axis=axis) for axis in range(3))
    signal = signal_figures(magnitude)
    if limits.derived_images == "remark":  # a mask is at its maximum everywhere, and was let in
        limits = limits.model_copy(update={"max_saturated": None})
    require_signal(signal, limits, role=role)
    return ScanFigures((through, down, across), bright.peak_ratio, faults, tuple(remarks), signal)


def _faulty(role: str, faults: SliceFaults) -> ScanInvalid:
    return ScanInvalid(
        f"the {role} has faulty slices",
        got=f"{'; '.join(faults.named())} (counted from 0)",
        expected="every slice once, in order, as bright as its neighbours",
        action="Export or convert the examination again: a slice was lost, repeated or replaced, or is out of order",
    )


def _step_ratios(
    target: Volume,
    reference: Volume,
    *,
    target_bands: Bands | None = None,
    reference_bands: Bands | None = None,
) -> list[float]:
    """Of the target's axes: the reference's step along the axis nearest in direction, over the target's own.

    With bands the steps are those of the detail: spacing over the share of the frequencies.
    """
    cosines = np.abs(_directions(target).T @ _directions(reference))  # (target axis, reference axis)
    ratios = []
    for axis in range(3):
        other = int(cosines[axis].argmax())
        ratio = reference.spacing_mm[other] / target.spacing_mm[axis]
        ratios.append(ratio / _share(reference_bands, other) * _share(target_bands, axis))
    return ratios


def _share(bands: Bands | None, axis: int) -> float:
    band = bands[axis] if bands is not None else None
    return 1.0 if band is None else band.to_half


def _directions(volume: Volume) -> NDArray[np.float64]:
    steps = volume.affine[:3, :3]
    return np.asarray(steps / np.linalg.norm(steps, axis=0), np.float64)


def _in_mm(volume: Volume) -> str:
    return " x ".join(f"{step:.2f}" for step in volume.spacing_mm) + " mm"
