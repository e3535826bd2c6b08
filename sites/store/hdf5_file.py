"""Our own HDF5 files: read without locks, and written so that a full disk cannot bring the process down.

Where a write fails, HDF5 keeps the file's objects, and crashes when the process ends (seen of 2.0 on a full disk). So
it never learns of it: it writes through an object that keeps the first failure and lets HDF5 close its file in peace.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import h5py


def open_to_read(path: Path) -> h5py.File:
    """The file, without a lock: it never changes once it has its name, and not every share has locks.

    Parameters
    ----------
    path
        A file of our own.

    Returns
    -------
    h5py.File
        Open for reading; who asked for it closes it.

    Raises
    ------
    OSError
        As h5py raises it.
    """
    import h5py  # where a file is opened: who only reads cohort.json does not wait for HDF5

    return h5py.File(path, "r", locking=False)


@contextlib.contextmanager
def writing(path: Path, *, libver: str | None = None) -> Iterator[h5py.File]:
    """A new file, to be filled in the block; it is on the disk when the block has ended.

    Parameters
    ----------
    path
        Where nothing is yet.
    libver
        The least version of HDF5 that reads it, as h5py names it; None: h5py's default.

    Yields
    ------
    h5py.File
        Open for writing.

    Raises
    ------
    OSError
        The first write that failed, at the block's end; FileExistsError where `path` is there.
    """
    with path.open("xb", buffering=0) as stream:
        sink = _Sink(stream)
        import h5py

        with h5py.File(sink, "w", libver=libver) as file:
            yield file
        if sink.failure is not None:
            raise sink.failure
        os.fsync(stream.fileno())


class _Sink:
    """What h5py's file-object driver writes to: after a failure it takes everything and keeps nothing.

    `failure`: the first OSError. The driver reads back only what it has written itself.
    """

    def __init__(self, stream: io.FileIO) -> None:
        self._stream = stream
        self._at = 0
        self._end = 0
        self.failure: OSError | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def write(self, content: bytes | memoryview) -> int:
        view = memoryview(content).cast("B")
        with self._noting():
            done = 0
            while done < len(view):
                done += os.pwrite(self._stream.fileno(), view[done:], self._at + done)
        self._at += len(view)
        self._end = max(self._end, self._at)
        return len(view)

    def read(self, size: int) -> bytes:
        """h5py knows a file object by this name; its driver calls `readinto`."""
        buffer = bytearray(size)
        self.readinto(memoryview(buffer))
        return bytes(buffer)

    def readinto(self, buffer: memoryview) -> int:
        view = memoryview(buffer).cast("B")
        view[:] = bytes(len(view))
        with self._noting():
            content = os.pread(self._stream.fileno(), len(view), self._at)
            view[: len(content)] = content
        self._at += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        self._end = self._at if size is None else size
        with self._noting():
            self._stream.truncate(self._end)
        return self._end

    def flush(self) -> None:
        """Every write has reached the file system already."""

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except OSError as failure:
            self.failure = self.failure or failure
