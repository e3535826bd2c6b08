"""The quick walk over a header against pydicom's reader: the same objects, and the same refusals of damaged ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from minet_core.errors import FedminetError
from sites.scans.dicom import bounded_header
from sites.scans.dicom.frames import MrObject, read_object
from sites.scans.dicom.quick_header import NotPlain
from tests.sites.test_dicom_ingest import AFFINE, stored
from tests.support.dicom_series import WAYS, Header, write_classic
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


@pytest.mark.parametrize("name", ["ge_epi", "uih_t1_sag", "philips_classic_fmri", "siemens_skyra_mosaic"])
def test_vendors_files_are_read_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in sorted(path for path in vendor_folder(name).rglob("*") if path.is_file())[:6]:
        (one, other), walked = read_both_ways(path, monkeypatch)
        assert one == other
        assert walked, "it is plain"


@pytest.mark.parametrize("way", sorted(WAYS))
def test_text_of_another_character_set_and_a_sequence_are_left_to_pydicom(
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
    draw, damaged, outcomes = random.Random(1), tmp_path / "damaged", set()
    wholes = []
    for way in ("siemens", "canon"):
        header = Header(description="a text")
        path = write_classic(tmp_path / way, stored(1, "T2")[:1], AFFINE, way=way, header=header)[0]
        wholes.append(path.read_bytes())
    for number in range(400):
        content = bytearray(wholes[number % 2])
        end = content.index(b"\xe0\x7f\x10\x00")
        for _ in range(draw.choice((1, 1, 2, 5))):
            content[draw.randrange(128, end + 12)] = draw.choice((0, 1, 255, draw.randrange(256)))
        damaged.write_bytes(content if number % 5 else content[: draw.randrange(140, len(content))])
        (one, other), _ = read_both_ways(damaged, monkeypatch)
        assert one == other, number
        outcomes.add(one[:7] if isinstance(one, str) else "read")
    assert {"read", "FM-D201"} < outcomes
