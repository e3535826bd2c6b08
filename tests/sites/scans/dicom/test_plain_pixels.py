"""The one image of a plain file, read in one step, against pydicom's: the same values, and the same refusals."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from minet_core.errors import FedminetError
from sites.scans.dicom import pixels
from sites.scans.dicom.frames import Frame, read_object
from sites.scans.dicom.pixels import stored_frames
from tests.sites.test_dicom_ingest import AFFINE, stored
from tests.support.dicom_series import WAYS, write_classic
from tests.support.vendor_dicom import vendor_folder

IMAGE = stored(1, "T2")[:1]
plain_image = pixels.plain_image


def outcomes(frame: Frame, monkeypatch: pytest.MonkeyPatch) -> tuple[list[object], bool]:
    """What the one step and pydicom make of a frame, and whether the one step read it."""
    taken: list[bool] = []

    def counted(*arguments: object, **options: object) -> object:
        image = plain_image(*arguments, **options)  # type: ignore[arg-type]
        taken.append(image is not None)
        return image

    found = []
    for way in (counted, lambda *_, **__: None):
        monkeypatch.setattr(pixels, "plain_image", way)
        try:
            (image,) = stored_frames([frame])
            found.append((image.dtype, image.tolist()))
        except FedminetError as failure:
            found.append(str(failure))
    return found, any(taken)


def files_of(vendor: str) -> Iterator[Path]:
    return iter(sorted(path for path in vendor_folder(vendor).rglob("*") if path.is_file())[:4])


@pytest.mark.parametrize("vendor", ["ge_epi", "uih_t1_sag", "philips_classic_fmri"])
def test_vendors_images_are_read_alike(vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in files_of(vendor):
        (one, other), taken = outcomes(read_object(path).frames[0], monkeypatch)
        assert taken
        assert one == other


@pytest.mark.parametrize("way", sorted(WAYS))
def test_every_way_of_writing_is_read_alike(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = write_classic(tmp_path, IMAGE, AFFINE, way=way)
    (one, other), taken = outcomes(read_object(path).frames[0], monkeypatch)
    assert taken
    assert one == other


@pytest.mark.parametrize(("signed", "n_stored"), [(0, 12), (1, 12), (1, 16), (0, 16)])
def test_bits_that_mean_nothing_are_left_out(
    signed: int, n_stored: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(3).integers(0, 1 << 16, IMAGE.shape[1:], dtype=np.uint16)

    def with_noise(one: Dataset, index: int) -> None:
        one.PixelRepresentation, one.BitsStored, one.HighBit = signed, n_stored, n_stored - 1
        one.PixelData = noise.tobytes()

    (path,) = write_classic(tmp_path, IMAGE, AFFINE, change=with_noise)
    (one, other), taken = outcomes(read_object(path).frames[0], monkeypatch)
    assert taken
    assert one == other


def test_what_is_not_plain_is_left_to_pydicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A size that is not the frame's, bytes that are missing, and a value that is."""
    (path,) = write_classic(tmp_path, IMAGE, AFFINE)
    frame = read_object(path).frames[0]
    (one, other), taken = outcomes(replace(frame, shape=(36, 40)), monkeypatch)
    assert not taken
    assert "changed meanwhile" in str(one) == str(other)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    (one, other), taken = outcomes(frame, monkeypatch)
    assert not taken
    assert "FM-D201" in str(one) == str(other)
    path.write_bytes(whole)
    dataset = dcmread(path)
    del dataset.BitsStored
    dataset.save_as(path)
    (one, other), taken = outcomes(frame, monkeypatch)
    assert not taken
    assert "FM-D2" in str(one) == str(other)


def test_damaged_files_are_read_or_refused_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = write_classic(tmp_path, IMAGE, AFFINE)
    frame, whole = read_object(path).frames[0], path.read_bytes()
    draw, n_taken = random.Random(7), 0
    header = len(whole) - IMAGE.nbytes
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(draw.randrange(1, 4)):
            content[draw.randrange(132, header)] = draw.randrange(256)
        path.write_bytes(content[: draw.choice([len(content), draw.randrange(header, len(content))])])
        (one, other), taken = outcomes(frame, monkeypatch)
        assert one == other
        n_taken += taken
    assert 0 < n_taken < 300
