"""From a folder of scans to the store: find, read, check, register, write, split.

A scan that is refused stops no other: it is counted and named in the report, which is for the site alone. A pair that
is already there (same bytes, same settings) is not read again, so an interrupted ingest is completed by repeating it.

No whole file of the present cohort is written to: a pair of other scans, or made in another way, gets a file of its
own, named by what it is made from, and a training that began before goes on with the files of its cohort. Files that no
cohort names, of an interrupted ingest or replaced by the one before, spare this one work where they are of the same
scans, and go with it.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from minet_core.errors import FileNotWritten, InvalidSetting, NoScansAccepted, ScanUnreadable, TooFewPatients
from minet_core.imaging.volume import Pair, Volume
from minet_core.runtime.files.atomic_write import sha256_of_file
from sites.duplicates.likeness import Signatures
from sites.duplicates.same_anatomy import SameAnatomy
from sites.ingest_plan import name_warnings, require_found
from sites.ingest_report import Accepted, IngestReport, causes_in_short, causes_of
from sites.pairing.candidates import Candidate, Found
from sites.pairing.dicom_series import DicomScan, digest_of_scan, read_scan
from sites.pairing.pairing import find_pairs
from sites.pairing.patient_names import require_plain
from sites.quality.image_quality import examine
from sites.registration.register import register
from sites.scans.fastmri_hdf5 import central_slices, read_fastmri
from sites.scans.nifti import read_nifti
from sites.scans.unreadable import refusal_of, unreadable
from sites.settings.site_settings import SiteSettings
from sites.store.cohort import Cohort, PairRecord, make_cohort
from sites.store.pseudonym import keyed, naming_key, pseudonym, site_key
from sites.store.split import Split, assign_splits, draw_splits, drawn_share, listed_splits, order_of
from sites.store.split_register import read_register, write_register
from sites.store.store import COHORT_FILE, Store, read_record, write_pair
from sites.withdraw import leave_out_withdrawn, remove_withdrawn

PROCESSING = 3
"""Raised when reading or registration changes, so that pairs made by the former way are made again."""
READERS = {"nifti": read_nifti, "fastmri": read_fastmri}
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
    found = _found_in(source, store, settings) if found is None else found
    require_found(found, source, settings)
    if prune:
        _require_listed(found)
    warnings = name_warnings(found, settings)
    require_plain(warnings)
    opened = Store(store)
    with opened.locked():
        former = _former(opened, settings)
        remove_withdrawn(store)
        patients = {record.file: record.patient for record in _all_records(opened, former)}
        kept = Signatures(store, patients=patients)
        records, accepted = _ingest_pairs(
            opened, found, settings, former=former, progress=progress, signatures=kept
        )
        key = site_key(store, may_make=False)
        missing = _missing(records, found, taken={pair.file for pair in accepted}, key=key)
        if prune:
            records = {name: record for name, record in records.items() if record not in missing}
        known = {pseudonym(key, candidate.patient_id): candidate for candidate in found.candidates}
        had = {**read_register(store), **(former.patients if former else {})}
        try:
            splits = _split(records, former=had, known=known, settings=settings)
        except TooFewPatients as failure:
            raise _with_causes(failure, found) from failure
        cohort = _cohort_of(records, splits, settings)
        write_register(store, splits)
        kept.save({pair.file for pair in cohort.pairs})
        opened.write_cohort(cohort)
        opened.keep_only(pair.file for one in (former, cohort) if one for pair in one.pairs)
    return IngestReport(
        accepted=tuple(accepted),
        refused=tuple(found.refused),
        ignored=tuple(found.ignored),
        cohort=cohort,
        seconds=time.monotonic() - began,
        mapping={candidate.label: candidate.patient_for_people for candidate in found.candidates},
        remarks=(*found.remarks, *(one.message for one in warnings)),
        missing=dict(Counter(record.patient for record in missing)),
        removed=prune,
    )


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


def _all_records(store: Store, former: Cohort | None) -> list[PairRecord]:
    return [*(former.pairs if former else ()), *_loose(store, former).values()]


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


def _ingest_pairs(
    store: Store,
    found: Found,
    settings: SiteSettings,
    *,
    former: Cohort | None,
    progress: Callable[[int, int], None] | None,
    signatures: Signatures,
) -> tuple[dict[str, PairRecord], list[Accepted]]:
    """The new cohort's records by name, and what of them is of this ingest; refusals go to `found`."""
    key = site_key(store.path, may_make=former is None and not any(store.path.glob("*.h5")))
    records = {record.name: record for record in former.pairs} if former else {}
    leave_out_withdrawn(found, store.path, key=key)
    loose = _loose(store, former)
    accepted: list[Accepted] = []
    taken: set[str] = set()
    check = SameAnatomy(store, signatures, settings.duplicates, labels={})
    for done, candidate in enumerate(found.candidates):
        if progress is not None:
            progress(done, len(found.candidates))
        try:
            record, reused = _ingest_one(
                store, candidate, settings, key=key, records=records, loose=loose, taken=taken, check=check
            )
        except Exception as failure:  # no pair stops the others, whatever it makes its reader raise
            found.refuse(candidate.label, refusal_of(failure))
            continue
        records[record.name] = record
        taken.add(record.name)
        check.labels[record.file] = candidate.label
        figures = (record.file, record.residual_mm, record.residual_px, record.agreement, record.resampled)
        accepted.append(Accepted(candidate.label, *figures, reused))
    if progress is not None:
        progress(len(found.candidates), len(found.candidates))
    if not accepted and not found.refused:
        raise NoScansAccepted("every patient of the folder was withdrawn", action="Ingest others' scans")
    if not accepted:
        codes = Counter(refusal.code for refusal in found.refused)
        raise NoScansAccepted(
            "every scan was refused",
            got=", ".join(f"{count} x {code}" for code, count in sorted(codes.items())),
            action=f"Refused, such as {found.refused[0].label}: {found.refused[0].message}",
        )
    return records, accepted


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


def _ingest_one(
    store: Store,
    candidate: Candidate,
    settings: SiteSettings,
    *,
    key: bytes,
    records: dict[str, PairRecord],
    loose: Mapping[str, PairRecord],
    taken: Collection[str],
    check: SameAnatomy,
) -> tuple[PairRecord, bool]:
    """The pair's record, and whether it was there before. taken: names of pairs that this ingest has accepted."""
    patient = pseudonym(key, candidate.patient_id)
    fingerprint = _fingerprint(candidate, settings, key=key)
    name = _name(candidate, key=key)
    if name in taken:  # by an examination that has moved from here to another folder
        name = f"{patient}-{fingerprint[:EXAMINATION_DIGITS]}"
    path = store.path / f"{name}-{fingerprint[:FINGERPRINT_DIGITS]}.h5"
    for record in list(records.values()):
        if record.fingerprint == fingerprint:
            if record.patient != patient and (record.name in taken or not check.merges):
                raise check.same_files(record)
            path = store.path / record.file
            if _is_whole(path, record.sha256):
                check.require_known(record, records)
                return record, True
            break  # it is lost or damaged, and made again in its place
    else:
        former = loose.get(fingerprint)
        if former is not None and former.name == name:
            check.require_known(former, records)
            return former, True
    pair, content = _make_pair(candidate, settings, patient=patient)
    owner = check.owner_of(pair, file=path.name)
    if owner != patient:  # the same anatomy under another name, and the site joins them
        path = path.with_name(path.name.replace(patient, owner, 1))
        pair, content = dataclasses.replace(pair, patient=owner), {**content, "patient": owner}
    check.keep(pair, file=path.name)
    content["fingerprint"] = fingerprint
    return PairRecord(**content, file=path.name, sha256=write_pair(path, pair, content)), False


def _name(candidate: Candidate, *, key: bytes) -> str:
    """The pair's name: the patient's pseudonym and the examination."""
    patient = pseudonym(key, candidate.patient_id)
    return f"{patient}-{keyed(key, 'examination', candidate.label)[:EXAMINATION_DIGITS]}"


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        return sha256_of_file(path) == sha256
    except OSError:  # it is not there, or the disk cannot read it
        return False


def _fingerprint(candidate: Candidate, settings: SiteSettings, *, key: bytes) -> str:
    """What a pair is made from: its files' bytes and every setting that shapes the result; keyed."""
    digests = [_scan_digest(scan) for scan in (candidate.target, candidate.reference)]
    if settings.reader == "dicom":
        digests.append(settings.dicom.scale)
    shaping = settings.model_dump(
        mode="json", include={"data_kind", "reader", "roles", "registration", "quality"}
    )
    return keyed(key, "pair", *digests, json.dumps(shaping, sort_keys=True), str(PROCESSING))[:32]


def _scan_digest(path: Path | DicomScan) -> str:
    if isinstance(path, DicomScan):
        return digest_of_scan(path)
    try:
        return sha256_of_file(path)
    except OSError as failure:
        raise unreadable(failure, path) from failure


def _make_pair(candidate: Candidate, settings: SiteSettings, *, patient: str) -> tuple[Pair, dict[str, Any]]:
    target = _read(candidate.target, settings, contrast=settings.roles.target)
    reference = _read(candidate.reference, settings, contrast=settings.roles.reference)
    if settings.reader == "fastmri":
        target, reference = central_slices(target, reference)
    examined = examine(target, reference, limits=settings.quality)
    target = examined.target
    registered = register(target, reference, limits=settings.registration)
    use, quality = examined.used_with(registered.covered)
    content = {
        "patient": patient,
        "shape": target.array.shape,
        "usable_slices": (use.first, use.stop),
        "resampled": registered.resampled,
        "residual_mm": round(registered.residual_mm, 4),
        "residual_px": round(registered.residual_px, 4),
        "moved_mm": round(registered.moved_mm, 4),
        "stretch": round(registered.stretch, 5),
        "agreement": round(registered.agreement, 4),
        "quality": quality.model_dump(mode="json"),
    }
    guide = dataclasses.replace(registered.reference, array=registered.reference.magnitude())
    return Pair(target=target, reference=guide, patient=patient), content


def _read(scan: Path | DicomScan, settings: SiteSettings, *, contrast: str) -> Volume:
    if isinstance(scan, DicomScan):
        return read_scan(scan, contrast=contrast, scale=settings.dicom.scale)
    return READERS[settings.reader](scan, contrast=contrast)


def _found_in(source: Path, store: Path, settings: SiteSettings) -> Found:
    key = naming_key(store) if settings.reader == "dicom" else None
    return find_pairs(source, settings, skip=store, key=key)


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
