"""DICOM series written from an array and an affine, in the ways of five vendors: inputs with a known truth."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

CLASSIC, ENHANCED = UID("1.2.840.10008.5.1.4.1.1.4"), UID("1.2.840.10008.5.1.4.1.1.4.1")
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
Change = Callable[[Dataset, int], None]


@dataclass(frozen=True)
class Way:
    """How a vendor writes. image_type: of a magnitude image. slope: of the rescale; None: no rescale at all."""

    manufacturer: str
    image_type: tuple[str, ...]
    slope: float | None = None
    signed: bool = False
    syntax: UID = ExplicitVRLittleEndian
    reverse: bool = False
    random_names: bool = False


WAYS = {
    "siemens": Way("SIEMENS", ("ORIGINAL", "PRIMARY", "M", "ND", "NORM")),
    "ge": Way("GE MEDICAL SYSTEMS", ("ORIGINAL", "PRIMARY", "OTHER"), signed=True, reverse=True),
    "philips": Way(
        "Philips Medical Systems", ("ORIGINAL", "PRIMARY", "M_SE", "M", "SE"), slope=1.25, reverse=True
    ),
    "uih": Way("UIH", ("ORIGINAL", "PRIMARY", "M", "UCA"), random_names=True),
    "canon": Way(
        "CANON_MEC", ("ORIGINAL", "PRIMARY", "OTHER"), syntax=ImplicitVRLittleEndian, random_names=True
    ),
}


@dataclass(frozen=True)
class Header:
    """What one series says of itself. Times in ms, as DICOM has them."""

    patient_id: str = "P1"
    patient_name: str = "DOE^JANE"
    study: str = "study"
    series: str = "series"
    description: str = ""
    echo_time_ms: float = 100.0
    repetition_time_ms: float = 4500.0
    inversion_time_ms: float | None = None
    sequence: tuple[str, ...] = ("SE",)
    options: tuple[str, ...] = ()
    agent: str | None = None
    extra: dict[str, object] = field(default_factory=dict)


def uid_of(*parts: str) -> UID:
    """An identifier that the same parts give again."""
    return UID(f"2.25.{int.from_bytes(hashlib.sha256('/'.join(parts).encode()).digest()[:15], 'big')}")


def write_classic(
    folder: Path,
    array: NDArray[np.generic],
    affine: NDArray[np.float64],
    *,
    way: str = "siemens",
    header: Header | None = None,
    change: Change | None = None,
) -> list[Path]:
    """One file a slice, in the array's order. affine: of (slice, row, column) to RAS+ mm. change: (object, slice)."""
    header = Header() if header is None else header
    style, paths = WAYS[way], []
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(array):
        one = _object(header, style, CLASSIC, instance=str(index))
        number = len(array) - index if style.reverse else index + 1
        one.InstanceNumber, one.SliceLocation = number, 0.0
        position, orientation, pixel_mm = _place(affine, index)
        one.ImagePositionPatient, one.ImageOrientationPatient, one.PixelSpacing = (
            position,
            orientation,
            pixel_mm,
        )
        one.SliceThickness = 1.0  # of no use to a reader
        one.EchoTime, one.RepetitionTime, one.ImageType = (
            header.echo_time_ms,
            header.repetition_time_ms,
            list(style.image_type),
        )
        one.ScanningSequence, one.MRAcquisitionType = list(header.sequence), "2D"
        one.ScanOptions = list(header.options)
        if header.inversion_time_ms is not None:
            one.InversionTime = header.inversion_time_ms
        if style.slope is not None:
            one.RescaleSlope, one.RescaleIntercept = style.slope, 0
        _vendor_elements(one, way)
        _pixels(one, image, signed=style.signed)
        if change is not None:
            change(one, index)
        name = (
            hashlib.sha256(f"{header.series}{index}".encode()).hexdigest()[:12]
            if style.random_names
            else f"{number:04d}"
        )
        paths.append(_save(one, folder / f"{name}.dcm", style.syntax))
    return paths


def write_enhanced(
    path: Path,
    array: NDArray[np.generic],
    affine: NDArray[np.float64],
    *,
    way: str = "siemens",
    header: Header | None = None,
    slopes: NDArray[np.float64] | None = None,
    order: NDArray[np.int64] | None = None,
    change: Change | None = None,
) -> Path:
    """One object. slopes: of each slice, else none is written. order: in which slices become frames."""
    header = Header() if header is None else header
    style = WAYS[way]
    one = _object(header, style, ENHANCED, instance="enhanced")
    one.ImageType, one.NumberOfFrames = [*style.image_type[:2], "M", "NONE"], len(array)
    one.ComplexImageComponent = "MAGNITUDE"
    order = np.arange(len(array)) if order is None else order
    shared = Dataset()
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=_place(affine, 0)[1])]
    shared.PixelMeasuresSequence = [_item(PixelSpacing=_place(affine, 0)[2], SliceThickness=1.0)]
    shared.MRTimingAndRelatedParametersSequence = [_item(RepetitionTime=header.repetition_time_ms)]
    shared.MREchoSequence = [_item(EffectiveEchoTime=header.echo_time_ms)]
    one.SharedFunctionalGroupsSequence = [shared]
    one.PerFrameFunctionalGroupsSequence = []
    for index in order:
        frame = Dataset()
        frame.PlanePositionSequence = [_item(ImagePositionPatient=_place(affine, int(index))[0])]
        if slopes is not None:
            values = {"RescaleSlope": float(slopes[index]), "RescaleIntercept": 0.0, "RescaleType": "US"}
            frame.PixelValueTransformationSequence = [_item(**values)]
        one.PerFrameFunctionalGroupsSequence.append(frame)
    _pixels(one, np.stack([array[index] for index in order]), signed=False)
    if change is not None:
        change(one, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    return _save(one, path, style.syntax)


def encoded(one: Dataset, path: Path, *, implicit: bool, undefined: bool) -> Path:
    """An object written again, in one of the four ways in which sequences may lie."""

    def set_lengths(dataset: Dataset) -> None:
        for element in dataset:
            if element.VR == "SQ":
                element.is_undefined_length = undefined
                for item in element.value:
                    item.is_undefined_length_sequence_item = undefined
                    set_lengths(item)

    set_lengths(one)
    one.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    one.save_as(path, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
    return path


def _object(header: Header, style: Way, sop_class: UID, *, instance: str) -> Dataset:
    one = Dataset()
    one.SOPClassUID, one.Modality, one.Manufacturer = sop_class, "MR", style.manufacturer
    one.SOPInstanceUID = uid_of(header.patient_id, header.study, header.series, instance)
    one.StudyInstanceUID = uid_of(header.patient_id, header.study)
    one.SeriesInstanceUID = uid_of(header.patient_id, header.study, header.series)
    one.PatientID, one.PatientName = header.patient_id, header.patient_name
    one.SeriesDescription, one.MagneticFieldStrength = header.description, 3.0
    if header.agent is not None:
        one.ContrastBolusAgent = header.agent
    for keyword, value in header.extra.items():
        setattr(one, keyword, value)
    return one


def _place(affine: NDArray[np.float64], index: int) -> tuple[list[str], list[str], list[str]]:
    """Position, orientation and pixel spacing of a slice, as decimal strings of 16 characters."""
    position = RAS_TO_LPS @ (affine @ [index, 0, 0, 1])[:3]
    row_mm, column_mm = np.linalg.norm(affine[:3, 1]), np.linalg.norm(affine[:3, 2])
    along_row, along_column = RAS_TO_LPS @ affine[:3, 2] / column_mm, RAS_TO_LPS @ affine[:3, 1] / row_mm
    return _decimals(position), _decimals([*along_row, *along_column]), _decimals([row_mm, column_mm])


def _decimals(values: object) -> list[str]:
    return [f"{value:.9f}"[:16] for value in np.atleast_1d(values)]  # type: ignore[arg-type]


def _vendor_elements(one: Dataset, way: str) -> None:
    if way == "philips":
        block = one.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0x0E, "FL", 0.5)
    if way == "ge":
        block = one.private_block(0x0043, "GEMS_PARM_01", create=True)
        block.add_new(0x2F, "SS", 0)


def _pixels(one: Dataset, image: NDArray[np.generic], *, signed: bool) -> None:
    one.Rows, one.Columns = image.shape[-2:]
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.PixelRepresentation = 16, int(signed)
    one.BitsStored, one.HighBit = (16, 15) if signed else (12, 11)
    one.PixelData = np.ascontiguousarray(image, dtype="<i2" if signed else "<u2").tobytes()


def _item(**values: object) -> Dataset:
    one = Dataset()
    for keyword, value in values.items():
        setattr(one, keyword, value)
    return one


def _save(one: Dataset, path: Path, syntax: UID) -> Path:
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = syntax
    one.save_as(path, enforce_file_format=True)
    return path
