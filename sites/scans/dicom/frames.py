"""The frames of one DICOM object: classic ones have one, enhanced ones have many.

What a frame has is looked for in its own functional groups, then in those that all frames share, then in the object
itself: the order of the standard. Positions are DICOM's: mm along left, posterior, superior.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID

from minet_core.errors import NotAnMrImage, ScanInvalid, ScanUnreadable
from sites.quality.scan_quality import MAX_EDGE, MAX_VOXELS
from sites.scans.dicom.acquisition_facts import AcquisitionFacts, codes, facts_from, number
from sites.scans.dicom.bounded_header import opened_plainly, read_header, silent_pydicom
from sites.scans.dicom.elements import (
    GE_COMPONENT,
    SIEMENS_TILES,
    UIH_TILES,
    Elements,
    patient_id_of,
    private_value,
    value_of,
)
from sites.scans.dicom.functional_groups import PHILIPS, first_item, lookup_of
from sites.scans.dicom.transfer_syntax import MAX_INFLATION, is_native, loss_of

CLASSIC = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED = frozenset({"1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4"})
"""Enhanced MR Image Storage, and Legacy Converted Enhanced MR Image Storage."""
STANDARD_ROOT = "1.2.840.10008."
MAX_FRAMES = 1 << 14
UNIT_TOLERANCE = 1e-3
"""Of the length of a direction, and of the cosine between two: written with five digits or more."""
DEFAULT_SYNTAX = "1.2.840.10008.1.2"


@dataclass(frozen=True)
class Frame:
    """One slice.

    name: of its file, in messages. index: in its file, from 0. position: of the centre of the first voxel, LPS mm.
    along_row, along_column: unit vectors in which the column's and the row's index count. pixel_mm: distance of rows,
    distance of columns. value = slope * stored + intercept. philips_scale: SS, None where there is none. moment: what
    tells repetitions apart, as far as it is said: temporal position, acquisition number.
    """

    path: Path = field(repr=False)
    name: str
    index: int
    shape: tuple[int, int]
    position: tuple[float, float, float]
    along_row: tuple[float, float, float]
    along_column: tuple[float, float, float]
    pixel_mm: tuple[float, float]
    slope: float
    intercept: float
    philips_scale: float | None
    moment: tuple[float | None, float | None]
    facts: AcquisitionFacts


@dataclass(frozen=True)
class MrObject:
    """What one file holds, without its pixels. Path and identifiers are the hospital's: none is in this object's text.

    n_other: frames that are no magnitude image. remarks: choices that were made.
    """

    path: Path = field(repr=False)
    transfer_syntax: str
    frames: tuple[Frame, ...]
    n_other: int
    remarks: tuple[str, ...]
    patient_id: str = field(repr=False)
    study: str = field(repr=False)
    series: str = field(repr=False)
    instance: str = field(repr=False)


def read_object(path: Path, *, name: str | None = None) -> MrObject:
    """One file's header.

    Parameters
    ----------
    path
        A file; a link is not followed.
    name
        What it is called in messages and in its frames, since its path may name a patient; None: the file's own name.

    Returns
    -------
    MrObject
        With at least one frame.

    Raises
    ------
    NotAnMrImage
        FM-D213: no DICOM, or an object to be left out: its kind is in the message.
    ScanUnreadable
        FM-D201: cut off, no plain file, a value that is none.
    ScanInvalid
        FM-D202: sizes that the file cannot hold, no geometry.
    DecoderMissing
        FM-D214: deflated as a whole.

    References
    ----------
    DICOM PS3.3, C.7.6.2 (image plane), C.7.6.16 (functional groups), C.8.3 and C.8.13 (MR images).
    """
    name = path.name if name is None else name
    with opened_plainly(path, name=name) as stream, silent_pydicom(name):
        stream.seek(0, 2)
        n_bytes = stream.tell()
        stream.seek(0)
        dataset = read_header(stream, name=name)
        syntax = transfer_syntax_of(dataset)
        _require_mr(dataset, name=name)
        shape, n_frames = _sizes(dataset, n_bytes=n_bytes, syntax=syntax, name=name)
        frames, n_other, remarks = _frames(dataset, (path, name), shape=shape, n_frames=n_frames)
        loss = loss_of(
            syntax, flag=value_of(dataset, "LossyImageCompression"), ratio=_compression_ratio(dataset)
        )
        return MrObject(
            path=path,
            transfer_syntax=syntax,
            frames=frames,
            n_other=n_other,
            remarks=remarks if loss is None else (*remarks, loss),
            patient_id=patient_id_of(dataset),
            study=str(value_of(dataset, "StudyInstanceUID") or ""),
            series=str(value_of(dataset, "SeriesInstanceUID") or ""),
            instance=str(value_of(dataset, "SOPInstanceUID") or ""),
        )


def _compression_ratio(dataset: Dataset | Elements) -> Any:
    """As the header has it; None where it is no number, such as "12,5": it is for people, and no reason to refuse."""
    try:
        return value_of(dataset, "LossyImageCompressionRatio")
    except ValueError:
        return None


def transfer_syntax_of(dataset: Dataset | Elements) -> str:
    """The transfer syntax of an object.

    Parameters
    ----------
    dataset
        As `sites.scans.dicom.bounded_header.read_header` gives it.

    Returns
    -------
    str
        Its UID; the standard's default where the file does not say it.
    """
    return str(value_of(dataset.file_meta, "TransferSyntaxUID") or DEFAULT_SYNTAX)


def _require_mr(dataset: Dataset | Elements, *, name: str) -> None:
    """Raises NotAnMrImage with the object's kind, by the words of the standard alone."""
    sop_class = str(value_of(dataset, "SOPClassUID") or "")
    if sop_class not in {CLASSIC, *ENHANCED}:
        known = (
            UID(sop_class).name if sop_class.startswith(STANDARD_ROOT) else "an object of no standard kind"
        )
        raise NotAnMrImage(f"{name} is no MR image", got=known, expected="MR or Enhanced MR Image Storage")
    if value_of(dataset, "Rows") is None:  # pydicom takes the end of a file for the end of an object
        raise ScanUnreadable(
            "a DICOM file cannot be read",
            got=f"{name}: it ends before its image",
            expected="a whole DICOM file",
            action="Export it again",
        )
    image_type = codes(value_of(dataset, "ImageType"))
    n_tiles = [number(private_value(dataset, one)) for one in (SIEMENS_TILES, UIH_TILES)]
    if "MOSAIC" in image_type or (n_tiles[0] or 0) > 1:
        raise _tiles(name, "a mosaic of Siemens")
    if "VFRAME" in image_type or (sop_class == CLASSIC and (n_tiles[1] or 0) > 1):
        raise _tiles(name, "a grid of United Imaging")
    if str(value_of(dataset, "BurnedInAnnotation") or "").strip().upper() == "YES":
        raise NotAnMrImage(
            f"{name} has text burned into its pixels",
            got="BurnedInAnnotation YES",
            action="Leave it out: the text may name the patient",
        )
    if value_of(dataset, "ModalityLUTSequence"):
        raise NotAnMrImage(
            f"{name} has its values in a table", got="a modality LUT", expected="slope and intercept"
        )
    samples, photometric = (
        value_of(dataset, "SamplesPerPixel"),
        str(value_of(dataset, "PhotometricInterpretation")),
    )
    if samples != 1 or photometric != "MONOCHROME2":
        got = photometric if codes(photometric) else "no photometric interpretation"
        raise NotAnMrImage(f"{name} is no grey image", got=got, expected="MONOCHROME2")


def _tiles(name: str, what: str) -> NotAnMrImage:
    return NotAnMrImage(
        f"{name} holds many slices in one picture",
        got=what,
        expected="one slice a frame",
        action="Export the series with mosaic or grid storage switched off; anatomical scans are never stored so",
    )


def _sizes(
    dataset: Dataset | Elements, *, n_bytes: int, syntax: str, name: str
) -> tuple[tuple[int, int], int]:
    """(rows, columns) and frames. Raises ScanInvalid where the file cannot hold them: before a pixel is decoded."""
    rows, columns = int(value_of(dataset, "Rows") or 0), int(value_of(dataset, "Columns") or 0)
    n_frames, bits = (
        int(value_of(dataset, "NumberOfFrames") or 1),
        int(value_of(dataset, "BitsAllocated") or 0),
    )
    enhanced = str(value_of(dataset, "SOPClassUID")) in ENHANCED
    possible = 1 <= rows <= MAX_EDGE and 1 <= columns <= MAX_EDGE and 1 <= n_frames <= MAX_FRAMES
    if not possible or bits not in (8, 16, 32) or rows * columns * n_frames > MAX_VOXELS * 4:
        raise ScanInvalid(
            f"{name} has sizes that are no scan's",
            got=f"{n_frames} frames of {rows} x {columns}, {bits} bits",
            expected=f"up to {MAX_FRAMES} frames of {MAX_EDGE} x {MAX_EDGE}, 8, 16 or 32 bits",
        )
    _require_low_bits(dataset, name=name)
    if n_frames > 1 and not enhanced:
        raise NotAnMrImage(
            f"{name} holds {n_frames} frames without a place for each",
            expected="an enhanced object, or one slice a file",
        )
    declared = rows * columns * n_frames * bits // 8
    if declared > n_bytes * (1 if is_native(syntax) else MAX_INFLATION):
        raise ScanInvalid(
            f"{name} says that it holds more than it does",
            got=f"{n_bytes} bytes for {declared}",
            expected="a whole object",
        )
    return (rows, columns), n_frames


def _require_low_bits(dataset: Dataset | Elements, *, name: str) -> None:
    """Refuse values that are not in the lowest bits: pydicom passes over HighBit, and cuts them off above."""
    stored, high = value_of(dataset, "BitsStored"), value_of(dataset, "HighBit")
    if stored is not None and high is not None and int(high) != int(stored) - 1:
        raise ScanInvalid(
            f"{name} has its values in other bits than the standard says",
            got=f"{int(stored)} bits stored up to bit {int(high)}",
            expected=f"up to bit {int(stored) - 1} (HighBit)",
            action="Export it again",
        )


def _frames(
    dataset: Dataset | Elements, file: tuple[Path, str], *, shape: tuple[int, int], n_frames: int
) -> tuple[tuple[Frame, ...], int, tuple[str, ...]]:
    """The magnitude frames, how many others there are, and what is to be said. file: its path and its name."""
    name = file[1]
    shared = first_item(value_of(dataset, "SharedFunctionalGroupsSequence"))
    own = value_of(dataset, "PerFrameFunctionalGroupsSequence")
    if str(value_of(dataset, "SOPClassUID")) in ENHANCED and (own is None or len(own) != n_frames):
        raise ScanUnreadable(
            "an enhanced object has other frames than it says",
            got=f"{name}: {0 if own is None else len(own)} for {n_frames}",
            action="Export it again",
        )
    look_up, ge_component = lookup_of(dataset, shared), private_value(dataset, GE_COMPONENT)
    found, remarks = [], set()
    kinds: dict[str, int] = {}
    for index in range(n_frames):
        value = look_up(own[index] if own is not None else None)
        facts = facts_from(value, ge_component=ge_component)
        kind = f"derived ({'/'.join(facts.image_type)})" if facts.is_derived else facts.component
        if facts.is_derived or facts.component not in ("magnitude", "unknown"):
            kinds[kind] = kinds.get(kind, 0) + 1
            continue
        slope, intercept, remark = _scale(value)
        remarks |= {remark} if remark else set()
        found.append(_frame(value, file, index, shape=shape, scale=(slope, intercept), facts=facts))
    if not found:
        raise NotAnMrImage(
            f"{name} is no magnitude image as it was measured",
            got=", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items())),
            expected="an original magnitude image",
        )
    if kinds:
        remarks.add(
            "frames left out: " + ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items()))
        )
    return tuple(found), n_frames - len(found), tuple(sorted(remarks))


def _frame(
    value: Callable[[str], Any],
    file: tuple[Path, str],
    index: int,
    *,
    shape: tuple[int, int],
    scale: tuple[float, float],
    facts: AcquisitionFacts,
) -> Frame:
    name = file[1]
    position, orientation = (
        _numbers(value("ImagePositionPatient"), 3),
        _numbers(value("ImageOrientationPatient"), 6),
    )
    pixel_mm = _numbers(value("PixelSpacing"), 2)
    if position is None or orientation is None or pixel_mm is None:
        raise ScanInvalid(
            f"{name} does not say where it lies",
            got="no position, orientation or pixel spacing",
            expected="ImagePositionPatient, ImageOrientationPatient, PixelSpacing",
        )
    row, column = orientation[:3], orientation[3:]
    lengths = [math.hypot(*row), math.hypot(*column)]
    askew = abs(sum(a * b for a, b in zip(row, column, strict=True)))
    if (
        max(abs(length - 1) for length in lengths) > UNIT_TOLERANCE
        or askew > UNIT_TOLERANCE
        or min(pixel_mm) <= 0
    ):
        raise ScanInvalid(
            f"{name} has an impossible orientation or pixel spacing",
            got=f"directions of length {lengths[0]:.4f} and {lengths[1]:.4f}, cosine {askew:.4f}, {pixel_mm} mm",
            expected="two unit vectors at right angles, and millimetres",
        )
    scale_of_philips = number(value(PHILIPS))
    moment = _first_number(value, "TemporalPositionIndex", "TemporalPositionIdentifier")
    return Frame(
        path=file[0],
        name=name,
        index=index,
        shape=shape,
        position=(position[0], position[1], position[2]),
        along_row=(row[0] / lengths[0], row[1] / lengths[0], row[2] / lengths[0]),
        along_column=(column[0] / lengths[1], column[1] / lengths[1], column[2] / lengths[1]),
        pixel_mm=(pixel_mm[0], pixel_mm[1]),
        slope=scale[0],
        intercept=scale[1],
        philips_scale=scale_of_philips,
        moment=(moment, _first_number(value, "FrameAcquisitionNumber", "AcquisitionNumber")),
        facts=facts,
    )


def _scale(value: Callable[[str], Any]) -> tuple[float, float, str | None]:
    """Slope and intercept; a real world value mapping counts where there is no rescale."""
    slope, intercept = number(value("RescaleSlope")), number(value("RescaleIntercept"))
    mapping = value("RealWorldValueMappingSequence")
    real_slope, real_intercept = (
        number(value("RealWorldValueSlope")),
        number(value("RealWorldValueIntercept")),
    )
    if real_slope is None and mapping:
        real_slope, real_intercept = (
            number(value_of(mapping[0], "RealWorldValueSlope")),
            number(value_of(mapping[0], "RealWorldValueIntercept")),
        )
    if slope is None and real_slope is not None:
        return (
            real_slope,
            real_intercept or 0.0,
            "scaled by the real world value mapping: there is no rescale",
        )
    chosen = (1.0 if slope is None else slope, 0.0 if intercept is None else intercept)
    if chosen[0] == 0:
        raise ScanInvalid(
            "a frame has a rescale slope of zero", got="every voxel alike", action="Export it again"
        )
    differs = real_slope is not None and not (
        math.isclose(real_slope, chosen[0], rel_tol=1e-6)
        and math.isclose(real_intercept or 0.0, chosen[1], rel_tol=1e-6, abs_tol=1e-9)
    )
    return *chosen, "scaled by rescale; the real world value mapping differs" if differs else None


def _numbers(value: object, count: int) -> tuple[float, ...] | None:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != count:
        return None
    found = tuple(float(one) for one in value)
    return found if all(math.isfinite(one) for one in found) else None


def _first_number(value: Callable[[str], Any], *names: str) -> float | None:
    return next((found for name in names if (found := number(value(name))) is not None), None)
