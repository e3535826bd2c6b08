"""One pair's file: HDF5, written once and never written to again.

It holds `target` and `reference` (slice, row, column), one chunk per slice with a checksum, and attributes with the
geometry and the pair's record. It is written under a temporary name, fsynced and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minet_core.errors import FileNotWritten, StoreDamaged
from minet_core.runtime.files.atomic_write import replacing, sha256_of_file
from minet_core.runtime.files.file_failures import failure_of
from minet_core.runtime.json_text import parse_json
from sites.store.cohort import PairRecord
from sites.store.hdf5_file import open_to_read, writing

if TYPE_CHECKING:  # who reads cohort.json alone waits for none of them
    import h5py
    from numpy.typing import NDArray

    from minet_core.imaging.volume import Pair, Volume

ROLES = ("target", "reference")
_OF_THE_FILE = (errno.ENOENT, errno.EIO, errno.EINVAL, errno.EISDIR)
INGEST_AGAIN = "Remove the file and ingest the scans again"


def write_pair(path: Path, pair: Pair, record: dict[str, Any]) -> str:
    """Write a pair durably with its record.

    Parameters
    ----------
    path
        The file; one that is there is replaced whole.
    pair
        Target and reference on one grid.
    record
        The fields of `PairRecord` but `file` and `sha256`.

    Returns
    -------
    str
        The file's SHA-256, hexadecimal.

    Raises
    ------
    FileNotWritten
        FM-S509 or its kind.
    """
    with replacing(path) as temporary:
        with writing(temporary, libver="v110") as file:
            for role, volume in zip(ROLES, (pair.target, pair.reference), strict=True):
                shape = volume.array.shape
                data = file.create_dataset(role, data=volume.array, chunks=(1, *shape[1:]), fletcher32=True)
                data.attrs["contrast"] = volume.contrast
            file.attrs["spacing_mm"] = pair.target.spacing_mm
            file.attrs["affine"] = pair.target.affine
            file.attrs["record"] = json.dumps(record, sort_keys=True)
        return sha256_of_file(temporary)


def read_record(path: Path) -> PairRecord:
    """The record of a whole pair file that no cohort speaks of yet.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    PairRecord
        With the file's name and its SHA-256 as it is now.

    Raises
    ------
    StoreDamaged
        FM-D207: it is no pair, or has no record.
    """
    try:
        with open_pair(path) as file:
            content = parse_json(file.attrs["record"])
            return PairRecord(**content, file=path.name, sha256=sha256_of_file(path))
    except (KeyError, TypeError, ValueError, RuntimeError) as failure:
        raise StoreDamaged("a store's file has no record", got=path.name, action=INGEST_AGAIN) from failure


@contextlib.contextmanager
def open_pair(path: Path, *, shape: Sequence[int] | None = None) -> Iterator[h5py.File]:
    """A pair's file, open for reading.

    Parameters
    ----------
    path
        The file.
    shape
        (slice, row, column) that the cohort says; None: any.

    Yields
    ------
    h5py.File
        With `target` and `reference` of one shape.

    Raises
    ------
    StoreDamaged
        FM-D207: it or a chunk cannot be read, in the block too, or it holds no such pair.
    FileNotWritten
        FM-S510 or another kind: the file is not to blame.
    """
    with reading(path.name, path), open_to_read(path) as file:
        require_pair(file, path, shape=shape)
        yield file


@contextlib.contextmanager
def reading(what: str, path: Path) -> Iterator[None]:
    """What h5py raises in the block, as what it means.

    Parameters
    ----------
    what
        What is read, for the message.
    path
        The file that it is read from.

    Raises
    ------
    StoreDamaged
        FM-D207.
    FileNotWritten
        A kind of it where the file system refuses.
    """
    try:
        yield
    except OSError as failure:
        raise read_failure(failure, path, what=what) from failure
    except (KeyError, RuntimeError, TypeError, ValueError, IndexError) as failure:
        raise StoreDamaged(
            "a store's file cannot be read", got=f"{what}: {failure}", action=INGEST_AGAIN
        ) from failure


def require_pair(file: h5py.File, path: Path, *, shape: Sequence[int] | None) -> None:
    """Refuse a file that does not hold two volumes of one shape, and all the bytes that they say.

    A pair is stored as it is: what would be more than its file was not written here.

    Parameters
    ----------
    file
        Open for reading.
    path
        Where it is, for its size.
    shape
        (slice, row, column) that the cohort says; None: any.

    Raises
    ------
    ValueError, KeyError
        What is wrong; `reading` around it makes StoreDamaged (FM-D207) of it.
    """
    import h5py  # its file is open, so it is loaded

    n_bytes, found = path.stat().st_size, []
    for role in ROLES:
        data = file[role]
        if not isinstance(data, h5py.Dataset) or data.is_virtual or data.external:
            raise ValueError(f"{role} is no volume")
        if str(data.dtype) not in ("float32", "complex64") or data.nbytes > n_bytes or len(data.shape) != 3:
            raise ValueError(f"{role} is {data.dtype} {data.shape} in {n_bytes} bytes")
        found.append(data.shape)
    if found[0] != found[1] or tuple(found[0]) != tuple(shape or found[0]):
        raise ValueError(f"volumes of {found[0]} and {found[1]}, where the cohort says {shape}")


def read_failure(failure: OSError, path: Path, *, what: str) -> StoreDamaged | FileNotWritten:
    """What it means that a file of the store cannot be read: damage, unless the system gives another reason.

    A file that is gone is damage, as is one that a disk cannot read.

    Parameters
    ----------
    failure
        What h5py or the system raised.
    path
        The file.
    what
        The file, or its part that was asked for.

    Returns
    -------
    StoreDamaged | FileNotWritten
        To be raised.
    """
    own = failure.errno not in (None, *_OF_THE_FILE)
    if own:
        return failure_of(failure, f"a store's file cannot be read: {what}", path=path)
    return StoreDamaged("a store's file cannot be read", got=f"{what}: {failure}", action=INGEST_AGAIN)


def read_slices(file: h5py.File, role: str, *, indices: Sequence[int]) -> NDArray[Any]:
    """Some slices of a volume; of neighbours one read.

    Parameters
    ----------
    file
        Open for reading.
    role
        "target" or "reference".
    indices
        Which slices, rising, at least one.

    Returns
    -------
    NDArray[Any]
        (S, H, W), complex64 or float32 as stored.
    """
    contiguous = indices[-1] - indices[0] + 1 == len(indices)
    array: NDArray[Any] = file[role][slice(indices[0], indices[-1] + 1) if contiguous else list(indices)]
    return array


def read_volume(file: h5py.File, role: str) -> Volume:
    """A whole volume with its geometry.

    Parameters
    ----------
    file
        Open for reading.
    role
        "target" or "reference".

    Returns
    -------
    Volume
        (slice, row, column), spacing in mm.

    Raises
    ------
    ValueError
        The file's geometry is none; `reading` around it makes StoreDamaged (FM-D207) of it.
    """
    import numpy as np

    from minet_core.imaging.volume import Volume

    spacing = [float(step) for step in file.attrs["spacing_mm"]]
    affine = np.asarray(file.attrs["affine"], dtype=np.float64)
    if len(spacing) != 3 or affine.shape != (4, 4) or not np.isfinite([*spacing, *affine.flat]).all():
        raise ValueError("its geometry is none")
    return Volume(
        array=file[role][()],
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        affine=affine,
        contrast=str(file[role].attrs["contrast"]),
    )
