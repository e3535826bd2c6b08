"""Pairing by CSV lists, as the fastMRI set's PD and FS-PD scans are paired in the literature.

A list has a line a pair, without heading: the reference's file name, the target's, and whatever follows. One list for
all pairs leaves the split to be drawn; one list a split decides it.

The list says who is whose partner. The files must agree about contrast, and about the patient where they name one.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from minet_core.errors import FileMissing, InvalidSetting, ReferenceMissing, ScanInvalid
from minet_core.runtime.files.file_failures import naming_failures
from sites.pairing.candidates import Candidate, Found, label_of
from sites.scans.fastmri_hdf5 import FastmriHeader, read_header
from sites.scans.unreadable import refusal_of
from sites.settings.scan_files import FastmriFiles
from sites.store.split import Split

_MAX_LIST_BYTES = 16 << 20
"""A line has 40 bytes: 400,000 pairs."""


def find_listed(files: Iterable[Path], settings: FastmriFiles, *, source: Path) -> Found:
    """The listed pairs among the files of a folder.

    Parameters
    ----------
    files
        HDF5 files below `source`.
    settings
        The lists and the contrasts.
    source
        The folder that is searched; a list's path is absolute or below it.

    Returns
    -------
    Found
        In the lists' order. A pair that fails is in `refused`, a file that no list names in `ignored`.

    Raises
    ------
    FileMissing
        FM-C103: a list is not there.
    InvalidSetting
        FM-C102: a list is no CSV of pairs.
    """
    found = Found()
    named: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        named[path.stem].append(path)
    listed: set[str] = set()
    patient_of: dict[str, str] = {}
    split_of: dict[str, Split | None] = {}
    for split, reference_stem, target_stem in _lines(settings, source=source):
        listed |= {reference_stem, target_stem}
        label = f"{target_stem} with {reference_stem}"
        try:
            target, reference = _only(named, target_stem), _only(named, reference_stem)
            patient = _patient(read_header(target), read_header(reference), settings) or target_stem
            for stem in (target_stem, reference_stem):
                if patient_of.setdefault(stem, patient) != patient:
                    raise ScanInvalid("a scan that names no patient is listed twice", got=f"{stem}.h5")
            if split_of.setdefault(patient, split) != split:
                raise ScanInvalid(
                    "a patient is listed for two splits", got=f"{split_of[patient]} and {split}"
                )
        except Exception as failure:  # no pair stops the others
            found.refuse(label, refusal_of(failure))
            continue
        found.candidates.append(Candidate(patient, target, reference, label, split))
    found.ignored += [
        label_of(path, source) for stem, paths in named.items() if stem not in listed for path in paths
    ]
    return found


def _lines(settings: FastmriFiles, *, source: Path) -> Iterator[tuple[Split | None, str, str]]:
    """(split, reference stem, target stem) of every line of the lists that the settings name."""
    # An absolute path stays what it is.
    if settings.pair_list is not None:
        yield from ((None, *pair) for pair in _read(source / settings.pair_list))
    for split, path in settings.split_lists.given().items():
        yield from ((split, *pair) for pair in _read(source / path))


def _read(path: Path) -> list[tuple[str, str]]:
    """(reference stem, target stem) of every line."""
    if not path.is_file():
        raise FileMissing("the pair list is missing", got=path)
    with naming_failures("the pair list cannot be read", path=path), path.open("rb") as stream:
        content = stream.read(_MAX_LIST_BYTES + 1)
    if len(content) > _MAX_LIST_BYTES:
        raise InvalidSetting(
            f"{path} is no pair list", got=f"over {_MAX_LIST_BYTES} bytes", expected="a line a pair"
        )
    pairs = []
    try:
        lines = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        for number, line in enumerate(lines, start=1):
            cells = [cell.strip().removesuffix(".h5") for cell in line]
            if not any(cells):
                continue
            if len(cells) < 2 or not cells[0] or not cells[1]:
                got = str(line)[:200]
                raise InvalidSetting(
                    f"{path}, line {number} is no pair", got=got, expected="reference,target"
                )
            pairs.append((cells[0], cells[1]))
    except (csv.Error, UnicodeDecodeError) as failure:
        raise InvalidSetting(f"{path} is no pair list", got=failure, expected="CSV in UTF-8") from failure
    return pairs


def _only(named: dict[str, list[Path]], stem: str) -> Path:
    paths = named.get(stem, [])
    if not paths:
        raise ReferenceMissing("a listed scan is not there", got=f"{stem}.h5")
    if len(paths) > 1:
        raise ScanInvalid(
            "a listed scan is there more than once",
            got=", ".join(str(path) for path in paths),
            expected="single-coil or multi-coil files, not both",
        )
    return paths[0]


def _patient(target: FastmriHeader, reference: FastmriHeader, settings: FastmriFiles) -> str | None:
    """Whose the pair is; None where neither file names a patient, or what they name is to be ignored."""
    wanted = (settings.target_acquisition, settings.reference_acquisition)
    if (target.acquisition, reference.acquisition) != wanted:
        raise ScanInvalid(
            "a listed pair has other contrasts",
            got=f"target {target.acquisition}, reference {reference.acquisition}",
            expected=f"target {wanted[0]}, reference {wanted[1]}",
        )
    if settings.ignore_patient_id:
        return None
    if target.patient_id and reference.patient_id and target.patient_id != reference.patient_id:
        raise ScanInvalid(
            "a listed pair joins two patients",
            expected="one patient_id attribute",
            action="Where the attribute does not tell patients apart, set fastmri.ignore_patient_id",
        )
    return target.patient_id or reference.patient_id
