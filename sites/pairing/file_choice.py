"""Which of several files of one examination is the target or the reference: by stated rules, never silently.

dcm2niix says by a name's end what it did (https://github.com/rordenlab/dcm2niix, FILENAMING.md); BIDS says by
entities what a file is (https://bids-specification.readthedocs.io). The rules:

    _ROI1, _ph, _real, _imaginary, part-phase ...   no magnitude image: passed over, and said
    _Crop_1                                         beside the whole one: the whole one is taken, and said
    _Eq_1                                           slices were missing or unevenly spaced: refused
    _Tilt_1                                         slices were sheared back: refused
    _e2, echo-2; a, b; _c1; _i00001                 several images of one name: refused, the site names one
    run-1, run-2                                    the last run, which is made when one was not good; said
    acq-, rec-, ce-, dir- ...                       several kinds: refused, the site names one
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from minet_core.errors import ReferenceMissing, ScanInvalid

NO_MAGNITUDE = re.compile(r"(?:_ROI\d+|_ph|_phase|_real|_imaginary|_imag)(?:_?[a-z])?$", re.IGNORECASE)
NO_MAGNITUDE_PART = re.compile(r"_part-(?:phase|real|imag)(?:_|$)", re.IGNORECASE)
CROPPED = re.compile(r"_Crop_\d+$", re.IGNORECASE)
EQUALISED = re.compile(r"_Eq(?:_\d+)?$", re.IGNORECASE)
TILTED = re.compile(r"_Tilt(?:_\d+)?$", re.IGNORECASE)
ONE_OF_SEVERAL = re.compile(r"(?:_e\d+|_c\d+|_i\d{4,}|_t\d{3,}|(?<=[^_-])[a-z])$")
RUN = re.compile(r"_run-(?P<number>\d+)(?=_|$)", re.IGNORECASE)
BIDS_NAME = re.compile(
    r"(?P<patient>sub-[A-Za-z0-9+]+)(?:_(?P<session>ses-[A-Za-z0-9+]+))?(?:_[A-Za-z]+-[A-Za-z0-9+]+)*_[A-Za-z0-9]+"
)
"""A file's stem as the Brain Imaging Data Structure has it."""


def stem_of(path: Path) -> str:
    """A file's name without .nii or .nii.gz.

    Parameters
    ----------
    path
        Its folders are left out.

    Returns
    -------
    str
        The name, with its case.
    """
    return re.sub(r"\.nii(?:\.gz)?$", "", path.name, flags=re.IGNORECASE)


def is_no_magnitude(path: Path) -> bool:
    """Whether a name says that the file holds a phase, a part of a complex image or a region's mask.

    Parameters
    ----------
    path
        Its name alone counts; the file is not opened.

    Returns
    -------
    bool
        True where it is to be passed over.

    References
    ----------
    dcm2niix, FILENAMING.md, https://github.com/rordenlab/dcm2niix;
    Brain Imaging Data Structure, entity `part`, https://bids-specification.readthedocs.io.
    """
    stem = stem_of(path)
    return bool(NO_MAGNITUDE.search(stem) or NO_MAGNITUDE_PART.search(stem))


def choose_file(matching: Sequence[Path], *, role: str, beside: Iterable[Path]) -> tuple[Path, list[str]]:
    """The one file for a role, and what is to be said of the choice.

    Parameters
    ----------
    matching
        The files of the role's first pattern that matches any; at least one.
    role
        "target" or "reference", for the message.
    beside
        All scan files of their folders.

    Returns
    -------
    tuple[Path, list[str]]
        The file, and sentences about what was passed over.

    Raises
    ------
    ReferenceMissing
        FM-D203: no file holds a magnitude image.
    ScanInvalid
        FM-D202: the rules leave several, or dcm2niix altered the slices.

    References
    ----------
    dcm2niix, FILENAMING.md, https://github.com/rordenlab/dcm2niix;
    Brain Imaging Data Structure, entities `run` and `part`, https://bids-specification.readthedocs.io.
    """
    said: list[str] = []
    images = [path for path in matching if not is_no_magnitude(path)]
    if not images:
        raise ReferenceMissing(
            f"the files for the {role} hold no magnitude image",
            got=_names(matching),
            expected="a file without _ph, _real, _imaginary or _ROI at its end",
            action="Export the magnitude image",
        )
    whole = [path for path in images if not CROPPED.search(stem_of(path))]
    left = _last_run(whole or images)
    if len(left) < len(matching):
        said.append(
            f"{left[0].name} is the {role}; passed over: {_names(p for p in matching if p not in left)}"
        )
    require_unaltered(left, role=role, beside=beside)
    if len(left) > 1:
        raise ScanInvalid(
            f"more than one file could be the {role}",
            got=_names(left),
            expected="one",
            action=f"{_why(left)}Name the one to take by a narrower pattern in nifti.{role}, or remove the others",
        )
    return left[0], said


def require_unaltered(paths: Sequence[Path], *, role: str, beside: Iterable[Path]) -> None:
    """Refuse a file that dcm2niix altered along the slices, or that lies beside its altered copy.

    Parameters
    ----------
    paths
        Files for a role.
    role
        "target" or "reference", for the message.
    beside
        All scan files of their folders.

    Raises
    ------
    ScanInvalid
        FM-D202: dcm2niix altered the slices.
    """
    others = list(beside)
    for path in paths:
        for ending, what, action in _ALTERED:
            base = ending.sub("", stem_of(path))
            altered = [
                other
                for other in others
                if ending.search(stem_of(other))
                and other.parent == path.parent
                and _family(ending.sub("", stem_of(other))) == _family(base)
            ]
            if altered:
                raise ScanInvalid(
                    f"the {role}'s {what}",
                    got=f"{path.name} beside {_names(altered)}" if path not in altered else path.name,
                    action=action,
                )


def _family(stem: str) -> str:
    return stem.casefold()


_ALTERED = (
    (
        EQUALISED,
        "slices are unevenly spaced or some are missing: dcm2niix wrote an interpolated copy, _Eq",
        "Export the whole series again and convert it anew; neither the packed file nor the interpolated copy has the "
        "slices where they were measured",
    ),
    (
        TILTED,
        "slices lie askew: dcm2niix wrote a copy that is sheared back, _Tilt",
        "Export a series whose slices are at right angles to their stack, or leave the examination out",
    ),
)


def _last_run(paths: Sequence[Path]) -> list[Path]:
    """Of files that differ in their BIDS run alone, the last; else all."""
    without = {RUN.sub("", stem_of(path)).casefold() for path in paths}
    if len(paths) < 2 or len(without) > 1:
        return list(paths)
    numbers = {path: int(found["number"]) if (found := RUN.search(stem_of(path))) else 0 for path in paths}
    last = max(numbers.values())
    return [path for path in paths if numbers[path] == last]


def _why(paths: Sequence[Path]) -> str:
    """What the names say of several files, as a sentence."""
    stems = [stem_of(path) for path in paths]
    if any(re.search(r"_e\d+$|_echo-\d+", stem) for stem in stems):
        return "They are echoes of one scan. "
    if any(ONE_OF_SEVERAL.search(stem) and ONE_OF_SEVERAL.sub("", stem) in stems for stem in stems):
        return "dcm2niix gave several images one name and told them apart by a letter or number. "
    if all(BIDS_NAME.fullmatch(stem) for stem in stems):
        return "They differ in a BIDS entity. "
    return ""


def _names(paths: Iterable[Path]) -> str:
    return ", ".join(sorted(path.name for path in paths))
