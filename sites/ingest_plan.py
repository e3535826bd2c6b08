# mypy: disallow-untyped-calls=False
"""Who is taken for which patient, before a scan is read: for a person to look at. Reads names and headers alone."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel

from minet_core.errors import DataError, NoScansFound, TooFewPatients
from sites.ingest_report import refusal_lines
from sites.pairing.candidates import Found
from sites.pairing.dicom_series import DicomScan
from sites.pairing.pairing import find_pairs
from sites.pairing.patient_names import NameWarning, judge_names
from sites.pairing.protocol_drift import drift_lines
from sites.scans.fastmri_hdf5 import read_header
from sites.settings.site_settings import SiteSettings
from sites.store.kept_figures import read_kept
from sites.store.pseudonym import KEY_FILE, naming_key
from sites.store.split import require_enough
from sites.store.store import COHORT_FILE


@dataclass(frozen=True)
class IngestPlan:
    """What an ingest would try. Stays at the site: it holds names of patients and files.

    headers: by file, its shape and spacing, or that its header cannot be read; empty where they were not asked for.
    too_few: why an ingest would be refused for the number of its patients; None where they suffice.
    """

    found: Found
    warnings: tuple[NameWarning, ...]
    headers: dict[Path, str]
    too_few: str | None = None

    @property
    def stops(self) -> bool:
        """Whether an ingest of this folder would be refused as a whole, as far as names tell."""
        return self.too_few is not None or any(one.stops for one in self.warnings)

    def as_json(self) -> dict[str, Any]:
        """The plan as plain values.

        Returns
        -------
        dict[str, Any]
            By patient the pairs, then what was refused, ignored and remarked; with paths.
        """
        people = {one.patient_id: one.patient_for_people for one in self.found.candidates}
        return {
            "patients": {
                people[patient]: [
                    {
                        "label": one.label,
                        "target": str(one.target),
                        "reference": str(one.reference),
                        **self._headers_of("target", one.target),
                        **self._headers_of("reference", one.reference),
                    }
                    for one in self.found.candidates
                    if one.patient_id == patient
                ]
                for patient in sorted({one.patient_id for one in self.found.candidates})
            },
            "refused": [dataclasses.asdict(refusal) for refusal in self.found.refused],
            "ignored": list(self.found.ignored),
            "remarks": list(self.found.remarks),
            "drifts": [dataclasses.asdict(drift) for drift in self.found.drifts],
            "warnings": [dataclasses.asdict(warning) for warning in self.warnings],
            "too_few": self.too_few,
        }

    def as_text(self) -> str:
        """The plan for a person: every file's patient, then what is doubtful."""
        by_patient = defaultdict(list)
        for candidate in self.found.candidates:
            by_patient[candidate.patient_for_people].append(candidate)
        lines = [
            f"{len(by_patient)} patients with {len(self.found.candidates)} pairs; nothing has been split yet:"
        ]
        for patient, candidates in sorted(by_patient.items()):
            lines.append(f"  patient {patient}")
            lines += [
                f"    {one.label}: target {self._file(one.target)}, reference {self._file(one.reference)}"
                for one in candidates
            ]
        lines += refusal_lines(self.found.refused)
        if self.found.ignored:
            lines.append(
                f"  {len(self.found.ignored)} files are none of the definition's, such as {self.found.ignored[0]}"
            )
        lines += [f"  {said}" for said in self.found.remarks]
        lines += drift_lines(self.found.drifts)
        lines += [f"  {'STOP' if one.stops else 'See'}: {one.message}" for one in self.warnings]
        if self.too_few is not None:
            lines.append(f"  STOP: {self.too_few}")
        return "\n".join(lines)

    def _headers_of(self, role: str, scan: Path | DicomScan) -> dict[str, str]:
        if isinstance(scan, DicomScan):
            return {f"{role}_header": _of_stack(scan)}
        return {f"{role}_header": self.headers[scan]} if scan in self.headers else {}

    def _file(self, scan: Path | DicomScan) -> str:
        if isinstance(scan, DicomScan):
            return f"{scan} ({_of_stack(scan)})"
        return f"{scan.name} ({self.headers[scan]})" if scan in self.headers else scan.name


def plan_ingest(
    source: Path, settings: SiteSettings, *, skip: Path | None = None, headers: bool = False
) -> IngestPlan:
    """What an ingest of a folder would try; nothing is written.

    Parameters
    ----------
    source
        The folder with the scans.
    settings
        The site's.
    skip
        A folder not to enter, such as the store.
    headers
        Read the files' headers too.

    Returns
    -------
    IngestPlan
        For the site alone: it holds names of patients and files.

    Raises
    ------
    FileMissing
        FM-C103: `source` is no folder, or a pair list is not there.
    NoScansFound
        FM-D205: the folder holds nothing of the definition's.
    """
    key, kept = _key(skip, may_make=not headers), None if skip is None else read_kept(skip)
    found = find_pairs(source, settings, skip=skip, key=key, kept=kept)
    require_found(found, source, settings)
    scans = [scan for one in found.candidates for scan in (one.target, one.reference)] if headers else []
    said = {scan: _header(scan, settings.reader) for scan in scans if isinstance(scan, Path)}
    warnings = tuple(name_warnings(found, settings))
    try:
        require_enough_found(found, settings, store=skip)
    except TooFewPatients as failure:
        return IngestPlan(found=found, warnings=warnings, headers=said, too_few=str(failure))
    return IngestPlan(found=found, warnings=warnings, headers=said)


def require_enough_found(found: Found, settings: SiteSettings, *, store: Path | None) -> None:
    """Refuse a first ingest of a folder with too few patients before a scan of it is read.

    A store that has patients already, and lists that say who is in which split, are judged when the pairs are made.

    Parameters
    ----------
    found
        What `find_pairs` gave; where no pair was found, what was refused is the cause.
    settings
        The site's.
    store
        The folder of the store; None: there is none.

    Raises
    ------
    TooFewPatients
        FM-D206: with every pair accepted there would be too few to split.
    """
    listed = settings.reader == "fastmri" and settings.fastmri.pairing == "split_lists"
    if found.candidates and not listed and (store is None or not (store / COHORT_FILE).exists()):
        n_patients = len({candidate.patient_id for candidate in found.candidates})
        require_enough(n_patients, allow_few=settings.allow_few_patients)


def require_found(found: Found, source: Path, settings: SiteSettings) -> None:
    """Refuse a folder that holds nothing of the definition's.

    Parameters
    ----------
    found
        What `find_pairs` gave.
    source
        The folder, for the message.
    settings
        The site's, for the message.

    Raises
    ------
    NoScansFound
        FM-D205: neither a candidate nor a refusal.
    """
    if not found.candidates and not found.refused:
        others = {kind: number for kind, number in _count_kinds(source).items() if kind != settings.reader}
        most = max(others, key=lambda kind: others[kind], default=None)
        raise NoScansFound(
            "no scan was found",
            got=f"{source} with {(n := len(found.ignored)) or 'no'} other file{'' if n == 1 else 's'}"
            if most is None
            else f"{source} with {others[most]} {_KINDS[most]} files",
            expected=f"files of the site's definition (reader {settings.reader})",
            action=_ACTIONS[settings.reader]
            if most is None
            else f"Give another folder, or set `reader: {most}` in site.yaml",
        )


_KINDS = {"nifti": "NIfTI", "dicom": "DICOM", "fastmri": "HDF5"}
"""What each reader reads."""

_ACTIONS = {
    "nifti": "See the patterns in site.yaml",
    "dicom": "See what is there with `fedminet site scan`, and the rules in site.yaml",
    "fastmri": "See the acquisitions in site.yaml",
}

_MAX_LOOKED_AT = 2000
"""Files whose kind is looked at for a message."""


def _count_kinds(source: Path) -> dict[str, int]:
    """By reader, how many files of a folder it would read, among the first `_MAX_LOOKED_AT`. Raises no OSError."""
    kinds = [file_kind(path) for path in itertools.islice(source.rglob("*"), _MAX_LOOKED_AT)]
    return dict(Counter(kind for kind in kinds if kind is not None))


def file_kind(path: Path) -> str | None:
    """Which reader would read a file: by its name's ending; where that says nothing, by the preamble of DICOM.

    Parameters
    ----------
    path
        Of the file, or of what is none.

    Returns
    -------
    str or None
        "nifti", "fastmri", "dicom"; None for what none would read. Raises no OSError.
    """
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return "nifti"
    if name.endswith((".h5", ".hdf5")):
        return "fastmri"
    try:
        if not path.is_file():  # nor a pipe, which would be waited for
            return None
        with path.open("rb") as stream:
            return "dicom" if stream.read(132)[128:] == b"DICM" else None
    except OSError:  # what cannot be read is of no kind here
        return None


def name_warnings(found: Found, settings: SiteSettings) -> list[NameWarning]:
    """What is doubtful about the names of the patients found.

    Parameters
    ----------
    found
        What `find_pairs` gave.
    settings
        The site's; with `accept_patient_names` no warning stops.

    Returns
    -------
    list[NameWarning]
        Empty where the names are plain.
    """
    if settings.reader == "dicom":  # a PACS names its patients; dates and sessions are no part of that
        return []
    places: dict[str, list[str]] = defaultdict(list)
    for candidate in found.candidates:
        places[candidate.patient_id].append(candidate.label)
    warnings = judge_names(places)
    if settings.accept_patient_names:
        return [dataclasses.replace(one, stops=False) for one in warnings]
    return warnings


def _key(store: Path | None, *, may_make: bool) -> bytes | None:
    if store is None or not (may_make or (store / KEY_FILE).exists()):
        return None
    return naming_key(store)


def _of_stack(scan: DicomScan) -> str:
    if isinstance(scan.outcome, DataError):
        return scan.outcome.code
    return _grid(scan.outcome.shape, scan.outcome.spacing_mm)


def _header(path: Path, reader: str) -> str:
    """Shape and spacing as the file's header has them."""
    try:
        if reader == "fastmri":
            fastmri = read_header(path)
            return _grid((fastmri.shape[0], *fastmri.matrix), fastmri.spacing_mm)
        image = nibabel.load(path)
        return _grid(image.shape, image.header.get_zooms())  # type: ignore[attr-defined]
    except Exception as failure:  # a line for a person before anything is read: ingest itself refuses by code
        return f"its header cannot be read: {type(failure).__name__}"


def _grid(shape: Iterable[int], spacing_mm: Iterable[float]) -> str:
    return f"{' x '.join(map(str, shape))}, {' x '.join(f'{float(step):.3g}' for step in spacing_mm)} mm"
