"""The reader on series with a known truth: five vendors' ways, classic and enhanced, and what is wrong with a stack."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom import config, dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_sequence
from pydicom.tag import Tag
from pydicom.uid import JPEG2000, UID, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSNearLossless, RLELossless

from minet_core.errors import (
    DataError,
    DecoderMissing,
    NotAnMrImage,
    ScanInvalid,
    ScanUnreadable,
    SlicesNotOneVolume,
)
from minet_core.imaging.volume import Volume
from sites.scans.dicom import bounded_header
from sites.scans.dicom.derived_header import PATIENT_AND_STUDY, begin, read_elements
from sites.scans.dicom.frames import read_object
from sites.scans.dicom.read_dicom import read_stack
from sites.scans.dicom.series import Export, read_export, refusals_in_short
from sites.scans.dicom.stacks import stack_of
from sites.scans.dicom.transfer_syntax import LOST, MAY_BE_LOST
from tests.support.dicom_series import WAYS, Header, write_classic, write_enhanced
from tests.support.small_scans import affine_of, make_volume

SPACING_MM = (4.0, 3.0, 3.0)
STORED = np.rint(make_volume(1, "T2").array).astype(np.uint16)  # (8, 40, 36), up to 1100
AFFINE = affine_of(SPACING_MM)


def rotation(axis: int, degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = np.eye(4)
    others = [one for one in range(3) if one != axis]
    turned[np.ix_(others, others)] = [[c, -s], [s, c]]
    return turned


def read(folder: Path) -> Volume:
    (series,) = read_export(folder).series
    (group,) = series.groups()
    return read_stack(stack_of(group, what="the series"), contrast="T2", what="the series")


def refusal_of_stack(folder: Path) -> str:
    (series,) = read_export(folder).series
    (group,) = series.groups()
    with pytest.raises(SlicesNotOneVolume, match="FM-D212") as caught:
        stack_of(group, what="the series")
    return str(caught.value)


@pytest.mark.parametrize("way", sorted(WAYS))
def test_a_series_is_read_back_as_each_vendor_writes_it(tmp_path: Path, way: str) -> None:
    write_classic(tmp_path, STORED, AFFINE, way=way)
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.array, STORED * np.float32(WAYS[way].slope or 1))
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-6)
    assert volume.spacing_mm == pytest.approx(SPACING_MM)


@pytest.mark.parametrize("way", ["siemens", "philips"])
def test_an_enhanced_object_is_read_back_in_any_order_of_its_frames(tmp_path: Path, way: str) -> None:
    slopes = np.linspace(0.5, 2.0, len(STORED))
    order = np.random.default_rng(0).permutation(len(STORED))
    write_enhanced(tmp_path / "one.dcm", STORED, AFFINE, way=way, slopes=slopes, order=order)
    volume = read(tmp_path)
    np.testing.assert_allclose(
        volume.array, STORED * slopes[:, None, None], rtol=1e-6
    )  # each frame by its own slope
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-6)


def test_a_scale_that_all_frames_share_is_each_frames(tmp_path: Path) -> None:
    def share(one: Dataset, _: int) -> None:
        scale = Dataset()
        scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = 0.5, 3, "US"
        one.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = [scale]

    write_enhanced(tmp_path / "one.dcm", STORED, AFFINE, change=share)
    np.testing.assert_array_equal(read(tmp_path).array, STORED * np.float32(0.5) + 3)


@pytest.mark.parametrize("order", [np.arange(8), np.arange(8)[::-1]], ids=["upwards", "downwards"])
@pytest.mark.parametrize("numbers", [range(1, 9), range(8, 0, -1)], ids=["counting", "counting down"])
def test_a_frame_lies_where_it_says_whatever_its_number_in_the_stack(
    tmp_path: Path, order: np.ndarray, numbers: range
) -> None:
    def number(one: Dataset, _: int) -> None:
        for frame, place in zip(one.PerFrameFunctionalGroupsSequence, order, strict=True):
            content = Dataset()
            content.StackID, content.InStackPositionNumber = "1", numbers[place]
            frame.FrameContentSequence = [content]

    write_enhanced(tmp_path / "one.dcm", STORED, AFFINE, order=order, change=number)
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.array, STORED)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-6)


def test_slices_that_are_numbered_as_they_were_acquired_are_one_volume(tmp_path: Path) -> None:
    def number(one: Dataset, index: int) -> None:
        one.InstanceNumber = index // 2 + 1 + 4 * (index % 2)  # first the even ones, then the odd ones

    write_classic(tmp_path, STORED, AFFINE, change=number)
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.array, STORED)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-6)


@pytest.mark.parametrize(
    "turn",
    [np.eye(4), rotation(0, 90), rotation(2, 90) @ rotation(0, 90), rotation(0, 20) @ rotation(1, -15)],
    ids=["axial", "coronal", "sagittal", "oblique"],
)
def test_a_point_of_the_body_is_where_it_was_in_every_orientation(tmp_path: Path, turn: np.ndarray) -> None:
    marked = STORED.copy()
    marked[5, 11, 29] = 4000
    write_classic(tmp_path, marked, turn @ AFFINE, way="uih")
    volume = read(tmp_path)
    (place,) = np.argwhere(volume.array == 4000)
    np.testing.assert_allclose(volume.affine @ [*place, 1], turn @ AFFINE @ [5, 11, 29, 1], atol=1e-5)
    assert np.sort(volume.spacing_mm) == pytest.approx(np.sort(SPACING_MM))


@pytest.mark.parametrize("description", ["quer", "quer \u00fc"])
def test_sequences_that_an_archive_sends_on_as_unknown_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, description: str
) -> None:
    """UN of a stated length with items in implicit VR: what dcmtk makes of an implicit file of Philips."""
    monkeypatch.setattr(config, "replace_un_with_known_vr", False)

    def send_on(one: Dataset, _: int) -> None:
        one.SpecificCharacterSet = "ISO_IR 192"
        one.SeriesDescription = description  # the second one is left to pydicom
        for index, frame in enumerate(one.PerFrameFunctionalGroupsSequence):
            scale = Dataset()
            scale.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(
                0x0E, "FL", 0.5 + index
            )
            frame.add_new(0x20050014, "LO", "Philips MR Imaging DD 005")
            frame.add_new(0x2005140F, "SQ", [scale])
            for tag in (0x00209113, 0x2005140F):  # where it lies, and Philips' own
                frame[tag] = DataElement(tag, "UN", implicit_items(frame[tag]))

    path = write_enhanced(tmp_path / "one.dcm", STORED, AFFINE, way="philips", change=send_on)
    monkeypatch.undo()
    frames = read_object(path).frames
    assert [frame.philips_scale for frame in frames] == [0.5 + index for index in range(len(STORED))]
    assert len({frame.position for frame in frames}) == len(STORED)


def test_what_is_no_sequence_under_philips_number_is_passed_over(tmp_path: Path) -> None:
    def put(one: Dataset, _: int) -> None:
        for frame in one.PerFrameFunctionalGroupsSequence:
            frame[0x2005140F] = DataElement(0x2005140F, "UN", b"\x01\x02\x03\x04")

    path = write_enhanced(tmp_path / "one.dcm", STORED, AFFINE, way="philips", change=put)
    assert {frame.philips_scale for frame in read_object(path).frames} == {None}


@pytest.mark.parametrize(
    ("said", "syntax", "remark"),
    [
        ({"LossyImageCompression": "01", "LossyImageCompressionRatio": 12.5}, None, LOST + " (ratio 12.5)"),
        ({"LossyImageCompression": "01"}, None, LOST),
        ({"LossyImageCompression": "00"}, None, None),
        ({}, None, None),
        ({"LossyImageCompression": "00"}, JPEGBaseline8Bit, LOST),
        ({"LossyImageCompression": "00"}, JPEG2000, MAY_BE_LOST),
        ({}, JPEGLSNearLossless, MAY_BE_LOST),
        ({}, JPEG2000Lossless, None),
    ],
)
def test_a_loss_of_compression_is_said(
    tmp_path: Path, said: dict[str, object], syntax: UID | None, remark: str | None
) -> None:
    """The flag stays when an object is decompressed; a syntax that can lose stands against a flag that denies it."""
    (path, *_) = write_classic(tmp_path, STORED, AFFINE, header=Header(extra=said))
    if syntax is not None:
        one = dcmread(path)
        one.PixelData = encapsulate([bytes(STORED[0].nbytes)])
        one["PixelData"].is_undefined_length = True
        one.file_meta.TransferSyntaxUID = syntax
        one.save_as(path)
    assert read_object(path).remarks == (() if remark is None else (remark,))


def test_what_is_derived_of_a_lossy_syntax_says_so_whatever_its_source_says(tmp_path: Path) -> None:
    (path, *_) = write_classic(tmp_path, STORED, AFFINE, header=Header(extra={"LossyImageCompression": "00"}))
    assert read_elements(path, name="one", keywords=PATIENT_AND_STUDY).LossyImageCompression == "00"
    one = dcmread(path)
    one.PixelData = encapsulate([bytes(STORED[0].nbytes)])
    one["PixelData"].is_undefined_length = True
    one.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    one.save_as(path)
    new = begin(
        read_elements(path, name="one", keywords=PATIENT_AND_STUDY), (), now=datetime(2030, 1, 2, tzinfo=UTC)
    )
    assert new.LossyImageCompression == "01"
    assert new.LossyImageCompressionMethod == "ISO_10918_1"
    assert float(new.LossyImageCompressionRatio) >= 1
    assert "Rows" not in new


@pytest.mark.parametrize(
    ("text", "said"),
    [(b"12,5", ""), (b"many", ""), (b"inf ", ""), (b"8\\20.5", " (ratio 20.5)"), (b"", "")],
)
def test_a_ratio_of_compression_that_is_no_number_refuses_no_file(
    tmp_path: Path, text: bytes, said: str
) -> None:
    (path, *_) = write_classic(tmp_path, STORED, AFFINE, header=Header(extra={"LossyImageCompression": "01"}))
    one = dcmread(path)
    tag = Tag("LossyImageCompressionRatio")
    one._dict[tag] = RawDataElement(tag, "DS", len(text), text, 0, False, True, True)
    one.save_as(path)
    assert read_object(path).remarks == (LOST + said,)


def implicit_items(element: DataElement) -> bytes:
    """The items of a sequence in implicit VR, as PS3.5 has them within UN."""
    made = DicomBytesIO()
    made.is_little_endian = made.is_implicit_VR = True
    write_sequence(made, element, ["iso8859"])
    return made.getvalue()


def test_a_missing_slice_is_said_with_its_place(tmp_path: Path) -> None:
    paths = write_classic(tmp_path, STORED, AFFINE)
    paths[3].unlink()
    assert "lacks slices; got 1 between -12.00 and -4.00 mm" in refusal_of_stack(tmp_path)


def test_unevenly_spaced_slices_are_refused(tmp_path: Path) -> None:
    def shift(one: Dataset, index: int) -> None:
        if index == 4:
            x, y, z = one.ImagePositionPatient
            one.ImagePositionPatient = [x, y, float(z) + 0.5]

    write_classic(tmp_path, STORED, AFFINE, change=shift)
    assert "steps of 3.500 to 4.500 mm" in refusal_of_stack(tmp_path)


def test_a_stack_that_is_askew_is_refused_with_its_angle(tmp_path: Path) -> None:
    askew = AFFINE.copy()
    askew[1, 0] = 4 * np.tan(np.radians(10))
    write_classic(tmp_path, STORED, askew)
    assert "10.00 degrees" in refusal_of_stack(tmp_path)


def test_two_acquisitions_at_one_position_are_refused_unless_a_fact_tells_them_apart(tmp_path: Path) -> None:
    for series in ("one", "two"):
        extra = {"SeriesInstanceUID": "2.25.7", "SOPInstanceUID": UID(f"2.25.{len(series)}")}

        def same_series(one: Dataset, index: int, name: str = series) -> None:
            one.SOPInstanceUID = f"2.25.{hash(name) % 10**9}{index}"

        write_classic(
            tmp_path / series, STORED, AFFINE, header=Header(series=series, extra=extra), change=same_series
        )
        for path in (tmp_path / series).iterdir():
            path.rename(tmp_path / f"{series}{path.name}")
    assert "16 slices at 8 positions" in refusal_of_stack(tmp_path)


@pytest.mark.parametrize("keyword", ["TemporalPositionIdentifier", "AcquisitionNumber", "EchoTime"])
def test_repetitions_and_echoes_of_one_series_are_told_apart(tmp_path: Path, keyword: str) -> None:
    for number in (1, 2):

        def repeat(one: Dataset, index: int, number: int = number) -> None:
            one.SOPInstanceUID, one.SeriesInstanceUID = f"2.25.{number}{index}", "2.25.7"
            setattr(one, keyword, number)

        write_classic(tmp_path / str(number), STORED * number, AFFINE, change=repeat)
    (series,) = read_export(tmp_path).series
    stacks = [stack_of(group, what="the series") for group in series.groups()]
    peaks = [read_stack(stack, contrast="T2", what="the series").array.max() for stack in stacks]
    assert peaks == [STORED.max(), 2 * STORED.max()]


def test_slices_of_several_matrices_in_one_series_are_stacks_of_their_own(tmp_path: Path) -> None:
    write_classic(tmp_path / "whole", STORED, AFFINE)

    def cut(one: Dataset, index: int) -> None:
        one.SOPInstanceUID = f"2.25.9{index}"

    write_classic(tmp_path / "cut", STORED[:, :20], AFFINE, change=cut)
    (series,) = read_export(tmp_path).series
    assert sorted(stack_of(group, what="").shape for group in series.groups()) == [(8, 20, 36), (8, 40, 36)]


def test_one_object_in_two_files_is_taken_once(tmp_path: Path) -> None:
    paths = write_classic(tmp_path, STORED, AFFINE)
    (tmp_path / "again.dcm").write_bytes(paths[2].read_bytes())
    assert read_export(tmp_path).n_repeated == 1
    np.testing.assert_array_equal(read(tmp_path).array, STORED)


def test_phase_beside_magnitude_is_left_out(tmp_path: Path) -> None:
    def phase(one: Dataset, index: int) -> None:
        one.ImageType = ["ORIGINAL", "PRIMARY", "P", "ND"]
        one.SOPInstanceUID = f"2.25.5{index}"

    write_classic(tmp_path / "magnitude", STORED, AFFINE)
    write_classic(tmp_path / "phase", STORED[::-1], AFFINE, change=phase)
    np.testing.assert_array_equal(read(tmp_path).array, STORED)
    assert refusals_in_short(read_export(tmp_path)) == ["8 x FM-D213: 1 x phase"]


def _set(**values: object):
    def change(one: Dataset, index: int) -> None:
        for keyword, value in values.items():
            setattr(one, keyword, value)

    return change


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (_set(SOPClassUID="1.2.840.10008.5.1.4.1.1.7"), NotAnMrImage, "Secondary Capture Image Storage"),
        (_set(SOPClassUID="1.2.3.4"), NotAnMrImage, "no standard kind"),
        (_set(ImageType=["DERIVED", "SECONDARY", "MPR"]), NotAnMrImage, "derived"),
        (_set(ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]), NotAnMrImage, "mosaic of Siemens"),
        (_set(BurnedInAnnotation="YES"), NotAnMrImage, "burned into"),
        (_set(PhotometricInterpretation="RGB", SamplesPerPixel=3), NotAnMrImage, "RGB"),
        (_set(NumberOfFrames=8), NotAnMrImage, "without a place for each"),
        (_set(Rows=4000, Columns=4000), ScanInvalid, "more than it does"),
        (_set(Rows=5000), ScanInvalid, "no scan's"),
        (_set(RescaleSlope=0), ScanInvalid, "slope of zero"),
        (_set(HighBit=15), ScanInvalid, "12 bits stored up to bit 15"),
        (_set(PixelSpacing=None), ScanInvalid, "where it lies"),
        (_set(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), ScanInvalid, "cosine 1.0"),
        (_set(ImagePositionPatient=[0, 0]), ScanInvalid, "where it lies"),
    ],
)
def test_an_object_that_is_not_taken_is_named_for_what_it_is(
    tmp_path: Path, change, error, said: str
) -> None:
    path = write_classic(tmp_path, STORED[:1], AFFINE, change=change)[0]
    with pytest.raises(error, match=said):
        read_object(path)


def test_values_in_high_bits_are_refused_since_pydicom_would_cut_them(tmp_path: Path) -> None:
    """Stored as the standard of old allowed it: 12 bits up to bit 15, so every value is 16 times itself."""

    def in_high_bits(one: Dataset, index: int) -> None:
        one.BitsStored, one.HighBit = 12, 15
        one.PixelData = (STORED[index] << 4).tobytes()

    (path,) = write_classic(tmp_path, STORED[:1], AFFINE, change=in_high_bits)
    read_by_pydicom = dcmread(path).pixel_array
    assert (read_by_pydicom != STORED[0]).any()
    assert (read_by_pydicom == (STORED[0] << 4) % 4096).all()
    with pytest.raises(ScanInvalid, match="FM-D202"):
        read_object(path)


def test_a_real_world_value_mapping_counts_where_there_is_no_rescale(tmp_path: Path) -> None:
    mapping = Dataset()
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = 0.25, 0.0
    write_classic(tmp_path, STORED, AFFINE, change=_set(RealWorldValueMappingSequence=[mapping]))
    np.testing.assert_array_equal(read(tmp_path).array, STORED * np.float32(0.25))
    assert read_export(tmp_path).series[0].remarks == {
        "scaled by the real world value mapping: there is no rescale"
    }


@pytest.mark.parametrize(
    ("real", "differs"), [((2.0, 0.0), False), ((0.5, 0.0), True), ((2.0, 10.0), True), ((0.5, 10.0), True)]
)
def test_of_two_scales_the_rescale_counts_whole_and_the_other_is_said(
    tmp_path: Path, real: tuple[float, float], *, differs: bool
) -> None:
    """No slope of the one with the intercept of the other."""
    mapping = Dataset()
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = real
    both = _set(RescaleSlope=2.0, RescaleIntercept=0.0, RealWorldValueMappingSequence=[mapping])
    write_classic(tmp_path, STORED, AFFINE, change=both)
    np.testing.assert_array_equal(read(tmp_path).array, STORED * np.float32(2.0))
    said = (
        "scaled by rescale; the real world value mapping differs" in read_export(tmp_path).series[0].remarks
    )
    assert said is differs


@pytest.mark.parametrize("keep", [0, 100, 131, 140, 400])
def test_a_file_that_ends_in_its_header_is_refused(tmp_path: Path, keep: int) -> None:
    path = write_classic(tmp_path, STORED[:1], AFFINE)[0]
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"FM-D2(01|02|13)"):
        read_object(path)


@pytest.mark.parametrize("missing", [1, 2, 300])
def test_a_file_that_ends_in_its_pixels_is_refused(tmp_path: Path, missing: int) -> None:
    path = write_classic(tmp_path, STORED, AFFINE)[3]
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(ScanUnreadable, match=r"FM-D201.*file 4"):
        read(tmp_path)


def test_a_link_and_a_pipe_are_refused_at_once(tmp_path: Path) -> None:
    path = write_classic(tmp_path, STORED[:1], AFFINE)[0]
    (tmp_path / "link.dcm").symlink_to(path)
    os.mkfifo(tmp_path / "pipe.dcm")
    for name in ("link.dcm", "pipe.dcm"):
        with pytest.raises(ScanUnreadable, match="FM-D201"):
            read_object(tmp_path / name)


def test_a_link_to_a_folder_is_not_followed_and_said(tmp_path: Path) -> None:
    write_classic(tmp_path / "elsewhere", STORED, AFFINE)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "link").symlink_to(tmp_path / "elsewhere")
    export = read_export(tmp_path / "source")
    assert not export.series
    assert [failure.code for _, failure in export.refused] == ["FM-D201"]
    assert list(export.paths.values()) == ["link"]


def test_a_deflated_object_is_not_inflated(tmp_path: Path) -> None:
    path = write_classic(tmp_path, STORED[:1], AFFINE)[0]
    plain, deflated = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"
    content = path.read_bytes()
    at = content.index(plain)
    head = content[: at - 2] + len(deflated).to_bytes(2, "little") + deflated + content[at + len(plain) :]
    head = head[:140] + (int.from_bytes(head[140:144], "little") + 2).to_bytes(4, "little") + head[144:]
    path.write_bytes(head)
    with pytest.raises(DecoderMissing, match=r"FM-D214.*deflated"):
        read_object(path)


def test_a_header_is_read_up_to_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = write_classic(tmp_path, STORED[:1], AFFINE, header=Header(description="x" * 64))[0]
    monkeypatch.setattr(bounded_header, "MAX_HEADER_BYTES", 4096)
    read_object(long)  # what is skipped costs nothing, and pixels are not read
    wide = write_classic(
        tmp_path / "wide", STORED[:1], AFFINE, header=Header(extra={"SequenceVariant": ["SK"] * 4000})
    )[0]
    with pytest.raises(ScanInvalid, match="larger than an image's"):
        read_object(wide)


def test_a_series_compressed_by_run_lengths_is_read_back(tmp_path: Path) -> None:
    for path in write_classic(tmp_path, STORED, AFFINE):
        one = dcmread(path)
        one.compress(RLELossless, generate_instance_uid=False)
        one.save_as(path)
    np.testing.assert_array_equal(read(tmp_path).array, STORED)


@pytest.mark.parametrize("keep", [0.5, 0.95])
def test_a_compressed_file_that_is_cut_off_is_refused(tmp_path: Path, keep: float) -> None:
    for index, path in enumerate(write_classic(tmp_path, STORED, AFFINE)):
        one = dcmread(path)
        one.compress(RLELossless, generate_instance_uid=False)
        one.save_as(path)
        if index == 3:
            content = path.read_bytes()
            start = content.index(b"\xe0\x7f\x10\x00OB")
            path.write_bytes(content[: start + int((len(content) - start) * keep)])
    with pytest.raises(ScanUnreadable, match=r"FM-D201.*file 4"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("syntax", "said"),
    [
        ("1.2.840.10008.1.2.4.103", "MPEG-4"),
        ("1.2.3.4.5", "no standard"),
        ("DOE^JANE", "no standard"),  # pydicom would warn, and print it
        ("1.2.840.10008.1.2.4.201", "not installed; got High-Throughput JPEG 2000.*pylibjpeg-openjpeg"),
    ],
)
def test_a_form_that_nothing_here_decodes_is_named(tmp_path: Path, syntax: str, said: str) -> None:
    paths = write_classic(tmp_path, STORED, AFFINE)
    for path in paths:
        content = path.read_bytes()
        old = b"1.2.840.10008.1.2.1\0"
        new = syntax.encode() + b"\0" * (len(syntax) % 2)
        at = content.index(old)
        grown = len(new) - len(old)
        content = content[: at - 2] + len(new).to_bytes(2, "little") + new + content[at + len(old) :]
        content = (
            content[:140]
            + (int.from_bytes(content[140:144], "little") + grown).to_bytes(4, "little")
            + content[144:]
        )
        path.write_bytes(content)
    with pytest.raises(DecoderMissing, match=f"FM-D214.*{said}.*Explicit VR Little Endian"):
        read(tmp_path)


def test_no_refusal_holds_a_value_of_the_header(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """pydicom's own warnings and exceptions do."""
    caplog.set_level("DEBUG")
    name = "ZYXWV^IDENTITY"
    header = Header(patient_id=name, patient_name=name, description=name)
    path = write_classic(tmp_path, STORED[:1], AFFINE, header=header)[0]
    content = path.read_bytes()
    assert b"100.0 " in content  # the echo time
    path.write_bytes(content.replace(b"100.0 ", b"IDENTI"))
    export: Export = read_export(tmp_path)
    text = f"{export!r} {export.refused} {refusals_in_short(export)} {caplog.text}"
    assert export.refused
    assert "IDENTI" not in text
    assert "ZYXWV" not in text
