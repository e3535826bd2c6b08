"""Scans of several patients side by side in one folder: P01_T1.nii.gz, P01_T2.nii.gz, P02_T1.nii.gz ..."""

from __future__ import annotations

import fnmatch
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from sites.pairing.file_choice import BIDS_NAME, stem_of
from sites.pairing.patient_names import same_patient_groups
from sites.settings.scan_files import PATIENT_FOLDER, NiftiFiles

MIN_PATIENTS = 2


def patients_by_file_name(
    paths: Iterable[Path], settings: NiftiFiles, *, source: Path
) -> dict[Path, tuple[str, str]]:
    """Whose the files are in folders that hold several patients.

    Only where the site left `nifti.patient_id` as it is, and only where the names leave no doubt: two or more
    beginnings with a number in each, of which no two differ by a session or a counter, each with a target and a
    reference, and in no second folder.

    Parameters
    ----------
    paths
        Files that a pattern of the site matches.
    settings
        The site's.
    source
        The folder that is searched.

    Returns
    -------
    dict[Path, tuple[str, str]]
        (patient, examination) of each file of such a folder; the other files are not in it.
    """
    if settings.patient_id != PATIENT_FOLDER:
        return {}
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        folders[path.parent].append(path)
    beginnings = {folder: _beginnings(held) for folder, held in folders.items()}
    named: dict[Path, tuple[str, str]] = {}
    for folder, groups in beginnings.items():
        elsewhere = {name for other, names in beginnings.items() if other != folder for name in names}
        if not _are_patients(groups, settings) or elsewhere & groups.keys():
            continue
        place = folder.relative_to(source).as_posix()
        for name, files in groups.items():
            bids = BIDS_NAME.fullmatch(f"{name}_T1w")
            patient = bids["patient"] if bids else name
            for path in files:
                named[path] = patient, name if place == "." else f"{place}/{name}"
    return named


def flat_pattern(paths: Sequence[Path], settings: NiftiFiles) -> str | None:
    """The `nifti.patient_id` that tells the patients of one folder apart by their files' names.

    Parameters
    ----------
    paths
        Files of one examination as the present expression groups them.
    settings
        The site's, for the patterns of target and reference.

    Returns
    -------
    str | None
        A regular expression; None where fewer than `MIN_PATIENTS` beginnings have a target and a reference.
    """
    groups = _beginnings(paths)
    whole = [name for name, files in groups.items() if _has_both(files, settings)]
    if len(whole) < MIN_PATIENTS:
        return None
    ends = sorted({_split(path)[1] for name in whole for path in groups[name]})
    return rf"(?P<examination>(?P<patient>[^/]+))[_-](?:{'|'.join(map(re.escape, ends))})\.nii"


def _are_patients(groups: dict[str, list[Path]], settings: NiftiFiles) -> bool:
    names = list(groups)
    bids = all(BIDS_NAME.fullmatch(f"{name}_T1w") for name in names)
    patients = {name.split("_")[0] for name in names} if bids else set(names)
    return (
        len(patients) >= MIN_PATIENTS
        and all(re.search(r"\d", name) for name in names)
        and any(_has_both(files, settings) for files in groups.values())
        and (bids or not same_patient_groups(names))
    )


def _beginnings(paths: Iterable[Path]) -> dict[str, list[Path]]:
    """The files by what their names have before the last separator; "" for a name without one is left out."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        name = _split(path)[0]
        if name:
            groups[name].append(path)
    return groups


def _split(path: Path) -> tuple[str, str]:
    """("P01", "T1") of P01_T1.nii.gz; ("", "T1") of T1.nii.gz."""
    found = re.fullmatch(r"(?:(?P<name>.+)[_-])?(?P<end>[^_-]+)", stem_of(path))
    return (found["name"] or "", found["end"]) if found else ("", stem_of(path))


def _has_both(paths: Iterable[Path], settings: NiftiFiles) -> bool:
    held = list(paths)
    return all(
        any(fnmatch.fnmatchcase(path.name.lower(), pattern.lower()) for path in held for pattern in patterns)
        for patterns in (settings.target, settings.reference)
    )
