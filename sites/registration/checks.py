"""What a registered pair must show before it is trusted, and what is said where it does not.

The cause is looked for before anything is said: a reference that covers a part only, that is mirrored or turned, that
is the target itself, or whose slices are packed across a gap is no other patient's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import SimpleITK as sitk  # noqa: N813 (the name its own manual uses)
from numpy.typing import NDArray

from minet_core.errors import RegistrationRefused
from minet_core.imaging.scan_figures import scan_figures
from minet_core.imaging.volume import Volume
from sites.quality.figure_text import shares_told_apart, told_apart
from sites.quality.same_contrast import measure_likeness
from sites.registration.block_matching import covered_share
from sites.registration.motion_search import Motion, find_motion, matching_image
from sites.registration.slice_agreement import (
    MAX_OUT_OF_ORDER,
    MAX_STEP,
    largest_step,
    measure_slices,
    out_of_order_share,
)
from sites.settings.site_settings import RegistrationSettings

MAX_FINE_LIKENESS = 0.93
"""See sites.same_contrast.py; the limit of the coarse look is `registration.max_likeness` of site.yaml."""
SEEN_BLOCKS = 300
MAX_NOISE = 0.04
"""Noise of a reference, over its 99th percentile, beyond which blocks may be lost in it. T1 of the training patients:
0.01 to 0.02; with noise of 5% of that percentile added 0.05 to 0.06, with 10% 0.08 to 0.09."""
MIN_SHARED = 0.3
"""Share of the target's foreground blocks that the reference must cover for the two to be compared."""


class MotionNotFound(RegistrationRefused):
    """Registration found no motion that it can rely on; nothing else speaks against the pair."""


class MotionUnsure(MotionNotFound):
    """Blocks are found in their place, but too far about it to say to a pixel where that is."""


def require_registered(
    target: Volume,
    reference: Volume,
    *,
    fixed: sitk.Image,
    moving: sitk.Image,
    motion: Motion,
    limits: RegistrationSettings,
) -> None:
    """Refuse a pair that must not be used, with the cause.

    Parameters
    ----------
    target, reference
        The scans as they were read, each on its own grid.
    fixed, moving
        The same two as `matching_image` made them.
    motion
        What registration found, from points of the target to points of the reference.
    limits
        The site's, from site.yaml.

    Raises
    ------
    RegistrationRefused
        FM-D204: hardly any overlap, slices missing, doubled or out of order, a lost orientation, a stretch above the
        limit. MotionNotFound, one of these: too few blocks in their place, or an error above the limit, which is
        MotionUnsure and comes after all else.
    """
    inside_share = covered_share(fixed, moving, motion.as_sitk(), max_blocks=SEEN_BLOCKS)
    overlaps = inside_share >= MIN_SHARED
    if not overlaps and motion.agreement >= limits.min_agreement:
        raise _apart(inside_share)
    slices = measure_slices(fixed, moving, motion.as_sitk())
    step = largest_step(slices)
    if step is not None and overlaps and motion.agreement >= limits.min_agreement / 2:
        limit, height = told_apart(abs(step.height), MAX_STEP)
        raise RegistrationRefused(
            "slices are missing or doubled in one of the two scans",
            got=f"from slice {step.slices[0] + 1} to {step.slices[1] + 1} the anatomy jumps by {height} "
            f"slices ({abs(step.height) * slices.spacing_mm:.1f} mm) against the reference",
            expected=f"at most {limit} slices",
            action="Look at that place, and export or convert the scan again",
        )
    if motion.agreement < limits.min_agreement:
        raise _unlike(reference, fixed=fixed, motion=motion, inside_share=inside_share, limits=limits)
    disorder = out_of_order_share(slices)
    if disorder > MAX_OUT_OF_ORDER:
        limit, got = shares_told_apart(disorder, MAX_OUT_OF_ORDER)
        raise RegistrationRefused(
            "slices of one of the two scans are out of order",
            got=f"{got} of the slices lie beside their place",
            expected=f"at most {limit}",
            action="Export or convert the scan again",
        )
    if motion.stretch() > max(limits.max_stretch, 1e-6):
        limit, got = shares_told_apart(motion.stretch(), limits.max_stretch)
        raise RegistrationRefused(
            "the two scans differ in size",
            got=f"{got} of a length",
            expected=f"at most {limit}",
            action="See the pixel size and the slice spacing in both headers",
        )
    pixel = min(target.spacing_mm[1:])
    if motion.error_mm > limits.max_error_px * pixel:
        limit, got = told_apart(motion.error_mm, limits.max_error_px * pixel)
        raise MotionUnsure(
            "the registration is not sure enough",
            got=f"an error of about {got} mm ({motion.error_mm / pixel:.3g} pixels)",
            expected=f"at most {limit} mm ({limits.max_error_px:g} pixels)",
            action="See that neither scan is disturbed by motion, and that both show one region",
        )


def require_two_contrasts(
    target: Volume, guide: Volume, *, covered: NDArray[np.bool_] | None, limits: RegistrationSettings
) -> None:
    """Refuse a reference that is the target itself, or made from it.

    Parameters
    ----------
    target
        The scan to be super-resolved.
    guide
        The reference on the target's grid.
    covered
        (slice, row, column) where the guide has data; None: everywhere.
    limits
        The site's; with `max_likeness` 1 nothing is checked.

    Raises
    ------
    RegistrationRefused
        FM-D204, with the squared correlation.
    """
    if limits.max_likeness == 1:  # the site looks for itself
        return
    coarse, fine = measure_likeness(target, guide, covered=covered)
    for figure, most, how in (
        (coarse, limits.max_likeness, "over 40 mm"),
        (fine, MAX_FINE_LIKENESS, "over 18 mm"),
    ):
        if figure > most:
            limit, got = told_apart(figure, most)
            raise RegistrationRefused(
                "the reference is the target itself, or made from it",
                got=f"a squared correlation of {got} {how}",
                expected=f"at most {limit}",
                action="Give the other contrast as the reference",
            )


def _unlike(
    reference: Volume,
    *,
    fixed: sitk.Image,
    motion: Motion,
    inside_share: float,
    limits: RegistrationSettings,
) -> RegistrationRefused:
    """The refusal of a pair whose blocks are not found: why."""
    least, share = shares_told_apart(motion.agreement, limits.min_agreement)
    got, expected = f"{share} of the blocks are found in their place", f"at least {least}"
    for name, turned, max_starts in _turned(reference):
        other = find_motion(fixed, matching_image(turned), limits=limits, max_starts=max_starts)
        if other.agreement >= max(limits.min_agreement, 2 * motion.agreement):
            return RegistrationRefused(
                f"the reference is {name}: its orientation was lost",
                got=f"{got}, {other.agreement:.0%} once it is turned back",
                expected=expected,
                action="Convert the scan again; correct no header by hand",
            )
    if inside_share < MIN_SHARED:
        return _apart(inside_share)
    noise = _noise(reference)
    if noise > MAX_NOISE:
        limit, found = shares_told_apart(noise, MAX_NOISE)
        return MotionNotFound(
            "the reference is too noisy to tell whether it shows the target's anatomy",
            got=f"{got}; noise of {found} of its bright tissue",
            expected=f"{expected}, or noise of at most {limit}",
            action="Give a reference with less noise",
        )
    return MotionNotFound(
        "target and reference do not show the same anatomy",
        got=got,
        expected=expected,
        action="See that both scans are of one patient and one region",
    )


def _noise(reference: Volume) -> float:
    """Standard deviation over the 99th percentile; 0 where the scan shows too little."""
    _, down, across = reference.spacing_mm
    figures = scan_figures(reference.magnitude(), pixel_mm=(down * across) ** 0.5)
    return 0.0 if figures is None else figures.noise


def _apart(inside_share: float) -> RegistrationRefused:
    least, share = shares_told_apart(inside_share, MIN_SHARED)
    return RegistrationRefused(
        "target and reference hardly overlap",
        got=f"{share} of the target's anatomy is in the reference's field of view",
        expected=f"at least {least}",
        action="See that both scans show one region, and their positions in the headers",
    )


def _turned(reference: Volume) -> Iterator[tuple[str, Volume, int]]:
    """The reference as a lost orientation would have it, and from how many starts it is looked for.

    Mirrored along an axis from all starts: the middle of half a stack lies elsewhere once it is turned.
    """
    array = reference.array
    for name, axes, max_starts in (
        ("mirrored from left to right", (2,), 3),
        ("upside down in its rows", (1,), 3),
        ("in reversed order of its slices", (0,), 3),
        ("turned by half a turn in the plane", (1, 2), 1),
        ("turned by half a turn about its columns", (0, 1), 1),
        ("turned by half a turn about its rows", (0, 2), 1),
        ("mirrored along all three axes", (0, 1, 2), 1),
    ):
        yield name, dataclasses.replace(reference, array=_contiguous(np.flip(array, axes))), max_starts
    # Its rows as columns: with a quarter of a turn to either side, and mirrored.
    slices, rows, columns = reference.spacing_mm
    affine = reference.affine.copy()
    affine[:3, 1], affine[:3, 2] = affine[:3, 1] / rows * columns, affine[:3, 2] / columns * rows
    transposed = Volume(
        _contiguous(array.transpose(0, 2, 1)), (slices, columns, rows), affine, reference.contrast
    )
    quarter = "turned by a quarter of a turn in the plane"
    for axis in (1, 2):
        flipped = _contiguous(np.flip(transposed.array, axis))
        yield quarter, dataclasses.replace(transposed, array=flipped), 1
    yield "with rows and columns exchanged", transposed, 1


def _contiguous(array: NDArray[np.generic]) -> NDArray[np.float32]:
    return np.ascontiguousarray(np.abs(array), dtype=np.float32)
