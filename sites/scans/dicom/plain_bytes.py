"""A file's bytes for the walks over plain headers: by their place, a block at a time, and never more than a header has.

A walk gives up (`NotPlain`) at whatever is not plain. pydicom then reads the file and says what is wrong with it: so
there is one opinion on damaged files, and it is pydicom's.
"""

from __future__ import annotations

import functools
import io
import os
import struct

from pydicom.datadict import dictionary_has_tag, dictionary_VR

from sites.scans.dicom.elements import TYPED

BLOCK_BYTES = 1 << 16
UNDEFINED = 0xFFFFFFFF
ITEM, END_OF_ITEM, END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
SHORT = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
"""Value representations with a length of 16 bits."""
LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
"""Those with one of 32 bits, after two bytes that mean nothing."""
_TEXT = frozenset(vr.encode() for vr in (*TYPED, "PN", "LT", "ST", "UT", "UC"))
EXPLICIT, IMPLICIT, LENGTH = struct.Struct("<HH2sH"), struct.Struct("<HHL"), struct.Struct("<L")


class NotPlain(Exception):
    """The header is to be read in another way."""


class FileBytes:
    """A file's bytes by their place.

    Parameters
    ----------
    stream
        The file; where it stands does not change.
    max_bytes
        How many bytes may be read of it in all.
    """

    def __init__(self, stream: io.FileIO, *, max_bytes: int) -> None:
        self._descriptor, self._size = stream.fileno(), os.fstat(stream.fileno()).st_size
        self._start, self._block, self._left = 0, b"", max_bytes

    def at(self, place: int, count: int) -> tuple[bytes, int]:
        """A block, and where in it the bytes from a place on begin.

        Parameters
        ----------
        place
            In the file.
        count
            How many bytes the block is to have from there on.

        Returns
        -------
        tuple[bytes, int]
            The block, which may go on, and an offset in it.

        Raises
        ------
        NotPlain
            The file, or what may be read of it, ends before.
        """
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


def needs_character_set(value: bytes, *, tag: int, representation: bytes) -> bool:
    """Whether a value may be another text in another character set.

    Parameters
    ----------
    value
        Its bytes.
    tag
        The element's.
    representation
        Empty where the file does not say it.

    Returns
    -------
    bool
        False for all plain text, and for what is no text.
    """
    if value.isascii() and b"\x1b" not in value:
        return False
    if representation and representation != b"UN":
        return representation in _TEXT
    return _is_text_or_unknown(tag)


@functools.cache
def _is_text_or_unknown(tag: int) -> bool:
    if tag >> 16 & 1:  # of private elements the creators are texts; those that are read hold numbers
        return tag & 0xFF00 == 0
    return not dictionary_has_tag(tag) or dictionary_VR(tag).encode() in _TEXT
