"""Reading the fastMRI data set's HDF5 files (Zbontar et al. 2018, arXiv:1811.08839).

kspace: (slice, row, column) single-coil, or (slice, coil, row, column). The image is the centred inverse FFT, cropped
to the header's reconstruction matrix: complex for one coil, the root sum of squares over several. Files without kspace
give reconstruction_esc or reconstruction_rss as they are.

The files hold no orientation: the affine is nominal (coronal: slices to the back, rows down, columns to the left),
right in its spacing and in nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from minet_core.fourier import centre_crop, ifft2c
from minet_core.runtime.errors import ScanInvalid, ScanUnreadable
from minet_core.volume import Image, Volume
from sites.quality import MAX_VOXELS, check_image, check_shape

RECONSTRUCTIONS = ("reconstruction_esc", "reconstruction_rss")
MAX_HEADER_BYTES = 1 << 20
MAX_KSPACE_VALUES = MAX_VOXELS * 16
"""A multi-coil knee of the set has 4e8 values; it is decoded one slice at a time."""
ISMRMRD = {"i": "http://www.ismrm.org/ISMRMRD"}

_BROKEN = (OSError, KeyError, RuntimeError, ValueError, TypeError, ElementTree.ParseError)


@dataclass(frozen=True)
class FastmriHeader:
    """What tells one file of the set from another, read without its voxels.

    patient_id: None where the attribute is absent or empty: not every release of the set has it.
    """

    acquisition: str
    patient_id: str | None
    shape: tuple[int, ...]
    matrix: tuple[int, int]
    spacing_mm: tuple[float, float, float]


def read_header(path: Path) -> FastmriHeader:
    """The file's attributes and geometry. Raises ScanUnreadable (FM-D201), ScanInvalid (FM-D202)."""
    with _opened(path) as file:
        return _header(file, name=path.name)


def read_fastmri(path: Path, *, contrast: str) -> Volume:
    """The scan: complex64 from single-coil kspace, float32 otherwise; (slice, row, column), the file's own units.

    Raises ScanUnreadable (FM-D201) for a truncated or foreign file; ScanInvalid (FM-D202) for undersampled k-space,
    a matrix larger than the image, too few slices, NaN, a constant.
    """
    with _opened(path) as file:
        header = _header(file, name=path.name)
        check_shape((header.shape[0], *header.matrix), what=path.name)
        if "kspace" in file:
            image = _from_kspace(file, matrix=header.matrix, name=path.name)
        else:
            image = np.asarray(_dataset(file, _reconstruction(file))[()])
    steps = header.spacing_mm
    affine = np.zeros((4, 4))
    affine[1, 0], affine[2, 1], affine[0, 2], affine[3, 3] = -steps[0], -steps[1], -steps[2], 1.0
    return Volume(
        array=check_image(image, what=path.name), spacing_mm=steps, affine=affine, contrast=contrast
    )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            yield file
    except _BROKEN as failure:
        raise ScanUnreadable(
            "a fastMRI file cannot be read",
            got=f"{path.name}: {failure}",
            expected="a whole HDF5 file of the set",
            action="Fetch it again",
        ) from failure


def _header(file: h5py.File, *, name: str) -> FastmriHeader:
    field_of_view, recon_matrix = _recon_space(file, name=name)
    source = _dataset(file, "kspace" if "kspace" in file else _reconstruction(file))
    if source.name == "/kspace":
        if source.ndim not in (3, 4) or source.dtype.kind != "c" or source.size > MAX_KSPACE_VALUES:
            raise ScanInvalid(
                f"{name} holds no k-space of slices",
                got=f"{source.dtype} {source.shape}",
                expected="complex (slice, [coil,] row, column)",
            )
        if "mask" in file or "acceleration" in file.attrs:
            raise ScanInvalid(
                f"{name} is undersampled", expected="fully sampled k-space: the high-resolution image"
            )
        matrix = recon_matrix[0], recon_matrix[1]
    else:
        check_shape(source.shape, what=name)
        matrix = int(source.shape[1]), int(source.shape[2])
    # The header's x is the read-out, the image's rows.
    rows, columns, depth = (field_of_view[i] / recon_matrix[i] for i in range(3))
    if min(rows, columns, depth) <= 0 or not np.isfinite([rows, columns, depth]).all():
        raise ScanInvalid(f"{name} has an impossible voxel size", got=(depth, rows, columns))
    return FastmriHeader(
        acquisition=_text(file.attrs["acquisition"]),
        patient_id=_patient_id(file),
        shape=tuple(int(n) for n in source.shape),
        matrix=matrix,
        spacing_mm=(depth, rows, columns),
    )


def _recon_space(file: h5py.File, *, name: str) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Field of view [mm] and matrix of the ISMRMRD header's reconSpace, each (x, y, z)."""
    xml = _text(_dataset(file, "ismrmrd_header")[()])
    if len(xml) > MAX_HEADER_BYTES or "<!" in xml.replace("<!--", ""):
        raise ScanInvalid(f"{name} has a header that no scanner wrote", expected="plain XML under 1 MiB")
    tree = ElementTree.fromstring(xml)  # noqa: S314 (no entity can be declared: refused above)
    space = tree.find("i:encoding/i:reconSpace", ISMRMRD)
    if space is None:
        raise ScanInvalid(f"{name} has no reconSpace in its header")

    def values(tag: str) -> list[str]:
        return [str(space.findtext(f"i:{tag}/i:{axis}", namespaces=ISMRMRD)) for axis in "xyz"]

    return tuple(map(float, values("fieldOfView_mm"))), tuple(map(int, values("matrixSize")))


def _from_kspace(file: h5py.File, *, matrix: tuple[int, int], name: str) -> Image:
    kspace = _dataset(file, "kspace")
    if kspace.shape[-2] < matrix[0] or kspace.shape[-1] < matrix[1]:
        raise ScanInvalid(
            f"{name} has fewer samples than its image", got=kspace.shape[-2:], expected=f"at least {matrix}"
        )
    single_coil = kspace.ndim == 3
    image: Image = np.empty((kspace.shape[0], *matrix), dtype=np.complex64 if single_coil else np.float32)
    for index in range(kspace.shape[0]):
        samples = torch.from_numpy(np.asarray(kspace[index], dtype=np.complex64))  # ([coil,] row, column)
        cropped = centre_crop(ifft2c(samples), matrix)
        if not single_coil:
            cropped = cropped.abs().square().sum(0).sqrt()
        image[index] = cropped.numpy()
    return image


def _reconstruction(file: h5py.File) -> str:
    for name in RECONSTRUCTIONS:
        if name in file:
            return name
    raise KeyError("neither kspace nor a reconstruction")


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A dataset whose bytes are in this very file: HDF5 can point to any other file of the machine."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ScanInvalid(f"{name} is a link to elsewhere", expected="a dataset of the file")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise ScanInvalid(f"{name} is no dataset of the file itself", expected="a plain dataset")
    return dataset


def _patient_id(file: h5py.File) -> str | None:
    value = file.attrs.get("patient_id")
    return None if value is None or isinstance(value, h5py.Empty) or not len(value) else _text(value)


def _text(value: object) -> str:
    if isinstance(value, np.ndarray):
        value = value.item()
    text = value.decode("utf-8") if isinstance(value, bytes) else str(value)
    if not text:
        raise ValueError("an empty attribute")
    return text


def central_slices(one: Volume, other: Volume) -> tuple[Volume, Volume]:
    """Two stacks cut to the number of slices of the shorter, about their middles.

    The files hold no slice positions: stacks of one examination are planned about one centre. Where they were not,
    the measured residual shows a shift of a slice and the pair is refused.
    """
    n_slices = min(one.n_slices, other.n_slices)
    return _central(one, n_slices), _central(other, n_slices)


def _central(volume: Volume, n_slices: int) -> Volume:
    first = (volume.n_slices - n_slices) // 2
    array: NDArray[np.generic] = volume.array[first : first + n_slices]
    return Volume(array=array, spacing_mm=volume.spacing_mm, affine=volume.affine, contrast=volume.contrast)  # type: ignore[arg-type]
