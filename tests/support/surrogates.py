"""The real scans that stand in for a site's; a `surrogate` test skips where this machine has not got them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sites.scans.nifti import read_nifti
from tests.support.repository import ROOT

FOLDER = ROOT.parent / "shared" / "data" / "open_ms"


def surrogate_folder(name: str) -> Path:
    """The folder of real scans called `name` ("clinical", "brain_1mm"); skips the test where it is absent."""
    folder = FOLDER / name
    if not folder.is_dir():
        pytest.skip(f"the real scans are not on this machine: no folder {folder}")
    return folder


def surrogate_volume(path: str, *, every: int = 1) -> NDArray[np.float32]:
    """(S, H, W) of a scan, such as "brain_1mm/patient07/T2": the middle half of its slices, one of `every`."""
    folder, _, name = path.partition("/")
    volume = read_nifti(surrogate_folder(folder) / f"{name}.nii.gz", contrast="T1" if "T1" in name else "T2")
    n_slices = volume.n_slices
    return volume.magnitude()[n_slices // 4 : 3 * n_slices // 4 : every]
