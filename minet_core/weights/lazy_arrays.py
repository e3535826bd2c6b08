"""The tensors of a safetensors file as a lazy mapping: each is read when it is asked for, and nothing is kept."""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from minet_core.errors import FileMissing, WeightsRefused
from minet_core.weights.manifest import WeightManifest, check_weights
from minet_core.weights.payload import DTYPES, MAX_OVERHEAD_BYTES

_LENGTH_BYTES = 8
"""A safetensors file begins with the length of its header, little-endian."""

_METADATA = "__metadata__"
_NUMPY_NAMES = {stored: name for name, stored in DTYPES.items()}


class StoredArrays(Mapping[str, NDArray[Any]]):
    """The tensors of a safetensors file as a lazy mapping.

    `arrays[name]` opens the file, reads one tensor and closes the file: memory holds what the caller holds. Names and
    places are those of the time of construction, sorted, and shared among files of the same layout: a hundred replies
    have one. The file is not checked against anything; see `check_stored`.

    Parameters
    ----------
    path
        Of the file.
    prefix
        Only tensors whose names start with it are in the mapping, named without it.

    Raises
    ------
    FileMissing
        FM-C103, where there is no file.
    WeightsRefused
        FM-M302, for one that is no whole safetensors file, has a number type that cannot travel, or has become
        shorter since.
    """

    def __init__(self, path: Path, prefix: str = "") -> None:
        self._path = path
        with _opened(path):  # safetensors itself judges the layout
            pass
        with _unreadable_refused(path), path.open("rb") as stream:
            size = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
            self._places = _places(stream.read(size), prefix)

    def __getitem__(self, name: str) -> NDArray[Any]:
        place = self._places[name]
        dtype = np.dtype(_numpy_name(place.dtype, self._path)).newbyteorder("<")
        with _unreadable_refused(self._path):
            array = np.empty(math.prod(place.shape), dtype)
            _fill(array, self._path, place.offset)
            return array.astype(dtype.newbyteorder("="), copy=False).reshape(place.shape)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def manifest(self) -> WeightManifest:
        """Names, shapes and dtypes from the file's header; no tensor is read.

        Returns
        -------
        WeightManifest
            Of the names without the prefix.

        Raises
        ------
        WeightsRefused
            FM-M302, for a number type that cannot travel.
        """
        entries = [
            (name, place.shape, _numpy_name(place.dtype, self._path)) for name, place in self._places.items()
        ]
        return WeightManifest(tuple(entries))


def check_stored(path: Path, manifest: WeightManifest) -> StoredArrays:
    """The tensors of a file that holds exactly what the manifest names, every value finite.

    The header's length is bounded before it is read, it is compared before a tensor is read, and the tensors are read
    one at a time.

    Parameters
    ----------
    path
        A safetensors file.
    manifest
        All that it must hold.

    Returns
    -------
    StoredArrays
        Which reads the file again as it is asked.

    Raises
    ------
    FileMissing
        FM-C103, where there is no file.
    WeightsRefused
        FM-M302, for any other content.
    """
    with _unreadable_refused(path), path.open("rb") as stream:
        if int.from_bytes(stream.read(_LENGTH_BYTES), "little") > MAX_OVERHEAD_BYTES:
            raise WeightsRefused("the header of a file of tensors is too large", got=path)
    arrays = StoredArrays(path)
    found = arrays.manifest()
    if set(found.entries) != set(manifest.entries):
        differing = {name for name, _, _ in set(found.entries) ^ set(manifest.entries)}
        raise WeightsRefused(
            "a file does not hold the tensors of the manifest",
            got=f"{len(differing)} that differ",
            expected=f"{len(manifest.entries)} tensors",
        )
    check_weights(arrays, manifest)
    return arrays


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor lies in a file. dtype: as safetensors names it. offset: of its first byte."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


@functools.lru_cache(maxsize=8)
def _places(header: bytes, prefix: str) -> dict[str, _Place]:
    """By name without the prefix, sorted, where the tensors of a file with this header lie."""
    start = _LENGTH_BYTES + len(header)
    return {
        name.removeprefix(prefix): _Place(
            entry["dtype"], tuple(entry["shape"]), start + entry["data_offsets"][0]
        )
        for name, entry in sorted(json.loads(header).items())
        if name != _METADATA and name.startswith(prefix)
    }


def _fill(array: NDArray[Any], path: Path, offset: int) -> None:
    """Read a row of values. By the system's own calls: numpy's takes several times as long for a small tensor."""
    left = memoryview(array.view(np.uint8).data)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while left:
            n_bytes = os.preadv(descriptor, [left], offset)
            if n_bytes == 0:
                raise WeightsRefused("a file of tensors has become shorter", got=path)
            left, offset = left[n_bytes:], offset + n_bytes
    finally:
        os.close(descriptor)


def _numpy_name(dtype: str, path: Path) -> str:
    if not isinstance(dtype, str) or dtype not in _NUMPY_NAMES:
        raise WeightsRefused("a file of tensors has a number type that cannot travel", got=path)
    return _NUMPY_NAMES[dtype]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise FileMissing("a file of tensors is missing", got=path)
    try:
        with safe_open(path, framework="np") as stored:
            yield stored
    except SafetensorError as failure:
        raise WeightsRefused("a file is not a whole safetensors file", got=path) from failure


@contextmanager
def _unreadable_refused(path: Path) -> Iterator[None]:
    """safetensors accepts forms of a header that are not the documented one: they are refused, whatever they do."""
    try:
        yield
    except FileNotFoundError as failure:
        raise FileMissing("a file of tensors is missing", got=path) from failure
    except (
        TypeError,
        ValueError,
        KeyError,
        AttributeError,
        OverflowError,
        RecursionError,
        MemoryError,
    ) as failure:
        raise WeightsRefused("a file of tensors has an unreadable header", got=path) from failure
