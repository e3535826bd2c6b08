"""What must be said beside a super-resolved scan: where its guide, its data or its kind give reason for doubt.

A caution stops nothing. It has a name for programs, the figure and the limit that it passed, and a sentence for
people; no path and nothing of a patient. The limits were set on the training patients of the project's real scans, one
clinical and one brain-extracted; the figures stand beside the constants.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from minet_core.imaging.scan_figures import ScanFigures
from minet_core.training_domain import Span, TrainingDomain
from sites.registration.checks import MAX_NOISE
from sites.registration.contour_agreement import MIN_AGREEMENT

WHOLE_COVER = 0.99
COARSER = 1.05
"""A reference on the scan's own grid, to what headers round, is said to be as fine."""
NOISIER = 2.0
"""Noise is said beyond `MAX_NOISE`, and by this factor beyond the noisiest that the model was trained with."""
CLEAN_TARGET = 0.01
"""Noise of a scan, over its 99th percentile, below which nothing is said of it."""
MIDDLE_SLACK = 0.15
"""T1 of a brain 0.79 to 0.81, of a whole head 0.32; T2 0.41 to 0.49."""
RIM_FACTOR = {"target": 1.6, "reference": 1.3}
"""T1 of a brain 0.64 to 0.67, of a whole head 1.04. T2 of the same brain 0.71 to 1.15, by scale, plane and part."""
SPACING_FACTOR = 1.3
SPACING_SLACK_MM = 0.05
"""Half of what the trained spacings are rounded to."""
BAND_SLACK = 0.1
DATA_LIMIT = 0.08
"""Norm of what an image says otherwise than the measured data, over theirs. Small models of the training patients on
these: 0.02 to 0.06; with their reference mirrored 0.07 (2x) and 0.13 (4x)."""


LESS_SHARP = 0.3
"""By so much more than the steepest of the training falls the power of a scan that is less sharp. Of thirty phantoms
who did not train, beside one to seven who did, seven do: all four whom a model served worst (0.9 dB below sinc to 2.1
above), and three whom it served well (3.8 to 6.8). Of five real scans, each against the others of its site: none."""


DOUBTS = frozenset(
    {
        "data-inconsistent",
        "target-interpolated",
        "target-less-sharp",
        "target-noisy",
        "training-target-contrast",
    }
)
"""What is said where a model was seen, or is likely, to fall below zero-filled sinc."""


STAND_INS = {
    "model": "made without it, by the model on the scan alone",
    "sinc": "made without it and without a model, by zero-filled sinc",
}
"""What stands in for the picture that a reference would have given, in words."""


@dataclass(frozen=True)
class Caution:
    """code: its name. figure, limit: None where it is no matter of a figure. sentence: for a person."""

    code: str
    figure: float | None
    limit: float | None
    sentence: str


def cautions_on_guide(*, covered_share: float, agreement: float | None, stand_in: str) -> list[Caution]:
    """On the reference as it lies on the scan.

    Parameters
    ----------
    covered_share
        Of the target's foreground, 0 to 1.
    agreement
        Of the contours, -1 to 1 (`sites.registration.contour_agreement`); None where too little is shared.
    stand_in
        What is there where the reference ends: "model" on the target alone, or "sinc".

    Returns
    -------
    list[Caution]
        Empty where nothing is to be said.
    """
    said = []
    if covered_share < WHOLE_COVER:
        said.append(
            Caution(
                "reference-partial",
                round(covered_share, 4),
                WHOLE_COVER,
                f"The reference shows {covered_share:.0%} of the scan's anatomy; the rest is {STAND_INS[stand_in]}.",
            )
        )
    if agreement is None:
        sentence = "Too little is shared to tell whether the reference shows the anatomy of the scan."
        said.append(Caution("reference-unproven", None, None, sentence))
    elif agreement < MIN_AGREEMENT:
        said.append(
            Caution(
                "reference-disagrees",
                round(agreement, 3),
                MIN_AGREEMENT,
                "The contours of the reference do not run as those of the scan: another patient's, moved, or mirrored. "
                "Detail may be another's.",
            )
        )
    return said


def caution_on_motion(agreement: float) -> tuple[Caution, ...]:
    """On a reference that is taken where the scanner put it, since registration found nothing to rely on.

    Parameters
    ----------
    agreement
        By the gate, of the reference as it lies.

    Returns
    -------
    tuple[Caution, ...]
        One.
    """
    sentence = (
        "Registration found no motion that it can rely on; the reference is taken where the scanner put it, "
        f"where its contours run as those of the scan (agreement {agreement:.2f})."
    )
    return (Caution("reference-not-registered", round(agreement, 3), None, sentence),)


def noise_limit(domain: TrainingDomain | None, *, known_noise: float = 0.0) -> float:
    """Noise of a reference beyond which it is noisier than those of the training.

    Parameters
    ----------
    domain
        What the model's file says of its training; None where it says nothing.
    known_noise
        The most that training added to references.

    Returns
    -------
    float
        Standard deviation over the 99th percentile.
    """
    return max(MAX_NOISE, known_noise, 0.0 if domain is None else NOISIER * domain.reference_noise.high)


def cautions_on_gate(
    *,
    agreement: float,
    misplacement: float,
    trusted: float,
    wrong: bool,
    without_reference: float,
    stand_in: str | None,
) -> list[Caution]:
    """On a reference that the gate names (`minet_core.evaluation.reference_gate`).

    Parameters
    ----------
    agreement, misplacement
        Of the whole reference.
    trusted
        Share of the target's structure where it is believed.
    wrong
        Whether it is named.
    without_reference
        Share of the structure that was made without it.
    stand_in
        By what: "model" on the target alone, or "sinc".

    Returns
    -------
    list[Caution]
        Empty for a reference that is not named.
    """
    if not wrong:
        return []
    done = (
        f"{without_reference:.0%} of the structure is {STAND_INS[stand_in or 'sinc']}"
        if without_reference > 0
        else "the picture is made with it all the same"
    )
    sentence = (
        f"The reference does not lie as the scan does (agreement {agreement:.2f}, misplacement {misplacement:.3f}) or "
        f"does not show it; {done}."
    )
    return [Caution("reference-wrong", trusted, None, sentence)]


def caution_on_interpolation(said: Iterable[Caution], *, falls_back: bool) -> list[Caution]:
    """Where plain interpolation may be the better picture, by what was said already.

    Parameters
    ----------
    said
        All other cautions.
    falls_back
        Whether the picture is made without the reference where that is not believed.

    Returns
    -------
    list[Caution]
        One, or none.
    """
    codes = {caution.code for caution in said}
    reasons = codes & (DOUBTS if falls_back else DOUBTS | {"reference-wrong"})
    if not reasons:
        return []
    sentence = f"Plain interpolation may be the better picture: {', '.join(sorted(reasons))}."
    return [Caution("interpolation-may-be-better", None, None, sentence)]


def cautions_on_kind(
    domain: TrainingDomain | None,
    *,
    spacing_mm: tuple[float, float, float],
    target: ScanFigures | None,
    reference: ScanFigures | None,
    max_reference_noise: float,
    stand_in: str | None = None,
) -> list[Caution]:
    """On the kind of scan, against what the model was trained on.

    Parameters
    ----------
    domain
        What the model's file says of its training; None where it says nothing, which is a caution of its own.
    spacing_mm
        Of the high resolution, (slice, row, column).
    target
        Figures of the low-resolution scan; None where it shows too little to be measured.
    reference
        Figures of the reference on the frame; None likewise.
    max_reference_noise
        As `noise_limit` has it.
    stand_in
        What is there where all of the reference is left out; None where it is not.

    Returns
    -------
    list[Caution]
        Empty where nothing is to be said.
    """
    said = []
    if reference is not None and reference.noise > max_reference_noise:
        sentence = f"The reference is noisy: {reference.noise:.1%} of its bright tissue."
        if stand_in is not None:
            sentence += f" The picture is {STAND_INS[stand_in]}."
        said.append(
            Caution("reference-noisy", round(reference.noise, 4), round(max_reference_noise, 4), sentence)
        )
    if target is not None and domain is not None:
        most = max(CLEAN_TARGET, NOISIER * domain.target_noise.high)
        if target.noise > most:
            sentence = (
                f"The scan is noisier than those of the training: {target.noise:.1%} of its bright tissue."
            )
            said.append(Caution("target-noisy", round(target.noise, 4), round(most, 4), sentence))
    if target is not None and domain is not None:
        said += _less_sharp(target.slope, domain.target_slope)
    whole = 1.0 if domain is None else domain.band.low
    if target is not None and target.band < whole - BAND_SLACK:
        said.append(
            Caution(
                "target-interpolated",
                round(target.band, 3),
                round(whole - BAND_SLACK, 3),
                f"The scan fills {target.band:.0%} of its k-space: it was interpolated before, and is finer than "
                "what was measured.",
            )
        )
    if domain is None:
        sentence = "The model's file does not say what it was trained on: whether it has seen such scans is not known."
        return [*said, Caution("training-unknown", None, None, sentence)]
    return [*said, *_outside(domain, spacing_mm=spacing_mm, target=target, reference=reference)]


def _less_sharp(slope: float | None, known: Span | None) -> list[Caution]:
    """On a scan whose fine detail is weaker than that of the training: a model sharpens it to what it knows."""
    if slope is None or known is None or slope >= known.low - LESS_SHARP:
        return []
    sentence = (
        "The scan is less sharp than those of the training, as of a patient who moved: the model may make detail that "
        "is not there."
    )
    return [Caution("target-less-sharp", round(slope, 2), round(known.low - LESS_SHARP, 2), sentence)]


def caution_on_data(inconsistency: float) -> list[Caution]:
    """On the image against the measured data.

    Parameters
    ----------
    inconsistency
        Norm of what the image says otherwise, over that of the data.

    Returns
    -------
    list[Caution]
        One caution above `DATA_LIMIT`, else none.
    """
    if inconsistency <= DATA_LIMIT:
        return []
    sentence = f"The image says otherwise than the measured data by {inconsistency:.0%} of their norm."
    return [Caution("data-inconsistent", round(inconsistency, 4), DATA_LIMIT, sentence)]


def cautions_of_spacing(target_mm: Sequence[float], reference_mm: Sequence[float]) -> list[Caution]:
    """Whether the reference's pixels are larger than the scan's, as where the two were given in each other's place.

    Parameters
    ----------
    target_mm, reference_mm
        Voxel sizes (slice, row, column), mm.

    Returns
    -------
    list[Caution]
        "reference-coarse", with the edges of squares as large as the pixels; none where the reference is as fine.
    """
    target, reference = (math.sqrt(row * column) for _, row, column in (target_mm, reference_mm))
    if reference <= target * COARSER:
        return []
    sentence = (
        f"The reference's pixels are larger than the scan's ({reference:.2f} and {target:.2f} mm): it has no detail "
        "to give. See that the two are not in each other's place."
    )
    return [Caution("reference-coarse", round(reference, 4), round(target, 4), sentence)]


def cautions_of_reading(role: str, remarks: Iterable[str]) -> list[Caution]:
    """What the reader of a file noticed.

    Parameters
    ----------
    role
        "target" or "reference".
    remarks
        Clauses as `read_nifti_with_remarks` gives them.

    Returns
    -------
    list[Caution]
        One a remark.
    """
    return [Caution(f"{role}-read", None, None, f"The {role}: {remark}.") for remark in remarks]


def _outside(
    domain: TrainingDomain,
    *,
    spacing_mm: tuple[float, float, float],
    target: ScanFigures | None,
    reference: ScanFigures | None,
) -> list[Caution]:
    said = [
        *_beyond(
            "training-pixel",
            "pixels [mm]",
            (spacing_mm[1] * spacing_mm[2]) ** 0.5,
            _wider(domain.pixel_mm, factor=SPACING_FACTOR, slack=SPACING_SLACK_MM),
        ),
        *_beyond(
            "training-slices",
            "slices [mm]",
            spacing_mm[0],
            _wider(domain.slice_mm, factor=SPACING_FACTOR, slack=SPACING_SLACK_MM),
        ),
    ]
    for role, found in (("target", target), ("reference", reference)):
        if found is None:
            continue
        middle, rim = getattr(domain, f"{role}_middle"), getattr(domain, f"{role}_rim")
        said += _beyond(
            f"training-{role}-contrast",
            f"middle of the {role}'s tissue",
            found.middle,
            _wider(middle, slack=MIDDLE_SLACK),
        )
        said += _beyond(
            f"training-{role}-outline",
            f"rim of the {role}'s anatomy (a head has skin, a brain has not)",
            found.rim,
            _wider(rim, factor=RIM_FACTOR[role]),
        )
    return said


def _wider(span: Span, *, factor: float = 1.0, slack: float = 0.0) -> Span:
    return Span(low=(span.low - slack) / factor, high=(span.high + slack) * factor)


def _beyond(code: str, what: str, figure: float, span: Span) -> list[Caution]:
    if span.low <= figure <= span.high:
        return []
    limit = span.low if figure < span.low else span.high
    sentence = f"Another kind of scan than the model was trained on: {what} {figure:.2f}, limit {limit:.2f}."
    return [Caution(code, round(figure, 4), round(limit, 4), sentence)]
