"""Small made-up scans with a known truth, written in the sites' file formats."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from minet_core.imaging.fourier import centre_pad, fft2c
from tests.faults.tiny_sites import (
    SHAPE,
    SPACING_MM,
    TISSUES,
    affine_of,
    make_volume,
    tissue_map,
    write_nifti,
    write_nifti_patient,
)

__all__ = [
    "SHAPE",
    "SPACING_MM",
    "TISSUES",
    "affine_of",
    "make_volume",
    "tissue_map",
    "write_fastmri",
    "write_nifti",
    "write_nifti_patient",
]


def write_fastmri(
    path: Path,
    seed: int,
    acquisition: str,
    *,
    patient_id: str | None,
    shape: tuple[int, int, int] = SHAPE,
    n_slices: int | None = None,
    n_coils: int | None = None,
    kspace: bool = True,
) -> NDArray[np.complex64]:
    """A knee-like file of the fastMRI set; gives the complex image (slice, row, column) it was made from."""
    contrast = "T2" if acquisition == "CORPDFS_FBK" else "T1"
    magnitude = make_volume(seed, contrast, shape=shape).array[:n_slices] * 1e-6
    rows, columns = magnitude.shape[1:]
    phase = np.exp(1j * np.linspace(0, 2, columns))
    image = (magnitude * phase).astype(np.complex64)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs["acquisition"] = acquisition
        if patient_id is not None:
            file.attrs["patient_id"] = patient_id
        file["ismrmrd_header"] = header(rows, columns)
        if not kspace:
            file["reconstruction_esc"] = np.abs(image)
            return image
        padded = centre_pad(torch.from_numpy(image), (2 * rows, columns + 4))
        if n_coils is not None:  # unit vectors: the root sum of squares is the magnitude
            weights = torch.full((n_coils, 1, 1), n_coils**-0.5)
            padded = padded[:, None] * weights
        file["kspace"] = fft2c(padded).to(torch.complex64).numpy()
    return image


def header(rows: int, columns: int) -> bytes:
    """The part of an ISMRMRD header that matters, with the set's namespace."""
    depth, row_mm, column_mm = SPACING_MM
    return f"""<?xml version="1.0" encoding="utf-8"?>
    <ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
    <encodedSpace><matrixSize><x>{2 * rows}</x><y>{columns + 4}</y><z>1</z></matrixSize></encodedSpace>
    <reconSpace><matrixSize><x>{rows}</x><y>{columns}</y><z>1</z></matrixSize>
    <fieldOfView_mm><x>{rows * row_mm}</x><y>{columns * column_mm}</y><z>{depth}</z></fieldOfView_mm>
    </reconSpace></encoding></ismrmrdHeader>""".encode()
