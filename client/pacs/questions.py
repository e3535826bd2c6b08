"""What a PACS is asked for: studies by their UIDs or by accession numbers in a file.

Numbers are identities: a question is called by its place from here on, as "line 3".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from minet_core.errors import FileMissing, InvalidSetting

MAX_FILE_BYTES = 1 << 22
MAX_NUMBER_LENGTH = 64
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_WILD = re.compile(r"[*?\\\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Question:
    """One study or accession number, and what it is called."""

    label: str
    keyword: Literal["StudyInstanceUID", "AccessionNumber"]
    value: str = field(repr=False)


def read_questions(studies: Sequence[str], accessions: Path | None) -> list[Question]:
    """In the order in which they are given, each once.

    studies: Study Instance UIDs. accessions: a file with an accession number a line; empty lines count for nothing.
    Raises FileMissing (FM-C103), InvalidSetting (FM-C102) for nothing to ask, and for what would ask for more than one
    number; messages have the place, and no number.
    """
    found = [
        Question(f"study {place}", "StudyInstanceUID", _checked(value.strip(), f"study {place}"))
        for place, value in enumerate(studies, start=1)
    ]
    for one in found:
        if not _UID.fullmatch(one.value):
            raise InvalidSetting(f"{one.label} is no Study Instance UID", expected="digits and points")
    found += [] if accessions is None else _read_lines(accessions)
    if not found:
        raise InvalidSetting(
            "no study is asked for", expected="--study UID, or --accessions with a file of numbers"
        )
    first: dict[tuple[str, str], Question] = {}
    for one in found:
        first.setdefault((one.keyword, one.value), one)
    return list(first.values())


def _read_lines(path: Path) -> list[Question]:
    if not path.is_file():
        raise FileMissing(
            "the file of accession numbers is missing", got=path, action="Give the path of a text file"
        )
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InvalidSetting("the file of accession numbers is too long", expected=f"{MAX_FILE_BYTES} bytes")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InvalidSetting(
            "the file of accession numbers is no text", got=path, expected="a number a line, in UTF-8"
        ) from None
    numbered = [(f"line {place}", line.strip()) for place, line in enumerate(lines, start=1)]
    return [Question(label, "AccessionNumber", _checked(value, label)) for label, value in numbered if value]


def _checked(value: str, label: str) -> str:
    """Raises InvalidSetting: a wildcard would ask for other people's studies."""
    if not value or len(value) > MAX_NUMBER_LENGTH or _WILD.search(value):
        raise InvalidSetting(
            f"{label} is no number to ask for",
            got="a wildcard, a control character, nothing, or too much",
            expected=f"1 to {MAX_NUMBER_LENGTH} characters without * ? and \\",
        )
    return value
