"""Finding which files of a folder are a target and its reference, and whose they are. Decodes no voxel."""

from __future__ import annotations

import fnmatch
import re
import secrets
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from minet_core.errors import DataError, FileMissing, ReferenceMissing, ScanInvalid
from sites.pairing.bids_tree import find_in_tree
from sites.pairing.candidates import Candidate, Found, label_of
from sites.pairing.dicom_pairs import chosen_series, find_dicom
from sites.pairing.drifted_studies import note_drift
from sites.pairing.file_choice import choose_file
from sites.pairing.file_search import SUFFIXES, scan_files, without_bids_copies
from sites.pairing.flat_folder import flat_pattern, patients_by_file_name
from sites.pairing.named_contrasts import require_named_right
from sites.pairing.pair_lists import find_listed
from sites.scans.fastmri_hdf5 import FastmriHeader, read_header
from sites.scans.unreadable import refusal_of
from sites.settings.scan_files import FastmriFiles, NiftiFiles
from sites.settings.site_settings import SiteSettings
from sites.store.kept_figures import KeptFigures
from sites.store.pseudonym import KEY_BYTES

WEIGHTED = ("T2", "T1")
"""The contrasts that the usual spans of echo times are of."""


def find_pairs(
    source: Path,
    settings: SiteSettings,
    *,
    skip: Path | None = None,
    key: bytes | None = None,
    kept: KeptFigures | None = None,
) -> Found:
    """All pairs below a folder, in a fixed order; no voxel is decoded.

    Parameters
    ----------
    source
        The folder with the scans.
    settings
        The site's.
    skip
        A folder not to enter, such as the store.
    key
        The store's, by which DICOM's studies and patients are called; None: by one that is thrown away.
    kept
        What the store's series were acquired with; None: a protocol is compared with this folder's median alone.

    Returns
    -------
    Found
        Candidates sorted by label. A scan without partner is in `refused` (FM-D203), as is a folder that cannot be
        listed (FM-D201).

    Raises
    ------
    FileMissing
        FM-C103: `source` is no folder, or a pair list is not there.
    InvalidSetting
        FM-C102: a pair list is none.
    """
    if not source.is_dir():
        raise FileMissing(
            "the folder with the scans is missing",
            got=source,
            action="Give an existing folder",
        )
    if settings.reader == "dicom":
        found = find_dicom(source, settings.dicom, key=key or secrets.token_bytes(KEY_BYTES), skip=skip)
        note_drift(found, chosen_series(found.candidates), settings.protocol, kept=kept)
        return found
    began = time.time()
    files, walked = scan_files(source, suffixes=SUFFIXES[settings.reader], skip=skip)
    if settings.reader == "nifti" and settings.nifti.choose_by == "facts":
        found = find_in_tree(files, settings, source=source, kept=kept)
    elif settings.reader == "nifti":
        found = _find_nifti(files, settings, source=source)
    elif settings.fastmri.pairing == "patient_id":
        found = _find_fastmri(files, settings.fastmri, source=source)
    else:
        found = find_listed(files, settings.fastmri, source=source)
    found.refused[:0], found.unlisted = walked.refused, walked.unlisted
    found.remarks += walked.remarks
    found.began = began
    found.candidates.sort(key=lambda candidate: candidate.label)
    return found


def _find_nifti(files: Iterable[Path], site: SiteSettings, *, source: Path) -> Found:
    """Files are grouped by patient and examination; each group must hold one target and one reference.

    The examination is the expression's group of that name, or the folder where the expression has none.
    """
    settings, found = site.nifti, Found()
    files = without_bids_copies(files, found, source=source)
    groups: dict[tuple[str, str], list[Path]] = defaultdict(list)
    expression = re.compile(settings.patient_id)
    matched = []
    for path in files:
        if not any(_matches(path, pattern) for pattern in (*settings.target, *settings.reference)):
            found.ignored.append(label_of(path, source))
        else:
            matched.append(path)
    named = patients_by_file_name(matched, settings, source=source)
    if named:
        found.remarks.append(
            f"{len({patient for patient, _ in named.values()})} patients lie side by side in a folder and are told "
            "apart by their files' names"
        )
    for path in matched:
        if path in named:
            patient_id, examination = named[path]
            groups[examination, patient_id].append(path)
            continue
        whose = expression.search(f"{source.resolve().name}/{label_of(path, source)}")
        if whose is None or not whose["patient"]:
            failure = ScanInvalid(
                "no patient can be read from a path", expected=f"a match of {settings.patient_id!r}"
            )
            found.refuse(label_of(path, source), failure)
            continue
        given = whose.groupdict().get("examination")
        examination = label_of(path.parent, source) if given is None else given
        groups[examination, whose["patient"]].append(path)
    beside: dict[Path, list[Path]] = defaultdict(list)
    for path in files:
        beside[path.parent].append(path)
    for (examination, patient_id), paths in groups.items():
        label = f"{examination}: {patient_id}"
        around = [other for folder in {path.parent for path in paths} for other in beside[folder]]
        try:
            target = _only(paths, settings.target, role="target", beside=around)
            reference = _only(paths, settings.reference, role="reference", beside=around)
            if (site.roles.target, site.roles.reference) == WEIGHTED:
                require_named_right(target[0], reference[0], site.dicom)
        except DataError as failure:
            found.refuse(label, _with_hint(failure, paths, settings))
            continue
        found.candidates.append(Candidate(patient_id, target[0], reference[0], label))
        found.remarks += [f"{label}: {said}" for said in (*target[1], *reference[1])]
    return found


def _matches(path: Path, pattern: str) -> bool:
    return fnmatch.fnmatchcase(path.name.lower(), pattern.lower())


def _only(
    paths: list[Path], patterns: Iterable[str], *, role: str, beside: list[Path]
) -> tuple[Path, list[str]]:
    """The one file of the first pattern that matches any, and what is said of the choice."""
    for pattern in patterns:
        matching = [path for path in paths if _matches(path, pattern)]
        if matching:
            return choose_file(matching, role=role, beside=beside)
    raise ReferenceMissing(
        f"a patient has no {role}",
        got=", ".join(path.name for path in paths),
        expected=f"a file like {', '.join(patterns)}",
        action=f"See nifti.{role} in site.yaml, or leave the patient out",
    )


def _with_hint(failure: DataError, paths: list[Path], settings: NiftiFiles) -> DataError:
    """The same refusal, with the expression to set where several patients lie in one folder."""
    pattern = flat_pattern(paths, settings)
    if pattern is None or not isinstance(failure, ScanInvalid):
        return failure
    return ScanInvalid(
        failure.what,
        got=failure.got,
        expected=failure.expected,
        action=f"Where they are of several patients, set nifti.patient_id: '{pattern}'. Otherwise: {failure.action}",
    )


def _headers(files: Iterable[Path], found: Found, *, source: Path) -> dict[Path, FastmriHeader]:
    headers = {}
    for path in files:
        try:
            headers[path] = read_header(path)
        except Exception as failure:  # no file stops the others
            found.refuse(label_of(path, source), refusal_of(failure))
    return headers


def _find_fastmri(files: Iterable[Path], settings: FastmriFiles, *, source: Path) -> Found:
    """By the patient_id attribute. Several pairs of one patient must differ in matrix, spacing or slices."""
    found = Found()
    roles = {settings.target_acquisition: "target", settings.reference_acquisition: "reference"}
    patients: dict[str, dict[str, list[Path]]] = defaultdict(lambda: {"target": [], "reference": []})
    headers = _headers(files, found, source=source)
    for path, header in headers.items():
        if header.acquisition not in roles:
            found.ignored.append(label_of(path, source))
        elif header.patient_id is None:
            found.refuse(label_of(path, source), _no_patient())
        else:
            patients[header.patient_id][roles[header.acquisition]].append(path)
    for patient_id, scans in patients.items():
        for target in scans["target"]:
            partners = _partners(target, scans["reference"], headers=headers)
            rivals = [
                other for other in scans["target"] if partners and _alike(other, partners[0], headers=headers)
            ]
            if len(partners) == 1 and len(rivals) <= 1:
                found.candidates.append(Candidate(patient_id, target, partners[0], label_of(target, source)))
            else:
                found.refuse(label_of(target, source), _no_partner(partners))
        used = {candidate.reference for candidate in found.candidates}
        for reference in scans["reference"]:
            if reference not in used:
                found.refuse(label_of(reference, source), _no_partner([]))
    return found


def _no_patient() -> DataError:
    return ScanInvalid(
        "a scan names no patient",
        expected="an attribute patient_id",
        action="Name the pairs in a list (fastmri.pair_list or fastmri.split_lists)",
    )


def _alike(one: Path, other: Path, *, headers: dict[Path, FastmriHeader]) -> bool:
    a, b = headers[one], headers[other]
    near = all(abs(p - q) < 1e-3 * p for p, q in zip(a.spacing_mm, b.spacing_mm, strict=True))
    return a.matrix == b.matrix and near


def _partners(target: Path, references: list[Path], *, headers: dict[Path, FastmriHeader]) -> list[Path]:
    """References of one patient on the target's grid; of several, those with as many slices."""
    alike = [path for path in references if _alike(target, path, headers=headers)]
    as_many = [path for path in alike if headers[path].shape[0] == headers[target].shape[0]]
    return as_many if len(alike) > 1 and as_many else alike


def _no_partner(partners: list[Path]) -> DataError:
    if not partners:
        return ReferenceMissing(
            "a scan has no partner of the same patient on the same grid", expected="PD and FS-PD"
        )
    return ScanInvalid(
        "a patient's scans pair in more than one way",
        action="Name the pairs in a pair list (fastmri.pair_list)",
    )
