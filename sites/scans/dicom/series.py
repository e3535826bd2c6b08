"""What a folder of DICOM holds: its series, by the identifiers in the objects, and what is no MR image, by its kind.

Headers alone are read, one file after another. A file that cannot be read stops no other. The same object in two files
is taken once.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from minet_core.errors import FedminetError, ScanUnreadable
from sites.scans.dicom.frames import Frame, MrObject, read_object
from sites.scans.dicom.stacks import group_frames
from sites.scans.unreadable import refusal_of, unlisted

NOT_SCANS = frozenset({"DICOMDIR"})


@dataclass
class Series:
    """The objects of one series, in the order in which they were found.

    patient_id, study, uid: the hospital's own; in no text of this object. syntaxes: of the pixels. remarks: choices.
    several_patients: an object names another patient than the first one, so nobody can say whose a frame is.
    """

    patient_id: str = field(repr=False)
    study: str = field(repr=False)
    uid: str = field(repr=False)
    label: str
    frames: list[Frame] = field(default_factory=list)
    syntaxes: set[str] = field(default_factory=set)
    remarks: set[str] = field(default_factory=set)
    several_patients: bool = False

    def groups(self) -> list[tuple[Frame, ...]]:
        """The frames of each acquisition in the series.

        Returns
        -------
        list[tuple[Frame, ...]]
            As `sites.scans.dicom.stacks.group_frames` tells them apart.
        """
        return group_frames(self.frames)


@dataclass
class Export:
    """What a folder holds. Files are called by their number in the order of their paths, which may name a patient.

    refused: (name, why) of each file that is in no series. paths: by name, below the folder; for the site's own eyes.
    """

    series: list[Series] = field(default_factory=list)
    refused: list[tuple[str, FedminetError]] = field(default_factory=list)
    paths: dict[str, str] = field(default_factory=dict, repr=False)
    n_files: int = 0
    n_repeated: int = 0
    n_unlisted: int = 0


def read_export(folder: Path, *, skip: Path | None = None) -> Export:
    """The series below a folder.

    Parameters
    ----------
    folder
        Searched with its sub-folders; no link is followed.
    skip
        A folder not to enter, such as the store.

    Returns
    -------
    Export
        Series in the order of the paths of their first files.
    """
    export = Export()
    found: dict[tuple[str, str], Series] = {}
    seen: set[str] = set()
    for path in _files(folder, export, skip=skip):
        export.n_files += 1
        label = f"file {export.n_files}"
        export.paths[label] = path.relative_to(folder).as_posix()
        try:
            one = read_object(path, name=label)
        except Exception as failure:  # no file stops the others
            export.refused.append((label, refusal_of(failure)))
            continue
        if one.instance and one.instance in seen:
            export.n_repeated += 1
            continue
        seen.add(one.instance)
        _put(found, one, label=label)
    export.series = list(found.values())
    return export


def _put(found: dict[tuple[str, str], Series], one: MrObject, *, label: str) -> None:
    key = (one.study, one.series)
    if key not in found:
        found[key] = Series(one.patient_id, one.study, one.series, label=label)
    series = found[key]
    series.several_patients |= one.patient_id != series.patient_id
    series.frames += one.frames
    series.syntaxes.add(one.transfer_syntax)
    series.remarks |= set(one.remarks)


def _files(folder: Path, export: Export, *, skip: Path | None) -> Iterator[Path]:
    """Plain files below a folder, sorted; what the file system does not list is among the refused."""

    def not_listed(failure: OSError) -> None:
        export.n_unlisted += 1
        name = f"folder {export.n_unlisted} that is not listed"
        export.paths[name] = str(failure.filename)
        export.refused.append(
            (name, unlisted(OSError(failure.errno, os.strerror(failure.errno or 0)), Path(name)))
        )

    for place, folders, names in os.walk(folder, onerror=not_listed):
        if skip is not None and Path(place).resolve() == skip.resolve():
            folders.clear()
            continue
        folders.sort()
        for name in folders:
            if (Path(place) / name).is_symlink():
                _refuse_link(export, (Path(place) / name).relative_to(folder).as_posix())
        for name in sorted(names):
            if name not in NOT_SCANS and not name.startswith("."):
                yield Path(place) / name


def _refuse_link(export: Export, path: str) -> None:
    """A link to a folder is not followed, and said: what is behind it is not seen."""
    export.n_unlisted += 1
    name = f"folder {export.n_unlisted} that is not listed"
    export.paths[name] = path
    failure = ScanUnreadable("a link to a folder is not followed", got=name, action="Give the folder itself")
    export.refused.append((name, failure))


def refusals_in_short(export: Export) -> list[str]:
    """How many files were refused for what.

    Parameters
    ----------
    export
        As `read_export` gives it.

    Returns
    -------
    list[str]
        One line a kind, the most frequent first; no name of a file is in them.
    """
    counts = Counter((failure.code, str(failure.got or failure.what)) for _, failure in export.refused)
    frequent_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [f"{count} x {code}: {kind}" for (code, kind), count in frequent_first]
