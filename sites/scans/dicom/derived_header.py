"""The header of an image that is made from others: what is copied from its source, what is new, and what it says of
how it was made.

Copied is an allow-list: the patient, the study, the frame of reference, the scanner and the acquisition, since the
image goes into the archive that its source came from. No private element and no element that the standard forbids in
the value that it has is taken over, and neither is one within the items of a sequence, however deep.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydicom import config
from pydicom.datadict import dictionary_has_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import BaseTag
from pydicom.uid import UID
from pydicom.valuerep import validate_value

from sites.scans.dicom.bounded_header import BROKEN, opened_plainly, read_dataset, silent_pydicom
from sites.scans.dicom.elements import tag_of, value_of
from sites.scans.dicom.frames import Frame, transfer_syntax_of
from sites.scans.dicom.transfer_syntax import LOSSY

PATIENT_AND_STUDY = (
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "StudyDescription",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "PatientPosition",
    "BodyPartExamined",
    "ProtocolName",
    "Manufacturer",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "InstitutionName",
    "StationName",
    "MagneticFieldStrength",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "ContributingEquipmentSequence",
)
SIZE = ("Rows", "Columns", "BitsAllocated", "NumberOfFrames")
EMPTY_IF_UNKNOWN = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "PositionReferenceIndicator",
    "Manufacturer",
)
"""Elements that the standard wants in every object, with or without a value."""
USE = "Research output, not for diagnosis"
DCM = "DCM"


@dataclass(frozen=True)
class Making:
    """How an image was made. scale: factor in the plane. model_sha256: of the model's file. step: between values."""

    scale: int
    model_sha256: str
    step: float

    def sentence(self) -> str:
        """For DerivationDescription: up to 1024 characters."""
        return (
            f"Super-resolved {self.scale}x in the plane of the slices by fedminet {version('fedminet')}, guided by a "
            f"second contrast; model SHA-256 {self.model_sha256}. {USE}. Values in steps of {self.step:g}; the last "
            f"{self.scale - 1} rows and columns are extrapolated."
        )


@dataclass(frozen=True)
class Instance:
    """An object as others refer to it, with the numbers of its frames, from 1; empty: it is one image."""

    sop_class: str
    uid: str
    series: str
    study: str
    frames: tuple[int, ...] = ()


def read_elements(path: Path, *, name: str, keywords: Iterable[str]) -> Dataset:
    """The elements of a source that are looked at.

    Parameters
    ----------
    path
        A file; a link is not followed.
    name
        What it is called in messages.
    keywords
        As the standard's dictionary has them.

    Returns
    -------
    Dataset
        pydicom's, without pixels.

    Raises
    ------
    ScanUnreadable, ScanInvalid, NotAnMrImage
        As `sites.scans.dicom.bounded_header` refuses files.
    """
    with opened_plainly(path, name=name) as stream, silent_pydicom(name):
        n_bytes = stream.seek(0, 2)
        stream.seek(0)
        wanted = [tag_of(keyword) for keyword in (*keywords, *SIZE)]
        source = read_dataset(stream, name=name, tags=wanted)
        if transfer_syntax_of(source) in LOSSY:
            _say_loss(source, n_bytes=n_bytes)
        return source


def _say_loss(source: Dataset, *, n_bytes: int) -> None:
    """What a syntax that never keeps its pixels says of them, whatever the flag beside it: writers leave "00" there.

    n_bytes: of the file, for the ratio, which the standard wants with the flag and takes as approximate (PS3.3,
    C.7.6.1.1.5).
    """
    if str(value_of(source, "LossyImageCompression") or "").strip() == "01":
        return
    rows, columns, bits = (
        int(value_of(source, keyword) or 0) for keyword in ("Rows", "Columns", "BitsAllocated")
    )
    whole = rows * columns * bits / 8 * int(value_of(source, "NumberOfFrames") or 1)
    source.LossyImageCompression = "01"
    source.LossyImageCompressionMethod = "ISO_10918_1"
    source.LossyImageCompressionRatio = f"{max(whole / n_bytes, 1.0):.3g}"


def copied(source: Dataset, keywords: Iterable[str]) -> Dataset:
    """A new object with elements of another one.

    Parameters
    ----------
    source
        Where they are.
    keywords
        Which; those whose value is none that the standard allows are left out.

    Returns
    -------
    Dataset
        No element of it is shared with the source, sequences included.
    """
    tags = [tag for tag in map(tag_of, keywords) if tag in source]
    return _copied(source, tags, with_empty=False)


def _copied(source: Dataset, tags: Iterable[BaseTag], *, with_empty: bool) -> Dataset:
    """The elements of these tags; in items those of the standard's dictionary, which has no private one.

    with_empty: the standard wants some elements of an item, with or without a value.
    """
    new = Dataset()
    for tag in tags:
        try:
            element = source[tag]
        except BROKEN:
            continue
        if not (is_valid(element) or (with_empty and element.is_empty)):
            continue
        if element.VR == "SQ":
            items = [
                _copied(one, [inner for inner in one.keys() if dictionary_has_tag(inner)], with_empty=True)  # noqa: SIM118
                for one in element.value
            ]
            element = DataElement(tag, "SQ", Items(items))
        new[tag] = element
    return new


def is_valid(element: DataElement) -> bool:
    """Whether an element has a value, and one that its type may have.

    Parameters
    ----------
    element
        pydicom's.

    Returns
    -------
    bool
        An empty one is not valid: it says nothing.
    """
    if element.VR == "SQ":
        return len(element.value) > 0
    values = element.value if element.VM > 1 else [element.value]
    if any(value is None or not str(value).strip() for value in values):
        return False
    try:
        for value in values:
            validate_value(element.VR, _as_written(value), config.RAISE)
    except (ValueError, TypeError):
        return False
    return not (element.VR in ("DA", "TM", "AS") and "*" in str(element.value))


def _as_written(value: Any) -> Any:
    original = getattr(value, "original_string", None)
    return original if isinstance(original, str) else value


def begin(source: Dataset, extra: Sequence[str], *, now: datetime) -> Dataset:
    """An object of the source's patient and study, without its pixels, its place and its identifiers.

    Parameters
    ----------
    source
        Elements as `read_elements` gives them.
    extra
        What else is copied.
    now
        When it is made.

    Returns
    -------
    Dataset
        pydicom's.
    """
    new = copied(source, (*PATIENT_AND_STUDY, *extra))
    for keyword in EMPTY_IF_UNKNOWN:
        if keyword not in new:
            setattr(new, keyword, "")
    new.Modality, new.BurnedInAnnotation = "MR", "NO"
    date, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    for kind in ("InstanceCreation", "Series", "Content"):
        setattr(new, f"{kind}Date", date)
        setattr(new, f"{kind}Time", time)
    return new


def say_making(new: Dataset, source: Dataset, making: Making, *, series: UID, now: datetime) -> None:
    """What the whole series says of itself.

    Parameters
    ----------
    new
        The object.
    source
        What it is made from.
    making
        How.
    series
        Its new identifier.
    now
        When.
    """
    number = value_of(source, "SeriesNumber")
    new.SeriesInstanceUID = series
    new.SeriesNumber = 9000 + int(number) % 1000 if number is not None else None
    new.SeriesDescription = f"RESEARCH super-resolved {making.scale}x, fedminet"
    new.ImageComments = f"RESEARCH. {USE}. fedminet {version('fedminet')}, model {making.model_sha256}"
    equipment = item(
        PurposeOfReferenceCodeSequence=[code("109102", "Processing Equipment")],
        Manufacturer="fedminet",
        ManufacturerModelName="fedminet infer",
        SoftwareVersions=version("fedminet"),
        ContributionDateTime=now.strftime("%Y%m%d%H%M%S"),
        ContributionDescription=f"Super-resolution by the model with SHA-256 {making.model_sha256}. {USE}.",
    )
    earlier = list(new.get("ContributingEquipmentSequence", []))
    new.ContributingEquipmentSequence = Items([*earlier, equipment])


def derivation_codes() -> list[Dataset]:
    """What was done, in the standard's codes.

    Returns
    -------
    list[Dataset]
        CID 7203 has no code for super-resolution: spatial resampling is the nearest.
    """
    return [code("113085", "Spatial resampling")]


def source_item(one: Instance) -> Dataset:
    """A reference to an image that another one is made from.

    Parameters
    ----------
    one
        The image.

    Returns
    -------
    Dataset
        For SourceImageSequence.
    """
    new = item(
        ReferencedSOPClassUID=one.sop_class,
        ReferencedSOPInstanceUID=one.uid,
        PurposeOfReferenceCodeSequence=[code("121322", "Source image for image processing operation")],
    )
    if one.frames:
        new.ReferencedFrameNumber = list(one.frames)
    return new


def instances_of(frames: Sequence[Frame]) -> list[Instance]:
    """The objects that frames lie in.

    Parameters
    ----------
    frames
        Of a stack.

    Returns
    -------
    list[Instance]
        In the order of their first frames. A classic object has no frame numbers.

    Raises
    ------
    ScanUnreadable, ScanInvalid
        As `read_elements`.
    """
    of_file: dict[Path, list[Frame]] = {}
    for frame in frames:
        of_file.setdefault(frame.path, []).append(frame)
    return [_instance(path, inside) for path, inside in of_file.items()]


def _instance(path: Path, frames: list[Frame]) -> Instance:
    keywords = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "NumberOfFrames")
    source = read_elements(path, name=frames[0].name, keywords=keywords)
    sop_class, uid, series, study, n_frames = (value_of(source, keyword) for keyword in keywords)
    numbers = () if n_frames is None else tuple(sorted(frame.index + 1 for frame in frames))
    return Instance(str(sop_class), str(uid), str(series), str(study), numbers)


def code(value: str, meaning: str) -> Dataset:
    """An item of a code sequence, in DICOM's own scheme.

    Parameters
    ----------
    value, meaning
        As PS3.16 has them.

    Returns
    -------
    Dataset
        pydicom's.
    """
    return item(CodeValue=value, CodingSchemeDesignator=DCM, CodeMeaning=meaning)


def item(**values: object) -> Dataset:
    """An item of a sequence.

    Parameters
    ----------
    values
        By keyword.

    Returns
    -------
    Dataset
        pydicom's.
    """
    new = Dataset()
    for keyword, value in values.items():
        setattr(new, keyword, value)
    return new
