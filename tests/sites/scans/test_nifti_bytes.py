"""A NIfTI file is read for what its bytes say: content before name, rounding, wrapped numbers, declared sizes."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from minet_core.errors import ScanInvalid, ScanUnreadable
from sites.scans.nifti import read_nifti, read_nifti_with_remarks
from tests.support.small_scans import make_volume
from tests.support.surrogates import surrogate_volume

AFFINE = np.diag([2.0, 2.0, 4.0, 1.0])


def save(path: Path, array: NDArray[np.generic], affine: NDArray[np.float64] = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def head(top: float, dtype: type = np.uint16) -> NDArray[np.generic]:
    """A head whose brightest tissue reaches `top`, along the file's axes."""
    array = make_volume(3, "T2", shape=(8, 48, 44)).array.transpose(2, 1, 0)
    return (array / array.max() * top).astype(dtype)


@pytest.mark.parametrize("name", ["T1.nii", "T1.nii.gz"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_is_read_by_its_content_whatever_its_name(tmp_path: Path, name: str, zipped: bool) -> None:
    content = nibabel.Nifti1Image(head(900.0, np.float32), AFFINE).to_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content, 1) if zipped else content)
    read = read_nifti(tmp_path / name, contrast="T1")
    np.testing.assert_allclose(read.array.max(), 900.0, rtol=1e-6)


def test_nifti_2_and_the_other_byte_order_are_read(tmp_path: Path) -> None:
    array = head(900.0, np.int16)
    nibabel.save(nibabel.Nifti2Image(array, AFFINE), tmp_path / "two.nii")
    swapped = nibabel.Nifti1Header(endianness=">")
    swapped.set_data_dtype(np.int16)
    nibabel.save(nibabel.Nifti1Image(array, AFFINE, swapped), tmp_path / "big.nii.gz")
    one, other = (read_nifti(tmp_path / name, contrast="T1").array for name in ("two.nii", "big.nii.gz"))
    np.testing.assert_array_equal(one, other)


def test_a_slope_and_an_offset_are_applied(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(head(900.0, np.int16), AFFINE)
    image.header.set_slope_inter(0.5, 10.0)
    image.to_filename(tmp_path / "T1.nii")
    stored = nibabel.load(tmp_path / "T1.nii")
    read = read_nifti(tmp_path / "T1.nii", contrast="T1")
    np.testing.assert_allclose(read.array.max(), stored.get_fdata().max(), rtol=1e-6)


@pytest.mark.parametrize("over", [1e-6, 1e-5, 1e-3])
def test_a_quaternion_over_one_by_rounding_is_read(tmp_path: Path, over: float) -> None:
    image = nibabel.Nifti1Image(head(900.0), None)
    image.header.set_qform(np.diag([-2.0, -2.0, 4.0, 1.0]), code=1)
    for part, value in zip("bcd", (0.6, 0.8, 0.0), strict=True):
        image.header[f"quatern_{part}"] = value * np.sqrt(1 + over)
    (tmp_path / "T1.nii").write_bytes(image.to_bytes())
    read = read_nifti(tmp_path / "T1.nii", contrast="T1")
    # b = 0.6, c = 0.8, a = 0: a half turn about (0.6, 0.8, 0).
    turn = 2 * np.outer([0.6, 0.8, 0], [0.6, 0.8, 0]) - np.eye(3)
    spacing = np.abs(turn @ np.diag([2, 2, 4]))
    np.testing.assert_allclose(
        np.sort(np.abs(read.affine[:3, :3]), axis=None), np.sort(spacing, axis=None), atol=2e-3
    )


def test_a_quaternion_that_is_no_rotation_is_refused(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(head(900.0), None)
    image.header.set_qform(AFFINE, code=1)
    image.header["quatern_b"] = 1.5
    (tmp_path / "T1.nii").write_bytes(image.to_bytes())
    with pytest.raises(ScanUnreadable):
        read_nifti(tmp_path / "T1.nii", contrast="T1")


@pytest.mark.parametrize("top", [33_000, 40_000, 65_535])
@pytest.mark.parametrize("stored_as", [np.int16, np.float32])
def test_bright_voxels_stored_as_negative_numbers_are_read_as_they_were_meant(
    tmp_path: Path, top: int, stored_as: type
) -> None:
    meant = head(top)
    save(tmp_path / "wrapped.nii", meant.view(np.int16).astype(stored_as))
    save(tmp_path / "meant.nii", meant)
    read, remarks = read_nifti_with_remarks(tmp_path / "wrapped.nii", contrast="T2")
    np.testing.assert_array_equal(read.array, read_nifti(tmp_path / "meant.nii", contrast="T2").array)
    assert any(f"{int((meant > 32767).sum())} bright voxels" in remark for remark in remarks)


def test_ringing_below_zero_stored_as_unsigned_is_zero(tmp_path: Path) -> None:
    signed = head(1500.0, np.int16) + np.random.default_rng(0).normal(0, 8, head(1.0).shape).astype(np.int16)
    save(tmp_path / "wrapped.nii", signed.view(np.uint16))
    read, remarks = read_nifti_with_remarks(tmp_path / "wrapped.nii", contrast="T2")
    assert read.array.max() == signed.max()
    assert any("below zero" in remark for remark in remarks)


@pytest.mark.parametrize("lowest", [-40, -900])
def test_an_image_that_is_rightly_signed_is_left_as_it_is(tmp_path: Path, lowest: int) -> None:
    signed = head(30_000.0, np.int16)
    signed[5, 6:9, 3] = lowest
    save(tmp_path / "T2.nii", signed)
    read, remarks = read_nifti_with_remarks(tmp_path / "T2.nii", contrast="T2")
    assert remarks == ()
    assert read.array.max() == signed.max()


def test_a_bright_unsigned_image_is_left_as_it_is(tmp_path: Path) -> None:
    save(tmp_path / "T2.nii", head(65_535))
    read, remarks = read_nifti_with_remarks(tmp_path / "T2.nii", contrast="T2")
    assert (float(read.array.max()), remarks) == (65_535.0, ())


def test_numbers_stored_with_an_offset_are_left_as_they_are(tmp_path: Path) -> None:
    """nibabel spreads floats over all of int16: half of the stored numbers are negative and mean nothing bright."""
    image = nibabel.Nifti1Image(head(900.0, np.float32), AFFINE)
    image.set_data_dtype(np.int16)
    image.to_filename(tmp_path / "T2.nii")
    read, remarks = read_nifti_with_remarks(tmp_path / "T2.nii", contrast="T2")
    assert remarks == ()
    assert float(read.array.max()) == pytest.approx(900.0, abs=0.05)


@pytest.mark.surrogate
def test_a_real_scan_with_wrapped_voxels_is_read_as_it_was_meant(tmp_path: Path) -> None:
    array = surrogate_volume("clinical/patient01_study1/T2W", every=4)[:, 100:300, 100:300]
    meant = (array / array.max() * 40_000).astype(np.uint16)
    n_wrapped = int((meant > 32_767).sum())
    assert n_wrapped > 20
    save(tmp_path / "wrapped.nii.gz", meant.view(np.int16).transpose(2, 1, 0))
    read, _ = read_nifti_with_remarks(tmp_path / "wrapped.nii.gz", contrast="T2")
    assert int((read.array > 32_767).sum()) == n_wrapped


def bare(path: Path, shape: tuple[int, int, int], *, codes: tuple[int, int], pixel_mm: float = 1.0) -> Path:
    """A file whose header says nothing of its geometry but, at most, an identity."""
    array = np.random.default_rng(0).random(shape).astype(np.float32)
    image = nibabel.Nifti1Image(array, None)
    image.header.set_sform(np.eye(4) if codes[0] else None, code=codes[0])
    image.header.set_qform(np.eye(4) if codes[1] else None, code=codes[1])
    image.header["pixdim"][1:4] = pixel_mm
    path.write_bytes(image.to_bytes())
    return path


@pytest.mark.parametrize("codes", [(2, 0), (0, 1), (1, 1), (0, 0)])
@pytest.mark.parametrize("shape", [(20, 80, 80), (80, 80, 20), (90, 20, 64)])
def test_a_stack_of_slices_whose_header_says_nothing_is_refused_by_name(
    tmp_path: Path, codes: tuple[int, int], shape: tuple[int, int, int]
) -> None:
    path = bare(tmp_path / "T2.nii", shape, codes=codes)
    with pytest.raises(ScanInvalid, match="says nothing of its geometry"):
        read_nifti(path, contrast="T2")


def test_a_cube_whose_header_says_nothing_is_taken_on_trust_with_a_remark(tmp_path: Path) -> None:
    path = bare(tmp_path / "T1.nii", (60, 72, 60), codes=(2, 0))
    read, remarks = read_nifti_with_remarks(path, contrast="T1")
    assert read.array.shape == (60, 72, 60)
    assert "on trust" in remarks[0]


@pytest.mark.parametrize(
    ("codes", "pixel_mm", "said"),
    [
        ((2, 0), 1.0, "first axis to the right, second to the front, third to the head, are"),
        ((0, 0), 1.0, "first axis to the left, second to the front, third to the head, are"),
        ((0, 0), 0.9, "first axis to the left, second to the front, third to the head, are"),
    ],
)
def test_what_is_taken_on_trust_is_what_is_done(
    tmp_path: Path, codes: tuple[int, int], pixel_mm: float, said: str
) -> None:
    path = bare(tmp_path / "T1.nii", (60, 72, 61), codes=codes, pixel_mm=pixel_mm)
    read, (remark,) = read_nifti_with_remarks(path, contrast="T1")
    stored = np.asarray(nibabel.load(path).dataobj)
    leads = np.linalg.inv(read.affine)[:3, :3] @ [1, 0, 0]  # one mm to the right, in (slice, row, column)
    sign = 1 if codes[0] else -1
    assert np.rint(leads * pixel_mm).tolist() == [0, 0, -1]  # the radiologist's view: columns to the left
    np.testing.assert_array_equal(read.array[0, -1, ::-sign], stored[:, 0, 0])
    assert said in remark


def test_an_identity_beside_other_voxel_sizes_is_refused(tmp_path: Path) -> None:
    path = bare(tmp_path / "T1.nii", (60, 72, 60), codes=(2, 0), pixel_mm=0.9)
    with pytest.raises(ScanInvalid, match="beside other voxel sizes"):
        read_nifti(path, contrast="T1")


def test_a_slab_of_1_mm_voxels_at_its_place_in_the_scanner_is_read(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[:3, 3] = [-71.5, -60.2, 13.0]
    save(tmp_path / "T1.nii", np.random.default_rng(0).random((80, 80, 20)).astype(np.float32), affine)
    assert read_nifti_with_remarks(tmp_path / "T1.nii", contrast="T1")[1] == ()


@pytest.mark.parametrize("offset", [2.0**40, 1e30, -4.0])
def test_a_header_that_puts_its_voxels_far_behind_itself_is_refused(tmp_path: Path, offset: float) -> None:
    image = nibabel.Nifti1Image(head(900.0), AFFINE)
    content = bytearray(image.to_bytes())
    content[108:112] = np.float32(offset).tobytes()  # vox_offset
    (tmp_path / "T1.nii.gz").write_bytes(gzip.compress(bytes(content), 1))
    with pytest.raises(ScanUnreadable):
        read_nifti(tmp_path / "T1.nii.gz", contrast="T1")


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_reading_needs_about_three_times_the_voxels_as_float32(tmp_path: Path, dtype: type) -> None:
    array = np.zeros((128, 128, 96), dtype)
    array[30:90, 30:90, 20:80] = np.random.default_rng(0).integers(1, 900, (60, 60, 60))
    image = nibabel.Nifti1Image(array, AFFINE)
    image.header.set_slope_inter(0.5, 0.0)
    image.to_filename(tmp_path / "T1.nii.gz")
    tracemalloc.start()
    read_nifti(tmp_path / "T1.nii.gz", contrast="T1")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3.2 * 4 * array.size
