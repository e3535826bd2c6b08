"""Damaged NIfTI files cost their pair, and are told by a code whatever their reader raises."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from minet_core.errors import FedminetError
from sites.scans.nifti import read_nifti
from sites.scans.unreadable import refusal_of
from tests.sites.scans.test_foreign_fastmri import codes_of
from tests.support.small_scans import make_volume, write_nifti


@pytest.mark.parametrize("name", ["T1.nii", "T1.nii.gz"])
def test_mutated_nifti_gives_codes_only(tmp_path: Path, name: str) -> None:
    write_nifti(tmp_path / "whole.nii.gz", make_volume(1, "T1"))
    content = gzip.decompress((tmp_path / "whole.nii.gz").read_bytes())

    def read(path: Path) -> None:
        if name.endswith(".gz"):  # the damage is under a checksum that holds
            path.write_bytes(gzip.compress(path.read_bytes(), compresslevel=1))
        try:
            read_nifti(path, contrast="T1")
        except FedminetError:
            raise
        except Exception as failure:
            raise refusal_of(failure) from failure

    codes = codes_of(tmp_path / name, content, read, seed=1, n_mutated=150)
    assert codes["read"] > 0
    assert codes.keys() <= {"read", "FM-D201", "FM-D202", "FM-D211"}
