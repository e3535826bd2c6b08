"""Small made-up scans with a known truth, written in the sites' file formats."""

from __future__ import annotations

from pathlib import Path

import h5py
import nibabel
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from minet_core.fourier import centre_pad, fft2c
from minet_core.volume import Volume

SHAPE = (8, 40, 36)
SPACING_MM = (4.0, 3.0, 3.0)
TISSUES = {"T1": (0.0, 0.3, 1.0, 0.7, 0.5), "T2": (0.0, 1.0, 0.35, 0.55, 0.8)}


def affine_of(spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Axial slices upwards, rows to the back, columns to the left; the origin off the axes."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm[0], -spacing_mm[1], -spacing_mm[2]
    affine[:, 3] = (61.0, 55.0, -20.0, 1.0)
    return affine


def tissue_map(
    seed: int, *, shape: tuple[int, int, int] = SHAPE, spacing_mm: tuple[float, float, float] = SPACING_MM
) -> NDArray[np.int64]:
    """A head of four tissues that another seed lays out differently: (slice, row, column), 0 is air."""
    generator = np.random.default_rng(seed)
    sigma = [7.0 / step for step in spacing_mm]
    field = ndimage.gaussian_filter(generator.standard_normal(shape), sigma)
    tissue = 1 + np.digitize(field, np.quantile(field, [0.25, 0.5, 0.75]))
    grid = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    head = (grid[0] / 1.3) ** 2 + (grid[1] / 0.85) ** 2 + (grid[2] / 0.8) ** 2 < 1
    return np.where(head, tissue, 0)


def make_volume(
    seed: int,
    contrast: str,
    *,
    shape: tuple[int, int, int] = SHAPE,
    spacing_mm: tuple[float, float, float] = SPACING_MM,
) -> Volume:
    """A patient's scan of one contrast: the tissues, slightly blurred, with 2% noise; units of 1000."""
    clean = np.array(TISSUES[contrast])[tissue_map(seed, shape=shape, spacing_mm=spacing_mm)]
    noise = np.random.default_rng([seed, len(contrast), ord(contrast[1])]).normal(0, 0.02, shape)
    array = np.abs(ndimage.gaussian_filter(clean, (0, 0.5, 0.5)) + noise) * 1000
    return Volume(array.astype(np.float32), spacing_mm, affine_of(spacing_mm), contrast)


def write_nifti(path: Path, volume: Volume) -> None:
    """Write a volume as a scanner does: axes (column, row, slice)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = volume.affine[:, [2, 1, 0, 3]]
    nibabel.save(nibabel.Nifti1Image(volume.array.transpose(2, 1, 0), affine), path)


def write_nifti_patient(
    folder: Path, seed: int, *, names: tuple[str, str] = ("T1.nii.gz", "T2.nii.gz")
) -> None:
    """T1 and T2 of one patient in one folder."""
    write_nifti(folder / names[0], make_volume(seed, "T1"))
    write_nifti(folder / names[1], make_volume(seed, "T2"))


def write_fastmri(
    path: Path,
    seed: int,
    acquisition: str,
    *,
    patient_id: str,
    n_slices: int = SHAPE[0],
    n_coils: int | None = None,
    kspace: bool = True,
) -> NDArray[np.complex64]:
    """A knee-like file of the fastMRI set; gives the complex image (slice, row, column) it was made from."""
    contrast = "T2" if acquisition == "CORPDFS_FBK" else "T1"
    magnitude = make_volume(seed, contrast).array[:n_slices] * 1e-6
    rows, columns = magnitude.shape[1:]
    phase = np.exp(1j * np.linspace(0, 2, columns))
    image = (magnitude * phase).astype(np.complex64)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs["acquisition"], file.attrs["patient_id"] = acquisition, patient_id
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
