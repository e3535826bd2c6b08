"""The acquisitions of a folder of DICOM: what of a study would be one volume each, and how one is read."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from minet_core.errors import DataError, ScanInvalid
from minet_core.imaging.volume import Volume
from minet_core.runtime.files.atomic_write import sha256_of_file
from sites.pairing.series_choice import Role, described_as
from sites.scans.dicom.acquisition_facts import AcquisitionFacts
from sites.scans.dicom.frames import Frame
from sites.scans.dicom.read_dicom import Scale, read_stack
from sites.scans.dicom.series import Export, Series
from sites.scans.dicom.stacks import Stack, outcome_of
from sites.scans.unreadable import unreadable
from sites.settings.scan_files import DicomFiles


@dataclass(frozen=True)
class DicomScan:
    """One acquisition of a study: what would be one volume.

    label: a name without identity. outcome: the stack, or why it makes none. described: the roles whose expression is
    found in a description. diffusion: some frame of the series is diffusion-weighted. The identifiers are the
    hospital's, and in no text of this object.
    """

    label: str
    n_frames: int
    shape: tuple[int, int]
    facts: AcquisitionFacts
    outcome: Stack | DataError
    remarks: tuple[str, ...]
    described: frozenset[Role]
    diffusion: bool
    patient_id: str = field(repr=False)
    study: str = field(repr=False)

    def __str__(self) -> str:
        return self.label

    @property
    def failure(self) -> DataError | None:
        """Why it makes no volume."""
        return self.outcome if isinstance(self.outcome, DataError) else None

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """Of (slice, row, column); None where it makes no volume."""
        return None if isinstance(self.outcome, DataError) else self.outcome.spacing_mm

    @property
    def run(self) -> int:
        """DICOM has no number of a repetition."""
        return 0


def scans_in(export: Export, rules: DicomFiles, *, name: Callable[[Series], str]) -> list[DicomScan]:
    """Every acquisition that a folder holds.

    Parameters
    ----------
    export
        What was found there.
    rules
        The site's.
    name
        Gives a series its name, without identity.

    Returns
    -------
    list[DicomScan]
        In the order of the export; acquisitions of one series are numbered.
    """
    scans = []
    for series in export.series:
        groups = series.groups()
        for number, group in enumerate(groups, start=1):
            label = name(series) + (f" ({number} of {len(groups)})" if len(groups) > 1 else "")
            facts = group[0].facts
            scans.append(
                DicomScan(
                    label=label,
                    n_frames=len(group),
                    shape=group[0].shape,
                    facts=facts,
                    outcome=_several_patients(label)
                    if series.several_patients
                    else outcome_of(group, what=label),
                    remarks=tuple(sorted(series.remarks)),
                    described=described_as(facts.descriptions, rules),
                    diffusion=any((frame.facts.b_value_s_mm2 or 0) > 0 for frame in series.frames),
                    patient_id=series.patient_id,
                    study=series.study,
                )
            )
    return scans


def by_study(scans: Sequence[DicomScan]) -> dict[tuple[str, str], list[DicomScan]]:
    """The scans of each study.

    Parameters
    ----------
    scans
        Of a folder.

    Returns
    -------
    dict[tuple[str, str], list[DicomScan]]
        By the hospital's identifiers of patient and study: two patients under one study are two.
    """
    found: dict[tuple[str, str], list[DicomScan]] = defaultdict(list)
    for scan in scans:
        found[scan.patient_id, scan.study].append(scan)
    return dict(found)


def read_scan(scan: DicomScan, *, contrast: str, scale: Scale) -> Volume:
    """The volume of a scan.

    Parameters
    ----------
    scan
        One acquisition.
    contrast
        The contrast's name for the volume, such as "T2".
    scale
        Which numbers a voxel has.

    Returns
    -------
    Volume
        As `sites.scans.dicom.read_dicom.read_stack` gives it.

    Raises
    ------
    DataError
        Its stack is none, or as `read_stack` refuses it.
    """
    return read_stack(_stack(scan), contrast=contrast, what=scan.label, scale=scale)


def frames_of_scan(scan: DicomScan) -> tuple[Frame, ...]:
    """The frames of a scan.

    Parameters
    ----------
    scan
        One acquisition.

    Returns
    -------
    tuple[Frame, ...]
        In the order of their places.

    Raises
    ------
    DataError
        Its stack is none.
    """
    return _stack(scan).frames


def digest_of_scan(scan: DicomScan) -> str:
    """What a scan is made from: the bytes of its files, and which of their frames.

    Parameters
    ----------
    scan
        One acquisition.

    Returns
    -------
    str
        64 hexadecimal digits, the same whatever the files are called and wherever they lie.

    Raises
    ------
    ScanUnreadable
        FM-D201: a file is gone, or the disk cannot read it.
    """
    indices: dict[Path, list[int]] = defaultdict(list)
    for frame in _stack(scan).frames:
        indices[frame.path].append(frame.index)
    parts = []
    for path, of_file in indices.items():
        try:
            parts.append(f"{sha256_of_file(path)} {sorted(of_file)}")
        except OSError as failure:
            raise unreadable(
                OSError(failure.errno, os.strerror(failure.errno or 0)), Path(scan.label)
            ) from None
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


def _several_patients(label: str) -> ScanInvalid:
    """Of a series that is no patient's: pairs, splits and a withdrawal go by the patient."""
    return ScanInvalid(
        f"{label} holds objects of several patients",
        got="one series and study identifier under more than one PatientID",
        expected="one patient a series",
        action="Export each patient alone with its own identifiers; a de-identification may have made them alike",
    )


def _stack(scan: DicomScan) -> Stack:
    if isinstance(scan.outcome, DataError):
        raise scan.outcome
    return scan.outcome
