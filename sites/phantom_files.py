# mypy: disallow-untyped-calls=False
"""Phantom patients in the files that the paper's sites would hand over.

SMS and uMR: `patient001/T1.nii.gz` and `T2.nii.gz`, int16 magnitudes. fastMRI: `file1000001.h5` (PD) and the next
number (FS-PD) of every patient, with raw k-space, the reconstruction and an ISMRMRD header, as the data set has them.

Departures from the real files: the knee's stack has 20 slices instead of about 36; the read-out's outer half, beyond
the image that is kept, mirrors the image and fades out; several coils share one noise.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable
from pathlib import Path
from xml.etree import ElementTree

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from minet_core.errors import InvalidSetting
from minet_core.imaging.volume import Volume
from minet_core.phantom.acquisition import SITES, Acquisition, Contrast
from minet_core.phantom.patient import make_patient, with_slices
from minet_core.phantom.variety import draw_variety
from minet_core.runtime.files.atomic_write import replacing, write_text
from minet_core.seeds import derived_seed
from sites.store.hdf5_file import writing

ComplexArray = NDArray[np.complex64]
Progress = Callable[[int, int], None]
"""Called with (patients written, patients in all)."""

ISMRMRD_NAMESPACE = "http://www.ismrm.org/ISMRMRD"
PAIR_LIST = "pairs.csv"
ENCODED_MATRIX = (640, 368)
"""Raw matrix of fastMRI's knees: (read-out with twofold oversampling, phase encodings)."""
N_COILS = 4
ACQUISITION_NAMES = {"PD": "CORPD_FBK", "FS-PD": "CORPDFS_FBK"}


def write_phantom_site(
    folder: Path,
    *,
    site: str,
    n_patients: int,
    seed: int,
    n_slices: int | None = None,
    multicoil: bool = False,
    varied: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write the patients of one of the paper's sites. The same arguments give the same images.

    Parameters
    ----------
    folder
        Where the files go.
    site
        "sms", "umr" or "fastmri".
    n_patients
        1 or more.
    seed
        Any whole number; every patient has a seed of its own that is derived from it.
    n_slices
        Another number of slices than the protocol's.
    multicoil
        fastMRI with `N_COILS` coils and reconstruction_rss.
    varied
        Patients who differ in age, tissues, protocol, coil, noise and movement too (`minet_core.phantom.variety`).
    progress
        Called with (patients written, patients in all).

    Returns
    -------
    list[Path]
        Of each patient the reference, then the target; fastMRI's folder also gets a pair list (`pairs.csv`), which is
        not among them.

    Raises
    ------
    InvalidSetting
        FM-C102: an unknown site, no patient, or coils where the site has no raw data.
    """
    acquisition = _checked(site, n_patients=n_patients, multicoil=multicoil)
    if n_slices is not None:
        acquisition = with_slices(acquisition, n_slices)
    written: list[Path] = []
    for number in range(1, n_patients + 1):
        own = derived_seed(seed, "phantom", site, number)
        scan = make_patient(acquisition, seed=own, varied=varied)
        measured = draw_variety(acquisition, seed=own).acquisition if varied else acquisition
        for offset, volume in enumerate((scan.reference, scan.target)):
            if site == "fastmri":
                path = folder / f"file{1000000 + 2 * number - 1 + offset}.h5"
                patient_id = f"{derived_seed(seed, 'patient', site, number):016x}"
                write_fastmri(
                    path, volume, acquisition=measured, patient_id=patient_id, n_coils=N_COILS * multicoil
                )
            else:
                path = folder / f"patient{number:03d}" / f"{volume.contrast}.nii.gz"
                write_nifti(path, volume)
            written.append(path)
        if progress is not None:
            progress(number, n_patients)
    if site == "fastmri":
        write_pair_list(folder / PAIR_LIST, zip(written[0::2], written[1::2], strict=True))
    return written


def write_nifti(path: Path, volume: Volume) -> None:
    """Write the magnitude as int16, axes (column, row, slice), gzipped at level 1, with its affine to RAS+ mm.

    Parameters
    ----------
    path
        A name in .nii.gz.
    volume
        Rounded to whole numbers; what is above 32767 becomes 32767.
    """
    magnitude = np.rint(volume.magnitude())
    stored = np.minimum(magnitude, np.iinfo(np.int16).max).astype(np.int16)
    order = [2, 1, 0]
    image = nibabel.Nifti1Image(stored.transpose(order), volume.affine[:, [*order, 3]], dtype=np.int16)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = f"fedminet phantom {volume.contrast}".encode()
    # Neither the time nor the temporary name goes into the gzip header: equal scans are equal files.
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def write_fastmri(
    path: Path, volume: Volume, *, acquisition: Acquisition, patient_id: str, n_coils: int = 0
) -> None:
    """Write raw k-space and its reconstruction as fastMRI's knee files have them.

    The reconstruction is the central crop of the magnitude of the centred inverse transform of `kspace`, which is the
    volume itself.

    Parameters
    ----------
    path
        A name in .h5.
    volume
        (slice, row, column) complex64; rows and columns no more than `ENCODED_MATRIX`.
    acquisition
        The protocol; it has a contrast of the volume's name.
    patient_id
        The file's attribute.
    n_coils
        0 writes `kspace` (slice, read-out, phase) and `reconstruction_esc`; more write `kspace` (slice, coil, read-out,
        phase) and `reconstruction_rss`.
    """
    contrast = next(one for one in acquisition.contrasts if one.name == volume.contrast)
    image = _beyond_the_image(volume.array.astype(np.complex64, copy=False), shape=ENCODED_MATRIX)
    magnitude = volume.magnitude()
    coils = coil_sensitivities(ENCODED_MATRIX, n_coils) if n_coils else np.ones((1, 1, 1), np.complex64)
    with replacing(path) as temporary, writing(temporary) as file:
        shape = (len(image), n_coils, *ENCODED_MATRIX) if n_coils else image.shape
        kspace = file.create_dataset("kspace", shape, np.complex64)
        for index, plane in enumerate(image):
            raw = _centred_fft(plane * coils)
            kspace[index] = raw if n_coils else raw[0]
        file["reconstruction_rss" if n_coils else "reconstruction_esc"] = magnitude
        header = ismrmrd_header(acquisition, contrast, encoded_matrix=ENCODED_MATRIX)
        file["ismrmrd_header"] = np.bytes_(header)
        file.attrs["acquisition"] = ACQUISITION_NAMES[volume.contrast]
        file.attrs["patient_id"] = patient_id
        file.attrs["max"] = float(magnitude.max())
        file.attrs["norm"] = float(np.linalg.norm(magnitude))


def write_pair_list(path: Path, pairs: Iterable[tuple[Path, Path]]) -> None:
    """Write which PD file belongs to which FS-PD file: one line a pair, `PD stem,FS-PD stem,number`, no heading.

    Parameters
    ----------
    path
        The CSV file.
    pairs
        (reference, target) of each pair.
    """
    lines = [f"{reference.stem},{target.stem},{number}" for number, (reference, target) in enumerate(pairs)]
    write_text(path, "\n".join(lines) + "\n")


def ismrmrd_header(acquisition: Acquisition, contrast: Contrast, *, encoded_matrix: tuple[int, int]) -> bytes:
    """The ISMRMRD header of one scan: x is the read-out (rows), y the phase encoding (columns), z the slice.

    Parameters
    ----------
    acquisition
        The protocol: matrix, spacing in mm, slices.
    contrast
        Its repetition and echo time, ms.
    encoded_matrix
        Raw samples along (read-out, phase).

    Returns
    -------
    bytes
        XML in UTF-8 with its declaration.

    References
    ----------
    Inati et al., ISMRM Raw Data Format: A Proposed Standard for MRI Raw Datasets, MRM 77 (2017).
    """
    thickness, row_mm, column_mm = acquisition.spacing_mm
    root = ElementTree.Element("ismrmrdHeader", xmlns=ISMRMRD_NAMESPACE)
    conditions = ElementTree.SubElement(root, "experimentalConditions")
    ElementTree.SubElement(conditions, "H1resonanceFrequency_Hz").text = "123250000"
    encoding = ElementTree.SubElement(root, "encoding")
    for name, matrix in (("encodedSpace", encoded_matrix), ("reconSpace", acquisition.matrix)):
        space = ElementTree.SubElement(encoding, name)
        size = (matrix[0], matrix[1], 1)
        field_mm = (matrix[0] * row_mm, matrix[1] * column_mm, thickness)
        for tag, values in (("matrixSize", size), ("fieldOfView_mm", field_mm)):
            node = ElementTree.SubElement(space, tag)
            for axis, value in zip("xyz", values, strict=True):
                ElementTree.SubElement(node, axis).text = str(value)
    limits = ElementTree.SubElement(encoding, "encodingLimits")
    for name, count in (("kspace_encoding_step_1", encoded_matrix[1]), ("slice", acquisition.n_slices)):
        node = ElementTree.SubElement(limits, name)
        for tag, value in (("minimum", 0), ("maximum", count - 1), ("center", count // 2)):
            ElementTree.SubElement(node, tag).text = str(value)
    ElementTree.SubElement(encoding, "trajectory").text = "cartesian"
    sequence = ElementTree.SubElement(root, "sequenceParameters")
    for tag, value in (("TR", contrast.repetition_time_ms), ("TE", contrast.echo_time_ms)):
        ElementTree.SubElement(sequence, tag).text = str(value)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def coil_sensitivities(matrix: tuple[int, int], n_coils: int) -> ComplexArray:
    """Smooth complex sensitivities of coils around the limb.

    Parameters
    ----------
    matrix
        (rows, columns).
    n_coils
        1 or more.

    Returns
    -------
    NDArray[np.complex64]
        (coil, row, column); the squares of the magnitudes sum to 1 over the coils.
    """
    rows, columns = (np.linspace(-1, 1, count, dtype=np.float32) for count in matrix)
    angles = 2 * np.pi * (np.arange(n_coils, dtype=np.float32) + 0.5) / n_coils
    down = rows[None, :, None] - 1.2 * np.sin(angles)[:, None, None]
    across = columns[None, None, :] - 1.2 * np.cos(angles)[:, None, None]
    magnitude = np.exp(-0.6 * (down**2 + across**2))
    magnitude /= np.sqrt((magnitude**2).sum(axis=0))
    phase = angles[:, None, None] + 0.8 * down - 0.6 * across
    return np.asarray(magnitude * np.exp(1j * phase), np.complex64)


def _beyond_the_image(image: ComplexArray, *, shape: tuple[int, int]) -> ComplexArray:
    """Extend each slice to the encoded matrix: mirrored, fading out along the read-out as the coil's reach does.

    The image stays in the centre: its sample N//2 is the encoded matrix's sample N//2.
    """
    margins = [
        (full // 2 - kept // 2, full - kept - (full // 2 - kept // 2))
        for full, kept in zip(shape, image.shape[1:], strict=True)
    ]
    extended = np.pad(image, ((0, 0), *margins), mode="symmetric")
    above, below = margins[0]
    fade = np.ones(shape[0], np.float32)
    fade[:above] = np.sin(np.linspace(0, np.pi / 2, above)) ** 2
    fade[shape[0] - below :] = np.cos(np.linspace(0, np.pi / 2, below)) ** 2
    extended *= fade[:, None]
    return extended


def _centred_fft(image: ComplexArray) -> ComplexArray:
    """Centred orthonormal transform of the last two axes in numpy, for speed slice by slice."""
    axes = (-2, -1)
    spectrum = fft.fft2(fft.ifftshift(image, axes=axes), axes=axes, norm="ortho")
    return np.asarray(fft.fftshift(spectrum, axes=axes), np.complex64)


def _checked(site: str, *, n_patients: int, multicoil: bool) -> Acquisition:
    if site not in SITES:
        raise InvalidSetting("there is no phantom of this site", got=site, expected=" or ".join(SITES))
    if n_patients < 1:
        raise InvalidSetting("the number of patients is out of range", got=n_patients, expected="1 or more")
    if multicoil and site != "fastmri":
        raise InvalidSetting(
            "several coils were asked of a site without raw data",
            got=site,
            expected="fastmri",
            action="Leave multicoil off",
        )
    return SITES[site]
