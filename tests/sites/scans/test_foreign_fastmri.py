"""fastMRI files as they come: of brains, without this or that, and such as would bring their reader down."""

from __future__ import annotations

import fcntl
import os
import signal
import termios
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

import sites.making.make_pair
import sites.scans.foreign_hdf5
from minet_core.errors import DataError, ScanInvalid, ScanReaderFailed, ScanUnreadable
from minet_core.settings.yaml_file import parse_settings
from sites.ingest import ingest
from sites.pairing.pairing import find_pairs
from sites.scans.fastmri_hdf5 import read_fastmri, read_header
from sites.scans.foreign_hdf5 import ForeignFile
from sites.scans.nifti import read_nifti
from sites.settings.definitions import definition
from sites.settings.site_settings import SiteSettings
from tests.support.small_scans import SHAPE, make_volume, write_fastmri, write_nifti_patient


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file1.h5"
    write_fastmri(path, 1, "CORPD_FBK", patient_id="p1")
    return path


def changed(path: Path, change) -> Path:
    with h5py.File(path, "a") as file:
        change(file)
    return path


def put(name: str, value, **options):
    def change(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file.create_dataset(name, data=value, **options)

    return change


def put_attribute(name: str, value):
    def change(file: h5py.File) -> None:
        if name in file.attrs:
            del file.attrs[name]
        if value is not None:
            file.attrs[name] = value

    return change


def header_with(path: Path, old: bytes, new: bytes) -> None:
    with h5py.File(path, "a") as file:
        text = file["ismrmrd_header"][()]
        assert old in text
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = text.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"<z>3.0</z>", b"<z>0</z>", "thickness"),
        (b"<z>3.0</z>", b"", "thickness"),
        (b"<z>3.0</z>", b"<z>nan</z>", "thickness"),
        (b"<z>3.0</z>", b"<z>thick</z>", "thickness"),
        (b"<z>3.0</z>", b"<z>-3</z>", "thickness"),
        (b"<z>3.0</z>", b"<z>1e300</z>", "impossible voxel size"),
        (b"<z>1</z></matrixSize>\n    <fieldOfView_mm>", b"<z>0</z></matrixSize><fieldOfView_mm>", "voxels' size"),
        (b"<z>1</z></matrixSize>\n    <fieldOfView_mm>", b"<z>.5</z></matrixSize><fieldOfView_mm>", "matrix"),
        (b"reconSpace", b"otherSpace", "no reconSpace"),
        (b"</encoding>", b"", "no XML"),
    ],
)  # fmt: skip
def test_a_header_that_lacks_a_figure_is_said_so(path, old: bytes, new: bytes, said: str) -> None:
    old = old.replace(b"3.0", str(SPACING_DEPTH).encode())
    header_with(path, old, new)
    for read in (read_header, lambda path: read_fastmri(path, contrast="PD")):
        with pytest.raises(DataError, match=said):
            read(path)


SPACING_DEPTH = make_volume(1, "T1").spacing_mm[0]


def _no_header(file: h5py.File) -> None:
    del file["ismrmrd_header"]


def _linked(link):
    def change(file: h5py.File) -> None:
        del file["kspace"]
        file["kspace"] = link

    return change


def _virtual(file: h5py.File) -> None:
    shape = file["kspace"].shape
    del file["kspace"]
    layout = h5py.VirtualLayout(shape, np.complex64)
    layout[:] = h5py.VirtualSource("other.h5", "kspace", shape)
    file.create_virtual_dataset("kspace", layout)


def _committed(file: h5py.File) -> None:
    del file["kspace"]
    file["kspace"] = np.dtype(np.complex64)


def _foreign_filter(file: h5py.File) -> None:
    """A dataset that says it is compressed by Blosc, which is not among HDF5's own filters."""
    del file["kspace"]
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((1, 32, 32))
    creation.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, ())
    space, kind = h5py.h5s.create_simple((6, 32, 32)), h5py.h5t.py_create(np.dtype(np.complex64))
    h5py.h5d.create(file.id, b"kspace", kind, space, creation)


def _declared(shape, chunks=None):
    def change(file: h5py.File) -> None:
        del file["kspace"]
        file.create_dataset(
            "kspace", shape, np.complex64, chunks=chunks, compression="gzip" if chunks else None
        )

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_no_header, "has no header"),
        (put("ismrmrd_header", np.zeros(3)), "not one text"),
        (put("ismrmrd_header", h5py.Empty("S1")), "has no header"),
        (put("ismrmrd_header", b"a" * (2 << 20)), "not one text"),
        (put("mask", np.arange(40) % 4 == 0), "undersampled; got 25%"),
        (put_attribute("acceleration", 4), "undersampled; got acceleration 4"),
        (_linked(h5py.SoftLink("/elsewhere")), "a link to elsewhere"),
        (_linked(h5py.ExternalLink("other.h5", "/kspace")), "a link to elsewhere"),
        (_virtual, "no dataset of the file itself"),
        (_committed, "is no dataset"),
        (_foreign_filter, "filter 32001"),
        (put("kspace", np.zeros((6, 32, 32), dtype=[("a", "f4"), ("b", "f4"), ("c", "f4")])), "no numbers"),
        (put("kspace", [b"text"] * 6, dtype=h5py.special_dtype(vlen=bytes)), "no numbers"),
        (put("kspace", np.zeros((6, 32, 32), np.float32)), "no k-space"),
        (put("kspace", np.zeros((0, 32, 32), np.complex64)), "empty"),
        (put("kspace", h5py.Empty(np.complex64)), "empty"),
        (_declared((100, 640, 640)), "more than it does"),
        (_declared((40, 640, 640), (1, 8, 8)), "more than it does"),
        (_declared((4096, 4096, 4096), (1, 1, 1)), "cut into chunks"),
        (_declared((8, 64, 4096, 64), (8, 64, 4096, 64)), "cut into chunks"),
        (_declared((4, 64, 4096, 4096)), "slices larger"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(path, change, said: str) -> None:
    changed(path, change)
    with pytest.raises(ScanInvalid, match=said):
        read_fastmri(path, contrast="PD")
    with pytest.raises(ScanInvalid, match=said):
        read_header(path)


def test_columns_left_out_without_a_mask_are_found(path) -> None:
    with h5py.File(path, "a") as file:
        file["kspace"][:, :, 1::2] = 0
    with pytest.raises(ScanInvalid, match=r"undersampled; got 5\d% of its columns"):
        read_fastmri(path, contrast="PD")


def test_columns_padded_at_the_edges_are_no_undersampling(path) -> None:
    with h5py.File(path, "a") as file:
        file["kspace"][:, :, :2] = 0
    assert read_fastmri(path, contrast="PD").array.shape == SHAPE


def test_a_mask_of_ones_is_full_sampling(path) -> None:
    before = read_fastmri(path, contrast="PD").array
    changed(path, put("mask", np.ones(SHAPE[2] + 4, dtype=bool)))
    np.testing.assert_array_equal(read_fastmri(path, contrast="PD").array, before)


@pytest.mark.parametrize(
    "dtype",
    [
        np.complex128,
        np.dtype(">c8"),
        np.dtype([("real", "f4"), ("imag", "f4")]),
        np.dtype([("r", "f2"), ("i", "f2")]),
        np.dtype([("re", ">f8"), ("im", ">f8")]),
    ],
)
def test_complex_values_of_every_making_are_read(path, dtype) -> None:
    with h5py.File(path) as file:
        kspace = file["kspace"][()] * 1e3  # a float16's rounding is 2^-11 of a value; its least is 6e-8
    before = read_fastmri(path, contrast="PD").array * 1e3
    stored = np.empty(kspace.shape, dtype)
    if stored.dtype.names:
        real, imaginary = stored.dtype.names
        stored[real], stored[imaginary] = kspace.real, kspace.imag
    else:
        stored[:] = kspace
    changed(path, put("kspace", stored))
    half = stored.dtype.itemsize == 4
    read = read_fastmri(path, contrast="PD").array
    np.testing.assert_allclose(read, before, atol=(2e-3 if half else 1e-6) * np.abs(before).max())


@pytest.mark.parametrize(
    ("value", "patient_id"),
    [
        (17, "17"),
        (np.int16(17), "17"),
        (17.0, "17"),
        (np.array([17]), "17"),
        (b"p1", "p1"),
        (np.bytes_(b"p1"), "p1"),
        (np.array([b"p1"]), "p1"),
        (np.array(["p1"], dtype=h5py.string_dtype()), "p1"),
        (b"p\xe41", "p\xe41"),
        ("  ", None),
        (float("nan"), None),
        (np.zeros(0), None),
        (h5py.Empty("f4"), None),
    ],
)
def test_a_patient_is_named_in_many_ways(path, value, patient_id: str | None) -> None:
    assert read_header(changed(path, put_attribute("patient_id", value))).patient_id == patient_id


def test_many_patients_in_one_file_are_refused(path) -> None:
    with pytest.raises(ScanInvalid, match="attribute patient_id is not one value"):
        read_header(changed(path, put_attribute("patient_id", np.arange(3))))


@pytest.mark.parametrize("value", [None, "", h5py.Empty("S1")])
def test_a_file_that_names_no_contrast_says_so(path, value) -> None:
    changed(path, put_attribute("acquisition", value))
    with pytest.raises(ScanInvalid, match="does not say what contrast"):
        read_header(path)
    assert read_fastmri(path, contrast="PD").contrast == "PD"  # where nobody asks


BRAIN = {"target_acquisition": "AXT2", "reference_acquisition": "AXT1"}


def brains(folder: Path) -> SiteSettings:
    """Multi-coil brains of three patients: AXT2 with its AXT1, beside contrasts that nobody asked for."""
    for number in (1, 2, 3):
        for acquisition in ("AXT1", "AXT2", "AXT1POST", "AXFLAIR"):
            target = acquisition == "AXT2"
            path = folder / f"file_brain_{acquisition}_{number}.h5"
            n_slices = SHAPE[0] - 2 * (not target)
            write_fastmri(
                path,
                number,
                "CORPDFS_FBK" if target else "CORPD_FBK",
                patient_id=f"b{number}",
                n_coils=4,
                n_slices=n_slices,
            )
            changed(path, put_attribute("acquisition", acquisition))
            magnitude = np.abs(make_volume(number, "T2" if target else "T1").array[:n_slices])
            changed(path, put("reconstruction_rss", magnitude))
    content = definition("fastmri").model_dump(mode="json")
    content["fastmri"] |= BRAIN
    content |= {
        "data_kind": "phantom",
        "allow_few_patients": True,
        "roles": {"target": "T2", "reference": "T1"},
    }
    return parse_settings(content, SiteSettings, source="test")


def test_brains_pair_by_their_own_contrasts(tmp_path: Path) -> None:
    settings = brains(tmp_path)
    found = find_pairs(tmp_path, settings)
    pairs = [(one.patient_id, one.target.stem, one.reference.stem) for one in found.candidates]
    assert pairs == [(f"b{n}", f"file_brain_AXT2_{n}", f"file_brain_AXT1_{n}") for n in (1, 2, 3)]
    assert not found.refused
    assert len(found.ignored) == 6
    volume = read_fastmri(found.candidates[0].target, contrast="T2")
    assert (volume.array.dtype, volume.array.shape) == (np.float32, SHAPE)


def test_a_file_that_brings_its_reader_down_costs_itself_alone(tmp_path: Path, path: Path) -> None:
    """The reading process is ended in the middle, as a crash of HDF5 ends it."""
    other = tmp_path / "file2.h5"
    write_fastmri(other, 2, "CORPD_FBK", patient_id="p2")
    read_header(path)
    child = sites.scans.foreign_hdf5._process._child
    assert child is not None
    os.kill(child.pid, signal.SIGSTOP)  # it is asked, and answers no more
    while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.01)

    def bring_down() -> None:
        is_asked = False
        while not is_asked:  # until the question lies in the pipe
            time.sleep(0.01)
            is_asked = any(fcntl.ioctl(child.stdin, termios.FIONREAD, bytes(4)))
        os.kill(child.pid, signal.SIGSEGV)
        os.kill(child.pid, signal.SIGCONT)

    ending = threading.Thread(target=bring_down)
    ending.start()
    with pytest.raises(ScanReaderFailed, match=r"FM-D211.*file1\.h5 brought its reader down; got SIGSEGV"):
        ForeignFile(path).attribute("patient_id")
    ending.join()
    assert read_header(other).patient_id == "p2"


def test_a_pipe_is_no_scan(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(ScanUnreadable, match="no plain file"):
        read_header(tmp_path / "pipe.h5")


def test_no_pair_stops_the_others_whatever_is_raised(tmp_path: Path, monkeypatch) -> None:
    raised = {
        "P2": RuntimeError("/data/patient"),
        "P3": MemoryError(),
        "P4": RecursionError(),
        "P5": OSError("x"),
    }
    for number in range(1, 7):
        write_nifti_patient(tmp_path / "scans" / f"P{number}", number)

    def read(path: Path, *, contrast: str):
        if path.parent.name in raised:
            raise raised[path.parent.name]
        return read_nifti(path, contrast=contrast)

    monkeypatch.setitem(sites.making.make_pair.READERS, "nifti", read)
    few = definition("sms").model_copy(update={"allow_few_patients": True, "data_kind": "phantom"})
    report = ingest(tmp_path / "scans", tmp_path / "store", few)
    assert len(report.accepted) == 2
    for refusal, failure in zip(report.refused, raised.values(), strict=True):
        assert refusal.code == "FM-D211"
        assert type(failure).__name__ in refusal.message
        assert "/data/patient" not in refusal.message


def test_a_text_that_says_gigabytes_of_itself_is_refused_by_what_it_says(path: Path) -> None:
    """HDF5 makes room for all of them before it finds that they are not there."""
    with h5py.File(path, "r") as file:
        place = file["ismrmrd_header"].id.get_offset()
        said = len(file["ismrmrd_header"][()])
    with path.open("r+b") as stream:
        stream.seek(place)
        assert int.from_bytes(stream.read(4), "little") == said
        stream.seek(place)
        stream.write((7 << 27).to_bytes(4, "little"))
    file = ForeignFile(path)
    file.attribute("acquisition")
    child = sites.scans.foreign_hdf5._process._child
    assert child is not None
    Path(f"/proc/{child.pid}/clear_refs").write_text("5")
    with pytest.raises(ScanInvalid, match="ismrmrd_header is not one text"):
        file.text("ismrmrd_header")
    status = Path(f"/proc/{child.pid}/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    assert peak < 200 << 10  # KiB


def test_the_largest_slice_is_read_within_the_reader_s_memory(tmp_path: Path) -> None:
    """Sixty-four coils of complex doubles, in chunks of 64 MiB."""
    path = tmp_path / "large.h5"
    noise = np.random.default_rng(0).standard_normal((16, 512, 512)).astype(np.complex128)
    with h5py.File(path, "w") as file:
        made = file.create_dataset("kspace", (1, 64, 512, 512), "c16", chunks=(1, 16, 512, 512), shuffle=True)
        for first in range(0, 64, 16):
            made[0, first : first + 16] = noise
    file = ForeignFile(path)
    assert file.array("kspace") == ((1, 64, 512, 512), True)
    assert np.array_equal(file.slice("kspace", 0)[48:], noise.astype(np.complex64))
