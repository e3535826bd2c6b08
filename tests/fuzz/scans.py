"""Damaged scans: NIfTI as ingest and as inference read it, and the HDF5 files of fastMRI."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np

from sites.scans.fastmri_hdf5 import read_fastmri, read_header
from sites.scans.nifti import read_nifti_with_remarks
from sites.super_resolution.super_resolve import _read
from tests.fuzz.measure import Attempt
from tests.fuzz.mutators import mutated_bytes, mutated_gzip, mutated_nifti
from tests.support.small_scans import header, make_volume, write_fastmri, write_nifti


def nifti(folder: Path) -> Attempt:
    """One scan, as ingest reads it."""
    seeds = _nifti_seeds(folder)
    path = folder / "T1.nii.gz"

    def attempt(generator: random.Random) -> Callable[[], object]:
        _write_nifti(path, generator.choice(seeds), generator)
        axis = generator.choice((None, None, None, 0, 1, 2))
        return lambda: read_nifti_with_remarks(path, contrast="T1", slice_axis=axis, trust_geometry=axis == 2)

    return attempt


def nifti_of_inference(folder: Path) -> Attempt:
    """A target and its reference, of which one or both are damaged, up to the grid that the picture is made on."""
    seeds = _nifti_seeds(folder)
    paths = folder / "target.nii.gz", folder / "reference.nii.gz"

    def attempt(generator: random.Random) -> Callable[[], object]:
        whole = generator.choice((0, 1, None))
        for number, path in enumerate(paths):
            if number == whole:
                path.write_bytes(gzip.compress(seeds[0], 1))
            else:
                _write_nifti(path, generator.choice(seeds), generator)
        axis, scale = generator.choice((None, 0, 1, 2)), generator.choice((2, 4))
        return lambda: _read(*paths, scale=scale, slice_axis=axis)

    return attempt


def _nifti_seeds(folder: Path) -> list[bytes]:
    volume = make_volume(1, "T1")
    write_nifti(folder / "seed.nii.gz", volume)
    array = volume.array.transpose(2, 1, 0)
    signed, plain = np.asarray(array / array.max() * 900, np.int16), nibabel.Nifti1Header(endianness=">")
    plain.set_data_dtype(np.int16)
    return [
        gzip.decompress((folder / "seed.nii.gz").read_bytes()),
        nibabel.Nifti2Image(signed, np.diag([2.0, 2.0, 4.0, 1.0])).to_bytes(),
        nibabel.Nifti1Image(signed, np.diag([2.0, 2.0, 4.0, 1.0]), plain).to_bytes(),
    ]


def _write_nifti(path: Path, seed: bytes, generator: random.Random) -> None:
    content = mutated_nifti(seed, generator) if generator.random() < 0.8 else mutated_bytes(seed, generator)
    path.unlink(missing_ok=True)
    path.write_bytes(mutated_gzip(content, generator) if generator.random() < 0.5 else content)


def fastmri(folder: Path) -> Attempt:
    """A file of the set: its bytes damaged, or whole HDF5 that says odd things."""
    seeds = _fastmri_seeds(folder)
    path = folder / "file1.h5"

    def attempt(generator: random.Random) -> Callable[[], object]:
        path.unlink(missing_ok=True)
        seed = generator.choice(seeds)
        if generator.random() < 0.5:
            path.write_bytes(mutated_bytes(seed, generator))
        else:
            path.write_bytes(seed)
            with h5py.File(path, "a") as file:
                for _ in range(generator.choice((1, 1, 2))):
                    generator.choice(_CHANGES)(file, generator)

        def read() -> None:
            read_header(path)
            read_fastmri(path, contrast="PD")

        return read

    return attempt


def _fastmri_seeds(folder: Path) -> list[bytes]:
    """K-space whole and in compressed chunks, of coils, and a reconstruction; the smaller, the more headers are hit."""
    options: dict[str, dict[str, Any]] = {
        "whole": {},
        "chunked": {"chunks": True},
        "coils": {"n_coils": 2},
        "image": {"kspace": False},
    }
    seeds = []
    for name, option in options.items():
        path = folder / f"{name}.h5"
        chunked = option.pop("chunks", False)
        write_fastmri(path, 1, "CORPD_FBK", patient_id="p1", n_slices=4, **option)
        if chunked:
            with h5py.File(path, "a") as file:
                values = file["kspace"][()]
                del file["kspace"]
                chunks = (1, *values.shape[1:])
                file.create_dataset("kspace", data=values, chunks=chunks, compression="gzip", fletcher32=True)
        seeds.append(path.read_bytes())
    return seeds


_ODD_VALUES: tuple[Any, ...] = (
    17,
    np.int8(-1),
    np.uint64(2**64 - 1),
    1e308,
    float("nan"),
    float("inf"),
    True,
    "",
    " ",
    "p" * 60_000,
    b"\xff\xfe",
    np.bytes_(b"p1\0x"),
    np.complex64(1j),
    h5py.Empty("f4"),
    h5py.Empty("S1"),
    np.arange(3),
    np.zeros((0, 3)),
    np.array(["a", "b"], dtype=h5py.string_dtype()),
    np.array([1], dtype=h5py.enum_dtype({"A": 1})),
    np.zeros(1, dtype=[("r", "f4"), ("i", "S3")]),
    np.zeros(1, dtype=[("r", "f4", (3,)), ("i", "f4")]),
    np.array([b"abc"], dtype="V3"),
    np.zeros((), dtype=np.dtype(("f4", (2,)))),
)
_NAMES = ("kspace", "ismrmrd_header", "mask", "reconstruction_esc", "reconstruction_rss")


def _odd_attribute(file: h5py.File, generator: random.Random) -> None:
    name = generator.choice(("acquisition", "patient_id", "acceleration"))
    file.attrs[name] = generator.choice(_ODD_VALUES)


def _reference_attribute(file: h5py.File, generator: random.Random) -> None:
    file.attrs["patient_id"] = file.ref


def _odd_dataset(file: h5py.File, generator: random.Random) -> None:
    _replace(file, generator.choice(_NAMES), data=generator.choice(_ODD_VALUES))


def _group_in_its_place(file: h5py.File, generator: random.Random) -> None:
    name = generator.choice(_NAMES)
    if name in file:
        del file[name]
    kind = generator.choice(("group", "soft", "external", "type", "itself"))
    if kind == "group":
        file.create_group(name)
    elif kind == "type":
        file[name] = np.dtype(np.complex64)
    else:
        links = {
            "soft": h5py.SoftLink("/kspace"),
            "external": h5py.ExternalLink("/dev/null", "/x"),
            "itself": file,
        }
        file[name] = links[kind]


def _odd_header(file: h5py.File, generator: random.Random) -> None:
    text = mutated_bytes(header(32, 32), generator)
    if generator.random() < 0.3:
        text = generator.choice(
            (
                b"<a>" * 20_000,
                b"<?xml version='1.0' encoding='utf-7'?><a/>",
                b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
            )
        )
    _replace(file, "ismrmrd_header", data=np.bytes_(text) if text else h5py.Empty("S1"))


def _much_in_few_bytes(file: h5py.File, generator: random.Random) -> None:
    """Chunks of zeros under gzip, or no chunk at all, and a shape that says a whole scan."""
    shape = generator.choice(
        ((4, 64, 64), (16, 256, 256), (40, 640, 640), (4, 2048, 2048), (4096, 16, 16), (4, 4, 64, 64))
    )
    kinds: tuple[Any, ...] = (
        "c8",
        "c16",
        "f4",
        "f8",
        "f2",
        "i1",
        [("r", "f2"), ("i", "f2")],
        [("r", "i1"), ("i", "i1")],
    )
    written = generator.choice((0, 1, min(shape[0], 16)))
    name = generator.choice(("kspace", "kspace", "reconstruction_rss", "mask"))
    data = _replace(
        file,
        name,
        shape=shape,
        dtype=np.dtype(generator.choice(kinds)),
        chunks=(1, *(min(n, 512) for n in shape[1:])),
        compression="gzip",
        compression_opts=1,
        shuffle=generator.random() < 0.5,
    )
    for index in range(written):
        data[index] = np.zeros(shape[1:], data.dtype)


def _odd_storage(file: h5py.File, generator: random.Random) -> None:
    """Filters one upon the other, values packed by the bit, the smallest chunks, and a value in place of any."""
    values = np.ones((4, 32, 40), np.complex64)
    options: tuple[dict[str, Any], ...] = (
        {"chunks": (4, 32, 40), "compression": "lzf", "shuffle": True, "fletcher32": True},
        {"chunks": (1, 1, 1)},
        {"chunks": (4, 32, 40), "maxshape": (None, None, None)},
        {"fillvalue": 1 + 1j},
        {"track_times": True, "compression": "gzip", "chunks": (2, 5, 7)},
    )
    _replace(file, "kspace", data=values, **generator.choice(options))


def _replace(file: h5py.File, name: str, **options: Any) -> Any:
    if name in file:
        del file[name]
    return file.create_dataset(name, **options)


_CHANGES = (
    _odd_attribute,
    _odd_attribute,
    _reference_attribute,
    _odd_dataset,
    _odd_dataset,
    _group_in_its_place,
    _odd_header,
    _odd_header,
    _much_in_few_bytes,
    _odd_storage,
)
