"""Geometry of a super-resolved file: everything stays at its place in millimetres, whatever the file's axes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 (the name its own manual uses)
import torch
from numpy.typing import NDArray

from minet_core.calibration import Calibration, ErrorBars
from minet_core.checkpoint import save_checkpoint
from minet_core.checkpoint_manifest import describe
from minet_core.errors import (
    CheckpointInvalid,
    FedminetError,
    FileMissing,
    InvalidSetting,
    RegistrationRefused,
    ScanInvalid,
    ScanUnreadable,
)
from minet_core.evaluation.error_bars import error_unit
from minet_core.exported.onnx_file import export_onnx
from minet_core.imaging.degradation import low_resolution
from minet_core.imaging.interpolation import bicubic
from minet_core.models.registry import build_model
from minet_core.protocol import messages
from minet_core.runtime.files.atomic_write import sha256_of_file
from minet_core.settings.federation import ModelSettings
from minet_core.training_domain import TrainingDomain
from minet_core.weights.manifest import learnable
from sites.super_resolution.believed_reference import PictureOptions
from sites.super_resolution.super_resolve import super_resolve_file

ORIENTATIONS = [
    "".join(signs)
    for axes in itertools.permutations(("LR", "PA", "IS"))
    for signs in itertools.product(*axes)
]
"""All 48 ways in which a file's axes can lie in the patient."""
SMALL = ModelSettings(n_groups=1, n_blocks=1, n_features=4, reduction=2)
SHAPE = (6, 64, 72)  # slice, row, column of the high-resolution phantom
SPACING = (4.5, 0.75, 0.7)
ORIGIN = (-17.0, 23.0, 5.0)

MakeModel = Callable[[int], Path]


@pytest.fixture(scope="module")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """A checkpoint that interpolates alone: the reconstruction beside the skip is zero."""
    folder = tmp_path_factory.mktemp("models")

    def make(scale: int) -> Path:
        path = folder / f"bicubic-{scale}.safetensors"
        if not path.exists():
            model = build_model(SMALL.model_dump(), scale=scale)
            torch.nn.init.zeros_(model.target_reconstruction.weight)
            torch.nn.init.zeros_(model.target_reconstruction.bias)
            tensors = learnable(model)
            manifest = describe(tensors, model=SMALL, scale=scale, round_number=0, provenance={})
            save_checkpoint(path, tensors, manifest)
        return path

    return make


def blob(shape: tuple[int, int, int], *, at: tuple[float, float, float], wide: float) -> NDArray[np.float32]:
    """A Gaussian spot that the low resolution can carry, over a faint background."""
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    widths = (1.0, wide, wide)
    square = sum(((axis - centre) / width) ** 2 for axis, centre, width in zip(axes, at, widths, strict=True))
    return np.asarray(100 * np.exp(-square / 2) + 1, dtype=np.float32)


def save(path: Path, array: NDArray[np.float32], affine: NDArray[np.float64]) -> Path:
    image = nibabel.Nifti1Image(array, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    nibabel.save(image, path)
    return path


def affine_of(orientation: str, spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Columns along the letters (the direction in which the index grows), a slight tilt, a common origin."""
    directions = {
        "R": (1, 0, 0),
        "L": (-1, 0, 0),
        "A": (0, 1, 0),
        "P": (0, -1, 0),
        "S": (0, 0, 1),
        "I": (0, 0, -1),
    }
    angle = 0.2
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    columns = [step * np.array(directions[letter]) for letter, step in zip(orientation, spacing, strict=True)]
    affine[:3, :3] = tilt @ np.array(columns).T
    affine[:3, 3] = ORIGIN
    return affine


def scan(folder: Path, *, orientation: str = "LPS", slice_axis: int = 2, scale: int = 2) -> dict[str, Path]:
    """A high-resolution scan, the same with a spot elsewhere as reference, and the low-resolution target."""
    array = blob(SHAPE, at=(2, 17.0, 29.0), wide=5.0)
    low = low_resolution(torch.from_numpy(array), scale).numpy()

    def in_file(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.moveaxis(values, 0, slice_axis)

    def spacing(factor: int) -> tuple[float, ...]:
        steps = [SPACING[1] * factor, SPACING[2] * factor]
        steps.insert(slice_axis, SPACING[0])
        return tuple(steps)

    return {
        "target": save(folder / "low.nii.gz", in_file(low), affine_of(orientation, spacing(scale))),
        "reference": save(folder / "t1.nii.gz", in_file(array), affine_of(orientation, spacing(1))),
        "high": folder / "t1.nii.gz",
        "out": folder / "out.nii.gz",
    }


def centroid_mm(image: nibabel.Nifti1Image) -> NDArray[np.float64]:
    """Where the bright spot is in the world, from the voxels above a fifth of its height."""
    values = np.asarray(image.dataobj, dtype=np.float64)
    weights = np.where(values > 0.2 * values.max(), values, 0)
    axes = np.meshgrid(*(np.arange(n) for n in values.shape), indexing="ij")
    centre = [float((axis * weights).sum() / weights.sum()) for axis in axes]
    return np.asarray(image.affine @ [*centre, 1])[:3]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_file_lies_on_the_grid_of_the_scan_it_was_degraded_from(
    tmp_path: Path, make_model: MakeModel, orientation: str
) -> None:
    slice_axis = ORIENTATIONS.index(orientation) % 3
    paths = scan(tmp_path, orientation=orientation, slice_axis=slice_axis)
    found = super_resolve_file(
        make_model(2),
        paths["target"],
        paths["reference"],
        paths["out"],
        options=PictureOptions(register=False),
    )
    high, out = nibabel.load(paths["high"]), nibabel.load(paths["out"])
    assert out.shape == high.shape == found.shape
    np.testing.assert_allclose(out.affine, high.affine, atol=1e-4)  # a NIfTI header holds float32
    assert nibabel.aff2axcodes(out.affine) == tuple(orientation)
    np.testing.assert_allclose(centroid_mm(out), centroid_mm(high), atol=0.01)
    # The model adds nothing, so each voxel is interpolated from the file's own, up to their last row and column.
    low = np.moveaxis(np.asarray(nibabel.load(paths["target"]).dataobj), slice_axis, 0)
    drawn = np.moveaxis(np.asarray(out.dataobj), slice_axis, 0)
    expected = bicubic(torch.tensor(low), 2, non_negative=True).numpy()
    np.testing.assert_allclose(drawn[:, :-1, :-1], expected[:, :-1, :-1], atol=0.01)
    # That reproduces this spot to 0.34 of its height of 100; beside it by a tenth of a voxel it were 1.2.
    np.testing.assert_allclose(np.asarray(out.dataobj), np.asarray(high.dataobj), atol=0.4)


def guessing_model(path: Path, *, calibration: Calibration | None) -> Path:
    """Of weights as they were drawn, so that mirrored scans give other pictures; any scan is of its kind."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        tensors = learnable(build_model(SMALL.model_dump(), scale=2))
    anything = {name: {"low": 0.0, "high": 1e6} for name in messages.DOMAIN_SPANS}
    kind = {"target": ["T2"], "reference": ["T1"], "data_kind": ["phantom"], "band": {"low": 0, "high": 1}}
    manifest = describe(
        tensors,
        model=SMALL,
        scale=2,
        round_number=0,
        provenance={},
        domain=TrainingDomain.model_validate({**anything, **kind}),
        calibration=calibration,
    )
    save_checkpoint(path, tensors, manifest)
    return path


@pytest.mark.parametrize(("orientation", "slice_axis"), [("LPS", 2), ("SAR", 0)])
def test_error_bars_lie_where_the_picture_does(tmp_path: Path, orientation: str, slice_axis: int) -> None:
    """Where mirrored scans move the picture more, they are wider, however the file's axes lie."""
    bars = ErrorBars(factor_68=2.0, factor_95=5.0)
    known = Calibration(patients=3, slices=36, poses=1, guided=bars, alone=bars, stand_in="sinc")
    paths = scan(tmp_path, orientation=orientation, slice_axis=slice_axis)
    maps = {}
    for name, calibration in (("bars", known), ("bare", None)):
        made = super_resolve_file(
            guessing_model(tmp_path / f"{name}.safetensors", calibration=calibration),
            paths["target"],
            paths["reference"],
            tmp_path / f"{name}.nii.gz",
            options=PictureOptions(register=False, gate=False, uncertainty=True),
        )
        said = json.loads((tmp_path / f"{name}.json").read_text())["uncertainty"]
        assert (said["file"], said["calibrated"]) == (
            f"{name}-uncertainty.nii.gz",
            calibration is not None,
        ), said
        assert said["file"] in made.as_text()
        picture, maps[name] = (nibabel.load(tmp_path / f"{name}{end}.nii.gz") for end in ("", "-uncertainty"))
        assert maps[name].shape == picture.shape
        np.testing.assert_array_equal(maps[name].affine, picture.affine)
        label = b"ERROR_BAR_68" if calibration else b"FLIP_DEVIATION"
        assert label in maps[name].header["descrip"].tobytes()
    values, spread = (
        np.moveaxis(np.asarray(maps[name].dataobj, dtype=np.float32), slice_axis, 0)
        for name in ("bars", "bare")
    )
    low = np.moveaxis(np.asarray(nibabel.load(paths["target"]).dataobj, dtype=np.float32), slice_axis, 0)
    assert spread.std() > 0
    np.testing.assert_allclose(values, 2.0 * error_unit(spread, low), rtol=2e-2, atol=1e-3 * values.max())


def test_error_bars_replace_no_scan(tmp_path: Path, make_model: MakeModel) -> None:
    paths = scan(tmp_path)
    target = paths["target"].rename(tmp_path / "out-uncertainty.nii.gz")
    before = target.read_bytes()
    with pytest.raises(InvalidSetting, match="replace a scan"):
        super_resolve_file(
            make_model(2),
            target,
            paths["reference"],
            paths["out"],
            options=PictureOptions(register=False, uncertainty=True),
        )
    assert target.read_bytes() == before
    assert not paths["out"].exists()


@pytest.mark.parametrize("scale", [2, 4])
def test_a_low_resolution_voxel_keeps_its_place_and_its_value(
    tmp_path: Path, make_model: MakeModel, scale: int
) -> None:
    paths = scan(tmp_path, orientation="RAS", scale=scale)
    super_resolve_file(
        make_model(scale),
        paths["target"],
        paths["reference"],
        paths["out"],
        options=PictureOptions(register=False),
    )
    low, out = nibabel.load(paths["target"]), nibabel.load(paths["out"])
    values = np.asarray(out.dataobj)[::scale, ::scale]
    np.testing.assert_allclose(values, np.asarray(low.dataobj), rtol=1e-3, atol=1e-3)
    step = np.diag([scale, scale, 1, 1])
    np.testing.assert_allclose(out.affine @ step, low.affine, atol=1e-4)


def test_the_header_says_what_the_file_is_and_nothing_of_the_input(
    tmp_path: Path, make_model: MakeModel
) -> None:
    paths = scan(tmp_path)
    image = nibabel.load(paths["target"])
    image.header["descrip"], image.header["db_name"] = b"DOE^JANE", b"19700101"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"DOE^JANE"))
    nibabel.save(image, tmp_path / "named.nii.gz")
    super_resolve_file(
        make_model(2),
        tmp_path / "named.nii.gz",
        paths["reference"],
        paths["out"],
        options=PictureOptions(register=False),
    )
    out = nibabel.load(paths["out"])
    description = out.header["descrip"].item().decode()
    assert description.startswith(f"fedminet, model {sha256_of_file(make_model(2))[:16]}")
    assert "research output" in description
    assert out.header.get_xyzt_units()[0] == "mm"
    assert out.get_data_dtype() == np.float32
    assert b"DOE" not in out.to_bytes()
    assert b"19700101" not in out.to_bytes()


@pytest.mark.parametrize("name", ["out.nii", "out.nii.gz"])
def test_nibabel_and_simpleitk_read_one_geometry(tmp_path: Path, make_model: MakeModel, name: str) -> None:
    paths = scan(tmp_path, orientation="PIR", slice_axis=2)
    found = super_resolve_file(
        make_model(2),
        paths["target"],
        paths["reference"],
        tmp_path / name,
        options=PictureOptions(register=False),
    )
    ours, theirs = nibabel.load(tmp_path / name), sitk.ReadImage(str(tmp_path / name))
    assert theirs.GetSize() == ours.shape
    np.testing.assert_allclose(theirs.GetSpacing(), ours.header.get_zooms(), rtol=1e-5)
    np.testing.assert_allclose(theirs.GetSpacing(), found.spacing_mm, rtol=1e-5)
    lps = np.diag([-1, -1, 1])
    for index in [(0, 0, 0), (3, 7, 2), (63, 71, 5)]:
        world = lps @ (ours.affine @ [*index, 1])[:3]
        np.testing.assert_allclose(theirs.TransformIndexToPhysicalPoint(index), world, atol=1e-3)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, make_model: MakeModel) -> None:
    paths = scan(tmp_path)
    for name in ("one.nii.gz", "two.nii.gz"):
        super_resolve_file(
            make_model(2),
            paths["target"],
            paths["reference"],
            tmp_path / name,
            options=PictureOptions(register=False),
        )
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "two.nii.gz").read_bytes()


def test_slices_thinner_than_their_pixels_are_found(tmp_path: Path, make_model: MakeModel) -> None:
    """1 mm slices with 2 mm pixels: the largest spacing lies in the plane here."""
    high = blob((20, 40, 48), at=(9, 17, 29), wide=5)
    low = low_resolution(torch.from_numpy(high), 2).numpy()
    save(tmp_path / "t1.nii", np.moveaxis(high, 0, 1), affine_of("LSP", (1, 1, 1)))
    save(tmp_path / "low.nii", np.moveaxis(low, 0, 1), affine_of("LSP", (2, 1, 2)))
    found = super_resolve_file(
        make_model(2),
        tmp_path / "low.nii",
        tmp_path / "t1.nii",
        tmp_path / "out.nii",
        options=PictureOptions(register=False),
    )
    assert found.shape == (40, 20, 48)
    assert found.spacing_mm == pytest.approx((1, 1, 1))


def test_the_slice_axis_can_be_given(tmp_path: Path, make_model: MakeModel) -> None:
    array = blob((20, 24, 28), at=(9, 11, 13), wide=4)
    save(tmp_path / "low.nii", array, affine_of("RAS", (1, 1, 1)))
    for axis, shape in [(0, (20, 48, 56)), (1, (40, 24, 56)), (2, (40, 48, 28))]:
        found = super_resolve_file(
            make_model(2),
            tmp_path / "low.nii",
            tmp_path / "low.nii",
            tmp_path / "out.nii",
            options=PictureOptions(register=False),
            slice_axis=axis,
        )
        assert found.shape == shape


@pytest.mark.long
def test_an_exported_model_makes_the_same_picture(tmp_path: Path, make_model: MakeModel) -> None:
    scans, exported = scan(tmp_path), tmp_path / "model.onnx"
    export_onnx(make_model(2), exported)
    pictures = []
    for number, model in enumerate((make_model(2), exported)):
        out = tmp_path / f"out-{number}.nii.gz"
        made = super_resolve_file(
            model, scans["target"], scans["reference"], out, options=PictureOptions(register=False)
        )
        assert made.model_sha256 == sha256_of_file(model)
        pictures.append(nibabel.load(out).get_fdata())
    np.testing.assert_allclose(pictures[1], pictures[0], atol=1e-5 * float(pictures[0].max()))


@pytest.mark.parametrize(("options", "n_passes"), [({}, 1), ({"uncertainty": True}, 4)])
def test_progress_counts_every_slice_of_every_pass(
    tmp_path: Path, make_model: MakeModel, options: dict[str, bool], n_passes: int
) -> None:
    paths = scan(tmp_path)
    calls: list[tuple[int, int]] = []
    super_resolve_file(
        make_model(2),
        paths["target"],
        paths["reference"],
        paths["out"],
        options=PictureOptions(register=False, **options),
        progress=lambda done, total: calls.append((done, total)),
    )
    in_all = n_passes * SHAPE[0]
    assert calls == [(done, in_all) for done in range(1, in_all + 1)]


def test_a_moved_reference_is_brought_back(tmp_path: Path, make_model: MakeModel) -> None:
    """The reference's header is 4 mm off; registration finds it, and the scanner's coordinates would not."""
    generator = np.random.default_rng(5)
    spots = generator.uniform([2, 12, 12], [18, 52, 52], size=(40, 3))
    high = sum(
        (weight * (blob((20, 64, 64), at=tuple(spot), wide=2.5) - 1) for spot, weight in
         zip(spots, generator.uniform(0.3, 1, 40), strict=True)),
        start=np.ones((20, 64, 64), dtype=np.float32),
    )  # fmt: skip
    low = low_resolution(torch.from_numpy(high), 2).numpy()
    moved = affine_of("LPS", (1.5, 1.5, 3))
    moved[0, 3] += 4.0
    save(tmp_path / "low.nii", np.moveaxis(low, 0, 2), affine_of("LPS", (3, 3, 3)))
    save(tmp_path / "t1.nii", np.moveaxis(high, 0, 2), moved)
    found = super_resolve_file(
        make_model(2), tmp_path / "low.nii", tmp_path / "t1.nii", tmp_path / "out.nii", slice_axis=2
    )
    assert found.moved_mm == pytest.approx(4.0, abs=0.3)
    assert found.residual_mm is not None
    assert found.residual_mm < 0.5
    assert found.covered > 0.9


def _one_slice(paths: dict[str, Path]) -> None:
    image = nibabel.load(paths["target"])
    save(paths["target"], np.asarray(image.dataobj)[:, :, :1], image.affine)


def _with_nan(paths: dict[str, Path]) -> None:
    image = nibabel.load(paths["target"])
    values = np.asarray(image.dataobj).copy()
    values[3, 4, 1] = np.nan
    save(paths["target"], values, image.affine)


def _reference_with_nan(paths: dict[str, Path]) -> None:
    _with_nan({"target": paths["reference"]})


def _truncated(paths: dict[str, Path]) -> None:
    paths["target"].write_bytes(paths["target"].read_bytes()[:2000])


def _no_target(paths: dict[str, Path]) -> None:
    paths["target"].unlink()


def _no_reference(paths: dict[str, Path]) -> None:
    paths["reference"].unlink()


def _elsewhere(paths: dict[str, Path]) -> None:
    image = nibabel.load(paths["reference"])
    affine = image.affine.copy()
    affine[2, 3] += 500
    save(paths["reference"], np.asarray(image.dataobj), affine)


@pytest.mark.parametrize(
    ("spoil", "failure", "words"),
    [
        (_one_slice, ScanInvalid, "too few slices"),
        (_with_nan, ScanInvalid, "not finite"),
        (_reference_with_nan, ScanInvalid, "not finite"),
        (_truncated, ScanUnreadable, "low.nii.gz"),
        (_no_target, FileMissing, "target scan is missing"),
        (_no_reference, FileMissing, "reference scan is missing"),
        (_elsewhere, RegistrationRefused, "field of view"),
    ],
)
def test_a_scan_that_cannot_be_used_is_refused_and_nothing_is_written(
    tmp_path: Path,
    make_model: MakeModel,
    spoil: Callable[[dict[str, Path]], None],
    failure: type[FedminetError],
    words: str,
) -> None:
    paths = scan(tmp_path)
    spoil(paths)
    with pytest.raises(failure, match=words):
        super_resolve_file(
            make_model(2),
            paths["target"],
            paths["reference"],
            paths["out"],
            options=PictureOptions(register=False),
        )
    assert not paths["out"].exists()


def test_a_missing_or_damaged_model_is_refused(tmp_path: Path, make_model: MakeModel) -> None:
    paths = scan(tmp_path)
    with pytest.raises(FileMissing):
        super_resolve_file(tmp_path / "no.safetensors", paths["target"], paths["reference"], paths["out"])
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(make_model(2).read_bytes()[:-8])
    with pytest.raises(CheckpointInvalid):
        super_resolve_file(damaged, paths["target"], paths["reference"], paths["out"])


@pytest.mark.parametrize("name", ["out.png", "low.nii.gz", "t1.nii.gz"])
def test_the_output_never_replaces_a_scan_and_is_a_nifti_file(
    tmp_path: Path, make_model: MakeModel, name: str
) -> None:
    paths = scan(tmp_path)
    before = paths["target"].read_bytes(), paths["reference"].read_bytes()
    with pytest.raises(InvalidSetting):
        super_resolve_file(make_model(2), paths["target"], paths["reference"], tmp_path / name)
    assert before == (paths["target"].read_bytes(), paths["reference"].read_bytes())


@pytest.mark.parametrize("name", ["T2.nii.gz", "T2.nii"])
def test_another_scan_at_the_outputs_place_is_kept_and_a_former_picture_is_not(
    tmp_path: Path, make_model: MakeModel, name: str
) -> None:
    paths, out = scan(tmp_path), tmp_path / "other" / name
    out.parent.mkdir()
    nibabel.save(nibabel.load(paths["target"]), out)
    before = out.read_bytes()
    with pytest.raises(InvalidSetting, match="did not write"):
        super_resolve_file(make_model(2), paths["target"], paths["reference"], out)
    assert out.read_bytes() == before
    out.unlink()
    for _ in range(2):
        unregistered = PictureOptions(register=False)
        super_resolve_file(make_model(2), paths["target"], paths["reference"], out, options=unregistered)
    assert nibabel.load(out).shape != nibabel.load(paths["target"]).shape


def test_a_slice_axis_that_no_volume_has_is_refused(tmp_path: Path, make_model: MakeModel) -> None:
    paths = scan(tmp_path)
    with pytest.raises(InvalidSetting, match="slice axis"):
        super_resolve_file(make_model(2), paths["target"], paths["reference"], paths["out"], slice_axis=3)
