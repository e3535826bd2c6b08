"""BIDS side-cars: the JSON files that say how a scan of a tree was acquired, and the facts that rules choose by.

A side-car applies to the files of its own suffix below its folder whose entities include all of its own; a nearer one
overrides a farther one key by key. Of a side-car nothing is kept but `AcquisitionFacts`: converters also write the
institution, the device and, if asked to, the patient into it.

References
----------
Brain Imaging Data Structure, "The Inheritance Principle" and "Magnetic Resonance Imaging",
https://bids-specification.readthedocs.io.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minet_core.errors import ScanInvalid, ScanUnreadable
from sites.scans.dicom.acquisition_facts import AcquisitionFacts, facts_from
from sites.scans.unreadable import unreadable

MAX_BYTES = 16 << 20
"""Of one side-car; those that carry a whole DICOM header along are of a few MiB."""
_ENTITY = re.compile(r"(?P<key>[a-z]+)-(?P<label>[A-Za-z0-9+]+)")
_SUFFIX = re.compile(r"[A-Za-z0-9]+")
_IN_SECONDS = frozenset({"EchoTime", "RepetitionTime", "InversionTime"})
"""In seconds here, in ms in DICOM."""
_OF_OTHER_SCALE = frozenset({"EffectiveEchoTime", "InversionTimes", "FrameType", "AcquisitionMatrix"})
"""Elements of DICOM that BIDS has no key for; what stands there under such a name has no unit that is sure."""
_REPETITION = (
    "RepetitionTime",
    "RepetitionTimePreparation",
    "RepetitionTimeInversion",
    "RepetitionTimeExcitation",
)
"""From one preparation to the next where that is said, as DICOM counts it, and not from one excitation to the next."""
_WITHOUT_UNDERSCORE = frozenset({"ScanningSequence", "SequenceVariant"})
_SHORT_OPTIONS = frozenset(
    {
        "PER", "RG", "CG", "PPG", "FC", "PFF", "PFP", "SP", "FS", "WE", "IR", "SAT1", "SAT2", "SFS", "DB", "T2P", "PFI",
    }
)  # fmt: skip
"""Scan options that hold no underscore themselves."""


@dataclass(frozen=True)
class BidsName:
    """What a file's name says: its entities, such as sub and run, and its suffix, such as T1w."""

    entities: dict[str, str]
    suffix: str

    @classmethod
    def parse(cls, stem: str) -> BidsName | None:
        """The parts of a name without its ending.

        Parameters
        ----------
        stem
            Such as "sub-01_ses-1_run-2_T1w".

        Returns
        -------
        BidsName | None
            None for a name of another form, or with an entity twice.
        """
        *pairs, suffix = stem.split("_")
        found = [_ENTITY.fullmatch(pair) for pair in pairs]
        entities = {one["key"]: one["label"] for one in found if one is not None}
        if len(entities) < len(pairs) or not _SUFFIX.fullmatch(suffix):
            return None
        return cls(entities, suffix)

    def applies_to(self, data: BidsName) -> bool:
        """Whether a side-car of this name is of a file of that name.

        Parameters
        ----------
        data
            The file's.

        Returns
        -------
        bool
            The suffix is the same, and no entity is absent there or another.
        """
        return self.suffix == data.suffix and self.entities.items() <= data.entities.items()


class SideCars:
    """The side-cars of trees; each folder is listed once, and each file read once."""

    def __init__(self) -> None:
        self._listed: dict[Path, list[tuple[Path, BidsName]]] = {}
        self._read: dict[Path, dict[str, Any]] = {}

    def of(self, path: Path, name: BidsName) -> dict[str, Any]:
        """What all side-cars of a file say together.

        Parameters
        ----------
        path
            The scan.
        name
            Its own.

        Returns
        -------
        dict[str, Any]
            Empty where there is none.

        Raises
        ------
        ScanUnreadable
            FM-D201: a side-car or a folder cannot be read, or is no JSON object.
        ScanInvalid
            FM-D202: two side-cars of one folder apply.
        """
        merged: dict[str, Any] = {}
        for folder in _folders_above(path, subject=name.entities.get("sub", "")):
            fitting = [one for one, of_car in self._in(folder) if of_car.applies_to(name)]
            if len(fitting) > 1:
                raise ScanInvalid(
                    f"two side-cars of one folder apply to {path.name}",
                    got=", ".join(one.name for one in fitting),
                    expected="one in each folder, as BIDS has it",
                    action="Put the more general one into the folder above",
                )
            for one in fitting:
                merged |= self._content(one)
        return merged

    def _in(self, folder: Path) -> list[tuple[Path, BidsName]]:
        if folder not in self._listed:
            try:
                paths = sorted(folder.iterdir())
            except OSError as failure:
                raise unreadable(failure, folder) from failure
            parsed = [(path, BidsName.parse(path.name.removesuffix(".json"))) for path in paths]
            self._listed[folder] = [
                (path, name) for path, name in parsed if name is not None and path.suffix == ".json"
            ]
        return self._listed[folder]

    def _content(self, path: Path) -> dict[str, Any]:
        if path not in self._read:
            self._read[path] = _read_object(path)
        return self._read[path]


def side_car_facts(content: dict[str, Any], name: BidsName) -> AcquisitionFacts:
    """The facts that a DICOM header would give, from what side-cars say.

    Parameters
    ----------
    content
        As `SideCars.of` gives it.
    name
        The scan's: an entity `ce` stands for an agent, `part` for a component, unless the side-cars say it.

    Returns
    -------
    AcquisitionFacts
        Times in seconds. `n/a` counts as not said.

    Raises
    ------
    ScanInvalid
        FM-D202: a value is no number.
    """

    def value(keyword: str) -> Any:
        if keyword in _OF_OTHER_SCALE:
            return None
        if keyword in _IN_SECONDS:
            return _milliseconds(content, _REPETITION if keyword == "RepetitionTime" else (keyword,))
        if keyword == "ContrastBolusAgent":
            named = (_said(content, one) for one in ("ContrastBolusIngredient", "ContrastBolusAgent"))
            return next((one for one in named if one is not None), name.entities.get("ce"))
        if keyword == "ContrastBolusAgentSequence":
            return None
        found = _said(content, keyword)
        if keyword in ("ImageType", "ScanOptions", *_WITHOUT_UNDERSCORE):
            return _codes_of(keyword, found)
        if keyword == "ComplexImageComponent" and found is None:
            return {"mag": "M", "phase": "P", "real": "R", "imag": "I"}.get(name.entities.get("part", ""))
        return found

    try:
        return facts_from(value)
    except (ValueError, TypeError, OverflowError):
        raise ScanInvalid(
            "a side-car holds what is no number",
            got="one of the keys that a series is chosen by",
            expected="finite numbers, times in seconds",
            action="Look at the .json files of the scan, in its folder and above",
        ) from None


def _folders_above(path: Path, *, subject: str) -> list[Path]:
    """From the root of the tree, which holds the subject's folder, down to the file's own."""
    parents = list(path.absolute().parents)
    for place, folder in enumerate(parents):
        if folder.name == f"sub-{subject}":
            return parents[: place + 2][::-1]
    return parents[:1]


def _read_object(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():
            raise ValueError
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as failure:
        raise unreadable(failure, path) from failure
    except ValueError:
        content = b""
    try:
        found = json.loads(content.decode("utf-8-sig")) if len(content) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ScanUnreadable(
            "a side-car cannot be read",
            got=path.name,
            expected=f"one JSON object in UTF-8 of up to {MAX_BYTES >> 20} MiB",
            action="Convert the scan again",
        )
    return found


def _said(content: dict[str, Any], key: str) -> Any:
    found = content.get(key)
    if isinstance(found, (bool, dict)) or (isinstance(found, str) and found.strip().lower() in ("", "n/a")):
        return None
    return found


def _milliseconds(content: dict[str, Any], keys: tuple[str, ...]) -> float | None:
    found = next((one for key in keys if (one := _said(content, key)) is not None), None)
    if isinstance(found, list):
        found = found[0] if found else None
    if found is None:
        return None
    seconds = float(found)
    if not math.isfinite(seconds):
        raise ValueError("a time that is not finite")
    return seconds * 1000


def _codes_of(keyword: str, found: Any) -> Any:
    """Code strings, which converters write as a list or join by a backslash or an underscore."""
    if not isinstance(found, str):
        return found
    texts = found.split("\\")
    if len(texts) > 1 or "_" not in found:
        return texts
    apart = found.split("_")
    separable = keyword in _WITHOUT_UNDERSCORE or (
        keyword == "ScanOptions" and {one.strip().upper() for one in apart} <= _SHORT_OPTIONS
    )
    return apart if separable else texts
