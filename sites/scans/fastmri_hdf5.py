"""Reading the fastMRI data set's HDF5 files (Zbontar et al. 2018, arXiv:1811.08839), knees and brains.

kspace: (slice, row, column) single-coil, or (slice, coil, row, column). The image is the centred inverse FFT, cropped
to the header's reconstruction matrix: complex for one coil, the root sum of squares over several. Files without kspace
give reconstruction_esc or reconstruction_rss as they are. Complex values may be HDF5's, h5py's or a compound's of a
real and an imaginary part.

The files hold no orientation and no position: the affine is nominal (coronal: slices to the back, rows down, columns to
the left; the origin in the middle of the stack), right in its spacing and in nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from minet_core.errors import ScanInvalid, ScanUnreadable
from minet_core.imaging.volume import Image, Volume
from sites.quality.scan_quality import MAX_EDGE, MAX_VOXELS, check_image, check_shape
from sites.scans.foreign_hdf5 import ForeignFile

RECONSTRUCTIONS = ("reconstruction_esc", "reconstruction_rss")
MAX_KSPACE_VALUES = MAX_VOXELS * 16
"""A multi-coil knee of the set has 4e8 values; it is decoded one slice at a time."""
SPACING_LIMITS_MM = (0.01, 50.0)


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


@dataclass(frozen=True)
class _Geometry:
    """Which array a file's image comes from, its shape, the image's rows and columns, and the voxel's size."""

    source: str
    shape: tuple[int, ...]
    matrix: tuple[int, int]
    spacing_mm: tuple[float, float, float]


def read_header(path: Path) -> FastmriHeader:
    """The file's attributes and geometry; no voxel is read.

    Parameters
    ----------
    path
        An HDF5 file of the set, knee or brain.

    Returns
    -------
    FastmriHeader
        `shape` of the array that the image is made from, `matrix` of the image, spacing in mm along (slice, row,
        column).

    Raises
    ------
    ScanUnreadable
        FM-D201: truncated, not HDF5, no image, a header that is no XML.
    ScanInvalid
        FM-D202: no contrast or header in the file, an impossible voxel size or matrix, undersampled k-space.
    ScanReaderFailed
        FM-D211: the file brings the reading process down.

    References
    ----------
    Zbontar et al., fastMRI: An Open Dataset and Benchmarks for Accelerated MRI, arXiv:1811.08839 (2018).
    """
    file = ForeignFile(path)
    acquisition = file.attribute("acquisition")
    if acquisition is None:
        raise ScanInvalid(
            f"{path.name} does not say what contrast it is",
            got="no attribute acquisition, or an empty one",
            expected="as CORPD_FBK, CORPDFS_FBK, AXT1 or AXT2",
        )
    geometry = _geometry(file, name=path.name)
    return FastmriHeader(
        acquisition=str(acquisition),
        patient_id=_patient_id(file),
        shape=geometry.shape,
        matrix=geometry.matrix,
        spacing_mm=geometry.spacing_mm,
    )


def read_fastmri(path: Path, *, contrast: str) -> Volume:
    """The scan of one file of the set, in the file's own units.

    Parameters
    ----------
    path
        An HDF5 file of the set, knee or brain.
    contrast
        The contrast's name for the volume, such as "PD"; the file's attribute is not held against it.

    Returns
    -------
    Volume
        (slice, row, column): complex64 from single-coil kspace, float32 otherwise (several coils: root sum of squares).
        The affine is nominal; its spacing alone is the file's.

    Raises
    ------
    ScanUnreadable
        FM-D201: a truncated or foreign file.
    ScanInvalid
        FM-D202: undersampled k-space, a matrix larger than the samples, too few slices, NaN, a constant.
    ScanReaderFailed
        FM-D211: the file brings the reading process down.
    """
    file = ForeignFile(path)
    geometry = _geometry(file, name=path.name)
    check_shape((geometry.shape[0], *geometry.matrix), what=path.name)
    if geometry.source == "kspace":
        image = _from_kspace(file, geometry, name=path.name)
    else:
        image = _as_they_are(file, geometry)
    image = check_image(image, what=path.name)
    affine = _nominal_affine(image.shape, geometry.spacing_mm)
    return Volume(array=image, spacing_mm=geometry.spacing_mm, affine=affine, contrast=contrast)


def _geometry(file: ForeignFile, *, name: str) -> _Geometry:
    field_of_view, recon_matrix = _recon_space(file, name=name)
    # The header's x is the read-out, the image's rows.
    rows, columns, depth = (field_of_view[i] / recon_matrix[i] for i in range(3))
    low, high = SPACING_LIMITS_MM
    if not all(low <= step <= high for step in (rows, columns, depth)):  # NaN is not within either
        raise ScanInvalid(
            f"{name} has an impossible voxel size",
            got=f"{depth:g} x {rows:g} x {columns:g} mm",
            expected=f"{low} to {high} mm",
        )
    source, shape = _source(file, name=name)
    if source == "kspace":
        matrix = recon_matrix[0], recon_matrix[1]
        _require_sampled(file, shape, matrix, name=name)
    else:
        check_shape(shape, what=name)
        matrix = shape[1], shape[2]
    return _Geometry(source=source, shape=shape, matrix=matrix, spacing_mm=(depth, rows, columns))


def _source(file: ForeignFile, *, name: str) -> tuple[str, tuple[int, ...]]:
    """The array that the image is made from, and its shape."""
    kspace = file.array("kspace")
    if kspace is not None:
        shape, is_complex = kspace
        if len(shape) not in (3, 4) or not is_complex or math.prod(shape) > MAX_KSPACE_VALUES:
            raise ScanInvalid(
                f"{name} holds no k-space of slices",
                got=f"{'complex' if is_complex else 'real'} {shape}",
                expected=f"complex (slice, [coil,] row, column), up to {MAX_KSPACE_VALUES} values",
            )
        return "kspace", shape
    for source in RECONSTRUCTIONS:
        found = file.array(source)
        if found is not None:
            return source, found[0]
    raise ScanUnreadable(
        "a fastMRI file holds no image", got=name, expected=f"kspace, {' or '.join(RECONSTRUCTIONS)}"
    )


def _require_sampled(
    file: ForeignFile, shape: tuple[int, ...], matrix: tuple[int, int], *, name: str
) -> None:
    """Refuse k-space that was undersampled, or is smaller than its image: neither is a high-resolution image."""
    expected = "fully sampled k-space: the high-resolution image"
    mask, acceleration = file.mask("mask"), file.attribute("acceleration")
    if mask is not None and mask[0] < mask[1]:
        sampled = f"{mask[0] / mask[1]:.0%} of the mask's samples taken"
        raise ScanInvalid(f"{name} is undersampled", got=sampled, expected=expected)
    if isinstance(acceleration, int | float) and acceleration > 1:
        raise ScanInvalid(f"{name} is undersampled", got=f"acceleration {acceleration:g}", expected=expected)
    if shape[-2] < matrix[0] or shape[-1] < matrix[1]:
        raise ScanInvalid(
            f"{name} has fewer samples than its image: the scanner interpolated it",
            got=f"{shape[-2]} x {shape[-1]} samples",
            expected=f"at least {matrix[0]} x {matrix[1]}",
        )


def _from_kspace(file: ForeignFile, geometry: _Geometry, *, name: str) -> Image:
    import torch  # where it computes: who looks at names and headers does not wait for it

    from minet_core.imaging.fourier import centre_crop, ifft2c

    single_coil = len(geometry.shape) == 3
    shape = (geometry.shape[0], *geometry.matrix)
    image: NDArray[Any] = np.empty(shape, dtype=np.complex64 if single_coil else np.float32)
    taken = np.zeros(geometry.shape[-1], dtype=np.bool_)
    for index in range(shape[0]):
        samples = file.slice("kspace", index)  # ([coil,] row, column)
        with np.errstate(invalid="ignore"):  # what is not finite is refused with the image
            taken |= (samples.reshape(-1, samples.shape[-1]) != 0).any(axis=0)
        cropped = centre_crop(ifft2c(torch.from_numpy(samples)), geometry.matrix)
        if not single_coil:
            cropped = cropped.abs().square().sum(0).sqrt()
        image[index] = cropped.numpy()
    _require_no_gaps(taken, name=name)
    return image


def _as_they_are(file: ForeignFile, geometry: _Geometry) -> Image:
    first: NDArray[Any] = file.slice(geometry.source, 0)
    image: NDArray[Any] = np.empty(geometry.shape, first.dtype)
    for index in range(geometry.shape[0]):
        image[index] = first if index == 0 else file.slice(geometry.source, index)
    return image


def _require_no_gaps(taken: NDArray[np.bool_], *, name: str) -> None:
    """taken: columns with any sample. Zeros at the edges are the scanner's padding; between samples, they are gaps."""
    columns = np.flatnonzero(taken)
    if columns.size and columns.size < columns[-1] - columns[0] + 1:
        share = columns.size / (columns[-1] - columns[0] + 1)
        raise ScanInvalid(
            f"{name} is undersampled",
            got=f"{share:.0%} of its columns hold samples",
            expected="fully sampled k-space: the high-resolution image",
        )


def _recon_space(file: ForeignFile, *, name: str) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Field of view [mm] and matrix of the ISMRMRD header's reconSpace, each (x, y, z)."""
    xml = file.text("ismrmrd_header")
    if xml is None:
        raise ScanInvalid(
            f"{name} has no header, and nothing else says how large its voxels are",
            got="no dataset ismrmrd_header, or an empty one",
            expected="the ISMRMRD header of the scan, as the set's own files have it",
            action="Take the file of the set itself",
        )
    if "<!" in xml.replace("<!--", ""):
        raise ScanInvalid(f"{name} has a header that no scanner wrote", expected="plain XML")
    try:
        tree = ElementTree.fromstring(xml)  # noqa: S314 (no entity can be declared: refused above)
    except (ElementTree.ParseError, ValueError, LookupError) as failure:
        raise ScanUnreadable(
            "a fastMRI file's header is no XML", got=f"{name}: {failure}", expected="an ISMRMRD header"
        ) from failure
    space = tree.find("{*}encoding/{*}reconSpace")
    if space is None:
        raise ScanInvalid(f"{name} has no reconSpace in its header", expected="encoding/reconSpace")
    fields = [_number(space, "fieldOfView_mm", axis, name=name) for axis in "xyz"]
    sizes = [_number(space, "matrixSize", axis, name=name) for axis in "xyz"]
    if any(size != int(size) or size > MAX_EDGE for size in sizes):
        raise ScanInvalid(
            f"{name} has an impossible matrix in its header",
            got=" x ".join(f"{size:g}" for size in sizes),
            expected=f"whole numbers up to {MAX_EDGE}",
        )
    return tuple(fields), tuple(int(size) for size in sizes)


def _number(space: ElementTree.Element, tag: str, axis: str, *, name: str) -> float:
    """A number above zero of the header's reconSpace."""
    text = space.findtext(f"{{*}}{tag}/{{*}}{axis}")
    try:
        value = float(text or "nan")
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        says = "the slices' thickness" if (tag, axis) == ("fieldOfView_mm", "z") else "the voxels' size"
        raise ScanInvalid(
            f"{name} does not say {says}: reconSpace/{tag}/{axis} of its header",
            got="nothing" if not text else text.strip()[:40],
            expected="a number above 0",
            action="Take the file of the set itself",
        )
    return value


def _patient_id(file: ForeignFile) -> str | None:
    """The attribute as text; a whole number as its digits, however it was stored."""
    value = file.attribute("patient_id")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return None if value is None else str(value)


def _nominal_affine(shape: tuple[int, ...], steps: tuple[float, float, float]) -> NDArray[np.float64]:
    """Voxel (slice, row, column) to mm, about the middle of the stack."""
    affine = np.zeros((4, 4))
    affine[1, 0], affine[2, 1], affine[0, 2], affine[3, 3] = -steps[0], -steps[1], -steps[2], 1.0
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def central_slices(one: Volume, other: Volume) -> tuple[Volume, Volume]:
    """Two stacks cut to the number of slices of the shorter, about their middles.

    The files hold no slice positions: stacks of one examination are planned about one centre. Where they were not,
    the measured residual shows a shift of a slice and the pair is refused.

    Parameters
    ----------
    one, other
        Volumes as `read_fastmri` gives them; rows and columns are left as they are.

    Returns
    -------
    tuple[Volume, Volume]
        Both in the order given, with as many slices each, and the nominal affine of what is left.
    """
    n_slices = min(one.n_slices, other.n_slices)
    return _central(one, n_slices), _central(other, n_slices)


def _central(volume: Volume, n_slices: int) -> Volume:
    first = (volume.n_slices - n_slices) // 2
    array: NDArray[np.generic] = volume.array[first : first + n_slices]
    affine = _nominal_affine(array.shape, volume.spacing_mm)
    return Volume(array=array, spacing_mm=volume.spacing_mm, affine=affine, contrast=volume.contrast)  # type: ignore[arg-type]
