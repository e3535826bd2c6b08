"""Taking a patient out of a store: out of the cohort, the files and the signatures, and kept out.

The order of the steps makes a kill harmless. First the list (`withdrawn.json`): with it the patient is in no cohort
that is read. Then the cohort's page, the files, the signatures; what a killed command left of them is of no use to
a reader, and goes with the next command or ingest. The other patients keep their splits, since none is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minet_core.errors import InvalidSetting
from minet_core.runtime.files.file_failures import naming_failures
from sites.duplicates.likeness import Signatures
from sites.pairing.candidates import Found
from sites.store.cohort import Cohort
from sites.store.kept_figures import keep_figures
from sites.store.pseudonym import pseudonym
from sites.store.read_before import FILE
from sites.store.split import Split
from sites.store.split_register import read_register
from sites.store.store import Store
from sites.store.withdrawn import add_withdrawn, read_withdrawn


@dataclass(frozen=True)
class Withdrawal:
    """What was done. cohort: what is left. split: the patient's; None: the store never had one of this name.

    left: the digest of the cohort that the patient left. n_files: pair files that were removed. before: whether the
    patient was on the list already.
    """

    patient: str
    split: Split | None
    left: str
    n_files: int
    before: bool
    cohort: Cohort

    def remarks(self) -> list[str]:
        """What the coordinator's next round will miss.

        Returns
        -------
        list[str]
            Sentences; empty where every split has a patient.
        """
        said = []
        for split in ("training", "test"):
            if split not in self.cohort.patients.values():
                said.append(
                    f"No {split} patient is left: the site takes part in no round until others are ingested."
                )
        return said + self.cohort.remarks()


def withdraw(path: Path, patient: str) -> Withdrawal:
    """Take a patient out of a store; given again, it completes what a killed one left.

    Parameters
    ----------
    path
        The folder of the store.
    patient
        The pseudonym.

    Returns
    -------
    Withdrawal
        With the cohort as it is now.

    Raises
    ------
    InvalidSetting
        FM-C102: no patient of the store has, or had, this pseudonym.
    NoScansFound
        FM-D205: the store holds no cohort.
    StoreBusy, StoreDamaged
        FM-D208, FM-D207: an ingest writes; the cohort, the list or the register of splits cannot be read.
    FileNotWritten
        FM-S509 or its kind.
    """
    store = Store(path)
    with store.locked():
        present = store.cohort
        register = {**read_register(path), **present.patients}
        before = patient in read_withdrawn(path)
        if not before and patient not in register:
            raise InvalidSetting(
                "no patient of the store has this pseudonym",
                expected="12 hexadecimal digits, as `fedminet site ingest` prints them before a pair's second part",
                action="Give the pseudonym as the ingest printed it",
            )
        add_withdrawn(path, patient, cohort=present.digest)
        (path / FILE).unlink(missing_ok=True)  # a report of an ingest may name the patient's pseudonym
        cohort = Store(path).cohort
        store.write_cohort(cohort)
        keep_figures(path, {}, patients=set(cohort.patients))
        left = read_withdrawn(path)[patient]
        n_files = remove_withdrawn(path)
        Signatures(path, patients={pair.file: pair.patient for pair in cohort.pairs}).save(
            {pair.file for pair in cohort.pairs}
        )
    return Withdrawal(
        patient=patient, split=register.get(patient), left=left, n_files=n_files, before=before, cohort=cohort
    )


def remove_withdrawn(path: Path) -> int:
    """Remove the pair files of withdrawn patients; the store is held for writing.

    Parameters
    ----------
    path
        The folder of the store.

    Returns
    -------
    int
        How many there were.

    Raises
    ------
    StoreDamaged
        FM-D207: the list cannot be read.
    FileNotWritten
        FM-S509 or its kind.
    """
    n_files = 0
    with naming_failures("a file of the store cannot be removed", path=path):
        for patient in read_withdrawn(path):
            for file in path.glob(f"{patient}-*.h5"):
                file.unlink()
                n_files += 1
    return n_files


def leave_out_withdrawn(found: Found, store: Path, *, key: bytes) -> None:
    """Pass over the scans of withdrawn patients, with a remark for each patient.

    Parameters
    ----------
    found
        What a folder holds; its candidates and remarks change.
    store
        The folder of the store.
    key
        The store's.

    Raises
    ------
    StoreDamaged
        FM-D207: the list cannot be read.
    """
    withdrawn = read_withdrawn(store)
    if not withdrawn:
        return
    names = [pseudonym(key, one.patient_id) for one in found.candidates]
    for patient in sorted(withdrawn.keys() & set(names)):
        found.remarks.append(
            f"{names.count(patient)} pairs of patient {patient} are left out: the patient was withdrawn."
        )
    found.candidates[:] = [
        one for one, name in zip(found.candidates, names, strict=True) if name not in withdrawn
    ]
