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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minet_core.runtime.durable import sha256_of_file
from minet_core.runtime.errors import (
    FileNotWritten,
    InvalidSetting,
    NothingAccepted,
    NothingFound,
    ScanInvalid,
)
from minet_core.volume import Pair
from sites.candidates import Candidate, Found, Refusal
from sites.cohort import Cohort, PairRecord, make_cohort
from sites.pairing import find_pairs
from sites.pseudonym import keyed, pseudonym, site_key
from sites.quality import usable_slices
from sites.read_fastmri import central_slices, read_fastmri
from sites.read_nifti import read_nifti
from sites.registration import register
from sites.site_settings import SiteSettings
from sites.split import SPLITS, Split, assign_splits, listed_splits, order_of
from sites.store import COHORT_FILE, Store, read_record, write_pair
from sites.unreadable import refusal_of, unreadable

PROCESSING = 2
"""Raised when reading or registration changes, so that pairs made by the former way are made again."""
READERS = {"nifti": read_nifti, "fastmri": read_fastmri}
EXAMINATION_DIGITS = 6
FINGERPRINT_DIGITS = 8


@dataclass(frozen=True)
class Accepted:
    """A pair that is in the store. `label` is for the site's own eyes."""

    label: str
    file: str
    residual_mm: float
    similarity: float
    resampled: bool
    reused: bool


@dataclass(frozen=True)
class IngestReport:
    """What came of a folder. Stays at the site: labels and messages hold paths."""

    accepted: tuple[Accepted, ...]
    refused: tuple[Refusal, ...]
    ignored: tuple[str, ...]
    cohort: Cohort
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        content = dataclasses.asdict(dataclasses.replace(self, cohort=None))  # type: ignore[arg-type]
        counts = {split: count.model_dump() for split, count in self.cohort.counts.items()}
        content |= {"cohort": self.cohort.digest, "counts": counts, "remarks": self.cohort.remarks()}
        return content

    def as_text(self) -> str:
        """The report for a person."""
        reused = sum(pair.reused for pair in self.accepted)
        head = f"Accepted {len(self.accepted)} pairs"
        lines = [f"{head} ({reused} already there), refused {len(self.refused)}, in {self.seconds:.0f} s."]
        lines += [
            f"  {pair.label} -> {pair.file}: residual {pair.residual_mm:.2f} mm, similarity {pair.similarity:.3f}"
            + (", reference registered" if pair.resampled else "")
            for pair in self.accepted
        ]
        lines += [f"  refused {refusal.label}: {refusal.message}" for refusal in self.refused]
        if self.ignored:
            lines.append(
                f"  {len(self.ignored)} files are none of the definition's, such as {self.ignored[0]}"
            )
        return "\n".join([*lines, *cohort_lines(self.cohort)])


def cohort_lines(cohort: Cohort) -> list[str]:
    """A cohort's counts and remarks, for a person."""
    lines = [
        f"{split}: {count.patients} patients, {count.pairs} pairs, {count.slices} slices"
        for split, count in ((split, cohort.counts[split]) for split in SPLITS)
    ]
    return [*lines, *cohort.remarks()]


def ingest(
    source: Path, store: Path, settings: SiteSettings, *, progress: Callable[[int, int], None] | None = None
) -> IngestReport:
    """Put every usable pair below `source` into the store at `store`; patients already there stay.

    Raises FileMissing (FM-C103), NothingFound (FM-D205), NothingAccepted (FM-D209), TooFewPatients (FM-D206),
    StoreBusy (FM-D208), StoreDamaged (FM-D207), InvalidSetting (FM-C102) where the store is another site's.
    """
    began = time.monotonic()
    found = find_pairs(source, settings, skip=store)
    if not found.candidates and not found.refused:
        raise NothingFound(
            "no scan was found",
            got=f"{source} with {len(found.ignored)} other scan files",
            expected=f"files of the site's definition (reader {settings.reader})",
            action="See the patterns in site.yaml",
        )
    opened = Store(store)
    with opened.locked():
        former = _former(opened, settings)
        records, accepted = _ingest_pairs(opened, found, settings, former=former, progress=progress)
        key = site_key(store, may_make=False)
        known = {pseudonym(key, candidate.patient_id): candidate for candidate in found.candidates}
        splits = _split(records, former=former, known=known, settings=settings)
        cohort = make_cohort(
            records.values(),
            splits,
            site=settings.name,
            data_kind=settings.data_kind,
            target=settings.roles.target,
            reference=settings.roles.reference,
        )
        opened.write_cohort(cohort)
        opened.keep_only(pair.file for one in (former, cohort) if one for pair in one.pairs)
    return IngestReport(
        accepted=tuple(accepted),
        refused=tuple(found.refused),
        ignored=tuple(found.ignored),
        cohort=cohort,
        seconds=time.monotonic() - began,
    )


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
) -> tuple[dict[str, PairRecord], list[Accepted]]:
    """The new cohort's records by name, and what of them is of this ingest; refusals go to `found`."""
    key = site_key(store.path, may_make=former is None and not any(store.path.glob("*.h5")))
    records = {record.name: record for record in former.pairs} if former else {}
    loose = _loose(store, former)
    accepted: list[Accepted] = []
    taken: set[str] = set()
    for done, candidate in enumerate(found.candidates):
        if progress is not None:
            progress(done, len(found.candidates))
        try:
            record, reused = _ingest_one(
                store, candidate, settings, key=key, records=records, loose=loose, taken=taken
            )
        except Exception as failure:  # no pair stops the others, whatever it makes its reader raise
            found.refuse(candidate.label, refusal_of(failure))
            continue
        records[record.name] = record
        taken.add(record.name)
        figures = (record.file, record.residual_mm, record.similarity, record.resampled)
        accepted.append(Accepted(candidate.label, *figures, reused))
    if progress is not None:
        progress(len(found.candidates), len(found.candidates))
    if not accepted:
        codes = Counter(refusal.code for refusal in found.refused)
        raise NothingAccepted(
            "every scan was refused",
            got=", ".join(f"{count} x {code}" for code, count in sorted(codes.items())),
            action=found.refused[0].message,
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
            except Exception:
                path.unlink()  # its scans are read again
            else:
                loose[record.fingerprint] = record
    return loose


def _ingest_one(
    store: Store,
    candidate: Candidate,
    settings: SiteSettings,
    *,
    key: bytes,
    records: Mapping[str, PairRecord],
    loose: Mapping[str, PairRecord],
    taken: Collection[str],
) -> tuple[PairRecord, bool]:
    """The pair's record, and whether it was there before. taken: names of pairs that this ingest has accepted."""
    patient = pseudonym(key, candidate.patient_id)
    fingerprint = _fingerprint(candidate, settings, key=key)
    name = f"{patient}-{keyed(key, 'examination', candidate.label)[:EXAMINATION_DIGITS]}"
    if name in taken:  # by an examination that has moved from here to another folder
        name = f"{patient}-{fingerprint[:EXAMINATION_DIGITS]}"
    path = store.path / f"{name}-{fingerprint[:FINGERPRINT_DIGITS]}.h5"
    for record in records.values():
        if record.fingerprint == fingerprint:
            if record.patient != patient:
                raise ScanInvalid("the same scans are there under another patient", got=record.file)
            path = store.path / record.file
            if _is_whole(path, record.sha256):
                return record, True
            break  # it is lost or damaged, and made again in its place
    else:
        former = loose.get(fingerprint)
        if former is not None and former.name == name:
            return former, True
    pair, content = _make_pair(candidate, settings, patient=patient)
    content["fingerprint"] = fingerprint
    return PairRecord(**content, file=path.name, sha256=write_pair(path, pair, content)), False


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        return sha256_of_file(path) == sha256
    except OSError:  # it is not there, or the disk cannot read it
        return False


def _fingerprint(candidate: Candidate, settings: SiteSettings, *, key: bytes) -> str:
    """What a pair is made from: its files' bytes and every setting that shapes the result; keyed."""
    digests = [_scan_digest(path) for path in (candidate.target, candidate.reference)]
    shaping = settings.model_dump(mode="json", include={"data_kind", "reader", "roles", "registration"})
    return keyed(key, "pair", *digests, json.dumps(shaping, sort_keys=True), str(PROCESSING))[:32]


def _scan_digest(path: Path) -> str:
    try:
        return sha256_of_file(path)
    except OSError as failure:
        raise unreadable(failure, path) from failure


def _make_pair(candidate: Candidate, settings: SiteSettings, *, patient: str) -> tuple[Pair, dict[str, Any]]:
    read = READERS[settings.reader]
    target = read(candidate.target, contrast=settings.roles.target)
    reference = read(candidate.reference, contrast=settings.roles.reference)
    if settings.reader == "fastmri":
        target, reference = central_slices(target, reference)
    registered = register(
        target,
        reference,
        max_residual_mm=settings.registration.max_residual_mm,
        max_disagreement_mm=settings.registration.max_disagreement_mm,
        min_similarity=settings.registration.min_similarity,
    )
    content = {
        "patient": patient,
        "shape": target.array.shape,
        "usable_slices": usable_slices(target.magnitude(), covered=registered.covered),
        "resampled": registered.resampled,
        "residual_mm": round(registered.residual_mm, 4),
        "similarity": round(registered.similarity, 4),
    }
    guide = dataclasses.replace(registered.reference, array=registered.reference.magnitude())
    return Pair(target=target, reference=guide, patient=patient), content


def _split(
    records: Mapping[str, PairRecord],
    *,
    former: Cohort | None,
    known: Mapping[str, Candidate],
    settings: SiteSettings,
) -> dict[str, Split]:
    """Every patient's split. known: by pseudonym, a candidate of each patient of this ingest."""
    existing = former.patients if former else {}
    patients = {record.patient for record in records.values()}
    if settings.reader == "fastmri" and settings.fastmri.pairing == "split_lists":
        listed = {patient: one.split for patient, one in known.items() if one.split is not None}
        return listed_splits(
            patients, existing=existing, listed=listed, expected=settings.fastmri.split_lists.given()
        )
    new = sorted(
        patients - set(existing),
        # The order is drawn from the hospital's own identifier, which is known only now.
        key=lambda patient: order_of(known[patient].patient_id, seed=settings.split.seed),
    )
    return assign_splits(
        new, existing=existing, ratio=settings.split.ratio, allow_few=settings.allow_few_patients
    )
