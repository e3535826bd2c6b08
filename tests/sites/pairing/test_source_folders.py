"""Folders of a source that cannot be listed, or are links: named, and never the reason why a pair is removed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from minet_core.errors import ScanUnreadable
from sites.ingest import ingest
from sites.pairing.pairing import find_pairs
from sites.settings.definitions import definition
from tests.support.small_scans import write_nifti_patient

SMS = definition("sms")
NOBODY = 65534


@pytest.fixture
def source() -> Iterator[Path]:
    """Four patients in a folder that every user may enter; the last one's may then be closed."""
    top = Path(tempfile.mkdtemp())
    top.chmod(0o755)
    for number in range(4):
        write_nifti_patient(top / "scans" / f"P0{number}", seed=number)
    yield top / "scans"
    (top / "scans" / "P03").chmod(0o755)
    shutil.rmtree(top)


@pytest.fixture
def as_a_plain_user() -> Iterator[None]:
    """Root may read whatever the modes say: as root, the files of the test are looked at by another user."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    yield
    os.seteuid(0)


def test_a_folder_that_cannot_be_listed_is_refused_by_name(source, request) -> None:
    (source / "P03").chmod(0)
    request.getfixturevalue("as_a_plain_user")
    found = find_pairs(source, SMS)
    assert [one.patient_id for one in found.candidates] == ["P00", "P01", "P02"]
    assert [(one.label, one.code) for one in found.refused] == [("P03", "FM-D201")]
    assert "cannot be listed" in found.refused[0].message
    assert found.unlisted == ["P03"]


def test_nothing_is_removed_while_a_folder_cannot_be_listed(source, tmp_path, request) -> None:
    report = ingest(source, tmp_path / "store", SMS)
    (source / "P03").chmod(0)
    request.getfixturevalue("as_a_plain_user")
    found = find_pairs(source, SMS)
    if os.geteuid() == NOBODY:
        os.seteuid(0)  # the store is root's
    with pytest.raises(ScanUnreadable, match=r"nothing is removed.*P03"):
        ingest(source, tmp_path / "store", SMS, found=found, prune=True)
    kept = ingest(source, tmp_path / "store", SMS, found=found)
    assert kept.cohort.patients == report.cohort.patients
    assert [one.label for one in kept.refused] == ["P03"]


def test_a_link_to_a_folder_is_said(source, tmp_path) -> None:
    (source / "elsewhere").symlink_to(tmp_path)
    found = find_pairs(source, SMS)
    assert found.remarks == ["elsewhere is a link to a folder and was not followed"]
    assert len(found.candidates) == 4
