"""The pages of docs/datasets hold: their settings and commands, as printed, on small files of each set's layout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from minet_core.settings.yaml_file import read_settings
from sites.ingest import ingest
from sites.pairing.pairing import find_pairs
from sites.settings.site_settings import SiteSettings
from sites.store.cohort import Cohort
from sites.store.split import SPLITS, Split
from sites.store.store import Store
from tests.operations.warm_program import warm_fedminet
from tests.support.dicom_series import Header, write_classic
from tests.support.repository import ROOT
from tests.support.small_scans import make_volume, write_fastmri, write_nifti

pytestmark = pytest.mark.long


def page(name: str) -> str:
    return (ROOT / "docs" / "datasets" / f"{name}.md").read_text(encoding="utf-8")


def block(text: str, language: str, *, begins: str = "") -> str:
    """The page's one fenced block of a language that begins so."""
    (found,) = re.findall(rf"^```{language}\n({begins}.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return str(found)


def save_settings(text: str, folder: Path) -> Path:
    """The page's site.yaml under the name by which its commands call it."""
    (name,) = re.findall(r"--definition (\S+)", block(text, "sh"))
    (folder / name).write_text(block(text, "yaml", begins="name:"), encoding="utf-8")
    return folder / name


@pytest.fixture(scope="module")
def run_script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, Path], str]]:
    """Runs a script in a folder until a command fails, with `fedminet` warm; gives what it printed."""
    with warm_fedminet(tmp_path_factory.mktemp("warm")) as programs:
        path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])

        def run(commands: str, folder: Path) -> str:
            done = subprocess.run(
                ["bash", "-ec", commands],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert done.returncode == 0, done.stdout
            return done.stdout

        yield run


@pytest.fixture(scope="module")
def run_commands(run_script: Callable[[str, Path], str]) -> Callable[[str, Path], str]:
    """Runs a page's commands in a folder."""
    return lambda text, folder: run_script(block(text, "sh"), folder)


def patients_in(cohort: Cohort) -> list[int]:
    return [cohort.counts[split].patients for split in SPLITS]


# fastMRI: singlecoil_train and singlecoil_val beside the two published lists.


HEADER_BEFORE = """<measurementInformation><protocolName>cor_pd_fbk</protocolName></measurementInformation>
<acquisitionSystemInformation><systemVendor>SIEMENS</systemVendor><systemModel>Skyra</systemModel>
<systemFieldStrength_T>2.893620</systemFieldStrength_T></acquisitionSystemInformation>
<experimentalConditions><H1resonanceFrequency_Hz>123250000</H1resonanceFrequency_Hz></experimentalConditions>
<encoding>"""
HEADER_AFTER = """<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>367</maximum><center>184</center>
</kspace_encoding_step_1></encodingLimits><trajectory>cartesian</trajectory></encoding>
<sequenceParameters><TR>2750</TR><TE>27</TE></sequenceParameters></ismrmrdHeader>"""


def write_knee(path: Path, seed: int, acquisition: str, *, patient_id: str | None) -> NDArray[np.float32]:
    """One scan with every field and attribute of the set's training files; gives its reconstruction."""
    magnitude = np.abs(write_fastmri(path, seed, acquisition, patient_id=patient_id))
    with h5py.File(path, "a") as file:
        header = file["ismrmrd_header"][()].decode().replace("<encoding>", HEADER_BEFORE)
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = header.replace("</encoding></ismrmrdHeader>", HEADER_AFTER).encode()
        file["reconstruction_esc"] = magnitude
        file["reconstruction_rss"] = magnitude * 1.1
        file.attrs["max"], file.attrs["norm"] = float(magnitude.max()), float(np.linalg.norm(magnitude))
    return magnitude


@pytest.fixture(scope="module")
def knees(tmp_path_factory, run_commands) -> tuple[Path, dict[str, NDArray[np.float32]]]:
    """The folder where the page's commands ran, and each target's reconstruction.

    The training files name their patients and the validation files do not: both kinds are about.
    """
    folder, text = tmp_path_factory.mktemp("knees"), page("fastmri-knee")
    (printed,) = re.findall(r"^file\d+,file\d+,0\.\d+$", text, flags=re.MULTILINE)
    lists = {
        "train": [printed, "file1002273,file1000481,0.302226224199571"],
        "val": ["file1000323,file1002538,0.30754967523156", "file1001458,file1001566,0.310512744537048"],
    }
    truth, seed = {}, 0
    for part, lines in lists.items():
        scans = folder / "fastmri" / f"singlecoil_{part}"
        for line in lines:
            reference, target, _ = line.split(",")
            patient_id = f"{seed:064x}" if part == "train" else None
            write_knee(scans / f"{reference}.h5", seed, "CORPD_FBK", patient_id=patient_id)
            truth[target] = write_knee(scans / f"{target}.h5", seed, "CORPDFS_FBK", patient_id=patient_id)
            seed += 1
        (folder / "fastmri" / f"singlecoil_{part}_split_less.csv").write_text("\n".join(lines) + "\n")
    save_settings(text, folder)
    run_commands(text, folder)
    return folder, truth


def test_the_official_split_of_fastmri_is_kept(knees) -> None:
    folder, truth = knees
    store = Store(folder / "knee" / "store")
    splits: dict[str, Split] = {}
    for record in store.cohort.pairs:
        target = store.read_pair(record).target
        assert target.array.dtype == np.complex64
        for stem, magnitude in truth.items():
            # A float32 FFT pair over 2880 samples: a few rounding units of the largest value.
            if np.allclose(target.magnitude(), magnitude, rtol=0, atol=1e-6 * magnitude.max()):
                splits[stem] = store.cohort.patients[record.patient]
    assert splits == {
        "file1000568": "training",
        "file1000481": "training",
        "file1001566": "validation",
        "file1002538": "test",
    }
    assert not store.cohort.validation_from_training


def test_an_ingest_of_lists_that_is_repeated_changes_nothing(knees) -> None:
    folder, _ = knees
    home = folder / "knee"
    before = Store(home / "store").cohort
    again = ingest(folder / "fastmri", home / "store", read_settings(home / "site.yaml", SiteSettings))
    assert all(pair.reused for pair in again.accepted)
    assert again.cohort == before


def test_the_papers_training_and_tables_run_as_printed_but_for_their_length(knees, run_script) -> None:
    folder, _ = knees
    train, tables = re.findall(r"^```text\n(fedminet .*)\n```$", page("fastmri-knee"), flags=re.MULTILINE)
    assert "--rounds 50" in train
    assert "--site sms --site umr" in tables
    one_step = "--rounds 1 --local-steps 1"
    run_script(train.replace("--rounds 50", one_step), folder)
    assert (folder / "knee-2x.safetensors").stat().st_size > 20e6  # 6.4 million parameters
    few = f"--scale 2 --methods bicubic,zeng {one_step}"
    run_script(tables.replace("--site sms --site umr", few), folder)
    written = (folder / "tables" / "table1" / "table1.md").read_text()
    assert "2 of 2 cells are done" in written
    assert "| Zeng et al. |" in written


def test_without_a_validation_list_training_patients_give_slices(knees, tmp_path) -> None:
    folder, _ = knees
    text = page("fastmri-knee").replace("    validation: validation.csv\n", "")
    settings = read_settings(save_settings(text, tmp_path), SiteSettings)
    report = ingest(folder / "fastmri", tmp_path / "store", settings)
    assert patients_in(report.cohort) == [2, 2, 1]
    assert "held-out slices of training patients" in report.as_text()


# IXI: sagittal T1 and axial T2 in two folders, voxels three times as large as the set's.

IXI = {"IXI002-Guys-0828": 1, "IXI012-HH-1211": 2, "IXI035-IOP-0873": 3}
SAGITTAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # posterior, inferior, right
AXIAL = np.array([[-1.0, 0, 0], [0, -1, 0], [0, 0, 1]])  # left, posterior, superior


def write_view(
    path: Path,
    seed: int,
    contrast: str,
    *,
    axes: NDArray[np.float64],
    turned_deg: float,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
) -> None:
    """A head as a scanner sees it along `axes`, turned about the left-right axis, centred on the head."""
    head = make_volume(seed, contrast, shape=(44, 56, 52), spacing_mm=(2.5, 2.5, 2.5))
    cosine, sine = np.cos(np.deg2rad(turned_deg)), np.sin(np.deg2rad(turned_deg))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]]) @ axes * spacing_mm
    centre = head.affine[:3, :3] @ ((np.array(head.array.shape) - 1) / 2) + head.affine[:3, 3]
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    to_head = np.linalg.inv(head.affine) @ affine
    voxels = ndimage.affine_transform(
        head.array, to_head[:3, :3], offset=to_head[:3, 3], output_shape=shape, order=1
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.rint(voxels).astype(np.int16), affine), path)


@pytest.fixture(scope="module")
def ixi(tmp_path_factory, run_commands) -> Path:
    """The folder where the page's commands ran."""
    folder, text = tmp_path_factory.mktemp("ixi"), page("ixi")
    for name, seed in IXI.items():
        write_view(
            folder / "ixi" / "IXI-T1" / f"{name}-T1.nii.gz",
            seed,
            "T1",
            axes=SAGITTAL,
            turned_deg=1.0,
            shape=(56, 48, 40),
            spacing_mm=(2.8125, 2.8125, 3.6),
        )
        write_view(
            folder / "ixi" / "IXI-T2" / f"{name}-T2.nii.gz",
            seed,
            "T2",
            axes=AXIAL,
            turned_deg=-4.0,
            shape=(52, 56, 30),
            spacing_mm=(2.8125, 2.8125, 3.75),
        )
    save_settings(text, folder)
    run_commands(text, folder)
    return folder


def test_ixi_pairs_lie_on_the_axial_grid_of_the_t2(ixi) -> None:
    store = Store(ixi / "ixi-site" / "store")
    assert patients_in(store.cohort) == [1, 1, 1]
    for record in store.cohort.pairs:
        assert record.shape == (30, 56, 52)  # (slice, row, column)
        assert record.resampled
        pair = store.read_pair(record)
        assert pair.target.spacing_mm == pytest.approx((3.75, 2.8125, 2.8125), rel=1e-5)
        assert abs(pair.target.affine[2, 0]) > 0.99 * 3.75  # slices go up


def test_the_sagittal_t1_of_ixi_is_brought_to_the_anatomy_of_the_t2(ixi, tmp_path) -> None:
    """Against the T1 measured on the T2's own grid: correlation 0.997; shifted by one voxel it would be 0.957."""
    store = Store(ixi / "ixi-site" / "store")
    truths = []
    for name, seed in IXI.items():
        write_view(
            tmp_path / f"{name}.nii",
            seed,
            "T1",
            axes=AXIAL,
            turned_deg=-4.0,
            shape=(52, 56, 30),
            spacing_mm=(2.8125, 2.8125, 3.75),
        )
        truths.append(nibabel.load(tmp_path / f"{name}.nii").get_fdata().transpose(2, 1, 0))
    for record in store.cohort.pairs:
        first, stop = record.usable_slices
        reference = store.read_pair(record).reference.array[first:stop]
        fits = [np.corrcoef(reference.ravel(), truth[first:stop].ravel())[0, 1] for truth in truths]
        assert max(fits) > 0.99


def test_each_hospital_of_ixi_can_be_a_site(ixi, tmp_path) -> None:
    text = page("ixi")
    assert '"IXI*-Guys-*-T2.nii*"' in text
    narrowed = text.replace('["IXI*-T', '["IXI*-Guys-*-T')
    found = find_pairs(ixi / "ixi", read_settings(save_settings(narrowed, tmp_path), SiteSettings))
    assert [one.patient_id for one in found.candidates] == ["IXI002"]
    assert len(found.ignored) == 4
    assert not found.refused


# A hospital: a folder a patient.


def test_a_hospital_comes_from_its_export_to_a_first_training(tmp_path, run_commands) -> None:
    text = page("hospital")
    names = {
        "P001": ("T1", "T2"),
        "P002": ("T1", "T2"),
        "P002_study2": ("T1", "T2"),
        "P003": ("t1_se_tra", "t2_tse_tra"),
    }
    for seed, (folder, (reference, target)) in enumerate(names.items()):
        for name, contrast in ((reference, "T1"), (target, "T2")):
            volume = make_volume(seed, contrast, shape=(12, 56, 52), spacing_mm=(4.0, 2.5, 2.5))
            write_nifti(tmp_path / "export" / folder / f"{name}.nii.gz", volume)
    write_nifti(tmp_path / "export" / "P002" / "FLAIR.nii.gz", make_volume(9, "T2"))
    save_settings(text, tmp_path)
    printed = run_commands(text, tmp_path)
    cohort = Store(tmp_path / "hospital" / "store").cohort
    assert patients_in(cohort) == [1, 1, 1]
    assert len(cohort.pairs) == 4
    assert "1 files are none of the definition's, such as P002/FLAIR.nii.gz" in printed
    assert "Few patients (3)" in printed
    assert {line.split()[0] for line in printed.splitlines() if "PSNR" in line} == {
        "global",
        "sinc",
        "bicubic",
    }
    assert (tmp_path / "first.safetensors").stat().st_size > 0
    assert (tmp_path / "hospital" / "declaration.json").is_file()
    request = json.loads((tmp_path / "hospital" / "request.json").read_text())
    assert request["declaration"] == json.loads((tmp_path / "hospital" / "declaration.json").read_text())


def test_four_commands_lead_from_a_folder_of_dicom_to_a_training_site(tmp_path, run_script) -> None:
    text = page("hospital")
    for seed in range(3):
        for contrast, times in (("T1", (10.0, 600.0)), ("T2", (100.0, 4500.0))):
            volume = make_volume(seed, contrast, shape=(12, 56, 52), spacing_mm=(4.0, 2.5, 2.5))
            header = Header(f"P{seed}", series=contrast, echo_time_ms=times[0], repetition_time_ms=times[1])
            place = tmp_path / "export" / f"{seed}" / contrast
            write_classic(place, np.rint(volume.array).astype(np.uint16), volume.affine, header=header)
    settings = block(text, "yaml", begins="# hospital-dicom.yaml")
    (tmp_path / "hospital-dicom.yaml").write_text(settings, encoding="utf-8")
    commands = block(text, "bash")
    assert 1 <= len(commands.splitlines()) <= 4
    printed = run_script(commands, tmp_path)
    assert patients_in(Store(tmp_path / "hospital" / "store").cohort) == [1, 1, 1]
    assert "Few patients (3)" in printed
    assert (tmp_path / "first.safetensors").stat().st_size > 0
    assert (tmp_path / "hospital" / "request.json").is_file()
