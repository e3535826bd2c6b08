"""The vendors' real DICOM files; a test that needs them skips where this machine has not got them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.repository import ROOT

FOLDER = ROOT.parent / "shared" / "data" / "dicom"


def vendor_folder(name: str) -> Path:
    """One folder of real files, such as "uih_t1_sag"; skips the test where it is absent."""
    if not (FOLDER / name).is_dir():
        pytest.skip(f"the vendors' DICOM files are not on this machine: no folder {FOLDER / name}")
    return FOLDER / name


def convert(name: str, folder: Path, *options: str) -> list[Path]:
    """The NIfTI files that dcm2niix makes in `folder` of one folder of real files, sorted."""
    program = Path(sys.executable).with_name("dcm2niix")
    if not program.exists():
        pytest.skip("dcm2niix is not installed (pins/dev.txt)")
    command = [str(program), "-b", "n", "-f", "s%s", *options, "-o", str(folder), str(vendor_folder(name))]
    subprocess.run(command, check=True, capture_output=True)
    return sorted(folder.glob("*.nii"))


def nifti_in_world(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The scaled values (column, row, slice[, time]) and the affine of those axes."""
    image = nibabel.load(path)
    return np.asarray(image.get_fdata()), image.affine


def voxels_at(
    values: NDArray[np.float64],
    affine: NDArray[np.float64],
    shape: tuple[int, ...],
    to_world: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Of a NIfTI volume, the voxels that lie where those of another grid do; fails where they lie between."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    world = grid @ to_world[:3, :3].T + to_world[:3, 3]
    inverse = np.linalg.inv(affine)
    places = world @ inverse[:3, :3].T + inverse[:3, 3]
    nearest = np.rint(places).astype(np.int64)
    assert np.abs(places - nearest).max() < 0.01, "a voxel lies between voxels"
    assert (nearest >= 0).all()
    assert (nearest < values.shape[:3]).all()
    return values[tuple(nearest.T)].reshape(shape)
