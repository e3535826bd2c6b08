"""The items of a sequence in one walk over their bytes, for the functional groups of enhanced objects.

A sequence that nobody asks for is passed over without a look at its values. Strict: tags ascend within an item, no
length leads out of what holds it, and no value representation is unknown; else pydicom reads the whole header.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sites.scans.dicom.elements import PRIVATE_TAGS, Elements
from sites.scans.dicom.plain_bytes import (
    END_OF_ITEM,
    END_OF_SEQUENCE,
    EXPLICIT,
    IMPLICIT,
    ITEM,
    LENGTH,
    LONG,
    SHORT,
    UNDEFINED,
    FileBytes,
    NotPlain,
    needs_character_set,
)

MAX_DEPTH = 8
MAX_ITEMS = 1 << 14
"""As many as an object has frames: more are left to pydicom."""

SEQUENCE = frozenset({b"", b"SQ", b"UN"})
"""What stands as the representation of a sequence. An archive that got one in implicit VR and does not know its element
sends it on as UN, with its items still in implicit VR (PS3.5, 6.2.2, note 2): mostly a vendor's own."""

Inner = Mapping[int, Any]
"""The sequences that are read within an item, by tag, and in the same way what is read within theirs."""
NONE_INNER: Inner = {}


def read_items(
    source: FileBytes, place: int, *, length: int, explicit: bool, inner: Inner, depth: int = 0
) -> tuple[list[Elements], int]:
    """The items of a sequence.

    Parameters
    ----------
    source
        The file's bytes.
    place
        Where the first item begins.
    length
        Of the sequence in bytes, or `UNDEFINED`.
    explicit
        Whether elements say their value representation.
    inner
        Which sequences within the items are read. Of the others nothing is kept where their length is undefined.
    depth
        Of the sequence.

    Returns
    -------
    tuple[list[Elements], int]
        The items, and the place behind the sequence.

    Raises
    ------
    NotPlain
        pydicom is to read the header.
    """
    end = None if length == UNDEFINED else place + length
    items: list[Elements] = []
    while end is None or place < end:
        block, offset = source.at(place, 8)
        group, element, n_bytes = IMPLICIT.unpack_from(block, offset)
        tag, place = group << 16 | element, place + 8
        if tag == END_OF_SEQUENCE and end is None and n_bytes == 0:
            return items, place
        if tag != ITEM or len(items) == MAX_ITEMS:
            raise NotPlain
        stop = None if n_bytes == UNDEFINED else place + n_bytes
        item, place = _read_item(source, place, stop=stop, explicit=explicit, inner=inner, depth=depth)
        items.append(item)
    if place != end:
        raise NotPlain
    return items, place


def _read_item(
    source: FileBytes, place: int, *, stop: int | None, explicit: bool, inner: Inner, depth: int
) -> tuple[Elements, int]:
    """One item and the place behind it. stop: where it ends, None where a delimiter says it."""
    item, last = Elements(explicit=explicit), 0
    while stop is None or place < stop:
        block, offset = source.at(place, 8)
        group, element, vr, length = EXPLICIT.unpack_from(block, offset)
        tag, place = group << 16 | element, place + 8
        if tag == END_OF_ITEM and stop is None and block[offset + 4 : offset + 8] == bytes(4):
            return item, place
        if tag <= last or tag >= ITEM:
            raise NotPlain
        last = tag
        if not explicit:
            (length,), vr = LENGTH.unpack_from(block, offset + 4), b""
        elif vr in LONG:
            block, offset = source.at(place, 4)
            (length,), place = LENGTH.unpack_from(block, offset), place + 4
        elif vr not in SHORT:
            raise NotPlain
        if tag in inner and vr in SEQUENCE:
            known = explicit and vr == b"SQ"
            items, place = read_items(
                source, place, length=length, explicit=known, inner=inner[tag], depth=depth + 1
            )
            item.held[tag] = b"SQ", items
        elif length == UNDEFINED:
            if explicit and vr != b"SQ":
                raise NotPlain
            place = after_sequence(source, place, explicit=explicit, depth=depth + 1)
        elif group & 1 and tag not in PRIVATE_TAGS:
            place += length
        else:
            block, offset = source.at(place, length)
            value = block[offset : offset + length]
            if needs_character_set(value, tag=tag, representation=vr):
                raise NotPlain
            item.held[tag], place = (vr, value), place + length
    if place != stop:
        raise NotPlain
    return item, place


def after_sequence(source: FileBytes, place: int, *, explicit: bool, depth: int = 0) -> int:
    """The place behind a sequence of undefined length, of which nothing is kept.

    Parameters
    ----------
    source
        The file's bytes.
    place
        Where its first item begins.
    explicit
        Whether elements say their value representation.
    depth
        Of the sequence.

    Returns
    -------
    int
        Behind its delimiter.

    Raises
    ------
    NotPlain
        pydicom is to read the header.
    """
    if depth > MAX_DEPTH:
        raise NotPlain
    while True:
        block, offset = source.at(place, 8)
        group, element, length = IMPLICIT.unpack_from(block, offset)
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


def _after_item(source: FileBytes, place: int, *, explicit: bool, depth: int) -> int:
    """The place behind an item of undefined length."""
    while True:
        block, offset = source.at(place, 12)
        size, unpack, start = len(block) - 12, EXPLICIT.unpack_from, place - offset
        while offset <= size:
            group, element, vr, length = unpack(block, offset)
            offset += 8
            if group == 0xFFFE:
                if element != 0xE00D:
                    raise NotPlain
                return start + offset
            if not explicit:
                (length,), vr = LENGTH.unpack_from(block, offset - 4), b"SQ"
            elif vr in LONG:
                (length,) = LENGTH.unpack_from(block, offset)
                offset += 4
            elif vr not in SHORT:
                raise NotPlain
            if length == UNDEFINED:
                if vr != b"SQ":
                    raise NotPlain
                offset = after_sequence(source, start + offset, explicit=explicit, depth=depth + 1) - start
                break  # the walk may have read another block
            offset += length
        place = start + offset
