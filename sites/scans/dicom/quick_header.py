"""The elements of a plain object's header in one walk over its bytes: what nearly every file is.

It gives up at whatever is not plain: another byte order, text that needs a character set, an unknown representation, a
length that leads out of the file. pydicom then reads the file: see `plain_bytes.py`. Sequences that are to be read are
walked by `quick_items.py`.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import dataclass

from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from sites.scans.dicom.elements import Elements
from sites.scans.dicom.plain_bytes import (
    EXPLICIT,
    LENGTH,
    LONG,
    SHORT,
    UNDEFINED,
    FileBytes,
    NotPlain,
    needs_character_set,
)
from sites.scans.dicom.quick_items import NONE_INNER, SEQUENCE, Inner, after_sequence, read_items

PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
FIRST_AFTER_HEADER = min(PIXELS)
SYNTAX = 0x00020010
NOT_WALKED = frozenset({DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian})


@dataclass(frozen=True)
class PlainHeader:
    """What a walk finds: the wanted elements, and where in the file the element of the pixels begins."""

    elements: Elements
    syntax: UID
    explicit: bool
    pixels_at: int


def quick_header(stream: io.FileIO, *, tags: Collection[int], sequences: Inner, max_bytes: int) -> Elements:
    """The elements of a plain header.

    Parameters
    ----------
    stream
        The file; where it stands does not change.
    tags
        Which elements.
    sequences
        Of these, the sequences, and which sequences within them.
    max_bytes
        How many bytes of the file may be read.

    Returns
    -------
    Elements
        With `file_meta`, which holds the transfer syntax alone.

    Raises
    ------
    NotPlain
        pydicom is to read it.
    """
    return walk_header(stream, tags=tags, sequences=sequences, max_bytes=max_bytes).elements


def walk_header(
    stream: io.FileIO, *, tags: Collection[int], max_bytes: int, sequences: Inner = NONE_INNER
) -> PlainHeader:
    """Walk over a plain header.

    Parameters
    ----------
    stream
        The file; where it stands does not change.
    tags
        Which elements.
    max_bytes
        How many bytes of the file may be read.
    sequences
        Of these, the sequences, and which sequences within them.

    Returns
    -------
    PlainHeader
        Its elements have the values that pydicom gives them.

    Raises
    ------
    NotPlain
        pydicom is to read it.
    """
    source = FileBytes(stream, max_bytes=max_bytes)
    block, offset = source.at(0, 144)
    if block[offset + 128 : offset + 132] != b"DICM":
        raise NotPlain
    meta = Elements(explicit=True)
    place = _walk(source, 132, meta, wanted={SYNTAX}, inner=NONE_INNER, start=0x00020000, stop=0x00030000)
    _, stated = meta.held.get(SYNTAX, (b"", b""))
    if not stated or isinstance(stated, list):
        raise NotPlain
    syntax = UID(stated.decode("iso8859").rstrip(" \0"))
    if not syntax.startswith(ImplicitVRLittleEndian) or syntax in NOT_WALKED:
        raise NotPlain
    found = Elements(explicit=syntax != ImplicitVRLittleEndian)
    found.file_meta = meta
    block, offset = source.at(place, 12)
    if not found.explicit and all(0x40 < letter < 0x5B for letter in block[offset + 4 : offset + 6]):
        raise NotPlain  # it looks explicit, whatever its syntax says
    end = _walk(source, place, found, wanted=tags, inner=sequences, start=0x00080000, stop=FIRST_AFTER_HEADER)
    return PlainHeader(found, syntax, found.explicit, end)


def _walk(
    source: FileBytes,
    place: int,
    found: Elements,
    *,
    wanted: Collection[int],
    inner: Inner,
    start: int,
    stop: int,
) -> int:
    """Puts the wanted elements before the first of `stop` or a later tag into `found`; the place of that one."""
    explicit, held = found.explicit, found.held
    while True:
        block, offset = source.at(place, 12)
        group, element, vr, length = EXPLICIT.unpack_from(block, offset)
        tag = group << 16 | element
        if tag < start:
            raise NotPlain
        if tag >= stop:
            if stop == FIRST_AFTER_HEADER and tag not in PIXELS:
                raise NotPlain
            return place
        value_at = place + 8
        if not explicit:
            (length,), vr = LENGTH.unpack_from(block, offset + 4), b""
        elif vr in LONG:
            (length,) = LENGTH.unpack_from(block, offset + 8)
            value_at += 4
        elif vr not in SHORT:
            raise NotPlain
        if tag in inner and vr in SEQUENCE:
            known = explicit and vr == b"SQ"
            items, place = read_items(
                source, value_at, length=length, explicit=known, inner=inner[tag], depth=1
            )
            held[tag] = b"SQ", items
            continue
        if length == UNDEFINED:
            if tag in wanted or (explicit and vr != b"SQ"):
                raise NotPlain
            place = after_sequence(source, value_at, explicit=explicit)
            continue
        if tag in wanted:
            block, offset = source.at(value_at, length)
            value = block[offset : offset + length]
            if needs_character_set(value, tag=tag, representation=vr):
                raise NotPlain
            held[tag] = vr, value
        place = value_at + length
