"""Pages that one of our processes writes for another, read as the dataclasses that they were.

What a disk, a cut write or a person did to one is a ValueError, not a value of another kind that fails later and
elsewhere.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from pydantic import Field, TypeAdapter

MAX_BYTES = 4 << 20
"""Of a page: many times what any of ours has."""

Timestamp = Annotated[float, Field(ge=0.0, le=2.0**35)]
"""Seconds since 1970, to the year 3058: far beyond it Python's calendar has no date."""

_Page = TypeVar("_Page")


def read_typed(path: Path, kind: type[_Page]) -> _Page:
    """A page that one of our processes wrote, as the dataclass that it was.

    Parameters
    ----------
    path
        A JSON file.
    kind
        A dataclass of plain values and of other dataclasses, or a mapping or tuple of them.

    Returns
    -------
    kind
        Every field of the kind and in the range that the class says.

    Raises
    ------
    ValueError
        For a page of another form, or of over `MAX_BYTES`.
    OSError
        Where the file cannot be read.
    """
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it has over {MAX_BYTES} bytes")
    return parse_typed(content, kind)


def parse_typed(content: bytes, kind: type[_Page]) -> _Page:
    """The same of a page's or a line's bytes.

    Parameters
    ----------
    content
        JSON in UTF-8.
    kind
        As of `read_typed`.

    Returns
    -------
    kind
        Every field of the kind and in the range that the class says.

    Raises
    ------
    ValueError
        For bytes of another form.
    """
    parsed: _Page = _adapter(cast(Hashable, kind)).validate_json(content)
    return parsed


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
