"""The process that opens foreign HDF5 files: HDF5 itself can crash, hang or take all memory on a damaged one.

It answers one question a line on its standard input (JSON) with one line on its standard output, and for a slice with
that slice's bytes behind the line. It looks at names of the root group only, follows no link, loads no filter plugin,
and reads a value only once its declared size was found small enough. It knows nothing of scans:
`sites.scans.fastmri_hdf5` does.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from sites.scans.worker_limits import allow_time, limit_memory

MEMORY_BYTES = 1 << 30
"""Of address space: room for the libraries (115 MiB), the largest slice, its conversion and its chunk. Slices of
`MAX_SLICE_VALUES` complex doubles in chunks of 64 MiB were read in 700 MiB; what a damaged file makes HDF5 ask for
beyond it is refused.
"""
MAX_TEXT_BYTES = 1 << 20
"""Of one attribute or header: an ISMRMRD header is some pages of text."""
MAX_SLICE_VALUES = 1 << 24
"""64 coils of 640 x 400: more than a receiver has today."""
MAX_CHUNK_BYTES = 1 << 27
"""A chunk is decoded as a whole; a multi-coil slice of 15 coils of 640 x 400 in one chunk has 31 MB."""
MAX_CHUNKS = 1 << 20
MAX_INFLATION = 200
"""Declared bytes over stored ones. k-space is noise and hardly shrinks; an image with empty air may shrink much.
A bound of caution, not of a measurement."""
INFLATION_BYTES = 1 << 22
"""Below this (4 MiB) any inflation is harmless."""
FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}
"""Those that HDF5 or h5py bring along."""
_COMPLEX_FIELDS = {("r", "i"), ("re", "im"), ("real", "imag"), ("real", "imaginary")}


class NotTaken(Exception):
    """The file is whole, and holds what is not read: (what, got, expected)."""


class OpenedFile:
    """The file that is asked about.

    Parameters
    ----------
    path
        Where it is.

    Raises
    ------
    OSError
        As the file system or HDF5 refuses it.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        with self._path.open("rb") as stream:  # its refusal says why; that of HDF5 does not
            self._n_bytes = os.fstat(stream.fileno()).st_size
        # The whole chunk fits the cache: one of many slices is decoded once.
        self._file = h5py.File(path, "r", locking=False, rdcc_nbytes=MAX_CHUNK_BYTES)

    def close(self) -> None:
        self._file.close()

    def attribute(self, name: str) -> str | float | int | None:
        """One attribute of the root group.

        Parameters
        ----------
        name
            The attribute's name.

        Returns
        -------
        str | float | int | None
            Text without padding, or a finite number; None where the attribute is not there or empty.

        Raises
        ------
        NotTaken
            More than one value, a text over 1 MiB, or neither text nor number.
        """
        if not h5py.h5a.exists(self._file.id, name.encode()):
            return None
        attribute = h5py.h5a.open(self._file.id, name.encode())
        count = (
            0
            if attribute.get_space().get_simple_extent_type() == h5py.h5s.NULL
            else math.prod(attribute.shape)
        )
        if count == 0:
            return None
        if count > 1 or attribute.get_storage_size() > MAX_TEXT_BYTES:
            got = f"{count} values, {attribute.get_storage_size()} bytes"
            raise NotTaken(f"its attribute {name} is not one value", got, "a text or a number")
        return _plain(self._file.attrs[name], name)

    def text(self, name: str) -> str | None:
        """The text in a dataset of one value.

        Parameters
        ----------
        name
            The dataset's name in the root group.

        Returns
        -------
        str | None
            None where there is no such dataset or it is empty.

        Raises
        ------
        NotTaken
            A link, more than one value, a text over 1 MiB.
        """
        dataset = self._dataset(name)
        if dataset is None or dataset.shape is None:
            return None
        declared = max(dataset.size * dataset.dtype.itemsize, self._length_said(dataset))
        if dataset.size != 1 or declared > MAX_TEXT_BYTES or dataset.id.get_storage_size() > MAX_TEXT_BYTES:
            raise NotTaken(f"its {name} is not one text", f"{dataset.dtype} {dataset.shape}", "under 1 MiB")
        value = _plain(dataset[()], name)
        return None if value is None else str(value)

    def mask(self, name: str) -> tuple[int, int] | None:
        """How many values of a small dataset are not zero.

        Parameters
        ----------
        name
            The dataset's name in the root group.

        Returns
        -------
        tuple[int, int] | None
            (values that are not zero, values in all); None where there is no such dataset.

        Raises
        ------
        NotTaken
            A link, no numbers, more than `MAX_SLICE_VALUES`, or more declared bytes than the file can hold.
        """
        dataset = self._dataset(name)
        if dataset is None or not dataset.shape:
            return None
        if dataset.dtype.kind not in "biuf" or dataset.size > MAX_SLICE_VALUES:
            raise NotTaken(
                f"its {name} is no mask", f"{dataset.dtype} {dataset.shape}", "numbers, one a column"
            )
        self._require_bounded(dataset, name)
        return int(np.count_nonzero(dataset[()])), int(dataset.size)

    def array(self, name: str) -> dict[str, Any] | None:
        """What an array of slices is; no value is decoded.

        Parameters
        ----------
        name
            The dataset's name in the root group.

        Returns
        -------
        dict[str, Any] | None
            `shape` (list of int, slices first) and `kind` ("complex" or "real"); None where there is no such dataset.

        Raises
        ------
        NotTaken
            A link, empty, no numbers, slices over `MAX_SLICE_VALUES`, a filter that is not here, chunks or an inflation
            beyond the bounds above.
        """
        dataset = self._dataset(name)
        if dataset is None:
            return None
        if not dataset.shape or dataset.size == 0:
            raise NotTaken(f"its {name} is empty", f"{dataset.dtype} {dataset.shape}", "an array of slices")
        kind = _kind(dataset.dtype)
        if kind is None:
            raise NotTaken(f"its {name} holds no numbers", f"{dataset.dtype}", "real or complex numbers")
        if dataset.size // dataset.shape[0] > MAX_SLICE_VALUES:
            got = f"shape {dataset.shape}"
            raise NotTaken(
                f"its {name} has slices larger than a scanner's", got, f"{MAX_SLICE_VALUES} values"
            )
        self._require_bounded(dataset, name)
        return {"shape": list(dataset.shape), "kind": kind}

    def slice(self, name: str, index: int) -> NDArray[Any]:
        """One slice of an array that `array` has passed.

        Parameters
        ----------
        name
            The dataset's name in the root group.
        index
            Along the first axis, from 0.

        Returns
        -------
        NDArray[Any]
            Contiguous complex64 or float32, the stored shape without its first axis.
        """
        dataset = self._dataset(name)
        assert dataset is not None
        kind = _kind(dataset.dtype)
        values = dataset[index]
        if values.dtype.fields is not None:
            real, imaginary = (values[field] for field in values.dtype.names)
            values = real.astype(np.float32) + 1j * imaginary.astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused later, by name
            return np.ascontiguousarray(values, dtype=np.complex64 if kind == "complex" else np.float32)

    def _length_said(self, dataset: h5py.Dataset) -> int:
        """What a text of variable length says of its bytes; HDF5 makes room for as many before it looks for them.

        0 for another text, and for one that lies in chunks or in the header.
        """
        text = h5py.check_string_dtype(dataset.dtype)
        offset = dataset.id.get_offset() if text is not None and text.length is None else None
        if offset is None:
            return 0
        with self._path.open("rb") as stream:
            stream.seek(offset)
            return int.from_bytes(stream.read(4), "little")

    def _dataset(self, name: str) -> h5py.Dataset | None:
        """A dataset whose bytes are in this very file: HDF5 can point to any other file of the machine."""
        link = self._file.get(name, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise NotTaken(f"its {name} is a link to elsewhere", type(link).__name__, "a dataset of the file")
        dataset = self._file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise NotTaken(f"its {name} is no dataset", type(dataset).__name__, "a dataset of the file")
        if dataset.external or dataset.is_virtual:
            raise NotTaken(f"its {name} is no dataset of the file itself", "values of other files", "its own")
        return dataset

    def _require_bounded(self, dataset: h5py.Dataset, name: str) -> None:
        """Before anything is decoded: filters, chunks, and stored bytes that stand to the declared ones."""
        creation = dataset.id.get_create_plist()
        filters = [creation.get_filter(index)[0] for index in range(creation.get_nfilters())]
        unknown = [number for number in filters if number not in FILTERS]
        if unknown:
            raise NotTaken(
                f"its {name} needs a filter that is not here",
                f"filter {unknown[0]}",
                ", ".join(FILTERS.values()),
            )
        declared = dataset.size * dataset.dtype.itemsize
        if dataset.chunks is not None:
            chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize
            n_chunks = math.prod(-(-n // m) for n, m in zip(dataset.shape, dataset.chunks, strict=True))
            if chunk > MAX_CHUNK_BYTES or n_chunks > MAX_CHUNKS:
                got = f"{n_chunks} chunks of {chunk} bytes"
                raise NotTaken(f"its {name} is cut into chunks as no scan is", got, "up to 128 MiB each")
        # What the file says that it stores is no more than it has: a damaged index counts one chunk many times.
        stored = min(dataset.id.get_storage_size(), self._n_bytes)
        if declared > INFLATION_BYTES and declared > MAX_INFLATION * stored:
            got = f"{stored} bytes for {declared}"
            raise NotTaken(f"its {name} says that it holds more than it does", got, "a whole scan")


def _kind(dtype: np.dtype[Any]) -> str | None:
    if dtype.names is not None:
        fields = [dtype[name] for name in dtype.names]
        names = tuple(name.lower() for name in dtype.names)
        plain = all(field.kind in "fiu" and field.shape == () for field in fields)
        return "complex" if names in _COMPLEX_FIELDS and plain else None
    return {"c": "complex", "f": "real", "i": "real", "u": "real"}.get(dtype.kind)


def _plain(value: Any, name: str) -> str | float | int | None:
    """One value as text or number; None for an empty one."""
    if isinstance(value, np.ndarray | np.generic) and value.size == 1:
        value = value.reshape(-1)[0] if isinstance(value, np.ndarray) else value
        value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            value = value.decode("latin-1")
    if isinstance(value, bool | int | float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:  # how h5py gives bytes that are not UTF-8
            value = value.encode("utf-8", "surrogateescape").decode("latin-1")
        text = value.strip("\0 \t\r\n")
        if len(text) > MAX_TEXT_BYTES:
            raise NotTaken(f"its {name} is not one text", f"{len(text)} characters", "under 1 MiB")
        return text or None
    raise NotTaken(f"its {name} is neither text nor number", type(value).__name__, "a text or a number")


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the questions end.

    Parameters
    ----------
    questions
        One JSON object a line: `number` and `path` of the file, `ask` (a method of `OpenedFile`), `about` (its
        arguments).
    answers
        Gets one JSON line for each: `answer`, `not_taken` or `failed`; behind a slice's line its bytes, in C order.
    """
    opened: dict[int, OpenedFile] = {}
    for line in questions:
        allow_time()
        question = json.loads(line)
        head: dict[str, Any]
        payload: NDArray[Any] | None = None
        try:
            reply = _answer(question, opened)
            if isinstance(reply, np.ndarray):
                payload = reply
                reply = {"shape": list(reply.shape), "dtype": str(reply.dtype)}
            head = {"answer": reply}
        except NotTaken as refusal:
            head = {"not_taken": refusal.args}
        except Exception as failure:  # whatever a damaged file makes of h5py costs this file alone
            text = str(failure).encode("utf-8", "replace").decode()[:500]
            number = failure.errno if isinstance(failure, OSError) else None
            head = {"failed": [type(failure).__name__, text, number]}
        answers.write(json.dumps(head).encode() + b"\n")
        if payload is not None:
            answers.write(payload.data)
        answers.flush()


def _answer(question: dict[str, Any], opened: dict[int, OpenedFile]) -> Any:
    number = question["number"]
    if number not in opened:  # one is open at a time, and opened anew for each who asks: it may have changed
        for other in list(opened):
            opened.pop(other).close()
        opened[number] = OpenedFile(question["path"])
    asked = getattr(opened[number], question["ask"])
    return asked(*question["about"])


def main() -> None:
    """The process. What HDF5 prints of a file stays in it."""
    limit_memory(MEMORY_BYTES)
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin.buffer, os.fdopen(os.dup(1), "wb"))
    os._exit(0)  # without HDF5's own clearing up, which can fail on what a damaged file left


if __name__ == "__main__":
    main()
