"""The pairs of an ingest, one after the other: found again in the store, made, or refused.

A file of the same fingerprint (`sites.making.fingerprint`) is taken as it is.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from minet_core.errors import FileNotWritten, InvalidSetting, NoScansAccepted, ScanInvalid
from minet_core.runtime.files.atomic_write import sha256_of_file
from sites.duplicates.exchanged_contrasts import UNDECIDED, exchanged_pair, find_exchanged
from sites.duplicates.likeness import Signatures
from sites.duplicates.same_anatomy import SameAnatomy
from sites.ingest_report import Accepted
from sites.known_refusals import keep_exchanged, keep_refusal, raise_known
from sites.making.asking_ahead import AskingAhead
from sites.making.fingerprint import fingerprint_of
from sites.making.make_pair import PairTask
from sites.making.pair_workers import PairMaker, pair_maker, processes_for
from sites.pairing.candidates import Candidate, Found
from sites.processing import VERSION
from sites.scans.unreadable import refusal_of
from sites.settings.site_settings import SiteSettings
from sites.store.cohort import Cohort, PairRecord
from sites.store.pair_file import read_record
from sites.store.pseudonym import keyed, pseudonym, site_key
from sites.store.read_before import ReadBefore
from sites.store.store import COHORT_FILE, Store
from sites.withdraw import leave_out_withdrawn, remove_withdrawn

EXAMINATION_DIGITS = 6
FINGERPRINT_DIGITS = 8


@dataclass
class IngestWork:
    """What one ingest works with.

    Parameters
    ----------
    store, settings, key
        The site's; the store is held for writing.
    former
        The present cohort; None for a new store.
    records
        The new cohort's, by name.
    loose
        By fingerprint, those of whole files that no cohort names.
    signatures, check
        What the store's pairs look like, and what is asked of a new one.
    before
        What former ingests read and refused.
    maker
        Makes pairs.
    taken
        Names of pairs that this ingest has accepted.
    """

    store: Store
    settings: SiteSettings
    key: bytes
    former: Cohort | None
    records: dict[str, PairRecord]
    loose: Mapping[str, PairRecord]
    signatures: Signatures
    check: SameAnatomy
    before: ReadBefore
    maker: PairMaker
    taken: set[str] = field(default_factory=set)

    def ahead(self, candidates: Sequence[Candidate]) -> AskingAhead:
        """The candidates, to be asked for ahead.

        Parameters
        ----------
        candidates
            In the order in which they are taken.

        Returns
        -------
        AskingAhead
            Over the maker's processes.
        """
        own_fingerprint = partial(fingerprint_of, settings=self.settings, key=self.key, before=self.before)
        return AskingAhead(
            self.maker, candidates, fingerprint_of=own_fingerprint, is_made=self.is_made, task_of=self.task
        )

    def is_made(self, fingerprint: str) -> bool:
        """Whether nothing is likely to be made for it: it is there, or was refused before.

        Parameters
        ----------
        fingerprint
            Of what a pair would be made from.

        Returns
        -------
        bool
            A guess by what is noted: no file is read.
        """
        return (
            fingerprint in self.loose
            or self.before.refusal(fingerprint) is not None
            or any(record.fingerprint == fingerprint for record in self.records.values())
        )

    def task(self, candidate: Candidate, fingerprint: str) -> PairTask:
        """The making of a candidate's pair.

        Parameters
        ----------
        candidate
            The two scans.
        fingerprint
            Of what they are.

        Returns
        -------
        PairTask
            For the patient's pseudonym.
        """
        patient = pseudonym(self.key, candidate.patient_id)
        return PairTask(candidate, self.settings, patient, fingerprint, self.store.path)


@contextlib.contextmanager
def working(
    store: Store, found: Found, settings: SiteSettings, *, n_processes: int | None, reread: bool
) -> Iterator[IngestWork]:
    """What an ingest of these candidates works with. At the end it is noted what was read, also where the ingest fails.

    Parameters
    ----------
    store
        Held for writing.
    found
        The candidates; those of withdrawn patients are left out of it.
    settings
        The site's.
    n_processes
        How many make pairs at once; None: as many as there are cores and memory for.
    reread
        Read every file again.

    Yields
    ------
    IngestWork
        With the present cohort's records.

    Raises
    ------
    InvalidSetting, StoreDamaged
        FM-C102: the store is another site's. FM-D207: the cohort or the key cannot be read.
    """
    former = _former(store, settings)
    remove_withdrawn(store.path)
    loose = _loose(store, former)
    patients = {
        record.file: record.patient for record in [*(former.pairs if former else ()), *loose.values()]
    }
    signatures = Signatures(store.path, patients=patients)
    key = site_key(store.path, may_make=former is None and not any(store.path.glob("*.h5")))
    leave_out_withdrawn(found, store.path, key=key)
    before = ReadBefore(store.path, key=key, version=VERSION, trusted=not reread)
    with pair_maker(processes_for(len(found.candidates), asked=n_processes)) as maker:
        try:
            yield IngestWork(
                store=store,
                settings=settings,
                key=key,
                former=former,
                records={record.name: record for record in former.pairs} if former else {},
                loose=loose,
                signatures=signatures,
                check=SameAnatomy(store, signatures, settings.duplicates, labels={}),
                before=before,
                maker=maker,
            )
        finally:
            before.save()


def ingest_pairs(
    work: IngestWork, found: Found, *, progress: Callable[[int, int], None] | None
) -> tuple[dict[str, PairRecord], list[Accepted]]:
    """Take every candidate's pair, from the store or newly made.

    Parameters
    ----------
    work
        Its records become the new cohort's.
    found
        The candidates; refusals are added to it.
    progress
        Called with (candidates done, candidates in all), before each and at the end.

    Returns
    -------
    tuple[dict[str, PairRecord], list[Accepted]]
        The records by name, and what of them is of this ingest.

    Raises
    ------
    NoScansAccepted
        FM-D209.
    """
    accepted: list[Accepted] = []
    ahead = work.ahead(found.candidates)
    for done, candidate in enumerate(found.candidates):
        if progress is not None:
            progress(done, len(found.candidates))
        ahead.ask_from(done)
        try:
            record, reused = _ingest_one(work, candidate, fingerprint=ahead.fingerprint(done))
        except Exception as failure:  # no pair stops the others, whatever it makes its reader raise
            found.refuse(candidate.label, refusal_of(failure))
            continue
        work.records[record.name] = record
        work.taken.add(record.name)
        work.check.labels[record.file] = candidate.label
        figures = (record.file, record.residual_mm, record.residual_px, record.agreement, record.resampled)
        accepted.append(Accepted(candidate.label, *figures, reused))
    if progress is not None:
        progress(len(found.candidates), len(found.candidates))
    _require_accepted(accepted, found)
    return work.records, accepted


def leave_out_exchanged(work: IngestWork, found: Found, accepted: Sequence[Accepted]) -> list[Accepted]:
    """Refuse the new pairs whose contrasts are exchanged, and say it of those that the store has.

    Parameters
    ----------
    work
        After `ingest_pairs`; what is refused leaves its records.
    found
        Refusals and remarks are added to it.
    accepted
        The pairs of this ingest.

    Returns
    -------
    list[Accepted]
        What is left.

    Raises
    ------
    NoScansAccepted
        FM-D209.
    """
    if all(pair.reused for pair in accepted):
        return list(accepted)
    patients = {record.file: record.patient for record in work.records.values()}
    told = find_exchanged(work.signatures.coarse_pairs(patients), patients=patients)
    if told.undecided:
        found.remarks.append(UNDECIDED)
    names = {record.file: name for name, record in work.records.items()}
    new = {pair.file: pair.label for pair in accepted if not pair.reused}
    former = work.former.pairs if work.former else ()
    refused: dict[str, ScanInvalid] = {}
    for file, likeness in told.likeness.items():
        failure = exchanged_pair(likeness)
        if work.settings.duplicates.exchanged == "remark" or file not in new:
            found.remarks.append(f"{work.check.labels.get(file, file)}: {failure}")
        else:
            found.refuse(new[file], failure)
            refused[work.records.pop(names[file]).fingerprint] = failure
            work.records |= {one.name: one for one in former if one.name == names[file]}
    others = [record.file for record in work.records.values()]
    for fingerprint, failure in refused.items():
        keep_exchanged(work.before, fingerprint, failure, others=others, duplicates=work.settings.duplicates)
    left = [pair for pair in accepted if pair.file in {record.file for record in work.records.values()}]
    _require_accepted(left, found)
    return left


def _require_accepted(accepted: Collection[Accepted], found: Found) -> None:
    """Raises NoScansAccepted (FM-D209)."""
    if not accepted and not found.refused:
        raise NoScansAccepted("every patient of the folder was withdrawn", action="Ingest others' scans")
    if not accepted:
        codes = Counter(refusal.code for refusal in found.refused)
        raise NoScansAccepted(
            "every scan was refused",
            got=", ".join(f"{count} x {code}" for code, count in sorted(codes.items())),
            action=f"Refused, such as {found.refused[0].label}: {found.refused[0].message}",
        )


def _loose(store: Store, former: Cohort | None) -> dict[str, PairRecord]:
    """By fingerprint, the records of whole files that no cohort names."""
    named = {record.file for record in former.pairs} if former else set()
    loose = {}
    for path in sorted(store.path.glob("*.h5")):
        if path.name not in named:
            try:
                record = read_record(path)
            except (FileNotWritten, MemoryError):  # such as a permission: no reason to remove it
                raise
            except Exception:  # no cohort names the file: whatever is wrong with it, its scans are read again
                path.unlink()
            else:
                loose[record.fingerprint] = record
    return loose


def _ingest_one(work: IngestWork, candidate: Candidate, *, fingerprint: str) -> tuple[PairRecord, bool]:
    """The pair's record, and whether it was there before. fingerprint: of what it is made from."""
    task = work.task(candidate, fingerprint)
    records, check, patient = work.records, work.check, task.patient
    name = pair_name(candidate, key=work.key)
    if name in work.taken:  # by an examination that has moved from here to another folder
        name = f"{patient}-{fingerprint[:EXAMINATION_DIGITS]}"
    path = work.store.path / f"{name}-{fingerprint[:FINGERPRINT_DIGITS]}.h5"
    for record in list(records.values()):
        if record.fingerprint == fingerprint:
            if record.patient != patient and (record.name in work.taken or not check.merges):
                raise check.same_files(record)
            path = work.store.path / record.file
            if _is_whole(path, record.sha256, before=work.before):
                check.require_known(record, records)
                return record, True
            break  # it is lost or damaged, and made again in its place
    else:
        former = work.loose.get(fingerprint)
        if former is not None and former.name == name:
            check.require_known(former, records)
            return former, True
    return _make(work, task, path), False


def _make(work: IngestWork, task: PairTask, path: Path) -> PairRecord:
    """Make a pair and put it into the store, unless it is refused, now or before."""
    check, before = work.check, work.before
    present = {record.file for record in work.records.values()}
    raise_known(before.refusal(task.fingerprint), check, task=task, present=present)
    check.last_match = None
    try:
        made = work.maker.take(task)
        try:
            owner = check.owner_of(made.images, patient=task.patient)
            if owner != task.patient:  # the same anatomy under another name, and the site joins them
                path = path.with_name(path.name.replace(task.patient, owner, 1))
                made = made.given_to(owner)
            record = made.put(path)
        finally:
            made.forget()
    except Exception as failure:  # raised again; of it only what the scans cause is kept (known_refusals)
        keep_refusal(before, task, failure, match=check.last_match)
        raise
    check.keep(made.images, file=path.name, patient=owner)
    before.keep_digest(path, record.sha256)
    return record


def pair_name(candidate: Candidate, *, key: bytes) -> str:
    """The name of a candidate's pair: the patient's pseudonym and the examination.

    Parameters
    ----------
    candidate
        The two scans.
    key
        The store's.

    Returns
    -------
    str
        No part of it tells who it is without the key.
    """
    patient = pseudonym(key, candidate.patient_id)
    return f"{patient}-{keyed(key, 'examination', candidate.label)[:EXAMINATION_DIGITS]}"


def _is_whole(path: Path, sha256: str, *, before: ReadBefore) -> bool:
    try:
        return before.digest_of([path], partial(sha256_of_file, path)) == sha256
    except OSError:  # it is not there, or the disk cannot read it
        return False


def _former(store: Store, settings: SiteSettings) -> Cohort | None:
    """The store's present cohort, if it is this site's."""
    if not (store.path / COHORT_FILE).exists():
        return None
    cohort = store.cohort
    present = (cohort.site, cohort.data_kind, cohort.target, cohort.reference)
    wanted = (settings.name, settings.data_kind, settings.roles.target, settings.roles.reference)
    if present != wanted:
        raise InvalidSetting(
            "the store holds other data",
            got=present,
            expected=wanted,
            action="Use one store for each site and kind",
        )
    return cohort
