"""The elements of a plain object's header in one walk over its bytes: what nearly every classic file is.

It gives up at whatever is not plain: another byte order, a sequence that is to be read, text that needs a character
set, an unknown representation, a length that leads out of the file. pydicom then reads the file and says what is wrong
with it: so there is one opinion on damaged files, and it is pydicom's.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Collection
from dataclasses import dataclass

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from sites.scans.dicom.elements import TYPED

BLOCK_BYTES = 1 << 16
MAX_DEPTH = 8
UNDEFINED = 0xFFFFFFFF
PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
FIRST_AFTER_HEADER = min(PIXELS)
ITEM, END_OF_ITEM, END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
SYNTAX = 0x00020010
NOT_WALKED = frozenset({DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian})
_SHORT = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_TEXT = frozenset(vr.encode() for vr in (*TYPED, "PN", "LT", "ST", "UT", "UC"))
_EXPLICIT, _IMPLICIT, _LENGTH = struct.Struct("<HH2sH"), struct.Struct("<HHL"), struct.Struct("<L")


class NotPlain(Exception):
    """The header is to be read in another way."""


class _Bytes:
    """A file's bytes by their place, a block at a time."""

    def __init__(self, stream: io.FileIO, *, max_bytes: int) -> None:
        self._descriptor, self._size = stream.fileno(), os.fstat(stream.fileno()).st_size
        self._start, self._block, self._left = 0, b"", max_bytes

    def at(self, place: int, count: int) -> tuple[bytes, int]:
        """A block, and where in it `count` bytes from `place` on begin."""
        offset = place - self._start
        if offset >= 0 and offset + count <= len(self._block):
            return self._block, offset
        wanted = max(BLOCK_BYTES, count)
        if place + count > self._size or wanted > self._left:
            raise NotPlain
        self._block, self._start = os.pread(self._descriptor, wanted, place), place
        self._left -= wanted
        if len(self._block) < count:
            raise NotPlain
        return self._block, 0


def quick_header(
    stream: io.FileIO, *, tags: Collection[int], sequences: Collection[int], max_bytes: int
) -> Dataset:
    """The elements of a plain header.

    Parameters
    ----------
    stream
        The file; where it stands does not change.
    tags
        Which elements.
    sequences
        Of these, the sequences.
    max_bytes
        How many bytes of the file may be read.

    Returns
    -------
    Dataset
        As pydicom's reader gives it, with `file_meta`, which holds the transfer syntax alone.

    Raises
    ------
    NotPlain
        pydicom is to read it.
    """
    plain = walk_header(stream, tags=tags, max_bytes=max_bytes)
    if not plain.elements.keys().isdisjoint(sequences):
        raise NotPlain
    dataset = Dataset({one.tag: one for one in plain.elements.values()})
    dataset.set_original_encoding(not plain.explicit, True)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = plain.syntax
    return dataset


@dataclass(frozen=True)
class PlainHeader:
    """What a walk finds: the wanted elements by tag, and where in the file the element of the pixels begins."""

    elements: dict[int, RawDataElement]
    syntax: UID
    explicit: bool
    pixels_at: int


def walk_header(stream: io.FileIO, *, tags: Collection[int], max_bytes: int) -> PlainHeader:
    """Walk over a plain header.

    Parameters
    ----------
    stream
        The file; where it stands does not change.
    tags
        Which elements.
    max_bytes
        How many bytes of the file may be read.

    Returns
    -------
    PlainHeader
        Its elements are as pydicom's reader gives them.

    Raises
    ------
    NotPlain
        pydicom is to read it.
    """
    source = _Bytes(stream, max_bytes=max_bytes)
    block, offset = source.at(0, 144)
    if block[offset + 128 : offset + 132] != b"DICM":
        raise NotPlain
    meta, place = _walk(source, 132, explicit=True, wanted={SYNTAX}, start=0x00020000, stop=0x00030000)
    stated = meta[SYNTAX].value if SYNTAX in meta else None
    if stated is None:
        raise NotPlain
    syntax = UID(stated.decode("iso8859").rstrip(" \0"))
    if not syntax.startswith(ImplicitVRLittleEndian) or syntax in NOT_WALKED:
        raise NotPlain
    explicit = syntax != ImplicitVRLittleEndian
    block, offset = source.at(place, 12)
    if not explicit and all(0x40 < letter < 0x5B for letter in block[offset + 4 : offset + 6]):
        raise NotPlain  # it looks explicit, whatever its syntax says
    found, end = _walk(
        source, place, explicit=explicit, wanted=tags, start=0x00080000, stop=FIRST_AFTER_HEADER
    )
    return PlainHeader(found, syntax, explicit, end)


def _walk(
    source: _Bytes, place: int, *, explicit: bool, wanted: Collection[int], start: int, stop: int
) -> tuple[dict[int, RawDataElement], int]:
    """The wanted elements before the first of `stop` or a later tag, and the place of that one."""
    found: dict[int, RawDataElement] = {}
    while True:
        block, offset = source.at(place, 12)
        group, element, vr, length = _EXPLICIT.unpack_from(block, offset)
        tag = group << 16 | element
        if tag < start:
            raise NotPlain
        if tag >= stop:
            if stop == FIRST_AFTER_HEADER and tag not in PIXELS:
                raise NotPlain
            return found, place
        value_at = place + 8
        if not explicit:
            (length,), vr = _LENGTH.unpack_from(block, offset + 4), b""
        elif vr in _LONG:
            (length,) = _LENGTH.unpack_from(block, offset + 8)
            value_at += 4
        elif vr not in _SHORT:
            raise NotPlain
        if length == UNDEFINED:
            if tag in wanted or (explicit and vr != b"SQ"):
                raise NotPlain
            place = _after_sequence(source, value_at, explicit=explicit, depth=0)
            continue
        if tag in wanted:
            block, offset = source.at(value_at, length)
            value = block[offset : offset + length]
            if not (value.isascii() and b"\x1b" not in value) and _is_text(tag, vr):
                raise NotPlain
            found[tag] = RawDataElement(
                BaseTag(tag), vr.decode() or None, length, value or None, value_at, not explicit, True
            )
        place = value_at + length


def _is_text(tag: int, vr: bytes) -> bool:
    """Whether a value may depend on a character set; vr: empty where the file does not say it."""
    if vr and vr != b"UN":
        return vr in _TEXT
    return not dictionary_has_tag(tag) or dictionary_VR(tag).encode() in _TEXT


def _after_sequence(source: _Bytes, place: int, *, explicit: bool, depth: int) -> int:
    """The place behind a sequence of undefined length."""
    if depth > MAX_DEPTH:
        raise NotPlain
    while True:
        block, offset = source.at(place, 8)
        group, element, length = _IMPLICIT.unpack_from(block, offset)
        tag, place = group << 16 | element, place + 8
        if tag == END_OF_SEQUENCE:
            return place
        if tag != ITEM:
            raise NotPlain
        place = (
            place + length
            if length != UNDEFINED
            else _after_item(source, place, explicit=explicit, depth=depth)
        )


def _after_item(source: _Bytes, place: int, *, explicit: bool, depth: int) -> int:
    """The place behind an item of undefined length."""
    while True:
        block, offset = source.at(place, 12)
        group, element, vr, length = _EXPLICIT.unpack_from(block, offset)
        tag, place = group << 16 | element, place + 8
        if tag == END_OF_ITEM:
            return place
        if not explicit:
            (length,) = _LENGTH.unpack_from(block, offset + 4)
        elif vr in _LONG:
            (length,) = _LENGTH.unpack_from(block, offset + 8)
            place += 4
        elif vr not in _SHORT:
            raise NotPlain
        if length == UNDEFINED:
            place = _after_sequence(source, place, explicit=explicit, depth=depth + 1)
        else:
            place += length
