"""What a frame has, in the order of the standard: its own functional groups, those that all frames share, the object.

Names the sequences of groups that are looked into: those alone are read of an enhanced object.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset

from sites.scans.dicom.elements import (
    GROUPS,
    PHILIPS_SCALE,
    Elements,
    number_of,
    private_value,
    value_of,
)
from sites.scans.dicom.quick_items import NONE_INNER, Inner

PHILIPS = "(Philips' scale)"
"""What the lookup takes instead of a keyword for `PHILIPS_SCALE`."""
OF_A_FRAME = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "RealWorldValueMappingSequence",
    "FrameContentSequence",
    "MREchoSequence",
    "MRTimingAndRelatedParametersSequence",
    "MRModifierSequence",
    "MRImageFrameTypeSequence",
    "MRDiffusionSequence",
    "MRFOVGeometrySequence",
    "PixelIntensityRelationshipLUTSequence",
)
ASKED_FOR = ("RealWorldValueMappingSequence", "ContrastBolusAgentSequence", "ModalityLUTSequence")
"""Sequences that are looked up as a value is, and so wherever they are."""
OF_PHILIPS = 0x2005140F
"""Philips keeps the elements of the classic object in a sequence of its own, one item a frame."""


def sequences_to_read() -> Inner:
    """The sequences of an object that are read, and those within them.

    Returns
    -------
    Inner
        For `sites.scans.dicom.quick_items`.
    """
    asked = dict.fromkeys(map(number_of, ASKED_FOR), NONE_INNER)
    groups = dict.fromkeys((*map(number_of, OF_A_FRAME), OF_PHILIPS), asked)
    return {**asked, **{group: {**asked, **groups} for group in map(number_of, GROUPS)}}


def lookup_of(
    dataset: Dataset | Elements, shared: Dataset | Elements | None
) -> Callable[[Dataset | Elements | None], Callable[[str], Any]]:
    """How values are looked up for the frames of one object.

    Parameters
    ----------
    dataset
        The object.
    shared
        What all frames share.

    Returns
    -------
    Callable[[Dataset | Elements | None], Callable[[str], Any]]
        For a frame's own item of functional groups: gives an element's value by its keyword, None where it is nowhere.
        What no frame has of its own is looked up once.
    """
    of_shared, after = _groups_of(shared), () if shared is None else (shared,)
    once = functools.cache(functools.partial(_first, (*of_shared, *after, dataset)))

    def of_frame(own: Dataset | Elements | None) -> Callable[[str], Any]:
        groups, item = _groups_of(own), () if own is None else (own,)
        tags = {tag for place in (*groups, *item) for tag in place.keys()}  # noqa: SIM118
        in_order = (*groups, *of_shared, *item, *after, dataset)

        def value(keyword: str) -> Any:
            if keyword == PHILIPS:
                places = (*groups, *of_shared, *_philips_items(own), dataset)
                return next(
                    (v for one in places if (v := private_value(one, PHILIPS_SCALE)) is not None), None
                )
            return _first(in_order, keyword) if number_of(keyword) in tags else once(keyword)

        return value

    return of_frame


def first_item(sequence: Any) -> Dataset | Elements | None:
    """The first item of a sequence.

    Parameters
    ----------
    sequence
        As `value_of` gives it.

    Returns
    -------
    Dataset | Elements | None
        None where there is no sequence or no item in it.
    """
    return sequence[0] if sequence is not None and len(sequence) else None


def _first(places: tuple[Dataset | Elements, ...], keyword: str) -> Any:
    tag = number_of(keyword)
    for place in places:
        if tag in place.keys():  # noqa: SIM118  # pydicom's own `in` takes ten times as long
            found = value_of(place, keyword)
            if found is not None:
                return found
    return None


def _groups_of(place: Dataset | Elements | None) -> tuple[Dataset | Elements, ...]:
    if place is None:
        return ()
    items = (first_item(value_of(place, name)) for name in OF_A_FRAME)
    return tuple(item for item in items if item is not None)


def _philips_items(own: Dataset | Elements | None) -> list[Dataset | Elements]:
    if own is None or OF_PHILIPS not in own.keys():  # noqa: SIM118
        return []
    value = own.value(OF_PHILIPS) if isinstance(own, Elements) else own[OF_PHILIPS].value
    item = None if isinstance(value, bytes) else first_item(value)  # another creator's element of that number
    return [] if item is None else [item]
