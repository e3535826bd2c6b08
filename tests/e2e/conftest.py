"""Three small sites, made once for all end-to-end tests."""

from __future__ import annotations

import functools
from pathlib import Path
from unittest import mock

import pytest

from fedminet.single_machine import sites as site_making
from sites.phantom_files import write_phantom_site
from tests.support.small_federation import small_rehearsal, write_scans

N_SLICES = 8
"""Of a phantom's stack; the protocol has 20."""


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scans of the two sites that have some, a folder each."""
    folder = tmp_path_factory.mktemp("scans")
    write_scans(folder)
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, scans: Path) -> Path:
    """The folder of a rehearsal whose three sites are ingested. Its phantoms have fastMRI's frame, and few slices."""
    out = tmp_path_factory.mktemp("made")
    with mock.patch.object(
        site_making, "write_phantom_site", functools.partial(write_phantom_site, n_slices=N_SLICES)
    ):
        small_rehearsal(out, scans).make_sites()
    return out
