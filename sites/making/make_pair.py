"""One pair from its two scans: read, examine, register, written whole to a file of the store that no cohort names yet.

What is made depends on the scans and the settings alone, never on the pairs beside it, so that it can be made in any
process and in any order.
"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minet_core.imaging.volume import Pair, Volume
from minet_core.runtime.files.atomic_write import take_place
from sites.duplicates.likeness import Images, images_of
from sites.duplicates.signature import Signature
from sites.pairing.candidates import Candidate
from sites.pairing.dicom_series import DicomScan, read_scan
from sites.quality.image_quality import examine
from sites.quality.reference_shown import unshown_remark
from sites.scans.fastmri_hdf5 import central_slices, read_fastmri
from sites.scans.nifti import read_nifti
from sites.settings.site_settings import SiteSettings
from sites.store.cohort import PairRecord
from sites.store.pair_file import write_pair
from sites.store.store import Store

READERS = {"nifti": read_nifti, "fastmri": read_fastmri}
RANDOM_DIGITS = 16
UNSURE = "reference: registration is less sure than asked for; it is taken as it lies, where the gate finds it right"
"""The remark on such a pair."""


@dataclass(frozen=True)
class PairTask:
    """What a pair is made from. patient: the pseudonym. fingerprint: of scans and settings. store: its folder."""

    candidate: Candidate
    settings: SiteSettings
    patient: str
    fingerprint: str
    store: Path


@dataclass(frozen=True)
class MadePair:
    """A pair in a file that is none of the store's yet. content: its record. images: for the comparison."""

    file: Path
    sha256: str
    content: dict[str, Any]
    images: Images

    def given_to(self, patient: str) -> MadePair:
        """The same pair under another patient, written again.

        Parameters
        ----------
        patient
            A pseudonym.

        Returns
        -------
        MadePair
            In the same file.

        Raises
        ------
        StoreDamaged, FileNotWritten
            The file cannot be read, or not be written.
        """
        record = PairRecord(**self.content, file=_PLACEHOLDER, sha256=self.sha256)
        pair = Store(self.file.parent).read_pair(record, path=self.file)
        content = {**self.content, "patient": patient}
        sha256 = write_pair(self.file, dataclasses.replace(pair, patient=patient), content)
        return dataclasses.replace(self, sha256=sha256, content=content)

    def put(self, path: Path) -> PairRecord:
        """Make the file one of the store's.

        Parameters
        ----------
        path
            Its name there.

        Returns
        -------
        PairRecord
            With the name and the SHA-256.

        Raises
        ------
        FileNotWritten
            FM-S509 or its kind.
        """
        take_place(self.file, path)
        return PairRecord(**self.content, file=path.name, sha256=self.sha256)

    def forget(self) -> None:
        """Remove the file, if it is still there."""
        with contextlib.suppress(OSError):  # what is left goes with the next ingest
            self.file.unlink(missing_ok=True)


_PLACEHOLDER = "0-0.h5"


def make_pair_file(task: PairTask) -> MadePair:
    """Make a pair and write it beside the store's files, under a name that no reader looks at.

    Parameters
    ----------
    task
        What to make.

    Returns
    -------
    MadePair
        With its file, of which a killed ingest leaves no more than the next one removes.

    Raises
    ------
    DataError
        The scans cannot be read, are refused, or do not register.
    FileNotWritten
        FM-S509 or its kind.
    """
    pair, content = make_pair(task.candidate, task.settings, patient=task.patient)
    content["fingerprint"] = task.fingerprint
    file = task.store / f".made-{task.fingerprint[:RANDOM_DIGITS]}.partial"
    sha256 = write_pair(file, pair, content)
    images = {
        role: Signature(one.values) for role, one in images_of(pair).items()
    }  # without what they computed
    return MadePair(file=file, sha256=sha256, content=content, images=images)


def make_pair(candidate: Candidate, settings: SiteSettings, *, patient: str) -> tuple[Pair, dict[str, Any]]:
    """A pair of a candidate's scans.

    Parameters
    ----------
    candidate
        Which scans.
    settings
        The site's.
    patient
        The pseudonym.

    Returns
    -------
    tuple[Pair, dict[str, Any]]
        Target and reference on one grid, and the fields of the record that are measured on them.

    Raises
    ------
    DataError
        The scans cannot be read, are refused, or do not register.
    """
    from sites.registration.register import register  # where a pair is made: SimpleITK takes a while to load

    target = _read(candidate.target, settings, contrast=settings.roles.target)
    reference = _read(candidate.reference, settings, contrast=settings.roles.reference)
    if settings.reader == "fastmri":
        target, reference = central_slices(target, reference)
    examined = examine(target, reference, limits=settings.quality)
    target = examined.target
    registered = register(target, reference, limits=settings.registration, proof=_lies_right)
    use, quality = examined.used_with(registered.covered)
    parts = [
        dataclasses.replace(one, array=one.array[use.first : use.stop])
        for one in (target, registered.reference)
    ]
    said = [UNSURE if registered.unsure else None, unshown_remark(parts[0], parts[1])]
    remarks = (*quality.remarks, *(one for one in said if one is not None))
    quality = quality.model_copy(update={"remarks": remarks})
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


def _lies_right(target: Volume, reference: Volume) -> bool:
    from sites.registration.lies_right import lies_right  # torch takes a while to load, and few pairs ask

    return lies_right(target, reference)


def _read(scan: Path | DicomScan, settings: SiteSettings, *, contrast: str) -> Volume:
    if isinstance(scan, DicomScan):
        return read_scan(scan, contrast=contrast, scale=settings.dicom.scale)
    return READERS[settings.reader](scan, contrast=contrast)
