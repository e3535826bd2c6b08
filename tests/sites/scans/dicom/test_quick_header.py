"""The quick walk over a header against pydicom's reader: the same objects, and the same refusals of damaged ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from minet_core.errors import FedminetError
from sites.scans.dicom import bounded_header
from sites.scans.dicom.frames import MrObject, read_object
from sites.scans.dicom.plain_bytes import NotPlain
from tests.sites.test_dicom_ingest import AFFINE, stored
from tests.support.dicom_series import WAYS, Header, encoded, write_classic, write_enhanced
from tests.support.vendor_dicom import vendor_folder

quick = bounded_header.quick_header


def _gives_up(*_: object, **__: object) -> None:
    raise NotPlain


def read_both_ways(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[MrObject | str], bool]:
    """What the quick walk and pydicom make of a file, and whether the walk read it."""
    walked: list[object] = []

    def counted(*arguments: object, **options: object) -> object:
        walked.append(quick(*arguments, **options))  # type: ignore[arg-type]
        return walked[-1]

    return [_outcome(path, one, monkeypatch) for one in (counted, _gives_up)], bool(walked)


def _outcome(path: Path, walk: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> MrObject | str:
    monkeypatch.setattr(bounded_header, "quick_header", walk)
    try:
        return read_object(path, name="file")
    except FedminetError as failure:
        return str(failure)


CLASSIC = ("ge_epi", "uih_t1_sag", "philips_classic_fmri", "philips_classic_dti", "siemens_skyra_mosaic")
ENHANCED = (
    "siemens_xa10_enhanced",
    "siemens_xa30_enhanced_t1",
    "siemens_xa30_derived_fa",
    "philips_enhanced_b0",
)
OTHERS = ("siemens_trio_jpeg2000", "siemens_trio_jpeg_lossless", "uih_vframe_dti", "siemens_xa30_report")
ENCODINGS = [(implicit, undefined) for implicit in (False, True) for undefined in (False, True)]


@pytest.mark.parametrize("name", [*CLASSIC, *ENHANCED, *OTHERS])
def test_vendors_files_are_read_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in sorted(path for path in vendor_folder(name).rglob("*") if path.is_file()):
        (one, other), walked = read_both_ways(path, monkeypatch)
        assert one == other
        assert walked or name == "siemens_xa30_report", "it is plain"


@pytest.mark.parametrize(("implicit", "undefined"), ENCODINGS)
@pytest.mark.parametrize("name", ENHANCED)
def test_vendors_enhanced_objects_are_read_alike_in_every_encoding(
    name: str, implicit: bool, undefined: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sorted(path for path in vendor_folder(name).rglob("*") if path.is_file())[0]
    before = _outcome(path, quick, monkeypatch)
    again = encoded(dcmread(path), tmp_path / "again.dcm", implicit=implicit, undefined=undefined)
    (one, other), walked = read_both_ways(again, monkeypatch)
    assert one == other
    assert walked
    if isinstance(one, str) or isinstance(before, str):
        assert one == before
    else:
        assert _facts(one) == _facts(before)


@pytest.mark.parametrize(("implicit", "undefined"), ENCODINGS)
@pytest.mark.parametrize("way", sorted(WAYS))
def test_enhanced_objects_are_read_alike_in_every_encoding(
    way: str, implicit: bool, undefined: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_each_frame(one: Dataset, _: int) -> None:
        for index, frame in enumerate(one.PerFrameFunctionalGroupsSequence):
            frame.MREchoSequence = [Dataset()]
            frame.MREchoSequence[0].EffectiveEchoTime = 10.0 + index
            frame.FrameContentSequence = [Dataset()]
            frame.FrameContentSequence[0].TemporalPositionIndex = 1 + index % 2
            frame.RealWorldValueMappingSequence = [Dataset()]
            mapping = frame.RealWorldValueMappingSequence[0]
            mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = 0.5 + index, 1.0
            mapping.MeasurementUnitsCodeSequence = [Dataset()]
            mapping.MeasurementUnitsCodeSequence[0].CodeValue = "ms"
            frame.add_new(0x20050014, "LO", "Philips MR Imaging DD 005")
            frame.add_new(0x2005140F, "SQ", [Dataset()])
            inner = frame[0x2005140F].value[0]
            inner.add_new(0x00189117, "SQ", [Dataset()])
            inner.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", 0.25)
        one.ContrastBolusAgentSequence = [Dataset()]

    array = stored(1, "T2")[:4]
    path = write_enhanced(tmp_path / "one.dcm", array, AFFINE, way=way, change=of_each_frame)
    again = encoded(dcmread(path), tmp_path / "again.dcm", implicit=implicit, undefined=undefined)
    (one, other), walked = read_both_ways(again, monkeypatch)
    assert isinstance(one, MrObject)
    assert one == other
    assert walked
    assert [frame.facts.echo_time_s for frame in one.frames] == [0.01, 0.011, 0.012, 0.013]
    assert [frame.slope for frame in one.frames] == [0.5, 1.5, 2.5, 3.5]
    assert {frame.philips_scale for frame in one.frames} == {0.25}
    assert one.frames[0].facts.contrast_agent


def _facts(one: MrObject) -> tuple[object, ...]:
    """All but where the file is, and how its pixels lie in it."""
    frames = tuple(replace(frame, path=Path(), name="") for frame in one.frames)
    return frames, one.n_other, one.remarks, one.patient_id, one.study, one.series, one.instance


@pytest.mark.parametrize("way", sorted(WAYS))
def test_text_of_another_character_set_is_left_to_pydicom(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greek(one: object, index: int) -> None:
        one.SpecificCharacterSet, one.SeriesDescription = "ISO_IR 126", "\u0391\u03b8\u03ae\u03bd\u03b1"  # type: ignore[attr-defined]

    paths = [
        *write_classic(tmp_path / "plain", stored(1, "T2")[:1], AFFINE, way=way),
        *write_classic(tmp_path / "greek", stored(1, "T2")[:1], AFFINE, way=way, change=greek),
    ]
    for path, plain in zip(paths, (True, False), strict=True):
        (one, other), walked = read_both_ways(path, monkeypatch)
        assert one == other
        assert walked == plain
    assert one.frames[0].facts.descriptions == ("\u0391\u03b8\u03ae\u03bd\u03b1",)  # type: ignore[union-attr]


def test_damaged_files_are_refused_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wholes, damaged = [], tmp_path / "damaged"
    for way in ("siemens", "canon"):
        header = Header(description="a text")
        path = write_classic(tmp_path / way, stored(1, "T2")[:1], AFFINE, way=way, header=header)[0]
        wholes.append(path.read_bytes())
    _compare_damaged(wholes, 400, damaged, monkeypatch)


def test_damaged_enhanced_objects_are_refused_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array, wholes = stored(1, "T2")[:2], []
    path = write_enhanced(tmp_path / "one.dcm", array, AFFINE, slopes=np.array([0.5, 1.5]))
    for number, (implicit, undefined) in enumerate(ENCODINGS):
        again = encoded(dcmread(path), tmp_path / f"{number}.dcm", implicit=implicit, undefined=undefined)
        wholes.append(again.read_bytes())
    _compare_damaged(wholes, 1200, tmp_path / "damaged", monkeypatch)


def _compare_damaged(wholes: list[bytes], count: int, damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, outcomes = random.Random(1), set()
    for number in range(count):
        content = bytearray(wholes[number % len(wholes)])
        end = content.index(b"\xe0\x7f\x10\x00")
        for _ in range(draw.choice((1, 1, 2, 5))):
            content[draw.randrange(128, end + 12)] = draw.choice((0, 1, 255, draw.randrange(256)))
        damaged.write_bytes(content if number % 5 else content[: draw.randrange(140, len(content))])
        (one, other), _ = read_both_ways(damaged, monkeypatch)
        assert one == other, number
        outcomes.add(one[:7] if isinstance(one, str) else "read")
    assert {"read", "FM-D201"} < outcomes
