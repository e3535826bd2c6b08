"""The tensors of a safetensors file as a lazy mapping: each is read when it is asked for, and nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from minet_core.parcel import DTYPES
from minet_core.runtime.errors import FileMissing, WeightsRefused
from minet_core.weights import WeightManifest, check_weights

_NUMPY_NAMES = {stored: name for name, stored in DTYPES.items()}


class StoredArrays(Mapping[str, NDArray[Any]]):
    """The tensors of the file at `path` whose names start with `prefix`, named without it.

    `arrays[name]` opens the file, reads one tensor and closes the file: memory holds what the caller holds. The
    names are those of the time of construction, sorted. The file is not checked against anything; see
    `check_stored`.

    Raises FileMissing (FM-C103) where there is no file, and WeightsRefused (FM-M302) for one that is no whole
    safetensors file or has lost a tensor since.
    """

    def __init__(self, path: Path, prefix: str = "") -> None:
        self._path = path
        self._prefix = prefix
        with _opened(path) as stored:
            names = [name for name in stored.keys() if name.startswith(prefix)]  # noqa: SIM118 - no mapping
        self._names = dict.fromkeys(sorted(name.removeprefix(prefix) for name in names))

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._names:
            raise KeyError(name)
        with _opened(self._path) as stored:
            array: NDArray[Any] = stored.get_tensor(self._prefix + name)
        return array

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def manifest(self) -> WeightManifest:
        """Names, shapes and dtypes from the file's header; no tensor is read."""
        entries = []
        with _opened(self._path) as stored:
            for name in self._names:
                header = stored.get_slice(self._prefix + name)
                dtype = header.get_dtype()
                if dtype not in _NUMPY_NAMES:
                    raise WeightsRefused(f"{self._path} has a number type that cannot travel", got=dtype)
                entries.append((name, tuple(header.get_shape()), _NUMPY_NAMES[dtype]))
        return WeightManifest(tuple(entries))


def check_stored(path: Path, manifest: WeightManifest) -> StoredArrays:
    """The tensors of a file that holds exactly what the manifest names, every value finite.

    The header is compared before a tensor is read, and the tensors are read one at a time. Raises FileMissing
    (FM-C103) and WeightsRefused (FM-M302).
    """
    arrays = StoredArrays(path)
    found = arrays.manifest()
    if set(found.entries) != set(manifest.entries):
        differing = {name for name, _, _ in set(found.entries) ^ set(manifest.entries)}
        raise WeightsRefused(
            f"{path} does not hold the tensors of the manifest",
            got=f"a difference in {sorted(differing)[:3]}",
            expected=f"{len(manifest.entries)} tensors",
        )
    check_weights(arrays, manifest)
    return arrays


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise FileMissing("a file of tensors is missing", got=path)
    try:
        with safe_open(path, framework="np") as stored:
            yield stored
    except SafetensorError as failure:
        raise WeightsRefused(f"{path} is not a whole safetensors file", got=failure) from failure
