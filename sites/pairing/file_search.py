"""The scan files below a folder, with what is said of folders that are not entered. Opens no file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from sites.pairing.candidates import Found, label_of
from sites.scans.unreadable import unlisted

SUFFIXES = {"nifti": (".nii", ".nii.gz"), "fastmri": (".h5",)}


def scan_files(source: Path, *, suffixes: tuple[str, ...], skip: Path | None) -> tuple[list[Path], Found]:
    """Scan files below a folder, and what is to be said of its folders; hidden files and folders are not scans.

    Parameters
    ----------
    source
        The folder that is searched.
    suffixes
        Ends of names, in small letters.
    skip
        A folder not to enter, such as the store.

    Returns
    -------
    tuple[list[Path], Found]
        Sorted. A folder that cannot be listed is refused by name. A link to a folder is not followed, and said.
    """
    files: list[Path] = []
    said = Found()

    def refuse(failure: OSError) -> None:
        label = label_of(Path(failure.filename), source)
        said.unlisted.append(label)
        said.refuse(label, unlisted(failure, Path(failure.filename)))

    for folder, subfolders, names in os.walk(source, onerror=refuse):
        here = Path(folder)
        if skip is not None and here.resolve() == skip.resolve():
            subfolders.clear()
            continue
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        said.remarks += [
            f"{label_of(here / name, source)} is a link to a folder and was not followed"
            for name in subfolders
            if (here / name).is_symlink()
        ]
        files += [
            here / name for name in names if not name.startswith(".") and name.lower().endswith(suffixes)
        ]
    return sorted(files), said


BIDS_COPIES = ("derivatives", "sourcedata")


def without_bids_copies(files: Iterable[Path], found: Found, *, source: Path) -> list[Path]:
    """The files outside the folders where a BIDS data set keeps what was computed from its scans, or copies of them.

    Parameters
    ----------
    files
        Below `source`.
    found
        Gets the others as ignored, and a remark with their number.
    source
        The folder that is searched.

    Returns
    -------
    list[Path]
        In the order of `files`.
    """
    kept, left_out = [], Counter[str]()
    for path in files:
        folders = path.relative_to(source).parts[:-1]
        copies = [
            name
            for depth, name in enumerate(folders)
            if name in BIDS_COPIES and is_bids(source.joinpath(*folders[:depth]))
        ]
        if copies:
            left_out[copies[0]] += 1
            found.ignored.append(label_of(path, source))
        else:
            kept.append(path)
    found.remarks += [
        f"{count} files below the BIDS folder {name} were passed over: they are no scans as they were measured"
        for name, count in sorted(left_out.items())
    ]
    return kept


def is_bids(folder: Path) -> bool:
    """Whether a folder looks like the root of a BIDS data set.

    Parameters
    ----------
    folder
        Its content is not searched further down.

    Returns
    -------
    bool
        It has `dataset_description.json`, or something called `sub-`.
    """
    return (folder / "dataset_description.json").is_file() or any(folder.glob("sub-*"))
