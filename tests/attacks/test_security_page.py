"""docs/security.md names a test for each sentence: they are there under these names."""

from __future__ import annotations

import re

from tests.support.repository import ROOT


def test_every_test_that_the_page_names_is_there() -> None:
    named = re.findall(
        r"`(tests/\S+?\.py)::(\w+)`", (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    )
    assert len(named) >= 20
    for file, name in named:
        assert re.search(rf"def {name}\(", (ROOT / file).read_text(encoding="utf-8")), f"{file}::{name}"
