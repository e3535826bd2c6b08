"""The header of one DICOM file, read without its pixels, and never more of it than a header has.

The file is opened once, as a plain file and through no link. What its lengths say is not believed: no read goes past
`MAX_HEADER_BYTES` in all, and none asks for "the rest", as inflating a deflated object would. pydicom's warnings hold
values of the header, and so does the text of its exceptions: neither is shown.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import stat
import struct
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_partial

from minet_core.errors import (
    DecoderMissing,
    FedminetError,
    NotAnMrImage,
    ScanInvalid,
    ScanReaderFailed,
    ScanUnreadable,
)
from sites.scans.dicom.elements import Elements, tags_to_read
from sites.scans.dicom.functional_groups import sequences_to_read
from sites.scans.dicom.plain_bytes import NotPlain
from sites.scans.dicom.quick_header import PIXELS, quick_header
from sites.scans.unreadable import unreadable

MAX_HEADER_BYTES = 32 << 20
"""Siemens' enhanced objects have 3 KB a frame (3435210 bytes, 96 frames of 32768): room for 10,000 frames. pydicom
takes up to about 30 times as much memory for elements of no length."""
MAX_FILE_BYTES = 4 << 30
BUFFER_BYTES = 1 << 14
TAGS = [int(one) for one in tags_to_read()]
TAG_SET = frozenset(TAGS)
SEQUENCES = sequences_to_read()

BROKEN = (
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    struct.error,
    NotImplementedError,
    BytesLengthException,
)
"""What pydicom raises for bytes that are cut off or no DICOM. NotImplementedError is its own, for a value
representation that it does not know."""


class HeaderBytes(io.RawIOBase):
    """A file of which no more is read than a header has: what a buffered reader reads from.

    Parameters
    ----------
    stream
        The open file, without a buffer of its own.
    name
        The file's, for messages.
    """

    def __init__(self, stream: io.FileIO, *, name: str) -> None:
        super().__init__()
        self._stream, self.name, self._left = stream, name, MAX_HEADER_BYTES
        self.seek, self.tell = stream.seek, stream.tell  # type: ignore[method-assign]  # pydicom asks all the time

    def readable(self) -> bool:
        """As a file's."""
        return True

    def seekable(self) -> bool:
        """As a file's."""
        return True

    def readinto(self, place: Any) -> int:
        """As a file's.

        Parameters
        ----------
        place
            A writable buffer.

        Returns
        -------
        int
            How many bytes it got.

        Raises
        ------
        ScanInvalid
            FM-D202: past `MAX_HEADER_BYTES` in all.
        """
        count = self._stream.readinto(place) or 0
        self._left -= count
        if self._left < 0:
            raise ScanInvalid(
                f"{self.name} has a header larger than an image's",
                got=f"over {MAX_HEADER_BYTES} bytes",
                expected="an MR image",
            )
        return count

    def readall(self) -> bytes:
        """The rest of the file is never asked for, but by what is to inflate it.

        Raises
        ------
        DecoderMissing
            FM-D214.
        """
        raise DecoderMissing(
            f"{self.name} is deflated as a whole",
            got="Deflated Explicit VR Little Endian",
            expected="an object of which the header can be read alone",
            action="Export it as Explicit VR Little Endian",
        )


@contextlib.contextmanager
def opened_plainly(path: Path, *, name: str) -> Iterator[io.FileIO]:
    """A file that is open for reading, if it is a plain one.

    Parameters
    ----------
    path
        Not followed where it is a link.
    name
        What the file is called in messages: its path may name a patient.

    Yields
    ------
    io.FileIO
        At its beginning, without a buffer.

    Raises
    ------
    ScanUnreadable
        FM-D201: a link, a pipe, a device, a folder, or the file system does not give it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as failure:
        if path.is_symlink():
            raise _no_plain_file(name, "a link") from None
        raise unreadable(_plain(failure), Path(name)) from None
    with io.FileIO(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _no_plain_file(name, "no plain file")
        if found.st_size > MAX_FILE_BYTES:
            raise ScanInvalid(
                f"{name} is too large",
                got=f"{found.st_size} bytes",
                expected=f"at most {MAX_FILE_BYTES}",
            )
        yield stream


@contextlib.contextmanager
def silent_pydicom(name: str) -> Iterator[None]:
    """What pydicom says and raises within becomes a refusal without a value of the header.

    Parameters
    ----------
    name
        What the file is called in messages.

    Raises
    ------
    ScanUnreadable
        FM-D201: pydicom, or the conversion of a value, refuses the bytes.
    NotAnMrImage
        FM-D213: it does not begin as a DICOM file does.
    ScanReaderFailed
        FM-D211: anything else.
    """
    mode, log = pydicom.config.settings.reading_validation_mode, logging.getLogger("pydicom")
    was_disabled, log.disabled = log.disabled, True  # it logs what it warns of
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
        try:
            yield
        except InvalidDicomError:
            raise NotAnMrImage(
                f"{name} is no DICOM file", got="no DICM after 128 bytes", expected="DICOM part 10"
            ) from None
        except BROKEN as failure:
            raise ScanUnreadable(
                "a DICOM file cannot be read",
                got=f"{name}: {type(failure).__name__}",
                expected="a whole DICOM file",
                action="Export it again",
            ) from None  # the text of the cause holds values of the header
        except FedminetError:
            raise
        except OSError as failure:
            raise unreadable(_plain(failure), Path(name)) from None
        except Exception as failure:  # no file stops the others, whatever it makes pydicom raise
            raise ScanReaderFailed(
                f"{name} made its reader fail",
                got=type(failure).__name__,
                action="Export it again; the other scans are not concerned",
            ) from None
        finally:
            pydicom.config.settings.reading_validation_mode = mode
            log.disabled = was_disabled


def _plain(failure: OSError) -> OSError:
    """The same failure without the path."""
    number = failure.errno or errno.EIO
    return OSError(number, os.strerror(number))


def _no_plain_file(name: str, what: str) -> ScanUnreadable:
    return ScanUnreadable(
        "a scan is no plain file",
        got=f"{name}: {what}",
        expected="a file",
        action="Copy the file itself there",
    )


def read_header(stream: io.FileIO, *, name: str) -> Dataset | Elements:
    """The elements of an image's header that `sites.scans.dicom.elements` names.

    Parameters
    ----------
    stream
        The file, at its beginning.
    name
        The file's, for messages.

    Returns
    -------
    Dataset | Elements
        With its `file_meta`; no pixels. `value_of` gives the same values of both: a plain file is walked over by
        `quick_header.py`, any other is read by pydicom.

    Raises
    ------
    ScanInvalid, DecoderMissing
        FM-D202, FM-D214: as `HeaderBytes`.
    """
    with contextlib.suppress(NotPlain):
        return quick_header(stream, tags=TAG_SET, sequences=SEQUENCES, max_bytes=MAX_HEADER_BYTES)
    return read_dataset(stream, name=name, tags=TAGS)


def read_dataset(stream: io.FileIO, *, name: str, tags: Sequence[int]) -> Dataset:
    """The elements of an object, read by pydicom; values are converted when they are looked at.

    Parameters
    ----------
    stream
        The file, at its beginning.
    name
        The file's, for messages.
    tags
        Which elements.

    Returns
    -------
    Dataset
        pydicom's, with its `file_meta`; no pixels.

    Raises
    ------
    ScanInvalid, DecoderMissing
        FM-D202, FM-D214: as `HeaderBytes`.
    """
    bounded = io.BufferedReader(HeaderBytes(stream, name=name), BUFFER_BYTES)
    # Not dcmread: for every file it makes a tag of pydicom's of each number.
    return read_partial(bounded, stop_when=_at_pixels, specific_tags=list(tags))


def _at_pixels(tag: int, _: str | None, __: int) -> bool:
    return tag in PIXELS
