"""The reader on the vendors' real files, against dcm2niix: every voxel has its value at its place in the world."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from minet_core.errors import NotAnMrImage, SlicesNotOneVolume
from sites.scans.dicom.acquisition_facts import AcquisitionFacts, facts_from
from sites.scans.dicom.frames import Frame, read_object
from sites.scans.dicom.pixels import stored_frames
from sites.scans.dicom.read_dicom import read_stack
from sites.scans.dicom.series import read_export, refusals_in_short
from sites.scans.dicom.stacks import outcome_of, stack_of
from tests.support.vendor_dicom import convert, nifti_in_world, vendor_folder, voxels_at

NO_FACTS = facts_from(lambda keyword: None)


def stacks_in(name: str):
    (series,) = read_export(vendor_folder(name)).series
    return [stack_of(group, what=name) for group in series.groups()]


@pytest.mark.parametrize(
    ("name", "shape", "spacing_mm", "scale"),
    [
        ("siemens_xa30_enhanced_t1", (96, 128, 128), (2.0, 2.0, 2.0), "rescale"),
        ("siemens_xa10_enhanced", (6, 64, 64), (2.4, 3.375, 3.375), "rescale"),
        ("philips_enhanced_b0", (32, 64, 64), (4.0, 4.0, 4.0), "rescale"),
        ("philips_enhanced_b0", (32, 64, 64), (4.0, 4.0, 4.0), "philips"),
        ("philips_classic_fmri", (9, 64, 64), (8.0, 3.75, 3.75), "rescale"),
        ("philips_classic_fmri", (9, 64, 64), (8.0, 3.75, 3.75), "philips"),
        ("uih_t1_sag", (14, 512, 460), (1.0, 0.5, 0.5), "rescale"),
    ],
)
def test_every_voxel_is_where_dcm2niix_puts_it(tmp_path: Path, name: str, shape, spacing_mm, scale) -> None:
    values, affine = nifti_in_world(convert(name, tmp_path, "-p", "y" if scale == "philips" else "n")[0])
    repetitions = values.reshape(*values.shape[:3], -1)
    stacks = stacks_in(name)
    assert len(stacks) == repetitions.shape[3]
    for index, stack in enumerate(stacks):
        assert stack.shape == shape
        assert stack.spacing_mm == pytest.approx(spacing_mm, abs=1e-5)
        volume = read_stack(stack, contrast="T1", what=name, scale=scale)
        expected = voxels_at(repetitions[..., index], affine, volume.array.shape, volume.affine)
        np.testing.assert_allclose(volume.array, expected, rtol=1e-6)  # both are float32


def test_slices_that_only_their_order_in_time_tells_apart_are_refused_and_each_time_lies_right(
    tmp_path: Path,
) -> None:
    (series,) = read_export(vendor_folder("ge_epi")).series
    (group,) = series.groups()
    with pytest.raises(SlicesNotOneVolume, match=r"FM-D212.*45 slices at 15 positions"):
        stack_of(group, what="ge_epi")
    values, affine = nifti_in_world(convert("ge_epi", tmp_path)[0])
    for time in range(3):
        stack = stack_of(group[15 * time : 15 * (time + 1)], what="ge_epi")
        volume = read_stack(stack, contrast="T1", what="ge_epi")
        expected = voxels_at(values[..., time], affine, volume.array.shape, volume.affine)
        np.testing.assert_array_equal(volume.array, expected)


def test_diffusion_weighted_directions_are_no_volume_and_the_unweighted_slices_are_one() -> None:
    (series,) = read_export(vendor_folder("philips_classic_dti")).series
    unweighted, weighted = series.groups()
    assert stack_of(unweighted, what="b = 0").spacing_mm == pytest.approx((3.0, 3.0, 3.0), abs=1e-6)
    assert "37 slices at 3 positions" in str(outcome_of(weighted, what="b = 2000"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("siemens_xa30_report", "Enhanced SR Storage"),
        ("siemens_xa30_derived_fa", r"39 x derived \(DERIVED/PRIMARY/DIFFUSION/FA\)"),
        ("siemens_skyra_mosaic", "a mosaic of Siemens"),
        ("siemens_trio_jpeg2000", "a mosaic of Siemens"),
        ("siemens_trio_jpeg_lossless", "a mosaic of Siemens"),
        ("uih_vframe_dti", "a grid of United Imaging"),
    ],
)
def test_what_is_no_image_of_a_slice_is_left_out_by_its_name(name: str, kind: str) -> None:
    for path in sorted(vendor_folder(name).iterdir()):
        with pytest.raises(NotAnMrImage, match=f"FM-D213.*{kind}"):
            read_object(path)
    export = read_export(vendor_folder(name))
    assert not export.series
    assert len(refusals_in_short(export)) == 1


def test_a_field_map_beside_its_magnitude_is_left_out_and_said() -> None:
    (series,) = read_export(vendor_folder("philips_enhanced_b0")).series
    assert series.remarks == {"frames left out: 32 x map"}


@pytest.mark.parametrize("name", ["siemens_trio_jpeg2000", "siemens_trio_jpeg_lossless"])
def test_a_compressed_picture_has_the_values_that_dcm2niix_decodes(tmp_path: Path, name: str) -> None:
    (path,) = vendor_folder(name).iterdir()
    frame = Frame(
        path=path,
        name=path.name,
        index=0,
        shape=(516, 516),
        position=(0.0, 0.0, 0.0),
        along_row=(1.0, 0.0, 0.0),
        along_column=(0.0, 1.0, 0.0),
        pixel_mm=(1.0, 1.0),
        slope=1.0,
        intercept=0.0,
        philips_scale=None,
        moment=(None, None),
        facts=NO_FACTS,
    )
    (picture,) = stored_frames([frame])
    tiles = picture.reshape(6, 86, 6, 86).transpose(0, 2, 1, 3).reshape(36, 86, 86)
    values, _ = nifti_in_world(convert(name, tmp_path)[0])
    np.testing.assert_array_equal(tiles[:, ::-1].transpose(2, 1, 0), values)  # NIfTI's rows run to the front


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "siemens_xa30_enhanced_t1",
            {"echo_time_s": 0.00241, "repetition_time_s": 1.8, "inversion_time_s": 0.9},
        ),
        ("uih_t1_sag", {"echo_time_s": 0.0031, "repetition_time_s": 0.00725, "inversion_time_s": 0.75}),
        ("philips_classic_fmri", {"echo_time_s": 0.030001, "inversion_time_s": None, "fat_suppressed": True}),
        ("philips_enhanced_b0", {"echo_time_s": 0.00152, "inversion_time_s": None, "fat_suppressed": False}),
        ("ge_epi", {"echo_time_s": 0.03, "repetition_time_s": 5.0, "vendor": "GE"}),
    ],
)
def test_facts_are_in_seconds(name: str, expected: dict[str, object]) -> None:
    facts = read_export(vendor_folder(name)).series[0].frames[0].facts
    assert {key: getattr(facts, key) for key in expected} == pytest.approx(expected)
    assert isinstance(facts, AcquisitionFacts)
    assert replace(facts, descriptions=("JANE DOE",)).__repr__() == repr(facts)
