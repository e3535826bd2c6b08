# mypy: disallow-untyped-calls=False
"""The bytes of one NIfTI file: its header and its voxels, with all that is read and held bounded by the header.

A file is taken for what its first bytes say, not for its name: gzip named .nii and a plain file named .nii.gz are read.
A gzip file is read to its end so that its checksum is verified, and never past what its header announces. The voxels
are read once, in the type they are stored in.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from minet_core.errors import ScanInvalid, ScanUnreadable
from sites.quality.scan_quality import check_shape

HEADER_BYTES = 16 << 20
"""Room for a NIfTI header with its extensions, and for what may follow the voxels."""
MAX_INFLATION = 200
"""Declared bytes over those of the gzip file. Noise hardly shrinks; a head in much empty air does by ten or twenty."""
INFLATION_BYTES = 1 << 24
"""Below this (16 MiB) any inflation is harmless."""
GZIP_MAGIC = b"\x1f\x8b"
HEADERS = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
"""By the number that a file begins with: the bytes of its header."""
SINGLE_FILE = (b"n+1", b"n+2")
"""Magic of a file that holds header and voxels."""
STANDARD_SPACE = 3
"""Least code of a standard space: Talairach, MNI 152, another template. 1 and 2 are of the patient."""
QUATERNION_LIMIT = 1.01
"""b2 + c2 + d2 up to here is one by rounding, as the format's own C library reads it; beyond it is no rotation."""

_BROKEN = (
    OSError,
    EOFError,
    zlib.error,
    ImageFileError,
    HeaderDataError,
    ValueError,
    KeyError,
    OverflowError,
)

Affine = NDArray[np.float64]


@dataclass(frozen=True)
class NiftiHeader:
    """What a header says, checked as far as reading needs it.

    shape: without trailing axes of one. dtype: as stored. offset: of the first voxel in the file. slope, inter: value =
    slope * stored + inter. affine: of the file's axes to RAS+ mm, by sform, else qform, else voxel sizes; by a qform of
    the patient where the sform is of a standard space, in which a voxel has another size. sform, qform: each form's
    own; None where its code is 0 or it cannot be read. codes: (sform, qform). pixel_mm: the header's own voxel sizes.
    slice_axis: by `dim_info`, None where not said. unit: of the voxel sizes.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    inter: float
    affine: Affine
    sform: Affine | None
    qform: Affine | None
    codes: tuple[int, int]
    pixel_mm: tuple[float, ...]
    slice_axis: int | None
    unit: str

    @property
    def n_bytes(self) -> int:
        """Of the voxels as stored."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(path: Path) -> NiftiHeader:
    """The header alone.

    Parameters
    ----------
    path
        A .nii or .nii.gz file; what it is, its first bytes say.

    Returns
    -------
    NiftiHeader
        Checked as far as reading needs it.

    Raises
    ------
    ScanUnreadable
        FM-D201: not single-file NIfTI, or it ends within its header.
    ScanInvalid
        FM-D202: a shape that is no scan's.
    """
    with _unreadable(path), _opened(path) as stream:
        return _header(stream, name=path.name)


def read_stored(path: Path) -> tuple[NiftiHeader, NDArray[Any]]:
    """The header, and the voxels as they are stored.

    Parameters
    ----------
    path
        A .nii or .nii.gz file; what it is, its first bytes say.

    Returns
    -------
    tuple[NiftiHeader, NDArray[Any]]
        The voxels have the header's `shape` along the file's axes, in Fortran order, and the stored dtype: slope and
        inter are not applied.

    Raises
    ------
    ScanUnreadable
        FM-D201: truncated, failed checksum, not NIfTI.
    ScanInvalid
        FM-D202: not three axes, too few slices, too large, no real numbers, longer than its header says.

    References
    ----------
    NIfTI-1 Data Format, https://nifti.nimh.nih.gov/nifti-1.
    """
    with _unreadable(path), _opened(path) as stream:
        header = _header(stream, name=path.name)
        if header.dtype.kind not in "iuf":
            raise ScanInvalid(
                f"{path.name} holds no magnitude image",
                got=header.dtype,
                expected="real numbers",
                action="Give the magnitude of a complex image, and a grey image in place of one in colours",
            )
        if not isinstance(stream, gzip.GzipFile) and path.stat().st_size < header.offset + header.n_bytes:
            raise EOFError("the file ends before its last voxel")
        if isinstance(stream, gzip.GzipFile):
            _require_bounded(header, path)
        _pass_over(stream, header.offset - stream.tell())
        stored = np.empty(math.prod(header.shape), dtype=header.dtype)
        _fill(stream, stored.view(np.uint8))
        if _pass_over(stream, HEADER_BYTES + 1) > HEADER_BYTES:
            raise ScanInvalid(
                f"{path.name} is longer than its header says",
                got=f"over {HEADER_BYTES} bytes more",
                expected="the voxels of the header",
                action="Convert the scan again",
            )
    return header, stored.reshape(header.shape, order="F")


@contextlib.contextmanager
def _unreadable(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as failure:
        raise ScanUnreadable(
            "this user may not read a NIfTI file",
            got=path.name,
            expected="a file that the user may read",
            action="Give the user that reads the scans the right to read it",
        ) from failure
    except _BROKEN as failure:
        raise ScanUnreadable(
            "a NIfTI file cannot be read",
            got=f"{path.name}: {failure}",
            expected="a whole .nii or .nii.gz",
            action="Export it again",
        ) from failure


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    with path.open("rb") as plain:
        zipped = plain.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        plain.seek(0)
        if not zipped:
            yield plain
            return
        with gzip.GzipFile(fileobj=plain) as stream:
            yield stream


def _header(stream: IO[bytes] | gzip.GzipFile, *, name: str) -> NiftiHeader:
    head = stream.read(4)
    sizes = {int.from_bytes(head, "little"), int.from_bytes(head, "big")} & set(HEADERS)
    if len(head) < 4 or not sizes:
        raise ImageFileError("it does not begin as NIfTI does")
    size = sizes.pop()
    head += stream.read(size - 4)
    if len(head) < size:
        raise EOFError("the file ends within its header")
    header = HEADERS[size].from_fileobj(io.BytesIO(head))
    if not bytes(header["magic"].item()).startswith(SINGLE_FILE):
        raise ImageFileError("it is no single-file NIfTI (magic n+1 or n+2)")
    shape = tuple(int(n) for n in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    check_shape(shape, what=name)
    offset = float(header["vox_offset"])
    if not (math.isfinite(offset) and size <= offset <= HEADER_BYTES):
        raise HeaderDataError(f"voxels at byte {offset:g}, where a header has room for {HEADER_BYTES}")
    slope, inter = header.get_slope_inter()
    return NiftiHeader(
        shape=shape,
        dtype=header.get_data_dtype(),
        offset=int(offset),
        slope=1.0 if slope is None else float(slope),
        inter=0.0 if inter is None else float(inter),
        **_geometry(header),
        pixel_mm=tuple(float(step) for step in header["pixdim"][1:4]),
        slice_axis=header.get_dim_info()[2],
        unit=str(header.get_xyzt_units()[0]),
    )


def _geometry(header: Any) -> dict[str, Any]:
    """affine, sform, qform and codes."""
    codes = (int(header["sform_code"]), int(header["qform_code"]))
    sform = np.asarray(header.get_sform(), dtype=np.float64) if codes[0] > 0 else None
    qform = None
    if codes[1] > 0:
        try:
            qform = _qform(header)
        except (HeaderDataError, ValueError):
            if sform is None:
                raise
    of_patient = codes[0] >= STANDARD_SPACE > codes[1]
    affine = qform if sform is None or (of_patient and qform is not None) else sform
    if affine is None:
        affine = np.asarray(header.get_base_affine(), dtype=np.float64)
    return {"affine": affine, "sform": sform, "qform": qform, "codes": codes}


def _qform(header: Any) -> Affine:
    quaternion = np.array([0.0, *(float(header[f"quatern_{part}"]) for part in "bcd")])
    square = float(quaternion @ quaternion)
    if not 1.0 < square <= QUATERNION_LIMIT:
        return np.asarray(header.get_qform(), dtype=np.float64)
    steps = np.array(header["pixdim"][1:4], dtype=np.float64)
    steps[2] *= -1.0 if header["pixdim"][0] < 0 else 1.0
    qform = np.eye(4)
    qform[:3, :3] = nibabel.quaternions.quat2mat(quaternion / math.sqrt(square)) * steps  # a half turn
    qform[:3, 3] = [float(header[f"qoffset_{axis}"]) for axis in "xyz"]
    return qform


def _fill(stream: IO[bytes] | gzip.GzipFile, place: NDArray[np.uint8]) -> None:
    filled = 0
    while filled < len(place):
        got = stream.readinto(place[filled : filled + (1 << 20)].data)  # type: ignore[union-attr]
        if not got:
            raise EOFError(f"{filled} of {len(place)} bytes of voxels")
        filled += got


def _require_bounded(header: NiftiHeader, path: Path) -> None:
    """Before a voxel is decoded. What a voxel takes is what it is stored in, and the float32 that is made of it."""
    in_file = path.stat().st_size
    in_memory = header.n_bytes + 4 * math.prod(header.shape)
    if in_memory > INFLATION_BYTES and in_memory > MAX_INFLATION * in_file:
        raise ScanInvalid(
            f"{path.name} says that it holds more than it does",
            got=f"{in_file} bytes for {header.n_bytes}",
            expected="a whole scan",
            action="Convert or copy the scan again",
        )


def _pass_over(stream: IO[bytes] | gzip.GzipFile, n_bytes: int) -> int:
    """Read up to `n_bytes` and keep none; how many there were."""
    passed = 0
    while passed < n_bytes:
        got = len(stream.read(min(1 << 16, n_bytes - passed)))
        if not got:
            break
        passed += got
    return passed
