from __future__ import annotations

import h5py
import numpy as np
import pytest

from minet_core.errors import ScanInvalid, ScanUnreadable
from sites.scans.fastmri_hdf5 import central_slices, read_fastmri, read_header
from tests.support.small_scans import SHAPE, SPACING_MM, header, write_fastmri


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file1.h5"


def write(path, **options):
    return write_fastmri(path, 1, "CORPD_FBK", patient_id="p1", **options)


def test_single_coil_kspace_gives_the_complex_image(path) -> None:
    image = write(path)
    read = read_fastmri(path, contrast="PD")
    assert read.array.dtype == np.complex64
    # A float32 FFT pair over 2880 samples: a few rounding units of the largest value.
    np.testing.assert_allclose(read.array, image, atol=1e-6 * np.abs(image).max())
    assert read.spacing_mm == pytest.approx(SPACING_MM)
    np.testing.assert_allclose(np.linalg.norm(read.affine[:3, :3], axis=0), SPACING_MM)


def test_several_coils_give_the_root_of_the_sum_of_squares(path) -> None:
    image = write(path, n_coils=3)
    read = read_fastmri(path, contrast="PD")
    assert read.array.dtype == np.float32
    np.testing.assert_allclose(read.array, np.abs(image), atol=1e-6 * np.abs(image).max())


def test_a_file_without_kspace_gives_its_reconstruction(path) -> None:
    image = write(path, kspace=False)
    np.testing.assert_array_equal(read_fastmri(path, contrast="PD").array, np.abs(image))


def test_the_header_is_read_without_voxels(path) -> None:
    write(path)
    head = read_header(path)
    assert (head.acquisition, head.patient_id) == ("CORPD_FBK", "p1")
    assert head.matrix == SHAPE[1:]


@pytest.mark.parametrize("keep", [0.1, 0.6, 0.98])
def test_a_truncated_file_is_refused(path, keep: float) -> None:
    write(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ScanUnreadable, match=r"FM-D201.*file1\.h5"):
        read_fastmri(path, contrast="PD")


@pytest.mark.parametrize("missing", ["ismrmrd_header", "kspace"])
def test_a_file_without_header_or_image_is_refused(path, missing: str) -> None:
    write(path)
    with h5py.File(path, "a") as file:
        del file[missing]
    with pytest.raises((ScanUnreadable, ScanInvalid)):
        read_fastmri(path, contrast="PD")


@pytest.mark.parametrize("value", [None, "", b"", h5py.Empty("S1")])
def test_a_file_that_names_no_patient_says_so(path, value) -> None:
    write(path)
    with h5py.File(path, "a") as file:
        del file.attrs["patient_id"]
        if value is not None:
            file.attrs["patient_id"] = value
    assert read_header(path).patient_id is None


def test_undersampled_kspace_is_no_ground_truth(path) -> None:
    write(path)
    with h5py.File(path, "a") as file:
        file["mask"] = np.arange(SHAPE[2] + 4) % 4 == 0
    with pytest.raises(ScanInvalid, match=r"undersampled; got 25% of the mask's samples"):
        read_fastmri(path, contrast="PD")


def test_a_dataset_that_lies_in_another_file_is_refused(path, tmp_path) -> None:
    write(tmp_path / "other.h5")
    write(path)
    with h5py.File(path, "a") as file:
        del file["kspace"]
        file["kspace"] = h5py.ExternalLink("other.h5", "/kspace")
    with pytest.raises(ScanInvalid, match="link"):
        read_fastmri(path, contrast="PD")


def test_raw_bytes_of_another_file_are_refused(path, tmp_path) -> None:
    write(path)
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(1 << 20))
    with h5py.File(path, "a") as file:
        shape = file["kspace"].shape
        del file["kspace"]
        file.create_dataset("kspace", shape, np.complex64, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
    with pytest.raises(ScanInvalid, match="no dataset of the file itself"):
        read_fastmri(path, contrast="PD")


def test_entities_in_the_header_are_refused(path) -> None:
    write(path)
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>' + header(4, 4).split(b"?>")[1]
    with h5py.File(path, "a") as file:
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = bomb
    with pytest.raises(ScanInvalid, match="no scanner wrote"):
        read_fastmri(path, contrast="PD")


def test_an_image_larger_than_its_kspace_is_refused(path) -> None:
    write(path)
    with h5py.File(path, "a") as file:
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = header(400, 400)
    with pytest.raises(ScanInvalid, match="fewer samples"):
        read_fastmri(path, contrast="PD")


def test_stacks_of_different_length_are_cut_about_their_middles(tmp_path) -> None:
    write(tmp_path / "long.h5")
    write(tmp_path / "short.h5", n_slices=SHAPE[0] - 2)
    long, short = (read_fastmri(tmp_path / f"{name}.h5", contrast="PD") for name in ("long", "short"))
    cut, kept = central_slices(long, short)
    np.testing.assert_array_equal(cut.array, long.array[1:-1])
    np.testing.assert_array_equal(kept.array, short.array)
