"""A ledger for people: its last records in lines, and what a verification found."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from minet_core.errors import FileMissing, LedgerDamaged
from minet_core.ledger.records import HEAD, NO_HEAD, Ledger, Verified

_SHOWN_DIGITS = 12
_FIRST = ("site", "task", "study", "run", "round", "code")
_OWN = ("n", "time", "event", "prev", "sha256")


def last_records(records: Iterable[dict[str, Any]], *, last: int) -> list[dict[str, Any]]:
    """The last records of a ledger.

    Parameters
    ----------
    records
        Oldest first; they are gone through once.
    last
        How many; 0 for all.

    Returns
    -------
    list of dict
        Oldest first.
    """
    return list(deque(records, maxlen=last or None))


def record_as_text(record: Mapping[str, Any]) -> str:
    """One line: number, time, event, and what it says; digests by their first digits.

    Parameters
    ----------
    record
        Of a ledger.

    Returns
    -------
    str
        Without a line's end.
    """
    keys = [
        *(key for key in _FIRST if key in record),
        *(key for key in record if key not in (*_FIRST, *_OWN)),
    ]
    said = " ".join(f"{key}={_word(record[key])}" for key in keys if record[key] is not None)
    return f"{record['n']:6d}  {str(record['time'])[:19]}  {record['event']:14s}  {said}".rstrip()


def heads_held(path: Path, *, key: str, where: Mapping[str, str] | None = None) -> set[str]:
    """The heads of this end that the other end's ledger holds.

    Parameters
    ----------
    path
        Of the other end's ledger.
    key
        Under which its records have a head of this end.
    where
        Only records that say all of this are looked at.

    Returns
    -------
    set of str
        64 hexadecimal digits each, without `NO_HEAD`.

    Raises
    ------
    FileMissing
        FM-C103, where there is no file.
    LedgerDamaged
        FM-S523, for a line that is no record.
    """
    if not path.is_file():
        raise FileMissing("the other end's ledger is missing", got=path)
    other = Ledger.at_file(path)
    held = {
        record[key]
        for record in other.records()
        if all(record.get(name) == value for name, value in (where or {}).items())
        and isinstance(record.get(key), str)
        and HEAD.fullmatch(record[key])
    }
    return held - {NO_HEAD}


def require_whole(found: Verified, *, path: Path) -> None:
    """Refuse a ledger in which a problem was found.

    Parameters
    ----------
    found
        As `Ledger.verify` gives it.
    path
        Of the ledger, for the message.

    Raises
    ------
    LedgerDamaged
        FM-S523, with the problems.
    """
    if found.problems:
        raise LedgerDamaged(
            "the ledger does not hold together",
            got=f"{path}: {'; '.join(found.problems)}",
            action="Keep its files as they are, and compare with the ledger of the other end",
        )


def audit(ledger: Ledger, *, held: Collection[str], as_json: bool, say: Callable[[str], None]) -> None:
    """Verify a ledger at either end, say what was found, and note in it that it was audited.

    Parameters
    ----------
    ledger
        This end's own.
    held
        Heads of it that the other end holds.
    as_json
        Say one JSON object, also of a ledger that is damaged, before the failure.
    say
        Takes what is said.

    Raises
    ------
    LedgerDamaged
        FM-S523, with the first problem.
    """
    found = ledger.verify(held=held)
    if as_json:
        facts = {"records": found.head.n, "head": found.head.sha256}
        say(json.dumps({**facts, "problems": list(found.problems), "notes": list(found.notes)}))
    require_whole(found, path=ledger.path)
    ledger.append("audited", records=found.head.n, heads_of_the_other_end=len(held))
    if not as_json:
        say(verified_as_text(found, n_held=len(held)))


def verified_as_text(found: Verified, *, n_held: int) -> str:
    """Describe a whole ledger: how far it reaches, what was mended, and its head to give to the other end.

    Parameters
    ----------
    found
        Without a problem.
    n_held
        How many heads the other end holds.

    Returns
    -------
    str
        Lines.
    """
    lines = [
        f"{found.head.n} records hold together"
        + (f", and {n_held} heads of the other end's" if n_held else "")
    ]
    lines += found.notes
    lines.append(f"head {found.head.sha256}")
    return "\n".join(lines)


def _word(value: Any) -> str:
    if isinstance(value, str) and HEAD.fullmatch(value):
        return value[:_SHOWN_DIGITS]
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} {_word(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + "; ".join(map(_word, value)) + "]"
    return str(value)
