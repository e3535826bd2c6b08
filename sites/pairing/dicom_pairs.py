"""Pairs among the studies of a folder of DICOM. Patients and studies are called by keyed hashes from here on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from minet_core.errors import DataError, NotAnMrImage, ScanInvalid
from sites.pairing.candidates import Candidate, Found
from sites.pairing.dicom_series import DicomScan, by_study, scans_in
from sites.pairing.protocol_drift import SeriesByRole
from sites.pairing.series_choice import choose_scan
from sites.scans.dicom.series import Export, Series, read_export, refusals_in_short
from sites.settings.scan_files import DicomFiles
from sites.store.pseudonym import keyed, pseudonym

DIGITS = 8


def find_dicom(source: Path, rules: DicomFiles, *, key: bytes, skip: Path | None = None) -> Found:
    """One pair of each study below a folder that has a target and a reference; headers alone are read.

    Parameters
    ----------
    source
        The folder with the DICOM files.
    rules
        The site's.
    key
        The store's.
    skip
        A folder not to enter, such as the store.

    Returns
    -------
    Found
        Candidates sorted by label. What is no MR image is ignored and counted by its kind; a file that cannot be read
        and a study without a pair are refused. No text of it holds an identifier or a path.
    """
    found = Found()
    export = read_export(source, skip=skip)
    for label, failure in export.refused:
        if isinstance(failure, NotAnMrImage):
            found.ignored.append(label)
        else:
            found.refuse(label, failure)
    _say(found, export)
    scans = scans_in(export, rules, name=lambda one: _series_name(one, key=key))
    for (patient_id, study), of_study in by_study(scans).items():
        label = study_label(patient_id, study, key=key)
        try:
            found.candidates.append(_pair(of_study, rules, found, label=label, key=key))
        except DataError as failure:
            found.refuse(label, failure)
    found.candidates.sort(key=lambda candidate: candidate.label)
    return found


def chosen_series(candidates: Iterable[Candidate]) -> dict[str, SeriesByRole]:
    """The series of candidates that are of DICOM.

    Parameters
    ----------
    candidates
        As `find_dicom` gives them.

    Returns
    -------
    dict[str, SeriesByRole]
        By label.
    """
    return {
        one.label: {"target": one.target, "reference": one.reference}
        for one in candidates
        if isinstance(one.target, DicomScan) and isinstance(one.reference, DicomScan)
    }


def study_label(patient_id: str, study: str, *, key: bytes) -> str:
    """What a study is called: in reports, and as a folder of the inbox.

    Parameters
    ----------
    patient_id, study
        The hospital's identifiers.
    key
        The store's.

    Returns
    -------
    str
        "study" and 8 hexadecimal digits.
    """
    return f"study {keyed(key, 'study', patient_id, study)[:DIGITS]}"


def _pair(scans: list[DicomScan], rules: DicomFiles, found: Found, *, label: str, key: bytes) -> Candidate:
    patient_id = scans[0].patient_id
    if not patient_id.strip():
        raise ScanInvalid(
            "a study names no patient", expected="PatientID", action="Export it with the patient's number"
        )
    target, said = choose_scan(scans, "target", rules)
    reference, more = choose_scan(scans, "reference", rules)
    found.remarks += [f"{label}: {one}" for one in (said, more, *target.remarks, *reference.remarks) if one]
    return Candidate(patient_id, target, reference, label, shown=pseudonym(key, patient_id))


def _say(found: Found, export: Export) -> None:
    found.remarks += [f"left out: {one}" for one in refusals_in_short(export)]
    if export.n_repeated:
        found.remarks.append(f"{export.n_repeated} files hold an object that another file has")
    if export.n_unlisted:
        found.unlisted += [name for name, _ in export.refused if name.startswith("folder ")]


def _series_name(series: Series, *, key: bytes) -> str:
    return f"series {keyed(key, 'series', series.study, series.uid)[:DIGITS]}"
