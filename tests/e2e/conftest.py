"""Three small sites, made once for all end-to-end tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.small_federation import small_rehearsal, write_scans


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scans of the two sites that have some, a folder each."""
    folder = tmp_path_factory.mktemp("scans")
    write_scans(folder)
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, scans: Path) -> Path:
    """The folder of a rehearsal whose three sites are ingested."""
    out = tmp_path_factory.mktemp("made")
    small_rehearsal(out, scans).make_sites()
    return out
