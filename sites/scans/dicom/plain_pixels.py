"""The one uncompressed image of a plain file, read in one step where its header ends.

It gives up at whatever is not plain, and pydicom then reads the file: see `quick_header.py`.
"""

from __future__ import annotations

import io
import os
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from sites.scans.dicom.plain_bytes import NotPlain
from sites.scans.dicom.quick_header import PlainHeader, walk_header

SAMPLES, PHOTOMETRIC, FRAMES, ROWS, COLUMNS = 0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280011
ALLOCATED, STORED, SIGNED = 0x00280100, 0x00280101, 0x00280103
WANTED = frozenset({SAMPLES, PHOTOMETRIC, FRAMES, ROWS, COLUMNS, ALLOCATED, STORED, SIGNED})
WITH_PIXELS = b"\xe0\x7f\x10\x00"
_NUMBER, _EXPLICIT, _IMPLICIT = struct.Struct("<H"), struct.Struct("<4s2sHL"), struct.Struct("<4sL")


def plain_image(stream: io.FileIO, shape: tuple[int, int], *, max_bytes: int) -> NDArray[Any] | None:
    """The stored values of a file's only frame.

    Parameters
    ----------
    stream
        The file; where it stands does not change.
    shape
        (rows, columns) that its header has said before, and that was found possible.
    max_bytes
        How many bytes of the header may be read.

    Returns
    -------
    NDArray[Any] | None
        (row, column) whole numbers as pydicom gives them; None: pydicom is to read it.
    """
    try:
        header = walk_header(stream, tags=WANTED, max_bytes=max_bytes)
        dtype, unused = _kind(header, shape)
        n_bytes = shape[0] * shape[1] * dtype.itemsize
        content = _content(stream, header, n_bytes)
    except NotPlain:
        return None
    image = np.frombuffer(content, dtype).reshape(shape)
    return image << unused >> unused if unused else image


def _kind(header: PlainHeader, shape: tuple[int, int]) -> tuple[np.dtype[Any], int]:
    """The numbers' type, and how many of their high bits mean nothing."""
    if header.syntax not in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        raise NotPlain
    elements = {tag: raw for tag, (_, raw) in header.elements.held.items() if isinstance(raw, bytes)}
    numbers = {tag: _NUMBER.unpack(value)[0] for tag, value in elements.items() if len(value) == 2}
    sizes = tuple(numbers.get(tag) for tag in (SAMPLES, ROWS, COLUMNS))
    allocated, stored, signed = (numbers.get(tag, 0) for tag in (ALLOCATED, STORED, SIGNED))
    if elements.get(FRAMES, b"1").strip(b" \0") != b"1":
        raise NotPlain
    if sizes != (1, *shape) or elements.get(PHOTOMETRIC, b"").rstrip(b" \0") != b"MONOCHROME2":
        raise NotPlain
    if (
        allocated not in (8, 16, 32)
        or not 1 <= stored <= allocated
        or signed not in (0, 1)
        or SIGNED not in numbers
    ):
        raise NotPlain
    return np.dtype(f"<{'ui'[signed]}{allocated // 8}"), allocated - stored


def _content(stream: io.FileIO, header: PlainHeader, n_bytes: int) -> bytes:
    """The bytes of the image, and not one of them is missing."""
    start = os.pread(stream.fileno(), _EXPLICIT.size, header.pixels_at)
    if len(start) < _EXPLICIT.size or start[:4] != WITH_PIXELS:
        raise NotPlain
    if header.explicit:
        _, representation, _, length = _EXPLICIT.unpack(start)
        place = header.pixels_at + _EXPLICIT.size
        if representation not in (b"OW", b"OB"):
            raise NotPlain
    else:
        _, length = _IMPLICIT.unpack_from(start)
        place = header.pixels_at + _IMPLICIT.size
    if length not in (n_bytes, n_bytes + n_bytes % 2):
        raise NotPlain
    content = os.pread(stream.fileno(), n_bytes, place)
    if len(content) < n_bytes:
        raise NotPlain
    return content
