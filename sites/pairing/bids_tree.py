"""The scans of a BIDS tree, and a pair of each session: by the rules that choose among series of DICOM.

The facts are the side-cars'. The patient is the entity `sub`, the study `sub` with `ses`. Only what lies in a folder
`anat` is looked at; maps and masks are left out by their suffix.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from minet_core.errors import DataError, NotAnMrImage
from sites.pairing.candidates import Candidate, Found, label_of
from sites.pairing.drifted_studies import note_drift
from sites.pairing.file_choice import require_unaltered, stem_of
from sites.pairing.file_search import without_bids_copies
from sites.pairing.protocol_drift import SeriesByRole
from sites.pairing.series_choice import Role, choose_scan, described_as
from sites.scans.dicom.acquisition_facts import AcquisitionFacts
from sites.scans.nifti import grid_of, require_geometry
from sites.scans.nifti_file import read_header
from sites.scans.side_cars import BidsName, SideCars, side_car_facts
from sites.scans.unreadable import refusal_of
from sites.settings.scan_files import DicomFiles
from sites.settings.site_settings import SiteSettings
from sites.store.kept_figures import KeptFigures

DATATYPE = "anat"
COMPUTED = re.compile(r"(?:map|mask|MTsat|UNIT1)$", re.IGNORECASE)
"""Suffixes of what was computed from images."""
NOTHING_SAID = side_car_facts({}, BidsName({}, "T1w"))


@dataclass(frozen=True)
class BidsScan:
    """One image of a session. label: its path below the source. described: by its descriptions or its name.

    n_frames, shape, spacing_mm: of (slice, row, column), as the NIfTI reader cuts it. failure: why it is no volume.
    """

    path: Path
    label: str
    n_frames: int
    shape: tuple[int, int]
    spacing_mm: tuple[float, float, float] | None
    facts: AcquisitionFacts
    failure: DataError | None
    described: frozenset[Role]
    run: int
    patient_id: str
    study: str
    remarks: tuple[str, ...] = field(default=())
    diffusion: bool = False

    def __str__(self) -> str:
        return self.label


def find_in_tree(
    files: Iterable[Path], settings: SiteSettings, *, source: Path, kept: KeptFigures | None = None
) -> Found:
    """One pair of each session of a BIDS tree that has a target and a reference; headers and side-cars alone are read.

    Parameters
    ----------
    files
        NIfTI files below `source`.
    settings
        The site's.
    source
        The folder that is searched.
    kept
        What the store's series were acquired with.

    Returns
    -------
    Found
        Candidates in the order of the files; a session without a pair is refused with the reason of each scan.
    """
    found = Found()
    rules = settings.dicom
    files = without_bids_copies(files, found, source=source)
    beside: dict[Path, list[Path]] = defaultdict(list)
    for path in files:
        beside[path.parent].append(path)
    pairs: dict[str, SeriesByRole] = {}
    for (patient_id, _), scans in by_session(scans_of_tree(files, found, rules, source=source)).items():
        label = f"{label_of(scans[0].path.parent, source)}: {patient_id}"
        try:
            chosen = [choose_scan(scans, role, rules) for role in ("target", "reference")]
            for scan, _ in chosen:
                require_unaltered([scan.path], role="scan", beside=beside[scan.path.parent])
        except DataError as failure:
            found.refuse(label, failure)
            continue
        (target, said), (reference, more) = chosen
        found.candidates.append(Candidate(patient_id, target.path, reference.path, label))
        pairs[label] = {"target": target, "reference": reference}
        found.remarks += [f"{label}: {one}" for one in (said, more) if one]
    note_drift(found, pairs, settings.protocol, kept=kept)
    return found


def scans_of_tree(files: Iterable[Path], found: Found, rules: DicomFiles, *, source: Path) -> list[BidsScan]:
    """Every anatomical image of a tree.

    Parameters
    ----------
    files
        NIfTI files below `source`, without derivatives.
    found
        Gets the others as ignored, and a remark with their number.
    rules
        The site's.
    source
        The folder that is searched.

    Returns
    -------
    list[BidsScan]
        In the order of the files.
    """
    scans, side_cars, left_out = [], SideCars(), Counter[str]()
    for path in files:
        name = BidsName.parse(stem_of(path))
        if name is None or "sub" not in name.entities:
            left_out["not named as BIDS asks"] += 1
        elif path.parent.name != DATATYPE:
            left_out[f"not below {DATATYPE}"] += 1
        else:
            scans.append(_scan(path, name, side_cars, rules, source=source))
            continue
        found.ignored.append(label_of(path, source))
    found.remarks += [f"left out: {count} files {why}" for why, count in sorted(left_out.items())]
    return scans


def by_session(scans: Sequence[BidsScan]) -> dict[tuple[str, str], list[BidsScan]]:
    """The scans of each session.

    Parameters
    ----------
    scans
        Of a tree, or of several below one folder.

    Returns
    -------
    dict[tuple[str, str], list[BidsScan]]
        By patient, and by the folder and name of the session.
    """
    found: dict[tuple[str, str], list[BidsScan]] = defaultdict(list)
    for scan in scans:
        found[scan.patient_id, scan.study].append(scan)
    return dict(found)


def _scan(path: Path, name: BidsName, side_cars: SideCars, rules: DicomFiles, *, source: Path) -> BidsScan:
    """Whatever is wrong with it is kept as its failure."""
    facts, failure = NOTHING_SAID, None
    shape, spacing_mm = (0, 0, 0), None
    try:
        facts = side_car_facts(side_cars.of(path, name), name)
        _require_image(path, name, facts)
        header = read_header(path)
        require_geometry(header, name=path.name, trusted=False)
        shape, spacing_mm = grid_of(header, name=path.name)
    except Exception as raised:  # a reader of foreign files: whatever it raises is this scan's refusal
        told = refusal_of(raised)
        failure = told if isinstance(told, DataError) else DataError(told.what, got=told.got)
    run = name.entities.get("run", "")
    return BidsScan(
        path=path,
        label=label_of(path, source),
        n_frames=shape[0],
        shape=(shape[1], shape[2]),
        spacing_mm=spacing_mm,
        facts=facts,
        failure=failure,
        described=described_as((*facts.descriptions, stem_of(path)), rules),
        run=int(run) if run.isdecimal() else 0,
        patient_id=f"sub-{name.entities['sub']}",
        study=f"{path.parent}/{name.entities.get('ses', '')}",
    )


def _require_image(path: Path, name: BidsName, facts: AcquisitionFacts) -> None:
    """Raises NotAnMrImage (FM-D213) as the DICOM reader does."""
    if COMPUTED.search(name.suffix):
        kind = f"a map or a mask ({name.suffix})"
    elif facts.is_derived:
        kind = f"derived ({'/'.join(facts.image_type)})"
    elif facts.component not in ("magnitude", "unknown"):
        kind = facts.component
    else:
        return
    raise NotAnMrImage(
        f"{path.name} is no magnitude image as it was measured",
        got=kind,
        expected="an original magnitude image",
    )
