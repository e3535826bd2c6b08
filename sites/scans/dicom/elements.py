"""The data elements that are read of a DICOM object. Every other element is passed over unread.

`IDENTIFIERS` say which objects belong together and whose they are: they stay in the memory of the process, and only
keyed hashes of them are written. Private elements are taken under their creator's name alone, wherever its block is.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

IDENTIFIERS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")

IMAGE = (
    "SOPClassUID",
    "Modality",
    "ImageType",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "BurnedInAnnotation",
    "ModalityLUTSequence",
)
PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
SCALE = ("RescaleSlope", "RescaleIntercept", "RealWorldValueMappingSequence")
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
ACQUISITION = (
    "Manufacturer",
    "MagneticFieldStrength",
    "MRAcquisitionType",
    "ScanningSequence",
    "SequenceVariant",
    "ScanOptions",
    "PulseSequenceName",
    "EchoPulseSequence",
    "EchoTime",
    "RepetitionTime",
    "InversionTime",
    "FlipAngle",
    "EchoTrainLength",
    "AcquisitionMatrix",
    "ContrastBolusAgent",
    "ContrastBolusAgentSequence",
    "ComplexImageComponent",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
)
DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "SequenceName")
"""Typed by people: rules may look into them, nothing prints or keeps them."""


@dataclass(frozen=True)
class PrivateElement:
    """A vendor's own element. group: of the tag. creator: who reserved the block. number: within the block."""

    group: int
    creator: str
    number: int


PHILIPS_SCALE = PrivateElement(0x2005, "Philips MR Imaging DD 001", 0x0E)
"""SS of Chenevert et al. 2014: what the receiver chain and the reconstruction multiplied by."""
SIEMENS_TILES = PrivateElement(0x0019, "SIEMENS MR HEADER", 0x0A)
"""How many slices a mosaic holds."""
UIH_TILES = PrivateElement(0x0065, "Image Private Header", 0x50)
"""How many slices a grid holds."""
GE_COMPONENT = PrivateElement(0x0043, "GEMS_PARM_01", 0x2F)
"""0 magnitude, 1 phase, 2 real, 3 imaginary."""
PRIVATE = (PHILIPS_SCALE, SIEMENS_TILES, UIH_TILES, GE_COMPONENT)
FIRST_BLOCK, LAST_BLOCK = 0x10, 0x17
"""Where vendors' blocks lie: all known exports number them from 10 in the order of writing."""


def tags_to_read() -> list[int]:
    """The tags of all elements that are read.

    Returns
    -------
    list[int]
        Group and element in one number each; private ones in every block that may be theirs.
    """
    keywords = (*IDENTIFIERS, *IMAGE, *PLACE, *SCALE, *GROUPS, *ACQUISITION, *DESCRIPTIONS)
    tags: list[int] = [tag_of(keyword) for keyword in keywords]
    for block in range(FIRST_BLOCK, LAST_BLOCK + 1):
        for one in PRIVATE:
            tags += [one.group << 16 | block, one.group << 16 | block << 8 | one.number]
    return tags


@functools.cache
def tag_of(keyword: str) -> BaseTag:
    """The tag of an element of the standard.

    Parameters
    ----------
    keyword
        As the standard's dictionary has it.

    Returns
    -------
    BaseTag
        pydicom's.

    Raises
    ------
    KeyError
        There is no such element.
    """
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return Tag(tag)


def value_of(dataset: Dataset, keyword: str) -> Any:
    """The value of an element of the standard.

    Parameters
    ----------
    dataset
        pydicom's, of an object or of an item of a sequence.
    keyword
        As the standard's dictionary has it.

    Returns
    -------
    Any
        As pydicom converts it; None where the element is not there or empty.
    """
    tag = tag_of(keyword)
    if tag not in dataset.keys():  # noqa: SIM118  # pydicom's own `in` takes ten times as long
        return None
    raw = dataset.get_item(tag)
    if isinstance(raw, RawDataElement) and raw.value is not None:
        representation = raw.VR or dictionary_VR(tag)
        if representation in _PLAIN and (representation not in TYPED or _is_plain_text(raw.value)):
            found = _PLAIN[representation](raw.value, raw.is_little_endian)
            return None if found == "" else found
    found = dataset[tag].value
    return None if found == "" else found


def _texts(value: bytes) -> list[str]:
    return value.decode("iso8859").rstrip(" \0").split("\\")


def _codes(value: bytes, _: bool) -> Any:
    return _one_or_all(_texts(value))


def _typed(value: bytes, _: bool) -> Any:
    return _one_or_all([text.rstrip(" \0") for text in value.decode("ascii").split("\\")])


def _is_plain_text(value: bytes) -> bool:
    """Whether it is the same text in every character set of the standard."""
    return value.isascii() and b"\x1b" not in value


def _decimals(value: bytes, _: bool) -> Any:
    texts = _texts(value)
    return "" if texts == [""] else _one_or_all([float(text) for text in texts])


def _wholes(value: bytes, _: bool) -> Any:
    texts = _texts(value)
    return "" if texts == [""] else _one_or_all([_whole(text) for text in texts])


def _whole(text: str) -> int:
    found = float(text)
    if found != int(found):
        raise ValueError("an integer string that is none")
    return int(found)


def _uid(value: bytes, _: bool) -> Any:
    texts = _texts(value)
    return UID(texts[0]) if len(texts) == 1 else [UID(text) for text in texts]


def _shorts(value: bytes, little: bool) -> Any:
    numbers = struct.unpack(f"{'<' if little else '>'}{len(value) // 2}H", value)
    return "" if not numbers else _one_or_all(list(numbers))


def _one_or_all(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


_PLAIN: dict[str, Callable[[bytes, bool], Any]] = {
    "CS": _codes,
    "DS": _decimals,
    "IS": _wholes,
    "LO": _typed,
    "SH": _typed,
    "UI": _uid,
    "US": _shorts,
}
"""By value representation. pydicom's general conversion takes as long for one element as its walk for three."""
TYPED = frozenset({"LO", "SH"})
"""Of these, what needs no character set."""


def private_value(dataset: Dataset, element: PrivateElement) -> Any:
    """The value of a vendor's own element.

    Parameters
    ----------
    dataset
        pydicom's, of an object or of an item of a sequence.
    element
        Which one.

    Returns
    -------
    Any
        As pydicom converts it; None where the creator or the element is not there.
    """
    present = dataset.keys()
    for tag in _BLOCKS[element]:
        if tag in present and str(dataset[tag].value or "").strip() == element.creator:
            found = BaseTag(element.group << 16 | (tag & 0xFF) << 8 | element.number)
            return dataset[found].value if found in present else None
    return None


_BLOCKS = {
    one: [BaseTag(one.group << 16 | block) for block in range(FIRST_BLOCK, LAST_BLOCK + 1)] for one in PRIVATE
}
