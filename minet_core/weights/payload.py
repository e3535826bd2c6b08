"""The weights as one parcel: the bytes of a safetensors file, in one array.

Flower moves every array of a message as objects of its own, each with its own requests at each of its hops. The `quick`
model has 93 arrays; one parcel takes one object. docs/decisions/0003 has the times and what they do not separate.
Names, shapes and dtypes travel inside and are checked against the manifest; opening runs no code.
"""

from __future__ import annotations

import functools
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from minet_core.errors import WeightsRefused
from minet_core.runtime.files.atomic_write import replacing
from minet_core.weights.manifest import Arrays, WeightManifest, check_weights, dtype_name

MAX_OVERHEAD_BYTES = 1_000_000
"""What names and shapes may add to the weights' own bytes; the `paper` model's take 60 kB."""


DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "float16": "F16",
    "uint32": "U32",
    "int32": "I32",
    "float32": "F32",
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
}
"""The number types that travel: as numpy names them, and as a safetensors header does."""

_ALIGNMENT = 8
"""Bytes to which a safetensors file pads its header, so that the tensors behind it are aligned."""


def pack(arrays: Arrays, *, manifest: WeightManifest | None = None) -> NDArray[np.uint8]:
    """The parcel of some arrays: the same arrays give the same bytes.

    The layout is that of a safetensors file: the header's length in 8 bytes, little-endian; the header, JSON; the
    tensors, those of the largest numbers first and then by name, each in C order, little-endian. A lazy mapping is
    read tensor by tensor, so the parcel is all the memory it takes.

    Parameters
    ----------
    arrays
        By name, of the number types of `DTYPES`.
    manifest
        That of `arrays`, where it is known; without it every tensor is read twice.

    Returns
    -------
    (bytes,) uint8
        A whole safetensors file.

    Raises
    ------
    WeightsRefused
        FM-M302, for a number type that cannot travel, or arrays that are not the manifest's.
    """
    known = _known_manifest(arrays, manifest)
    described = {name: (shape, dtype) for name, shape, dtype in known.entries}
    header, places = _layout(known)
    parcel = np.empty(len(header) + known.n_bytes, dtype=np.uint8)
    parcel[: len(header)] = np.frombuffer(header, dtype=np.uint8)
    for name, (start, end) in places.items():
        place = parcel[len(header) + start : len(header) + end]
        place[:] = _bytes_of(name, arrays[name], expected=described[name])
    return parcel


def save_parcel(
    path: Path,
    arrays: Arrays,
    *,
    manifest: WeightManifest | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the bytes of `pack` to a file durably: whole or not there. Memory holds one tensor at a time.

    Every file of tensors is written here, whatever the order of its arrays in memory.

    Parameters
    ----------
    path
        Of the file; replaced where it is there.
    arrays
        By name, of the number types of `DTYPES`.
    manifest
        That of `arrays`, where it is known.
    metadata
        Texts that go into the header.

    Raises
    ------
    WeightsRefused
        FM-M302, as `pack`.
    DiskFull
        FM-S504, and the other failures of writing (`FileNotWritten`).
    """
    known = _known_manifest(arrays, manifest)
    described = {name: (shape, dtype) for name, shape, dtype in known.entries}
    header, places = _layout(known, metadata)
    with replacing(path) as temporary, temporary.open("wb") as stream:
        stream.write(header)
        for name in places:
            stream.write(_bytes_of(name, arrays[name], expected=described[name]).data)


def unpack(parcel: NDArray[Any], *, manifest: WeightManifest) -> dict[str, NDArray[Any]]:
    """The arrays of a parcel, held to what was agreed.

    Parameters
    ----------
    parcel : (bytes,) uint8
        As `pack` gives it, received from the other end.
    manifest
        All that it must hold.

    Returns
    -------
    dict of arrays
        By name, each of the manifest's shape and dtype and finite.

    Raises
    ------
    WeightsRefused
        FM-M302, for what is no parcel, is larger than the manifest's weights need, or holds other weights than the
        manifest names. The message repeats nothing that the other end chose.
    """
    if parcel.dtype != np.uint8 or parcel.ndim != 1:
        raise WeightsRefused("a parcel of weights is not a row of bytes")
    if parcel.nbytes > manifest.n_bytes + MAX_OVERHEAD_BYTES:
        raise WeightsRefused(
            "a parcel of weights is too large",
            got=f"{parcel.nbytes} bytes",
            expected=f"{manifest.n_bytes} and names",
        )
    try:
        arrays = safetensors.numpy.load(parcel.tobytes())
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as failure:
        raise WeightsRefused("a parcel of weights cannot be opened") from failure
    check_weights(arrays, manifest)
    return arrays


def _known_manifest(arrays: Arrays, manifest: WeightManifest | None) -> WeightManifest:
    known = WeightManifest.of(arrays) if manifest is None else manifest
    if set(arrays) != {name for name, _, _ in known.entries}:
        raise WeightsRefused("the names of the weights to pack differ from their manifest")
    for name, _, dtype in known.entries:
        if _name_of_number_type(dtype) not in DTYPES:
            raise WeightsRefused(
                f"{name} has a number type that cannot travel", got=dtype, expected=list(DTYPES)
            )
    return known


@functools.lru_cache(maxsize=64)
def _name_of_number_type(dtype: str) -> str:
    """Without the order of its bytes, which a parcel has its own of. Kept: numpy makes it anew for every tensor."""
    return np.dtype(dtype).name


def _layout(
    manifest: WeightManifest, metadata: Mapping[str, str] | None = None
) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """The header, and of every tensor, in the order of the file, its first byte behind the header and its end."""
    entries: dict[str, dict[str, Any]] = {}
    end = 0
    for name, shape, dtype in sorted(
        manifest.entries, key=lambda entry: (-np.dtype(entry[2]).itemsize, entry[0])
    ):
        start, end = end, end + math.prod(shape) * np.dtype(dtype).itemsize
        entries[name] = {
            "dtype": DTYPES[_name_of_number_type(dtype)],
            "shape": list(shape),
            "data_offsets": [start, end],
        }
    head = {} if metadata is None else {"__metadata__": dict(metadata)}
    text = json.dumps({**head, **entries}, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    places = {name: (entry["data_offsets"][0], entry["data_offsets"][1]) for name, entry in entries.items()}
    return struct.pack("<Q", len(text)) + text, places


def _bytes_of(name: str, array: NDArray[Any], *, expected: tuple[tuple[int, ...], str]) -> NDArray[np.uint8]:
    """The bytes of a tensor in C order, little-endian, in an array of one dimension. expected: shape, dtype."""
    found = (array.shape, dtype_name(array.dtype))
    if found != expected:
        raise WeightsRefused(f"{name} is not what its manifest says", got=found, expected=expected)
    little_endian = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return little_endian.reshape(-1).view(np.uint8)
