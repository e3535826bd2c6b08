"""A page reads back as the dataclass that it was, and a damaged one is a ValueError."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from minet_core.runtime.files.typed_page import MAX_BYTES, Timestamp, read_typed


@dataclass(frozen=True)
class _Inner:
    name: str
    when: Timestamp | None = None


@dataclass(frozen=True)
class _Outer:
    number: int
    inner: tuple[_Inner, ...] = ()


_WHOLE = _Outer(2**63 + 11, (_Inner("é", 1.5), _Inner("")))


def test_a_page_reads_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "page.json"
    path.write_text(json.dumps(asdict(_WHOLE)))
    assert read_typed(path, _Outer) == _WHOLE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"inner": []}',
        '{"number": 1.5}',
        '{"number": Infinity}',
        '{"number": 1, "inner": [3]}',
        '{"number": 1, "inner": [{"name": "x", "when": -1}]}',
        '{"number": 1, "inner": [{"name": "x", "when": 1e300}]}',
        '{"number": 1, "inner": ' + "[" * 5000 + "]" * 5000 + "}",
        '{"number": 1' + " " * MAX_BYTES + "}",
    ],
    ids=lambda text: text[:40],
)
def test_a_page_of_another_form_is_a_value_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "page.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"."):
        read_typed(path, _Outer)
