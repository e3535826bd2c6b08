"""From a folder of scans to the store: find, read, check, register, write, split.

A scan that is refused stops no other: it is counted and named in the report, which is for the site alone. A pair that
is already there (same bytes, same settings) is not read again, so an interrupted ingest is completed by repeating it.

No whole file of the present cohort is written to: a pair of other scans, or made in another way, gets a file of its
own, named by what it is made from, and a training that began before goes on with the files of its cohort. Files that no
cohort names, of an interrupted ingest or replaced by the one before, spare this one work where they are of the same
scans, and go with it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from minet_core.errors import ScanUnreadable, TooFewPatients
from sites.ingest_pairs import IngestWork, ingest_pairs, leave_out_exchanged, pair_name, working
from sites.ingest_plan import name_warnings, require_enough_found, require_found
from sites.ingest_report import Accepted, IngestReport, causes_in_short, causes_of
from sites.last_ingest import recall, remember
from sites.pairing.candidates import Candidate, Found
from sites.pairing.pairing import find_pairs
from sites.pairing.patient_names import require_plain
from sites.pairing.protocol_drift import only_of
from sites.processing import VERSION
from sites.settings.site_settings import SiteSettings
from sites.store.cohort import Cohort, PairRecord, make_cohort
from sites.store.kept_figures import KeptStudy, keep_figures, read_kept
from sites.store.pseudonym import naming_key, pseudonym
from sites.store.split import Split, assign_splits, draw_splits, drawn_share, listed_splits, order_of
from sites.store.split_register import read_register, write_register
from sites.store.store import Store

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
    with opened.locked(), working(opened, found, settings, n_processes=n_processes, reread=reread) as work:
        _require_enough(work, found)
        records, accepted = ingest_pairs(work, found, progress=progress)
        accepted = leave_out_exchanged(work, found, accepted)
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
            remarks=(*found.remarks, *_kept_though_refused(work, found), *(one.message for one in warnings)),
            drifts=only_of(found.drifts, [candidate.label for candidate in found.candidates]),
            missing=dict(Counter(record.patient for record in missing)),
            removed=prune,
            made_anew=_count_made_anew(work, accepted),
        )
        remember(report, source, store, settings, before=work.before, began=found.began)
    return report


def _require_enough(work: IngestWork, found: Found) -> None:
    """Raises TooFewPatients (FM-D206) before the first pair is made, which takes minutes."""
    try:
        require_enough_found(found, work.settings, store=work.store.path)
    except TooFewPatients as failure:
        raise _with_causes(failure, found) from failure


def _write_cohort(work: IngestWork, records: Mapping[str, PairRecord], found: Found) -> Cohort:
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


def _keep_figures(work: IngestWork, found: Found, accepted: Sequence[Accepted], cohort: Cohort) -> None:
    """Note what the accepted series were acquired with, for the median of later ingests."""
    owners = {pair.file: pair.patient for pair in cohort.pairs}
    new = {
        one.label: KeptStudy(patient=owners[one.file], figures=found.figures[one.label])
        for one in accepted
        if one.label in found.figures
    }
    keep_figures(work.store.path, new, patients=set(cohort.patients))


def _kept_though_refused(work: IngestWork, found: Found) -> list[str]:
    """A remark on pairs that are refused now, and whose former making the store keeps."""
    refused = {one.label for one in found.refused}
    labels = [
        candidate.label
        for candidate in found.candidates
        if candidate.label in refused and pair_name(candidate, key=work.key) in work.records
    ]
    if not labels:
        return []
    return [
        f"{len(labels)} pairs are refused now and stay in the store as a former ingest made them: {', '.join(labels)}. "
        "To leave them out, take their scans out of the folder and give --prune."
    ]


def _count_made_anew(work: IngestWork, accepted: Sequence[Accepted]) -> int:
    """How many new pairs take the place of one that the store had."""
    former = {record.name for record in work.former.pairs} if work.former else set()
    new = {pair.file for pair in accepted if not pair.reused}
    return sum(record.file in new and record.name in former for record in work.records.values())


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
    there = {pair_name(candidate, key=key) for candidate in found.candidates}
    return [record for record in records.values() if record.file not in taken and record.name not in there]


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
