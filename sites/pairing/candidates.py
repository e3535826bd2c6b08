"""What a search of a folder finds: pairs of files to be tried, what was refused, and what was passed over."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from minet_core.errors import FedminetError
from sites.store.split import Split

if TYPE_CHECKING:  # who reads the last report alone does not wait for pydicom
    from sites.pairing.dicom_series import DicomScan
    from sites.pairing.protocol_drift import Drift
    from sites.store.kept_figures import Figures


@dataclass(frozen=True)
class Candidate:
    """Two scans that should make a pair. `patient_id` is the hospital's: it is never written to the store.

    split: where a list puts the patient; None: to be drawn. shown: what the patient is called on the site's screen and
    in its reports, where that is not the identifier.
    """

    patient_id: str
    target: Path | DicomScan
    reference: Path | DicomScan
    label: str
    split: Split | None = None
    shown: str | None = None

    @property
    def patient_for_people(self) -> str:
        """The patient's name on the site's screen and in its reports."""
        return self.patient_id if self.shown is None else self.shown


@dataclass(frozen=True)
class Refusal:
    """A scan or pair that was not taken. For the site's own eyes: `label` and `message` hold paths.

    cause: what failed, without the names of files: alike for all that failed alike. action: what to do.
    """

    label: str
    code: str
    message: str
    cause: str = ""
    action: str = ""


@dataclass
class Found:
    """What a folder holds. `ignored`: scan files that the definition does not speak of. `remarks`: choices made.

    unlisted: folders whose content the file system does not give; each is among the refused too. began: when the search
    began, in seconds of the clock. drifts: what departs from the site's protocol. figures: by label of a candidate that
    was chosen by facts, what its series were acquired with.
    """

    candidates: list[Candidate] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.time)
    drifts: list[Drift] = field(default_factory=list)
    figures: dict[str, Figures] = field(default_factory=dict)

    def refuse(self, label: str, failure: FedminetError) -> None:
        """Keep a scan or pair as refused, with its cause without names of files.

        Parameters
        ----------
        label
            What the site calls it: a path below the source, or a name made of such.
        failure
            Why it was not taken.
        """
        cause = _FILE.sub("a file", failure.what)
        refusal = Refusal(label, failure.code, str(failure), cause=cause, action=failure.action or "")
        self.refused.append(refusal)


_FILE = re.compile(r"\S+\.(?:nii\.gz|nii|h5)\b")


def label_of(path: Path, source: Path) -> str:
    """What the site calls a file: its path below the folder that is searched.

    Parameters
    ----------
    path
        A file or folder below `source`.
    source
        The folder that is searched.

    Returns
    -------
    str
        With forward slashes.
    """
    return path.relative_to(source).as_posix()
