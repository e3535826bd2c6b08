"""The store: a folder with one HDF5 file per pair, `cohort.json` and the pseudonyms' key.

`cohort.json` is written last: until then an ingest has changed nothing for those who read; and whoever reads on by the
former cohort finds its files until the next ingest. A pair's own file is of `pair_file.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minet_core.errors import ConfigurationError, NoScansFound, StoreBusy, StoreDamaged
from minet_core.runtime.files.atomic_write import write_json
from minet_core.runtime.files.file_failures import naming_failures
from minet_core.runtime.files.file_lock import held
from minet_core.runtime.files.lock_beside import holder_beside
from minet_core.runtime.json_text import parse_json
from minet_core.settings.yaml_file import parse_settings
from sites.store.cohort import Cohort, PairRecord, leave_out, make_cohort
from sites.store.pair_file import INGEST_AGAIN, ROLES, open_pair, read_slices, read_volume
from sites.store.split import Split
from sites.store.withdrawn import read_withdrawn

if TYPE_CHECKING:  # who reads cohort.json alone waits for none of them
    import numpy as np
    from numpy.typing import NDArray

    from minet_core.imaging.volume import Pair

COHORT_FILE = "cohort.json"
LOCK_FILE = ".lock"


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
                target, reference = (read_slices(file, role, indices=indices) for role in ROLES)
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
            target, reference = (read_volume(file, role) for role in ROLES)
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
