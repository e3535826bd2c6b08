"""Damaged DICOM: one object of a series whose lengths, values or bytes are changed, read as an ingest reads it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from sites.scans.dicom.frames import read_object
from sites.scans.dicom.read_dicom import read_stack
from sites.scans.dicom.stacks import group_frames, stack_of
from tests.fuzz.measure import Attempt
from tests.fuzz.mutators import mutated_bytes
from tests.support.dicom_series import encoded, write_classic, write_enhanced
from tests.support.small_scans import affine_of

_LENGTHS = (0, 1, 2, 7, 255, 65535, 65536, 2**24, 2**31 - 1, 2**32 - 2, 2**32 - 1)
_VALUES = (
    b"",
    b"0",
    b"-1",
    b"nan",
    b"1e400",
    b"99999999",
    b"-0",
    b"\\",
    b"1\\2\\3\\4\\5\\6\\7",
    b"\xff" * 8,
    b"\0" * 4,
)


def dicom(folder: Path) -> Attempt:
    """A classic series of which one slice is damaged, or an enhanced object."""
    stored = np.random.default_rng(0).integers(0, 900, (5, 16, 16)).astype(np.uint16)
    seeds: list[tuple[list[bytes], list[list[tuple[int, int]]]]] = []
    for way in ("siemens", "canon", "philips"):
        seeds.append(_seed(write_classic(folder / way, stored, affine_of((4.0, 3.0, 3.0)), way=way)))
    compressed = write_classic(folder / "rle", stored, affine_of((4.0, 3.0, 3.0)))
    for path in compressed:
        one = dcmread(path)
        one.compress(RLELossless, generate_instance_uid=False)
        one.save_as(path)
    seeds.append(_seed(compressed))
    slopes = np.linspace(0.5, 1.5, 5)
    enhanced = write_enhanced(folder / "one.dcm", stored, affine_of((4.0, 3.0, 3.0)), slopes=slopes)
    seeds.append(_seed([enhanced]))
    for implicit in (False, True):
        again = encoded(dcmread(enhanced), folder / "again.dcm", implicit=implicit, undefined=True)
        seeds.append(_seed([again]))
    place = folder / "damaged"
    place.mkdir()

    def attempt(generator: random.Random) -> Callable[[], object]:
        contents, elements = generator.choice(seeds)
        damaged = generator.randrange(len(contents))
        paths = []
        for number, content in enumerate(contents):
            paths.append(place / f"{number}.dcm")
            paths[-1].unlink(missing_ok=True)
            changed = _mutated(content, elements[number], generator) if number == damaged else content
            paths[-1].write_bytes(changed)

        def read() -> None:
            frames = [frame for path in paths for frame in read_object(path).frames]
            for group in group_frames(frames):
                read_stack(stack_of(group, what="series"), contrast="T2", what="series")

        return read

    return attempt


def _seed(paths: list[Path]) -> tuple[list[bytes], list[list[tuple[int, int]]]]:
    """The contents, and of each the places and lengths of its values."""
    return [path.read_bytes() for path in paths], [
        _elements(dcmread(path, defer_size=None)) for path in paths
    ]


def _elements(dataset: Dataset) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for tag in list(dataset.keys()):
        raw = dataset.get_item(tag)
        if raw is None:
            continue
        place, length = (
            getattr(raw, "value_tell", None) or getattr(raw, "file_tell", None),
            getattr(raw, "length", 0),
        )
        if place:
            found.append((int(place), int(length or 0)))
        if raw.VR == "SQ":
            found += [one for item in dataset[tag].value for one in _elements(item)]
    return found


def _mutated(content: bytes, elements: list[tuple[int, int]], generator: random.Random) -> bytes:
    changed = bytearray(content)
    if generator.random() < 0.3:
        return mutated_bytes(content, generator)
    for _ in range(generator.choice((1, 1, 2, 3))):
        place, length = generator.choice(elements)
        match generator.randrange(4):
            case 0:  # a lying length, of two bytes or four
                size = generator.choice((2, 4))
                changed[place - size : place] = (generator.choice(_LENGTHS) % 256**size).to_bytes(
                    size, "little"
                )
            case 1:  # another value of the same length
                value = generator.choice(_VALUES)
                if 0 < length < 2**31:
                    changed[place : place + length] = value[:length].ljust(length, b" ")
            case 2:  # another VR
                changed[place - 4 : place - 2] = generator.choice(
                    (b"SQ", b"OB", b"UN", b"DS", b"FD", b"??", b"AT")
                )
            case _:
                if 0 < length < 2**31:
                    changed[place + generator.randrange(length)] = generator.randrange(256)
    if generator.random() < 0.1:
        return bytes(changed[: generator.randrange(len(changed))])
    return bytes(changed)
