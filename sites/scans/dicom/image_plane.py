"""What a new image has of its own: a finer pixel, its values, and the window in which its source is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from sites.scans.dicom.derived_header import is_valid
from sites.scans.dicom.elements import tag_of, value_of
from sites.scans.dicom.frames import Frame
from sites.scans.dicom.stored_values import Stored, decimal


def finer(pixel_mm: Sequence[float], scale: int) -> list[str]:
    """The pixel spacing of a refined image.

    Parameters
    ----------
    pixel_mm
        Distance of rows and of columns.
    scale
        Factor in the plane.

    Returns
    -------
    list[str]
        Decimal strings. ImagePositionPatient is the centre of the first voxel, and that voxel keeps its place: half a
        pixel is never to be added.
    """
    return [decimal(float(step) / scale) for step in pixel_mm]


def put_scale(place: Dataset, stored: Stored) -> None:
    """Slope and intercept.

    Parameters
    ----------
    place
        A classic object, or an item of PixelValueTransformationSequence.
    stored
        What is stored.
    """
    place.RescaleSlope, place.RescaleIntercept = decimal(stored.slope), decimal(stored.intercept)


def put_pixels(new: Dataset, values: NDArray[np.uint16]) -> None:
    """The pixels.

    Parameters
    ----------
    new
        The object.
    values
        (row, column) or (frame, row, column).
    """
    new.SamplesPerPixel, new.PhotometricInterpretation = 1, "MONOCHROME2"
    new.Rows, new.Columns = values.shape[-2:]
    new.BitsAllocated, new.BitsStored, new.HighBit, new.PixelRepresentation = 16, 16, 15, 0
    new.PixelData = np.ascontiguousarray(values, dtype="<u2").tobytes()
    new["PixelData"].VR = "OW"


def window_of(source: Dataset, frame: Frame) -> dict[str, object]:
    """The window of the source, for values as the reader gives them.

    Parameters
    ----------
    source
        A classic object, or an item of FrameVOILUTSequence with the frame's RescaleSlope, if there is one.
    frame
        The same frame as it was read.

    Returns
    -------
    dict[str, object]
        By keyword; empty where the source has no window. A window is meant for rescaled values where there is a
        rescale; else it is meant for the stored ones, and is brought to what the frame's slope makes of them.
    """
    centres, widths = (_list(value_of(source, keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    if not centres or len(centres) != len(widths) or min(widths) <= 0:
        return {}
    if value_of(source, "RescaleSlope") is None:
        centres = [one * frame.slope + frame.intercept for one in centres]
        widths = [one * abs(frame.slope) for one in widths]
    found: dict[str, object] = {
        "WindowCenter": [decimal(one) for one in centres],
        "WindowWidth": [decimal(one) for one in widths],
    }
    for keyword in ("WindowCenterWidthExplanation", "VOILUTFunction"):
        tag = tag_of(keyword)
        if tag in source and is_valid(source[tag]):
            found[keyword] = source[tag].value
    return found


def _list(value: Any) -> list[float]:
    if value is None:
        return []
    several = isinstance(value, Sequence) and not isinstance(value, str)
    return [float(one) for one in (value if several else [value])]
