"""Phantom sites on disk: the files read as scanners' and as the public data set's do."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import h5py
import nibabel
import numpy as np
import pytest
import torch

from minet_core.errors import InvalidSetting
from minet_core.imaging.fourier import centre_crop, ifft2c
from minet_core.phantom.acquisition import FASTMRI, SITES
from minet_core.phantom.patient import make_patient, with_slices
from minet_core.seeds import derived_seed
from sites.phantom_files import coil_sensitivities, write_phantom_site
from sites.scans.fastmri_hdf5 import read_fastmri, read_header
from sites.scans.nifti import read_nifti

N_SLICES = 4
NAMESPACE = {"i": "http://www.ismrm.org/ISMRMRD"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("phantoms")
    for site in SITES:
        write_phantom_site(home / site, site=site, n_patients=2, seed=3, n_slices=N_SLICES)
    write_phantom_site(
        home / "coils", site="fastmri", n_patients=1, seed=3, n_slices=N_SLICES, multicoil=True
    )
    return home


def test_every_patient_has_a_target_and_a_reference(folder: Path) -> None:
    for site in ("sms", "umr"):
        names = sorted(str(path.relative_to(folder / site)) for path in (folder / site).rglob("*.nii.gz"))
        assert names == [
            f"patient00{number}/{contrast}.nii.gz" for number in (1, 2) for contrast in ("T1", "T2")
        ]
    names = sorted(path.name for path in (folder / "fastmri").glob("*.h5"))
    assert names == [f"file100000{number}.h5" for number in (1, 2, 3, 4)]


@pytest.mark.parametrize("site", ["sms", "umr"])
def test_nifti_is_int16_with_slices_on_its_third_axis(folder: Path, site: str) -> None:
    image = nibabel.load(folder / site / "patient001" / "T2.nii.gz")
    acquisition = SITES[site]
    thickness, row_mm, column_mm = acquisition.spacing_mm
    assert image.get_data_dtype() == np.int16
    assert image.shape == (*acquisition.matrix[::-1], N_SLICES)
    np.testing.assert_allclose(image.header.get_zooms(), (column_mm, row_mm, thickness), rtol=1e-6)
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    assert 500 < np.asarray(image.dataobj).max() < np.iinfo(np.int16).max


@pytest.mark.parametrize("site", ["sms", "umr"])
def test_nifti_reads_back_as_the_magnitude(folder: Path, site: str) -> None:
    acquisition = with_slices(SITES[site], N_SLICES)
    scan = make_patient(acquisition, seed=derived_seed(3, "phantom", site, 1))
    read = read_nifti(folder / site / "patient001" / "T2.nii.gz", contrast="T2")
    np.testing.assert_allclose(read.array, scan.target.magnitude(), atol=0.501)  # rounded to integers
    np.testing.assert_allclose(read.affine, scan.target.affine, atol=1e-4)  # float32 in the header


@pytest.mark.parametrize("name", ["file1000001.h5", "file1000002.h5"])
def test_reconstruction_is_the_crop_of_the_transformed_kspace(folder: Path, name: str) -> None:
    with h5py.File(folder / "fastmri" / name) as file:
        kspace, stored = file["kspace"][()], file["reconstruction_esc"][()]
        attributes = dict(file.attrs)
    assert (kspace.dtype, kspace.shape) == (np.complex64, (N_SLICES, 640, 368))
    assert (stored.dtype, stored.shape) == (np.float32, (N_SLICES, 320, 320))
    image = centre_crop(ifft2c(torch.from_numpy(kspace)), (320, 320)).abs().numpy()
    np.testing.assert_allclose(image, stored, atol=2e-6 * stored.max())  # float32 through two transforms
    assert attributes["max"] == pytest.approx(stored.max(), rel=1e-6)
    assert attributes["norm"] == pytest.approx(np.linalg.norm(stored), rel=1e-6)


def test_several_coils_combine_to_the_same_image(folder: Path) -> None:
    with h5py.File(folder / "coils" / "file1000002.h5") as file:
        kspace, stored = file["kspace"][()], file["reconstruction_rss"][()]
        assert "reconstruction_esc" not in file
    assert kspace.shape == (N_SLICES, 4, 640, 368)
    images = centre_crop(ifft2c(torch.from_numpy(kspace)), (320, 320))
    combined = images.abs().square().sum(1).sqrt().numpy()
    np.testing.assert_allclose(combined, stored, atol=2e-6 * stored.max())
    with h5py.File(folder / "fastmri" / "file1000002.h5") as file:
        np.testing.assert_allclose(stored, file["reconstruction_esc"][()], atol=2e-6 * stored.max())


def test_coil_sensitivities_have_unit_power_everywhere() -> None:
    power = (np.abs(coil_sensitivities((64, 40), 4)) ** 2).sum(axis=0)
    np.testing.assert_allclose(power, 1, rtol=1e-5)


def test_header_states_both_matrices_and_the_protocol(folder: Path) -> None:
    with h5py.File(folder / "fastmri" / "file1000002.h5") as file:
        root = ElementTree.fromstring(file["ismrmrd_header"][()])
    expected = {
        "encoding/encodedSpace/matrixSize": (640, 368, 1),
        "encoding/encodedSpace/fieldOfView_mm": (320.0, 184.0, 3.0),
        "encoding/reconSpace/matrixSize": (320, 320, 1),
        "encoding/reconSpace/fieldOfView_mm": (160.0, 160.0, 3.0),
    }
    for path, values in expected.items():
        place = "/".join(f"i:{tag}" for tag in path.split("/"))
        found = [float(root.findtext(f"{place}/i:{axis}", namespaces=NAMESPACE)) for axis in "xyz"]
        assert tuple(found) == values, path
    times = [root.findtext(f"i:sequenceParameters/i:{tag}", namespaces=NAMESPACE) for tag in ("TR", "TE")]
    assert [float(one) for one in times] == [FASTMRI.target.repetition_time_ms, FASTMRI.target.echo_time_ms]


def test_pair_of_one_patient_shares_its_identifier_and_no_other(folder: Path) -> None:
    headers = [read_header(folder / "fastmri" / f"file100000{number}.h5") for number in (1, 2, 3, 4)]
    assert [header.acquisition for header in headers] == ["CORPD_FBK", "CORPDFS_FBK"] * 2
    assert headers[0].patient_id == headers[1].patient_id
    assert headers[2].patient_id == headers[3].patient_id
    assert headers[0].patient_id != headers[2].patient_id


def test_site_s_reader_returns_the_complex_image(folder: Path) -> None:
    scan = make_patient(with_slices(FASTMRI, N_SLICES), seed=derived_seed(3, "phantom", "fastmri", 1))
    read = read_fastmri(folder / "fastmri" / "file1000002.h5", contrast="FS-PD")
    assert read.spacing_mm == (3.0, 0.5, 0.5)
    limit = 2e-6 * np.abs(scan.target.array).max()
    assert np.abs(read.array - scan.target.array).max() < limit


def test_pair_list_names_pd_then_fat_suppressed(folder: Path) -> None:
    text = (folder / "fastmri" / "pairs.csv").read_text()
    assert text == "file1000001,file1000002,0\nfile1000003,file1000004,1\n"


def test_writing_again_gives_the_same_images(folder: Path, tmp_path: Path) -> None:
    for site in ("umr", "fastmri"):
        paths = write_phantom_site(tmp_path / site, site=site, n_patients=1, seed=3, n_slices=N_SLICES)
        for path in paths:
            before = folder / site / path.relative_to(tmp_path / site)
            if site == "umr":
                assert path.read_bytes() == before.read_bytes()
                continue
            with h5py.File(path) as now, h5py.File(before) as then:
                np.testing.assert_array_equal(now["kspace"][()], then["kspace"][()])


def test_progress_counts_patients(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_phantom_site(
        tmp_path,
        site="umr",
        n_patients=2,
        seed=1,
        n_slices=1,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"site": "elsewhere", "n_patients": 1}, "no phantom of this site"),
        ({"site": "sms", "n_patients": 0}, "number of patients"),
        ({"site": "sms", "n_patients": 1, "multicoil": True}, "several coils"),
        ({"site": "sms", "n_patients": 1, "n_slices": 0}, "number of slices"),
    ],
)
def test_impossible_sites_are_refused(tmp_path: Path, arguments, message: str) -> None:
    with pytest.raises(InvalidSetting, match=message):
        write_phantom_site(tmp_path, seed=1, **arguments)
    assert not list(tmp_path.iterdir())
