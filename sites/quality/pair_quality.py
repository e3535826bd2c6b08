"""What ingest saw of a pair's images, as it is kept in the cohort, and what of it is said beside every figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from pydantic import Field

from minet_core.evaluation.outlying_peak import OUTLYING_PEAK
from minet_core.settings.yaml_file import Settings

Shares = tuple[float | None, float | None, float | None]
"""Along (slice, row, column); null: the axis is too short to be measured."""

SAID_BELOW = 0.95
"""Share of an axis' frequencies: what 24 full-matrix phantoms never had, and no interpolation that matters has not."""
SAID_SLICES_BELOW = 0.7
"""Along the slices: 7 of 10 real volumes measure 1, three that were resampled from thick slices 0.35 to 0.42."""
SAID_STEP = 1.5
"""A reference coarser by more is said. Real pairs by their headers: 0.75 to 1.5."""


class SignalQuality(Settings):
    """How good one scan's signal is; null: not measured. sites/quality/signal_figures.py says how."""

    snr: float | None = Field(description="mean of the anatomy over the noise of the air")
    ghosting: float | None = Field(description="air beside the anatomy, over twice the anatomy")
    saturated: float | None = Field(description="share of the anatomy at the maximum")
    cut_off: float | None = Field(description="share of the picture's edge with anatomy on it")
    shift_px: float | None = Field(description="pixels between every other slice and its neighbours")


class PairQuality(Settings):
    """Figures of one pair."""

    occupied: Shares = Field(
        description="share of the target's frequencies that hold signal, on the stored grid"
    )
    reference_occupied: Shares = Field(description="the same of the reference")
    cropped: bool = Field(False, description="whether the target was brought to the matrix that was measured")
    peak_ratio: float = Field(description="the target's maximum over its foreground's 99.9th percentile")
    reference_step: float = Field(
        description="detail of the reference over the target's, along the worst axis"
    )
    anatomy_slices: int = Field(description="slices of the target that show anatomy, faulty ones included")
    faulty_slices: int = Field(0, description="of these: empty, dark or bright between others; not used")
    unguided_slices: int = Field(0, description="of these: outside the reference's view; not used")
    cut_off_slices: int = Field(
        0, description="of these: good, but beyond a faulty or unguided one; not used"
    )
    remarks: tuple[str, ...] = Field((), description="of the target's or the reference's values")
    target_signal: SignalQuality | None = Field(None, description="of the target; null: an older record")
    reference_signal: SignalQuality | None = Field(None, description="the same of the reference")

    @property
    def in_plane(self) -> float:
        """The smaller share of rows and columns; 1 where neither was measured."""
        return min((share for share in self.occupied[1:] if share is not None), default=1.0)

    @property
    def unused_slices(self) -> int:
        return self.faulty_slices + self.unguided_slices + self.cut_off_slices

    def as_text(self) -> str:
        """The figures for a person, in one line."""
        shares = " x ".join("?" if share is None else f"{share:.2f}" for share in self.occupied)
        said = [f"frequencies held {shares}" + (", cropped to what was measured" if self.cropped else "")]
        if self.reference_step > SAID_STEP:
            said.append(f"reference {self.reference_step:.1f} times coarser")
        if self.peak_ratio > OUTLYING_PEAK:
            said.append(f"maximum {self.peak_ratio:.1f} times the 99.9th percentile")
        if self.unused_slices:
            said.append(_unused([self]))
        return "; ".join([*said, *self.remarks])


def quality_remarks(pairs: Sequence[PairQuality]) -> list[str]:
    """What must be said beside every figure of these pairs.

    Parameters
    ----------
    pairs
        Those whose images were looked at; older records have no figures.

    Returns
    -------
    list[str]
        Sentences, each with how many of the pairs it is said of; empty where nothing is to be said.
    """
    said, of_all = [], f"of {len(pairs)} pairs"

    def chosen(condition: Callable[[PairQuality], bool]) -> list[PairQuality]:
        return [pair for pair in pairs if condition(pair)]

    if found := chosen(lambda pair: pair.in_plane < SAID_BELOW and not pair.cropped):
        shares = _range([pair.in_plane for pair in found])
        said.append(
            f"The truth of {len(found)} {of_all} holds only {shares} of the row or column frequencies: it was "
            "interpolated or filtered before it was stored, which flatters every method, sinc before all."
        )
    if found := chosen(lambda pair: pair.cropped):
        shares = _range([pair.in_plane for pair in found])
        said.append(
            f"{len(found)} {of_all} were cropped in k-space to what was measured ({shares} of an axis). Where a linear "
            "interpolation was the cause, what it damped is not restored: sinc scores 3 to 4 dB too high there."
        )
    if found := chosen(lambda pair: pair.occupied[0] is not None and pair.occupied[0] < SAID_SLICES_BELOW):
        shares = _range([pair.occupied[0] or 0.0 for pair in found])
        said.append(
            f"The slices of {len(found)} {of_all} are interpolated: they hold {shares} of the frequencies."
        )
    if found := chosen(lambda pair: pair.peak_ratio > OUTLYING_PEAK):
        ratios = _range([pair.peak_ratio for pair in found], digits=1)
        said.append(
            f"The maximum of {len(found)} {of_all} is {ratios} times the 99.9th percentile: PSNR and SSIM, whose data "
            "range it is, are too high."
        )
    if found := chosen(lambda pair: pair.reference_step > SAID_STEP):
        steps = _range([pair.reference_step for pair in found], digits=1)
        said.append(
            f"The reference of {len(found)} {of_all} is coarser than its target, {steps} times along an axis."
        )
    if found := chosen(lambda pair: pair.unused_slices > 0):
        said.append(f"{_unused(found)}, in {len(found)} {of_all}.")
    words = Counter(remark for pair in pairs for remark in pair.remarks)
    return said + [f"{count} {of_all}: {remark}." for remark, count in sorted(words.items())]


def _range(figures: Sequence[float], *, digits: int = 2) -> str:
    low, high = f"{min(figures):.{digits}f}", f"{max(figures):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def _unused(pairs: Sequence[PairQuality]) -> str:
    unused, anatomy = sum(pair.unused_slices for pair in pairs), sum(pair.anatomy_slices for pair in pairs)
    causes = [
        (sum(pair.faulty_slices for pair in pairs), "faulty"),
        (sum(pair.unguided_slices for pair in pairs), "outside the reference's view"),
        (sum(pair.cut_off_slices for pair in pairs), "beyond these"),
    ]
    counted = ", ".join(f"{count} {cause}" for count, cause in causes if count)
    return f"{unused} of {anatomy} slices with anatomy are not used ({counted})"
