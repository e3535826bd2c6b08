"""Three small phantom sites, made once for all end-to-end tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.small_rehearsal import small_rehearsal


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients of each phantom site, written and ingested."""
    out = tmp_path_factory.mktemp("made")
    small_rehearsal(out).make_sites()
    return out
