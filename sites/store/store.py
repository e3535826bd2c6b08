"""The store: a folder with one HDF5 file per pair, `cohort.json` and the pseudonyms' key.

A file holds `target` and `reference` (slice, row, column), one chunk per slice with a checksum, and attributes with
the geometry and the pair's record. It is written under a temporary name, fsynced and renamed, and never written to
again. `cohort.json` is written last: until then an ingest has changed nothing for those who read; and whoever reads on
by the former cohort finds its files until the next ingest.
"""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minet_core.errors import ConfigurationError, FileNotWritten, NoScansFound, StoreBusy, StoreDamaged
from minet_core.runtime.files.atomic_write import replacing, sha256_of_file, write_json
from minet_core.runtime.files.file_failures import failure_of, naming_failures
from minet_core.runtime.files.file_lock import held
from minet_core.runtime.files.lock_beside import holder_beside
from minet_core.runtime.json_text import parse_json
from minet_core.settings.yaml_file import parse_settings
from sites.store.cohort import Cohort, PairRecord, leave_out, make_cohort
from sites.store.hdf5_file import open_to_read, writing
from sites.store.split import Split
from sites.store.withdrawn import read_withdrawn

if TYPE_CHECKING:  # who reads cohort.json alone waits for none of them
    import h5py
    import numpy as np
    from numpy.typing import NDArray

    from minet_core.imaging.volume import Pair, Volume

COHORT_FILE = "cohort.json"
LOCK_FILE = ".lock"
ROLES = ("target", "reference")


class Store:
    """One site's pairs. Making the object reads nothing; `cohort` is read once.

    Parameters
    ----------
    path
        The folder of the store; `locked` makes it where there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def cohort(self) -> Cohort:
        """What the store holds, without those who were withdrawn.

        Raises
        ------
        NoScansFound
            FM-D205: the store holds no cohort.
        StoreDamaged
            FM-D207: the page cannot be read, or is not what its digest says.
        FileNotWritten
            FM-S509 or its kind: the file system does not give it.
        """
        path = self.path / COHORT_FILE
        with naming_failures("the store's cohort cannot be read", path=path):
            if not path.is_file():
                raise NoScansFound(
                    "the store holds no cohort", got=self.path, action="Run `fedminet site ingest`"
                )
            text = path.read_bytes()
        try:
            cohort = parse_settings(parse_json(text), Cohort, source=str(path))
        except (ValueError, ConfigurationError) as failure:
            raise StoreDamaged(
                "the store's cohort cannot be read", got=failure, action=INGEST_AGAIN
            ) from failure
        if cohort.digest != cohort.computed_digest():
            raise StoreDamaged("the store's cohort does not match its digest", got=path, action=INGEST_AGAIN)
        _require_consistent(cohort, path)
        return _without(cohort, read_withdrawn(self.path))

    def volumes(self, split: Split) -> Iterator[tuple[str, NDArray[Any], NDArray[np.float32]]]:
        """Every pair of a split, one at a time, its slices of this split only.

        Parameters
        ----------
        split
            "training", "validation" or "test".

        Yields
        ------
        tuple[str, NDArray[Any], NDArray[np.float32]]
            The pair's name (the patient's pseudonym and the examination); target (S, H, W), complex64 or float32;
            reference (S, H, W), float32.

        Raises
        ------
        NoScansFound, StoreDamaged, FileNotWritten
            As `cohort` and `open_pair`.
        """
        for pair, indices in self.cohort.pairs_of(split):
            with open_pair(self.path / pair.file, shape=pair.shape) as file:
                target, reference = (_read(file, role, _as_slice(indices)) for role in ROLES)
            yield pair.name, target, reference

    def read_pair(self, record: PairRecord, *, path: Path | None = None) -> Pair:
        """A whole pair with its geometry, all slices.

        Parameters
        ----------
        record
            A pair of the store.
        path
            Its file, where that has not got its name yet.

        Returns
        -------
        Pair
            Target and reference on one grid.

        Raises
        ------
        StoreDamaged, FileNotWritten
            As `open_pair`.
        """
        from minet_core.imaging.volume import Pair

        with open_pair(path or self.path / record.file, shape=record.shape) as file:
            target, reference = (_volume(file, role) for role in ROLES)
        return Pair(target=target, reference=reference, patient=record.patient)

    def leave_out(self, patient: str) -> Store:
        """The same files as a fold has them; on the disk nothing is changed.

        Parameters
        ----------
        patient
            The pseudonym of the patient to test; all others train.

        Returns
        -------
        Store
            To be read: its cohort is `sites.store.cohort.leave_out`'s.

        Raises
        ------
        InvalidSetting
            FM-C102, as `sites.store.cohort.leave_out`.
        """
        fold = Store(self.path)
        fold.cohort = leave_out(self.cohort, patient)
        return fold

    def write_cohort(self, cohort: Cohort) -> None:
        """Make a cohort what readers see.

        Parameters
        ----------
        cohort
            With its digest.

        Raises
        ------
        FileNotWritten
            FM-S509 or its kind.
        """
        write_json(self.path / COHORT_FILE, cohort.model_dump(mode="json"))
        self.__dict__.pop("cohort", None)

    def keep_only(self, names: Iterable[str]) -> None:
        """Remove the pair files of other names; the store is held for writing.

        Parameters
        ----------
        names
            File names to keep.

        Raises
        ------
        FileNotWritten
            FM-S509 or its kind.
        """
        kept = set(names)
        with naming_failures("a file of the store cannot be removed", path=self.path):
            for path in self.path.glob("*.h5"):
                if path.name not in kept:
                    path.unlink()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the store for writing; half files of a killed ingest are removed.

        Raises
        ------
        StoreBusy
            FM-D208: another ingest is writing.
        FileNotWritten
            FM-S509 or its kind, for every OSError, of the block too.
        """
        with naming_failures("the store cannot be written to", path=self.path):
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            with held(self.path / LOCK_FILE) as taken:
                if not taken:
                    raise StoreBusy(
                        "another ingest is writing to the store",
                        got=self.path,
                        action=f"Wait for it{holder_beside(self.path / LOCK_FILE)}",
                    )
                for half in self.path.glob(".*.partial"):
                    half.unlink()
                yield


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


def _require_consistent(cohort: Cohort, path: Path) -> None:
    """Raise StoreDamaged (FM-D207) where a page's own parts do not belong together, though its digest is right."""
    for pair in cohort.pairs:
        first, stop = pair.usable_slices
        if pair.patient not in cohort.patients or not 0 <= first <= stop <= pair.shape[0]:
            raise StoreDamaged(
                "the store's cohort cannot be", got=f"{path}: {pair.file}", action=INGEST_AGAIN
            )


def _without(cohort: Cohort, withdrawn: Collection[str]) -> Cohort:
    """The cohort of the other patients; the same one where none of these is in it."""
    if cohort.patients.keys().isdisjoint(withdrawn):
        return cohort
    return make_cohort(
        (pair for pair in cohort.pairs if pair.patient not in withdrawn),
        {patient: split for patient, split in cohort.patients.items() if patient not in withdrawn},
        site=cohort.site,
        data_kind=cohort.data_kind,
        target=cohort.target,
        reference=cohort.reference,
    )


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


def _as_slice(indices: list[int]) -> slice | list[int]:
    contiguous = indices[-1] - indices[0] + 1 == len(indices)
    return slice(indices[0], indices[-1] + 1) if contiguous else indices


def _read(file: h5py.File, role: str, which: slice | list[int]) -> NDArray[Any]:
    array: NDArray[Any] = file[role][which]
    return array


def _volume(file: h5py.File, role: str) -> Volume:
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
