"""The data elements that are read of a DICOM object. Every other element is passed over unread.

`IDENTIFIERS` say which objects belong together and whose they are: they stay in the memory of the process, and only
keyed hashes of them are written. Private elements are taken under their creator's name alone, wherever its block is.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, KeysView, MutableMapping
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
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
    "HighBit",
    "PixelRepresentation",
    "BurnedInAnnotation",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
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
PRIVATE_TAGS = frozenset(
    tag
    for block in range(FIRST_BLOCK, LAST_BLOCK + 1)
    for one in PRIVATE
    for tag in (one.group << 16 | block, one.group << 16 | block << 8 | one.number)
)
"""Creators and elements, in every block that may be theirs."""


def tags_to_read() -> list[int]:
    """The tags of all elements that are read.

    Returns
    -------
    list[int]
        Group and element in one number each; private ones in every block that may be theirs.
    """
    keywords = (*IDENTIFIERS, *IMAGE, *PLACE, *SCALE, *GROUPS, *ACQUISITION, *DESCRIPTIONS)
    return [*(tag_of(keyword) for keyword in keywords), *PRIVATE_TAGS]


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


def number_of(keyword: str) -> int:
    """The tag of an element of the standard as a plain number, which compares fast.

    Parameters
    ----------
    keyword
        As the standard's dictionary has it.

    Returns
    -------
    int
        Group and element.

    Raises
    ------
    KeyError
        There is no such element.
    """
    return _NUMBERS.get(keyword) or _NUMBERS.setdefault(keyword, int(tag_of(keyword)))


_NUMBERS: dict[str, int] = {}


class Elements:
    """The elements of an object or of an item of a sequence as a walk over plain bytes leaves them.

    Parameters
    ----------
    explicit
        Whether the file says each element's value representation.

    Notes
    -----
    A value is converted when it is asked for. pydicom's Dataset is made only for what its general conversion is needed.
    """

    __slots__ = ("_dataset", "explicit", "file_meta", "held")

    def __init__(self, *, explicit: bool) -> None:
        self.explicit = explicit
        self.held: dict[int, tuple[bytes, bytes | list[Elements]]] = {}
        """By tag: the value representation, empty where the file does not say it, and the bytes or the items."""
        self.file_meta: Elements
        """Of an object; an item of a sequence has none."""
        self._dataset: Dataset | None = None

    def keys(self) -> KeysView[int]:
        """The tags that are there, as a Dataset has them.

        Returns
        -------
        KeysView[int]
            Plain numbers.
        """
        return self.held.keys()

    def value(self, tag: int) -> Any:
        """The value of one element.

        Parameters
        ----------
        tag
            Its tag.

        Returns
        -------
        Any
            As pydicom converts it, and items as `Elements`; None where it is not there or empty.
        """
        representation, raw = self.held.get(tag, (b"", b""))
        if isinstance(raw, list):
            return raw
        if tag not in self.held:
            return None
        convert = _PLAIN.get(representation.decode() or _known_representation(tag))
        if convert is None:
            found = self._as_dataset()[tag].value
        elif not raw:
            return None
        else:
            found = convert(raw, True)
        return None if isinstance(found, str) and found == "" else found

    def _as_dataset(self) -> Dataset:
        if self._dataset is None:
            found: MutableMapping[BaseTag, DataElement | RawDataElement] = {
                BaseTag(tag): RawDataElement(
                    BaseTag(tag), vr.decode() or None, len(raw), raw or None, 0, not self.explicit, True
                )
                for tag, (vr, raw) in self.held.items()
                if isinstance(raw, bytes)
            }
            self._dataset = Dataset(found)
            self._dataset.set_original_encoding(not self.explicit, True)
        return self._dataset


@functools.cache
def _known_representation(tag: int) -> str:
    return dictionary_VR(tag) if dictionary_has_tag(tag) else ""


def value_of(place: Dataset | Elements, keyword: str) -> Any:
    """The value of an element of the standard.

    Parameters
    ----------
    place
        An object or an item of a sequence.
    keyword
        As the standard's dictionary has it.

    Returns
    -------
    Any
        As pydicom converts it; None where the element is not there or empty.
    """
    if isinstance(place, Elements):
        return place.value(number_of(keyword))
    tag = tag_of(keyword)
    if tag not in place.keys():  # noqa: SIM118  # pydicom's own `in` takes ten times as long
        return None
    raw = place.get_item(tag)
    if isinstance(raw, RawDataElement) and raw.value is not None:
        representation = raw.VR or dictionary_VR(tag)
        if representation in _PLAIN and (representation not in TYPED or _is_plain_text(raw.value)):
            found = _PLAIN[representation](raw.value, raw.is_little_endian)
            return None if found == "" else found
    found = place[tag].value
    return None if found == "" else found


def patient_id_of(place: Dataset | Elements) -> str:
    """The patient's identifier, as it tells patients apart.

    Parameters
    ----------
    place
        An object.

    Returns
    -------
    str
        Without the spaces around it, which a long string may be padded with: one patient is not two, one on each side
        of a split. Empty where there is none.

    References
    ----------
    DICOM PS3.5, 6.2 (LO).
    """
    return str(value_of(place, "PatientID") or "").strip(" ")


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


def _numbers(letter: str, size: int) -> Callable[[bytes, bool], Any]:
    """The conversion of binary numbers. letter, size: of one in `struct`."""

    def converted(value: bytes, little: bool) -> Any:
        numbers = struct.unpack(f"{'<' if little else '>'}{len(value) // size}{letter}", value)
        return "" if not numbers else _one_or_all(list(numbers))

    return converted


def _one_or_all(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


_PLAIN: dict[str, Callable[[bytes, bool], Any]] = {
    "CS": _codes,
    "DS": _decimals,
    "IS": _wholes,
    "LO": _typed,
    "SH": _typed,
    "UI": _uid,
    "US": _numbers("H", 2),
    "SS": _numbers("h", 2),
    "UL": _numbers("L", 4),
    "SL": _numbers("l", 4),
    "FL": _numbers("f", 4),
    "FD": _numbers("d", 8),
}
"""By value representation. pydicom's general conversion takes as long for one element as its walk for three."""
TYPED = frozenset({"LO", "SH"})
"""Of these, what needs no character set."""


def private_value(place: Dataset | Elements, element: PrivateElement) -> Any:
    """The value of a vendor's own element.

    Parameters
    ----------
    place
        An object or an item of a sequence.
    element
        Which one.

    Returns
    -------
    Any
        As pydicom converts it; None where the creator or the element is not there.
    """
    present = place.keys()
    walked = isinstance(place, Elements)
    for tag in _BLOCK_NUMBERS[element] if walked else _BLOCKS[element]:
        if tag in present and str(_at(place, tag) or "").strip() == element.creator:
            found = BaseTag(element.group << 16 | (tag & 0xFF) << 8 | element.number)
            return _at(place, found) if found in present else None
    return None


def _at(place: Dataset | Elements, tag: int) -> Any:
    return place.value(tag) if isinstance(place, Elements) else place[tag].value


_BLOCKS = {
    one: [BaseTag(one.group << 16 | block) for block in range(FIRST_BLOCK, LAST_BLOCK + 1)] for one in PRIVATE
}
_BLOCK_NUMBERS = {one: [int(tag) for tag in blocks] for one, blocks in _BLOCKS.items()}
