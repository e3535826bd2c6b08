"""From the frames of a series to stacks of slices: which belong together, in which order, and where they lie.

Order, spacing and affine come from the positions along the slice's normal. Names of files, instance numbers,
SliceLocation, SliceThickness and SpacingBetweenSlices are read by nothing here. Frames of one stack agree in matrix,
pixel spacing, orientation, echo, inversion, diffusion weighting and kind; where several still lie at one position they
are told apart by temporal position, then by acquisition number, and refused where neither does it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minet_core.errors import DataError, SlicesNotOneVolume
from sites.quality.scan_quality import check_shape
from sites.scans.dicom.frames import Frame

SAME_PLACE_MM = 0.01
"""Frames nearer than this along the normal lie at one position. Positions are written with three digits or more."""
SAME_DIRECTION = 1e-3
"""Largest difference of a direction's part within a stack: 0.06 degrees."""
UNEVEN_SHARE = 0.02
"""Of the distance of slices: how far one may lie from its place on an even grid. The vendor files: up to 0.0003."""
MAX_DRIFT_PX = 0.25
"""Of a pixel: how far the last slice may lie aside of the first, along the slices' plane. The vendor files: 0.003."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Stack:
    """Slices of one acquisition that make a volume, in the order of the normal.

    spacing_mm: distance of slices, rows, columns. affine: (4, 4), from (slice, row, column) to RAS+ mm, on the frames'
    own axes. remarks: what was taken on trust.
    """

    frames: tuple[Frame, ...]
    spacing_mm: tuple[float, float, float]
    affine: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slice, row, column)."""
        return (len(self.frames), *self.frames[0].shape)


def group_frames(frames: Iterable[Frame]) -> list[tuple[Frame, ...]]:
    """The frames that belong to one acquisition each.

    Parameters
    ----------
    frames
        Of one series.

    Returns
    -------
    list[tuple[Frame, ...]]
        In the order of their first frames. Repetitions are told apart where a fact does it; frames that lie at one
        position for no fact's difference stay together, and `stack_of` refuses them.
    """
    alike: dict[tuple[object, ...], list[list[Frame]]] = defaultdict(list)
    for frame in frames:
        directions = np.array([frame.along_row, frame.along_column])
        for group in alike[_kind(frame)]:
            first = np.array([group[0].along_row, group[0].along_column])
            if np.abs(directions - first).max() < SAME_DIRECTION:
                group.append(frame)
                break
        else:
            alike[_kind(frame)].append([frame])
    groups = [group for of_kind in alike.values() for group in of_kind]
    return [repetition for group in groups for repetition in _repetitions(group)]


def stack_of(frames: Sequence[Frame], *, what: str) -> Stack:
    """The volume that the frames of one group make.

    Parameters
    ----------
    frames
        In any order; alike in matrix, pixel spacing and orientation.
    what
        The series' name, for messages.

    Returns
    -------
    Stack
        At least two slices, evenly spaced and at right angles to their stack.

    Raises
    ------
    SlicesNotOneVolume
        FM-D212: one slice, two at one position, one missing, uneven, or a stack that is askew; with the figures.

    References
    ----------
    DICOM PS3.3, C.7.6.2.1.1 (Equation C.7.6.2.1-1).
    """
    if len(frames) < 2:
        raise SlicesNotOneVolume(f"{what} has one slice", got="1", expected="a stack")
    normal = np.cross(frames[0].along_row, frames[0].along_column)
    places = np.array([frame.position for frame in frames])
    along = places @ normal
    order = np.argsort(along, kind="stable")
    along, places = along[order], places[order]
    _require_single(along, what=what)
    _require_even(along, what=what)
    step = (places[-1] - places[0]) / (len(frames) - 1)
    _require_upright(step, normal, len(frames), frames[0], what=what)
    first = frames[order[0]]
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = np.array(first.along_column) * first.pixel_mm[0]
    affine[:3, 2] = np.array(first.along_row) * first.pixel_mm[1]
    affine[:3, 3] = places[0]
    spacing = (float(np.linalg.norm(step)), first.pixel_mm[0], first.pixel_mm[1])
    return Stack(tuple(frames[index] for index in order), spacing, LPS_TO_RAS @ affine)


def _kind(frame: Frame) -> tuple[object, ...]:
    facts = frame.facts
    return (
        frame.shape,
        tuple(round(step, 4) for step in frame.pixel_mm),
        facts.echo_time_s,
        facts.inversion_time_s,
        facts.b_value_s_mm2,
        facts.image_type,
        facts.component,
    )


def _repetitions(group: list[Frame]) -> list[tuple[Frame, ...]]:
    """A group cut by the first fact that leaves no two frames of a part at one position; else as it is."""
    if _is_single(group):
        return [tuple(group)]
    for fact in (0, 1):
        parts: dict[float | None, list[Frame]] = defaultdict(list)
        for frame in group:
            parts[frame.moment[fact]].append(frame)
        if len(parts) > 1 and all(_is_single(part) for part in parts.values()):
            return [tuple(part) for part in parts.values()]
    return [tuple(group)]


def _is_single(group: Sequence[Frame]) -> bool:
    normal = np.cross(group[0].along_row, group[0].along_column)
    along = np.sort(np.array([frame.position for frame in group]) @ normal)
    return bool((np.diff(along) > SAME_PLACE_MM).all())


def _require_single(along: NDArray[np.float64], *, what: str) -> None:
    first_of_each = np.concatenate([[True], np.diff(along) > SAME_PLACE_MM])
    n_places = int(first_of_each.sum())
    if n_places < len(along):
        twice = along[np.flatnonzero(~first_of_each)[0]]
        raise SlicesNotOneVolume(
            f"{what} has several slices at one position, and nothing in them says what they are",
            got=f"{len(along)} slices at {n_places} positions; the first at {twice:.2f} mm along the normal",
            expected="one slice a position, or repetitions that differ in temporal position or acquisition number",
            action="Export one acquisition alone",
        )


def _require_even(along: NDArray[np.float64], *, what: str) -> None:
    steps = np.diff(along)
    usual = float(np.median(steps))
    even = np.linspace(along[0], along[-1], len(along))
    if (
        np.abs(along - even).max() <= UNEVEN_SHARE * usual
        and np.abs(steps - usual).max() <= 2 * UNEVEN_SHARE * usual
    ):
        return
    largest = int(np.argmax(np.abs(steps - usual)))
    n_missing = steps[largest] / usual - 1
    if n_missing > 0.5 and abs(n_missing - round(n_missing)) < 2 * UNEVEN_SHARE * (n_missing + 1):
        raise SlicesNotOneVolume(
            f"{what} lacks slices",
            got=f"{round(n_missing)} between {along[largest]:.2f} and {along[largest + 1]:.2f} mm along the normal",
            expected=f"a slice every {usual:.2f} mm",
            action="Export the whole series again",
        )
    raise SlicesNotOneVolume(
        f"{what} has unevenly spaced slices",
        got=f"steps of {steps.min():.3f} to {steps.max():.3f} mm",
        expected=f"a slice every {usual:.3f} mm",
        action="Export a series with evenly spaced slices; none is resampled here",
    )


def _require_upright(
    step: NDArray[np.float64], normal: NDArray[np.float64], n_slices: int, first: Frame, *, what: str
) -> None:
    aside = step - (step @ normal) * normal
    drift_px = float(np.linalg.norm(aside)) * (n_slices - 1) / min(first.pixel_mm)
    if drift_px > MAX_DRIFT_PX:
        angle = float(np.degrees(np.arctan2(np.linalg.norm(aside), step @ normal)))
        raise SlicesNotOneVolume(
            f"{what} is a stack that is askew",
            got=f"{angle:.2f} degrees between the slices' normal and the stack, {drift_px:.1f} pixels from end to end",
            expected=f"up to {MAX_DRIFT_PX} pixels",
            action="Export a series whose slices are at right angles to their stack",
        )


def outcome_of(frames: Sequence[Frame], *, what: str) -> Stack | DataError:
    """The volume that frames make, or why they make none: for a table of what is there.

    Parameters
    ----------
    frames, what
        As `stack_of` takes them.

    Returns
    -------
    Stack | DataError
        The refusal is not raised.
    """
    try:
        stack = stack_of(frames, what=what)
        check_shape(stack.shape, what=what)
    except DataError as failure:
        return failure
    return stack
