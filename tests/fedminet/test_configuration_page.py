"""The page of all keys is what the settings say."""

from __future__ import annotations

from fedminet.configuration_page import configuration_page
from tests.support.repository import ROOT

PAGE = ROOT / "docs" / "configuration.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == configuration_page(), "run `make docs`"


def test_every_key_has_a_meaning() -> None:
    rows = [line for line in configuration_page().splitlines() if line.startswith("| `")]
    assert len(rows) > 40
    assert not [row for row in rows if row.endswith("|  |")]
