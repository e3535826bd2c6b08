from __future__ import annotations

import gzip
import itertools

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (the name its own manual uses)

from minet_core.errors import ScanInvalid, ScanUnreadable
from sites.scans.nifti import read_nifti, read_nifti_with_remarks
from tests.support.small_scans import make_volume, write_nifti


def save(path, array, affine=None) -> None:
    nibabel.save(
        nibabel.Nifti1Image(array, np.diag([2.0, 2.0, 4.0, 1.0]) if affine is None else affine), path
    )


def voxels(**changes: float) -> np.ndarray:
    array = np.random.default_rng(0).random((20, 24, 6)).astype(np.float32)
    for value in changes.values():
        array[3, 4, 2] = value
    return array


def test_a_scan_as_the_scanner_wrote_it_is_read_back(tmp_path) -> None:
    volume = make_volume(1, "T2")
    write_nifti(tmp_path / "T2.nii.gz", volume)
    read = read_nifti(tmp_path / "T2.nii.gz", contrast="T2")
    assert read.contrast == "T2"
    np.testing.assert_array_equal(read.array, volume.array)
    np.testing.assert_allclose(read.affine, volume.affine, atol=1e-5)  # float32 in the header
    assert read.spacing_mm == pytest.approx(volume.spacing_mm)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_every_order_and_direction_of_the_axes_gives_the_same_volume(tmp_path, order) -> None:
    volume = make_volume(1, "T2")
    for flips in itertools.product([False, True], repeat=3):
        array, affine = volume.array.transpose(order), volume.affine[:, [*order, 3]].copy()
        for axis, flip in enumerate(flips):
            if flip:
                array = np.flip(array, axis)
                affine[:, 3] += affine[:, axis] * (array.shape[axis] - 1)
                affine[:, axis] *= -1
        save(tmp_path / "T2.nii", np.ascontiguousarray(array), affine)
        read = read_nifti(tmp_path / "T2.nii", contrast="T2")
        np.testing.assert_array_equal(read.array, volume.array)
        np.testing.assert_allclose(read.affine, volume.affine, atol=1e-4)


def test_the_thickest_axis_is_the_slice_axis_of_a_sagittal_scan(tmp_path) -> None:
    save(tmp_path / "T1.nii", np.random.default_rng(0).random((8, 30, 24)), np.diag([5.0, 1.0, 1.0, 1.0]))
    read = read_nifti(tmp_path / "T1.nii", contrast="T1")
    assert read.array.shape == (8, 24, 30)  # (left-right, superior-inferior, anterior-posterior)
    assert read.affine[2, 1] == -1  # the first row is superior


def test_an_isotropic_scan_is_cut_across_the_body(tmp_path) -> None:
    save(tmp_path / "T1.nii", np.random.default_rng(0).random((20, 21, 22)), np.diag([-1.0, 1.0, 1.02, 1.0]))
    read = read_nifti(tmp_path / "T1.nii", contrast="T1")
    assert read.array.shape == (22, 21, 20)
    np.testing.assert_allclose(read.affine[:3, 0], [0, 0, 1.02], atol=1e-6)


def test_a_fourth_axis_of_one_is_no_time_series(tmp_path) -> None:
    save(tmp_path / "T1.nii", voxels()[..., None])
    assert read_nifti(tmp_path / "T1.nii", contrast="T1").array.shape == (6, 24, 20)


def test_ringing_below_zero_is_set_to_zero(tmp_path) -> None:
    save(tmp_path / "T1.nii", voxels(ringing=-0.5))
    assert read_nifti(tmp_path / "T1.nii", contrast="T1").array.min() == 0


@pytest.mark.parametrize("keep", [100, 348, 0.3, 0.99])
@pytest.mark.parametrize("name", ["T1.nii", "T1.nii.gz"])
def test_a_truncated_scan_is_refused(tmp_path, keep: float, name: str) -> None:
    path = tmp_path / name
    write_nifti(path, make_volume(1, "T1"))
    content = path.read_bytes()
    path.write_bytes(content[: keep if keep > 1 else int(len(content) * keep)])
    with pytest.raises(ScanUnreadable, match=r"FM-D201.*T1\.nii"):
        read_nifti(path, contrast="T1")


def test_a_failed_checksum_is_refused(tmp_path) -> None:
    path = tmp_path / "T1.nii.gz"
    write_nifti(path, make_volume(1, "T1"))
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # the stored CRC: every voxel decodes
    path.write_bytes(content)
    with pytest.raises(ScanUnreadable):
        read_nifti(path, contrast="T1")


def test_a_file_of_another_format_is_refused(tmp_path) -> None:
    path = tmp_path / "T1.nii"
    path.write_bytes(b"DICM" * 400)
    with pytest.raises(ScanUnreadable):
        read_nifti(path, contrast="T1")


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (voxels(wrong=np.nan), "not finite"),
        (voxels(wrong=np.inf), "not finite"),
        (np.full((20, 24, 6), 7.0), "constant"),
        (voxels()[..., :1], "too few slices"),
        (voxels()[..., :3], "too few slices"),
        (np.stack([voxels()] * 2, -1), "not one volume"),
        (voxels() - 0.5, "no magnitude image"),
        (voxels().astype(np.complex64), "no magnitude image"),
    ],
)
def test_a_scan_that_cannot_be_trained_on_is_refused(tmp_path, array, reason: str) -> None:
    save(tmp_path / "T1.nii.gz", array)
    with pytest.raises(ScanInvalid, match=reason):
        read_nifti(tmp_path / "T1.nii.gz", contrast="T1")


@pytest.mark.parametrize(
    "affine",
    [
        np.diag([0.0, 2, 4, 1]),
        np.diag([2.0, 2, 900, 1]),
        np.array([[2.0, 1.9, 0, 0], [0, 0.6, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1]]),
    ],
)
def test_an_impossible_geometry_is_refused(tmp_path, affine) -> None:
    image = nibabel.Nifti1Image(voxels(), None)
    image.header.set_sform(affine, code=1)
    nibabel.save(image, tmp_path / "T1.nii")
    with pytest.raises(ScanInvalid, match=r"voxel size|right angles"):
        read_nifti(tmp_path / "T1.nii", contrast="T1")


def two_spaces(path, codes: tuple[int, int]) -> None:
    """One scan with two forms: the sform turned, moved and stretched, as a head is onto a template."""
    scanner, standard = np.diag([2.0, 2.0, 4.0, 1.0]), np.diag([2.1, 2.3, 4.4, 1.0])
    turn = np.array([[1.0, 0, 0], [0, np.cos(0.1), -np.sin(0.1)], [0, np.sin(0.1), np.cos(0.1)]])
    standard[:3, :3] = turn @ standard[:3, :3]
    scanner[:3, 3], standard[:3, 3] = (-20.0, -24.0, -12.0), (-21.0, -40.0, 5.0)
    image = nibabel.Nifti1Image(voxels(), None)
    image.set_sform(standard if codes[0] else None, code=codes[0])
    image.set_qform(scanner if codes[1] else None, code=codes[1])
    nibabel.save(image, path)


@pytest.mark.parametrize("codes", [(4, 1), (3, 2), (5, 1)])
def test_a_scan_with_a_place_in_a_standard_space_is_read_as_it_lay_in_the_scanner(tmp_path, codes) -> None:
    two_spaces(tmp_path / "T1.nii", codes)
    volume, remarks = read_nifti_with_remarks(tmp_path / "T1.nii", contrast="T1")
    assert volume.spacing_mm == pytest.approx((4, 2, 2))  # and not 4.4, 2.3 and 2.1 mm, the template's
    assert remarks == ("its sform is of a standard space: it is read as it lay in the scanner, by its qform",)
    other = sitk.ReadImage(str(tmp_path / "T1.nii"))  # its world is left, posterior, superior
    for index in ((0, 0, 0), (3, 4, 2), (19, 23, 5)):
        place = np.array([*other.TransformIndexToPhysicalPoint(index), 1.0]) * (-1, -1, 1, 1)
        at = np.rint(np.linalg.solve(volume.affine, place)).astype(int)[:3]
        assert volume.array[tuple(at)] == other[index]


@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (1, 2), (4, 4), (4, 3), (4, 0), (1, 0)])
def test_the_sform_counts_before_a_qform_of_the_same_kind_of_space(tmp_path, codes) -> None:
    two_spaces(tmp_path / "T1.nii", codes)
    volume, remarks = read_nifti_with_remarks(tmp_path / "T1.nii", contrast="T1")
    assert volume.spacing_mm == pytest.approx((4.4, 2.3, 2.1), rel=1e-5)
    assert remarks == ()


@pytest.mark.parametrize("unit", ["meter", "micron"])
def test_another_unit_than_millimetres_is_refused(tmp_path, unit) -> None:
    image = nibabel.Nifti1Image(voxels(), np.diag([2.0, 2.0, 4.0, 1.0]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "T1.nii")
    with pytest.raises(ScanInvalid, match="millimetres"):
        read_nifti(tmp_path / "T1.nii", contrast="T1")


def test_a_header_that_announces_a_giant_is_refused_before_decoding(tmp_path) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float64)
    header.set_data_shape((4000, 4000, 4000))
    (tmp_path / "T1.nii").write_bytes(header.binaryblock + bytes(1000))
    with pytest.raises(ScanInvalid, match="too large"):
        read_nifti(tmp_path / "T1.nii", contrast="T1")


def test_a_gzip_bomb_behind_a_small_header_is_refused(tmp_path) -> None:
    small = nibabel.Nifti1Image(voxels(), np.diag([2.0, 2.0, 4.0, 1.0])).to_bytes()
    with gzip.open(tmp_path / "T1.nii.gz", "wb", compresslevel=1) as stream:
        stream.write(small + bytes(40 << 20))
    with pytest.raises(ScanInvalid, match="longer than its header"):
        read_nifti(tmp_path / "T1.nii.gz", contrast="T1")
