"""From a folder of scans to the store: find, read, check, register, write, split.

A scan that is refused stops no other: it is counted and named in the report, which is for the site alone. A pair that
is already there (same bytes, same settings) is not read again, so an interrupted ingest is completed by repeating it.

No whole file of the present cohort is written to: a pair of other scans, or made in another way, gets a file of its
own, named by what it is made from, and a training that began before goes on with the files of its cohort. Files that no
cohort names, of an interrupted ingest or replaced by the one before, spare this one work where they are of the same
scans, and go with it.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from minet_core.errors import FileNotWritten, InvalidSetting, NoScansAccepted, ScanUnreadable, TooFewPatients
from minet_core.runtime.files.atomic_write import sha256_of_file
from sites.duplicates.exchanged_contrasts import UNDECIDED, exchanged_pair, find_exchanged
from sites.duplicates.likeness import Signatures
from sites.duplicates.same_anatomy import SameAnatomy
from sites.ingest_plan import name_warnings, require_enough_found, require_found
from sites.ingest_report import Accepted, IngestReport, causes_in_short, causes_of
from sites.known_refusals import keep_refusal, raise_known
from sites.last_ingest import recall, remember
from sites.making.asking_ahead import AskingAhead
from sites.making.make_pair import PairTask
from sites.making.pair_workers import PairMaker, pair_maker, processes_for
from sites.pairing.candidates import Candidate, Found
from sites.pairing.dicom_series import DicomScan, digest_of_scan, frames_of_scan
from sites.pairing.pairing import find_pairs
from sites.pairing.patient_names import require_plain
from sites.pairing.protocol_drift import only_of
from sites.processing import PROCESSING, VERSION
from sites.scans.unreadable import refusal_of, unreadable
from sites.settings.site_settings import SiteSettings
from sites.store.cohort import Cohort, PairRecord, make_cohort
from sites.store.kept_figures import KeptStudy, keep_figures, read_kept
from sites.store.pseudonym import keyed, naming_key, pseudonym, site_key
from sites.store.read_before import ReadBefore
from sites.store.split import Split, assign_splits, draw_splits, drawn_share, listed_splits, order_of
from sites.store.split_register import read_register, write_register
from sites.store.store import COHORT_FILE, Store, read_record
from sites.withdraw import leave_out_withdrawn, remove_withdrawn

EXAMINATION_DIGITS = 6
FINGERPRINT_DIGITS = 8


def ingest(
    source: Path,
    store: Path,
    settings: SiteSettings,
    *,
    found: Found | None = None,
    prune: bool = False,
    progress: Callable[[int, int], None] | None = None,
    n_processes: int | None = 1,
    reread: bool = False,
) -> IngestReport:
    """Put every usable pair below `source` into the store at `store`; patients already there stay.

    Parameters
    ----------
    source
        The folder with the scans.
    store
        The folder of the store; made where there is none.
    settings
        The site's.
    found
        What `find_pairs` gave for `source`, to which refusals are added; None: it is looked for.
    prune
        Remove the pairs whose scans are not there.
    progress
        Called with (candidates done, candidates in all), before each and at the end.
    n_processes
        How many make pairs at once; None: as many as there are cores and memory for. The store is the same.
    reread
        Read every file again, also what has not changed since it was read.

    Returns
    -------
    IngestReport
        For the site alone: it holds paths.

    Raises
    ------
    FileMissing
        FM-C103: `source` is no folder.
    InvalidSetting
        FM-C102: the store is another site's, or a list puts a patient elsewhere.
    NoScansFound, NoScansAccepted
        FM-D205, FM-D209: no scan of the definition's; every one refused.
    PatientNamesDoubtful
        FM-D210: names by which one patient would be trained on and tested.
    TooFewPatients
        FM-D206: too few to split.
    StoreBusy, StoreDamaged
        FM-D208, FM-D207: another ingest writes; the cohort, the key or the register of splits cannot be read.
    ScanUnreadable
        FM-D201: `prune`, and a folder cannot be listed.
    """
    began = time.monotonic()
    if found is None and not reread:
        unchanged = recall(source, store, settings, version=VERSION, prune=prune)
        if unchanged is not None:
            return unchanged
    found = _found_in(source, store, settings) if found is None else found
    require_found(found, source, settings)
    if prune:
        _require_listed(found)
    warnings = name_warnings(found, settings)
    require_plain(warnings)
    opened = Store(store)
    with opened.locked(), _work(opened, found, settings, n_processes=n_processes, reread=reread) as work:
        _require_enough(work, found)
        records, accepted = _ingest_pairs(work, found, progress=progress)
        accepted = _leave_out_exchanged(work, found, accepted)
        missing = _missing(records, found, taken={pair.file for pair in accepted}, key=work.key)
        if prune:
            records = {name: record for name, record in records.items() if record not in missing}
        cohort = _write_cohort(work, records, found)
        _keep_figures(work, found, accepted, cohort)
        report = IngestReport(
            accepted=tuple(accepted),
            refused=tuple(found.refused),
            ignored=tuple(found.ignored),
            cohort=cohort,
            seconds=time.monotonic() - began,
            mapping={candidate.label: candidate.patient_for_people for candidate in found.candidates},
            remarks=(*found.remarks, *(one.message for one in warnings)),
            drifts=only_of(found.drifts, [candidate.label for candidate in found.candidates]),
            missing=dict(Counter(record.patient for record in missing)),
            removed=prune,
        )
        remember(report, source, store, settings, before=work.before, began=found.began)
    return report


def _require_enough(work: _Work, found: Found) -> None:
    """Raises TooFewPatients (FM-D206) before the first pair is made, which takes minutes."""
    try:
        require_enough_found(found, work.settings, store=work.store.path)
    except TooFewPatients as failure:
        raise _with_causes(failure, found) from failure


def _write_cohort(work: _Work, records: Mapping[str, PairRecord], found: Found) -> Cohort:
    """Split the patients, write what readers see, and remove what no cohort names."""
    store, former = work.store, work.former
    known = {pseudonym(work.key, candidate.patient_id): candidate for candidate in found.candidates}
    had = {**read_register(store.path), **(former.patients if former else {})}
    try:
        splits = _split(records, former=had, known=known, settings=work.settings)
    except TooFewPatients as failure:
        raise _with_causes(failure, found) from failure
    cohort = _cohort_of(records, splits, work.settings)
    write_register(store.path, splits)
    work.signatures.save({pair.file for pair in cohort.pairs})
    store.write_cohort(cohort)
    store.keep_only(pair.file for one in (former, cohort) if one for pair in one.pairs)
    return cohort


def _keep_figures(work: _Work, found: Found, accepted: Sequence[Accepted], cohort: Cohort) -> None:
    """Note what the accepted series were acquired with, for the median of later ingests."""
    owners = {pair.file: pair.patient for pair in cohort.pairs}
    new = {
        one.label: KeptStudy(patient=owners[one.file], figures=found.figures[one.label])
        for one in accepted
        if one.label in found.figures
    }
    keep_figures(work.store.path, new, patients=set(cohort.patients))


def _require_listed(found: Found) -> None:
    """Raises ScanUnreadable (FM-D201): what is not seen could be taken for what is gone."""
    if found.unlisted:
        raise ScanUnreadable(
            "nothing is removed from the store while a folder cannot be listed",
            got=", ".join(found.unlisted),
            expected="a source that this user may read whole",
            action="Give this user the right to read it, or repeat the command without --prune",
        )


def _cohort_of(records: Mapping[str, PairRecord], splits: dict[str, Split], settings: SiteSettings) -> Cohort:
    return make_cohort(
        records.values(),
        splits,
        site=settings.name,
        data_kind=settings.data_kind,
        target=settings.roles.target,
        reference=settings.roles.reference,
    )


def _with_causes(failure: TooFewPatients, found: Found) -> TooFewPatients:
    """The same failure, with the refusals that it follows from; the commonest one's message is its last word."""
    if not found.refused:
        return failure
    commonest = causes_of(found.refused)[0]
    first = next(one for one in found.refused if (one.code, one.cause) == (commonest.code, commonest.cause))
    return TooFewPatients(
        failure.what,
        got=f"{failure.got}, after {len(found.refused)} refusals: {causes_in_short(found.refused)}",
        expected=failure.expected,
        action=f"{failure.action + '. ' if failure.action else ''}Refused, such as {first.label}: {first.message}",
    )


def _missing(
    records: Mapping[str, PairRecord], found: Found, *, taken: Collection[str], key: bytes
) -> list[PairRecord]:
    """Pairs of the store whose examination is not in the folder; one that is there and was refused is no such pair."""
    there = {_name(candidate, key=key) for candidate in found.candidates}
    return [record for record in records.values() if record.file not in taken and record.name not in there]


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


@dataclass
class _Work:
    """What one ingest works with.

    records: the new cohort's, by name. loose: by fingerprint, those of whole files that no cohort names. taken: names
    of pairs that this ingest has accepted.
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
        """The candidates, to be asked for ahead."""
        fingerprint_of = partial(_fingerprint, settings=self.settings, key=self.key, before=self.before)
        return AskingAhead(
            self.maker, candidates, fingerprint_of=fingerprint_of, is_made=self.is_made, task_of=self.task
        )

    def is_made(self, fingerprint: str) -> bool:
        """Whether nothing is likely to be made for it: it is there, or was refused before."""
        return (
            fingerprint in self.loose
            or self.before.refusal(fingerprint) is not None
            or any(record.fingerprint == fingerprint for record in self.records.values())
        )

    def task(self, candidate: Candidate, fingerprint: str) -> PairTask:
        """The making of a candidate's pair."""
        patient = pseudonym(self.key, candidate.patient_id)
        return PairTask(candidate, self.settings, patient, fingerprint, self.store.path)


@contextlib.contextmanager
def _work(
    store: Store, found: Found, settings: SiteSettings, *, n_processes: int | None, reread: bool
) -> Iterator[_Work]:
    """What an ingest of these candidates works with; the store is held for writing. At the end it is noted what was
    read, also where the ingest fails.
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
            yield _Work(
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


def _ingest_pairs(
    work: _Work, found: Found, *, progress: Callable[[int, int], None] | None
) -> tuple[dict[str, PairRecord], list[Accepted]]:
    """The new cohort's records by name, and what of them is of this ingest; refusals go to `found`."""
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


def _leave_out_exchanged(work: _Work, found: Found, accepted: Sequence[Accepted]) -> list[Accepted]:
    """Refuse the new pairs whose contrasts are exchanged, and say it of those that the store has; what is left."""
    if all(pair.reused for pair in accepted):
        return list(accepted)
    patients = {record.file: record.patient for record in work.records.values()}
    told = find_exchanged(work.signatures.coarse_pairs(patients), patients=patients)
    if told.undecided:
        found.remarks.append(UNDECIDED)
    names = {record.file: name for name, record in work.records.items()}
    new = {pair.file: pair.label for pair in accepted if not pair.reused}
    former = work.former.pairs if work.former else ()
    for file, likeness in told.likeness.items():
        failure = exchanged_pair(likeness)
        if work.settings.duplicates.exchanged == "remark" or file not in new:
            found.remarks.append(f"{work.check.labels.get(file, file)}: {failure}")
        else:
            found.refuse(new[file], failure)
            del work.records[names[file]]
            work.records |= {one.name: one for one in former if one.name == names[file]}
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


def _ingest_one(work: _Work, candidate: Candidate, *, fingerprint: str) -> tuple[PairRecord, bool]:
    """The pair's record, and whether it was there before. fingerprint: of what it is made from."""
    task = work.task(candidate, fingerprint)
    records, check, patient = work.records, work.check, task.patient
    name = _name(candidate, key=work.key)
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


def _make(work: _Work, task: PairTask, path: Path) -> PairRecord:
    """Make a pair and put it into the store, unless it is refused, now or before."""
    check, before = work.check, work.before
    raise_known(before.refusal(task.fingerprint), check, task=task)
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


def _name(candidate: Candidate, *, key: bytes) -> str:
    """The pair's name: the patient's pseudonym and the examination."""
    patient = pseudonym(key, candidate.patient_id)
    return f"{patient}-{keyed(key, 'examination', candidate.label)[:EXAMINATION_DIGITS]}"


def _is_whole(path: Path, sha256: str, *, before: ReadBefore) -> bool:
    try:
        return before.digest_of([path], partial(sha256_of_file, path)) == sha256
    except OSError:  # it is not there, or the disk cannot read it
        return False


def _fingerprint(candidate: Candidate, settings: SiteSettings, *, key: bytes, before: ReadBefore) -> str:
    """What a pair is made from: its files' bytes and every setting that shapes the result; keyed."""
    digests = [_scan_digest(scan, before=before) for scan in (candidate.target, candidate.reference)]
    if settings.reader == "dicom":
        digests.append(settings.dicom.scale)
    shaping = settings.model_dump(
        mode="json", include={"data_kind", "reader", "roles", "registration", "quality"}
    )
    return keyed(key, "pair", *digests, json.dumps(shaping, sort_keys=True), str(PROCESSING))[:32]


def _scan_digest(scan: Path | DicomScan, *, before: ReadBefore) -> str:
    if isinstance(scan, DicomScan):
        frames = frames_of_scan(scan)
        which = ",".join(sorted(f"{frame.path.absolute()} {frame.index}" for frame in frames))
        return before.digest_of({one.path for one in frames}, partial(digest_of_scan, scan), part=which)
    try:
        return before.digest_of([scan], partial(sha256_of_file, scan))
    except OSError as failure:
        raise unreadable(failure, scan) from failure


def _found_in(source: Path, store: Path, settings: SiteSettings) -> Found:
    key = naming_key(store) if settings.reader == "dicom" else None
    return find_pairs(source, settings, skip=store, key=key, kept=read_kept(store))


def _split(
    records: Mapping[str, PairRecord],
    *,
    former: Mapping[str, Split],
    known: Mapping[str, Candidate],
    settings: SiteSettings,
) -> dict[str, Split]:
    """Every patient's split. former: of everyone who has or had one; known: by pseudonym, a candidate of each patient
    of this ingest.
    """
    patients = {record.patient for record in records.values()}
    existing = {patient: split for patient, split in former.items() if patient in patients}
    if settings.reader == "fastmri" and settings.fastmri.pairing == "split_lists":
        listed = {patient: one.split for patient, one in known.items() if one.split is not None}
        return listed_splits(
            patients, existing=existing, listed=listed, expected=settings.fastmri.split_lists.given()
        )
    # The draw is from the hospital's own identifier, which is known only now.
    seed, new = settings.split.seed, patients - set(existing)
    if settings.split.draw == "by_patient":
        shares = {patient: drawn_share(known[patient].patient_id, seed=seed) for patient in sorted(new)}
        return draw_splits(
            shares, existing=existing, ratio=settings.split.ratio, allow_few=settings.allow_few_patients
        )
    order = sorted(new, key=lambda patient: order_of(known[patient].patient_id, seed=seed))
    return assign_splits(
        order, existing=existing, ratio=settings.split.ratio, allow_few=settings.allow_few_patients
    )
