"""Names of patients that are none: dates, sessions, and one name written in several ways.

What is taken for a patient decides the split. A date or a session in a patient's place puts one patient's
examinations into training and test, and no figure shows it. So such names stop an ingest until the site says that
they are right. Numbers (P01, P02, sub-01) are how patients are usually called, and pass.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from minet_core.errors import PatientNamesDoubtful

_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_SEPARATOR = r"[-_. ]?"
_TIME = r"(?:[-_. Tt]?(?:[01]\d|2[0-3])[-_.:h]?[0-5]\d(?:[-_.:]?[0-5]\d)?(?:\.\d+)?[Zz]?)?"
_MONTH_NAME = r"(?:jan|feb|mar|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez)[a-z]*"
_LEADING = r"(?:(?:ses|session|visit|study|date|scan|exam|mri?)[-_. ]?)?"
_DATE = (
    rf"{_LEADING}(?:"
    rf"{_YEAR}{_SEPARATOR}{_MONTH}{_SEPARATOR}{_DAY}|"
    rf"{_DAY}{_SEPARATOR}{_MONTH}{_SEPARATOR}{_YEAR}|"
    rf"{_MONTH}{_SEPARATOR}{_DAY}{_SEPARATOR}{_YEAR}|"
    rf"{_YEAR}{_SEPARATOR}{_MONTH_NAME}{_SEPARATOR}{_DAY}|"
    rf"{_DAY}{_SEPARATOR}{_MONTH_NAME}{_SEPARATOR}{_YEAR}|"
    rf"\d?\d[-_.]\d?\d[-_.](?:{_YEAR}|\d\d)|"
    rf"{_YEAR}[-_.]\d?\d[-_.]\d?\d"
    rf"){_TIME}"
)
DATE = re.compile(_DATE, re.IGNORECASE)
"""A whole name that is a day, with or without a time."""

_WORDS = (
    "mri?|scan|visit|vis|v|ses|sess|session|study|studie|exam|examination|tp|timepoint|time|t|day|d|week|wk|w|month|"
    "mo|m|year|yr|y|fu|follow[-_. ]?up|baseline|base|bl|pre|post|pre[-_. ]?op|post[-_. ]?op|before|after|first|second|"
    "third|initial|repeat|rep|retest|rescan|run|nr|no|copy|kopie|new|old|session|left|right|links|rechts|"
    "left[-_. ]?knee|right[-_. ]?knee|lt|rt|screening|screen|acq"
)
_SHORT = {"v", "t", "d", "w", "m", "y", "mo", "no", "nr", "lt", "rt", "base", "old", "new"}
"""Words that mean a session only with a number or a separator: otherwise they end many a name."""
SESSION = re.compile(
    rf"(?P<base>.*?)(?P<separator>[-_. (]*)(?P<word>{_WORDS})[-_. ]?(?P<counter>\d*[a-z]?)\)?",
    re.IGNORECASE,
)
AFFIXES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?P<base>.+?)[-_. ]+{_DATE}",
        rf"{_DATE}[-_. ]+(?P<base>.+)",
        rf"(?P<base>.+?)[-_. ]+{_YEAR}",
        r"(?P<base>.+?)[-_. ]+\d+[-_. ]?(?:d|days?|w|weeks?|wk|m|mo|months?|y|years?|yr)",
        r"(?:mri?|scan|visit|ses|session|study|exam|run)[-_. ]?\d{1,2}[-_. ]+(?P<base>.+)",
        r"(?:pre|post|baseline|follow[-_. ]?up|left|right)[-_. ]+(?P<base>.+)",
    )
)
"""A day, a year, a time since the first scan at a name's end or beginning; a session at its beginning."""
COUNTER = re.compile(r"(?P<base>.+?)(?P<separator>[-_. (]+)(?P<counter>\d{1,3}|[a-e]|[lr])\)?", re.IGNORECASE)
LETTER = re.compile(r"(?P<base>.*\d)(?P<counter>[a-e]|[lr])", re.IGNORECASE)
"""P01a, P01b; file7L."""
ONLY_SESSION = re.compile(
    rf"(?:ses|sess|session|visit|vis|scan|mri?|exam|examination|timepoint|tp|baseline|bl|fu|follow[-_. ]?up|pre|post|"
    rf"pre[-_. ]?op|post[-_. ]?op|anat|nii|nifti|dicom|export|images?|[vt](?=\d{1, 2}$)|day|month|week|year|left|right)"
    r"[-_. ]?\d*",
    re.IGNORECASE,
)
GENERIC = re.compile(
    r"(?:patients?|pat|p|pt|sub|subj|subject|s|case|id|proband|volunteer|vol|control|ctrl|c|hc|ms|person|participant|"
    r"anon|anonymous|x|phantom|brain|knee|head|file|ixi|n|nr|no)[-_. ]*",
    re.IGNORECASE,
)
FEW = 4
"""Examinations of one patient, at most: a larger group of numbers counts patients."""
SHOWN = 6


@dataclass(frozen=True)
class NameWarning:
    """What is doubtful about patients' names, for the site's own eyes. stops: it means wrong splits."""

    message: str
    stops: bool


def judge_names(places: Mapping[str, Iterable[str]]) -> list[NameWarning]:
    """What is doubtful about the names of patients.

    Parameters
    ----------
    places
        By name, the labels of its examinations, such as their folders below the source.

    Returns
    -------
    list[NameWarning]
        Empty where the names are plain.
    """
    names = sorted(places)
    said = [*_dates(names), *_spellings(names), *_sessions_alone(places), *_examinations(names)]
    n_examinations = sum(len(list(labels)) for labels in places.values())
    if len(names) == 1 and n_examinations > 1:
        said.append(
            NameWarning(
                f"all {n_examinations} examinations are of one patient, called {names[0]}", stops=False
            )
        )
    return said


def require_plain(said: Iterable[NameWarning]) -> None:
    """Refuse names by which one patient would be trained on and tested.

    Parameters
    ----------
    said
        As `judge_names` gives it.

    Raises
    ------
    PatientNamesDoubtful
        FM-D210: a warning stops.
    """
    stopping = [one.message for one in said if one.stops]
    if stopping:
        raise PatientNamesDoubtful(
            "patients' names are doubtful, and one patient would be trained on and tested",
            got="; ".join(stopping),
            expected="one name a patient",
            action="Set nifti.patient_id in site.yaml so that it finds the patient and leaves the session out, and see "
            "the result with --dry-run; where the names are right, give --accept-names or set accept_patient_names",
        )


def same_patient_groups(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that differ by a session, a counter or their spelling, and so are likely one patient each.

    Parameters
    ----------
    names
        Of patients; a name given twice counts once.

    Returns
    -------
    list[list[str]]
        Groups of two or more.
    """
    names = sorted(set(names))
    found = [*_grouped(names, key=_spelling), *(group for group, sure in _session_groups(names) if sure)]
    return [group for group in found if len(group) > 1]


def _dates(names: list[str]) -> list[NameWarning]:
    dates = [name for name in names if DATE.fullmatch(name)]
    if not dates:
        return []
    message = f"{len(dates)} of {len(names)} patients are called by a date ({_shown(dates)})"
    return [NameWarning(f"{message}: the patient's name is probably that of the folder above", stops=True)]


def _spellings(names: list[str]) -> list[NameWarning]:
    groups = [group for group in _grouped(names, key=_spelling) if len(group) > 1]
    return [
        NameWarning(f"{_listed(group)} differ only by how they are written", stops=True) for group in groups
    ]


def _sessions_alone(places: Mapping[str, Iterable[str]]) -> list[NameWarning]:
    """Names that are nothing but a session: one name for every patient's second visit, or a patient a visit."""
    alone = [name for name in places if ONLY_SESSION.fullmatch(name)]
    if not alone:
        return []
    parents = {name: {_parent(label, name) for label in places[name]} for name in alone}
    several = len(set().union(*parents.values())) > 1
    numbered = all(re.search(r"\d", name) for name in alone) and len(alone) > FEW
    message = f"{_listed(alone)} are called by a session or a folder's kind, not by a patient"
    return [NameWarning(message, stops=several or not numbered)]


def _parent(label: str, name: str) -> str:
    """The path above the folder called `name`."""
    folders = label.split(":")[0].split("/")
    return "/".join(folders[: folders.index(name)]) if name in folders else ""


def _examinations(names: list[str]) -> list[NameWarning]:
    said = []
    for group, sure in _session_groups(names):
        message = f"{_listed(group)} differ only by a session, a side or a counter"
        said.append(NameWarning(message, stops=sure))
    return said


def _session_groups(names: list[str]) -> list[tuple[list[str], bool]]:
    """Groups of names of one base, and whether they are surely examinations of one patient."""
    found: list[tuple[list[str], bool]] = []
    by_word: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_word[_spelling(_without_session(name))].append(name)
    grouped = [
        group
        for base, group in by_word.items()
        if base
        and not GENERIC.fullmatch(base)
        and len(group) > 1
        and any(_without_session(n) != n for n in group)
    ]
    found += [(group, True) for group in grouped]
    taken = {name for group in grouped for name in group}
    return found + _counted_groups([name for name in names if name not in taken])


def _counted_groups(names: list[str]) -> list[tuple[list[str], bool]]:
    """NAME_1 and NAME_2 among other names; not P_1 to P_30, nor SITE_001 beside OTHER_001."""
    counters: dict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        base, counter = _without_counter(name)
        counters[_spelling(base)][name] = counter
    bases = {base for base in counters if base}
    found = []
    for base, group in counters.items():
        counted = [counter for counter in group.values() if counter]
        if not counted or len(group) < 2 or len(group) > FEW or not base or GENERIC.fullmatch(base):
            continue
        small = all(not counter.isdigit() or int(counter) <= 2 * FEW for counter in counted)
        padded = any(len(counter) > 1 for counter in counted)
        named_by_number = bool(re.search(r"\d", base)) or "" in group.values()
        if small and (named_by_number or not (padded and len(counted[0]) > 2)):
            found.append((sorted(group), named_by_number or (len(bases) > 1 and not padded)))
    return found


def _without_session(name: str) -> str:
    """A name without the session at its end; as it is where there is none, or nothing else."""
    for pattern in AFFIXES:
        rest = pattern.fullmatch(name)
        if rest is not None:
            return rest["base"]
    rest = SESSION.fullmatch(name)
    if rest is None or not rest["base"]:
        return name
    attached = not rest["separator"]
    if (
        attached
        and (not rest["base"][-1].isdigit() or rest["word"].lower() in _SHORT)
        and not (rest["counter"] and len(rest["word"]) > 2 and len(rest["base"]) > 2)
    ):
        return name  # Smart, Pavel, T1: a word's end
    if rest["word"].lower() in _SHORT and not rest["counter"]:
        return name
    return rest["base"]


def _without_counter(name: str) -> tuple[str, str]:
    """A name without the counter or letter at its end, and these; "" where there is none."""
    for pattern in (COUNTER, LETTER):
        rest = pattern.fullmatch(name)
        if rest is not None:
            return rest["base"], rest["counter"]
    return name, ""


def _spelling(name: str) -> str:
    """A name without case, separators, accents and leading zeros; words of letters in alphabetic order."""
    plain = unicodedata.normalize("NFKD", name).casefold()
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    words = re.findall(r"[^\W\d_]+|\d+", plain)
    if len(words) > 1 and all(word.isalpha() for word in words):
        words.sort()
    return "\x1f".join(str(int(word)) if word.isdigit() else word for word in words)


def _grouped(names: Iterable[str], *, key: Callable[[str], str]) -> list[list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return list(groups.values())


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _listed(names: list[str]) -> str:
    return f"{len(names)} patients ({_shown(names)})" if len(names) > 1 else f"the patient {names[0]}"
