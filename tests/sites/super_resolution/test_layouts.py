"""The same scan in every layout of its file, refined in the right plane, under the forms of its header."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from minet_core.checkpoint import save_checkpoint
from minet_core.checkpoint_manifest import describe
from minet_core.errors import InvalidSetting
from minet_core.imaging.degradation import low_resolution
from minet_core.models.registry import build_model
from minet_core.settings.federation import ModelSettings
from minet_core.weights.manifest import learnable
from sites.super_resolution.believed_reference import PictureOptions
from sites.super_resolution.super_resolve import SuperResolved, super_resolve_file

SMALL = ModelSettings(n_groups=1, n_blocks=1, n_features=4, reduction=2)
Array = NDArray[np.float32]
Affine = NDArray[np.float64]
CODES = [(1, 0), (0, 1), (1, 1), (2, 1), (4, 2)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """By scale, a checkpoint with random weights: its picture depends on the reference and on every neighbour."""
    folder = tmp_path_factory.mktemp("models")
    paths = {}
    for scale in (2, 4):
        torch.manual_seed(scale)
        weights = learnable(build_model(SMALL.model_dump(), scale=scale))
        manifest = describe(weights, model=SMALL, scale=scale, round_number=0, provenance={})
        paths[scale] = folder / f"{scale}.safetensors"
        save_checkpoint(paths[scale], weights, manifest)
    return paths


def affine(*spacing: float) -> Affine:
    made = np.diag([*spacing, 1.0])
    made[:3, 3] = (-31.0, -12.0, 7.5)
    return made


def save(path: Path, array: Array, form: Affine, codes: tuple[int, int] = (1, 1)) -> Path:
    image = nibabel.Nifti1Image(array, form)
    image.set_qform(form if codes[1] else None, code=codes[1])
    image.set_sform(form if codes[0] else None, code=codes[0])
    nibabel.save(image, path)
    return path


def relaid(
    array: Array, form: Affine, order: tuple[int, ...], flips: tuple[bool, ...]
) -> tuple[Array, Affine]:
    """The same voxels at the same places, along other axes."""
    array, form = array.transpose(order), form[:, [*order, 3]].copy()
    for axis, flip in enumerate(flips):
        if flip:
            array = np.flip(array, axis)
            form[:3, 3] += form[:3, axis] * (array.shape[axis] - 1)
            form[:3, axis] *= -1
    return np.ascontiguousarray(array), form


def tissue(shape: tuple[int, int, int], seed: int = 0) -> Array:
    """Bright at the low ends of the first two axes, where the frame cuts it; dark at the high ends."""
    noise = np.random.default_rng(seed).random(shape)
    ramp = np.minimum.outer(np.linspace(1, 0, shape[0]), np.linspace(1, 0, shape[1])) ** 2
    return np.asarray((ramp[..., None] * (0.7 + 0.3 * noise)) * 200 + 5, dtype=np.float32)


def between_the_samples(path: Path, order: tuple[int, ...], flips: tuple[bool, ...], scale: int) -> Array:
    """The voxels from the first low-resolution sample to the last, along the axes before they were laid out anew."""
    array = np.asarray(nibabel.load(path).dataobj)
    spare = [0 if axis == 2 else scale - 1 for axis in order]
    array = array[tuple(slice(0, n - more) for n, more in zip(array.shape, spare, strict=True))]
    array = np.flip(array, [axis for axis, flip in enumerate(flips) if flip])
    return array.transpose(np.argsort(order))


@pytest.mark.parametrize("scale", [2, 4])
def test_every_layout_gives_one_picture(tmp_path: Path, models: dict[int, Path], scale: int) -> None:
    low, high = tissue((17, 18, 4)), tissue((17 * scale, 18 * scale, 4), seed=1)
    low_form, high_form = affine(2.0, 2.0, 5.0), affine(2.0 / scale, 2.0 / scale, 5.0)
    expected: Array | None = None
    # Every order of the axes at one of the scales, every direction at both.
    for order in list(itertools.permutations(range(3)))[scale // 4 :: 2]:
        for flips in itertools.product([False, True], repeat=3):
            target = save(tmp_path / "low.nii", *relaid(low, low_form, order, flips))
            reference = save(tmp_path / "t1.nii", *relaid(high, high_form, order, flips))
            super_resolve_file(
                models[scale], target, reference, tmp_path / "out.nii", options=PictureOptions(register=False)
            )
            found = between_the_samples(tmp_path / "out.nii", order, flips, scale)
            expected = found if expected is None else expected
            assert found.shape == (16 * scale + 1, 17 * scale + 1, 4)
            np.testing.assert_allclose(found, expected, atol=1e-3)  # float32 of values up to 200
            coarse = np.diag([1 if axis == 2 else scale for axis in order] + [1])
            np.testing.assert_allclose(
                nibabel.load(tmp_path / "out.nii").affine @ coarse, nibabel.load(target).affine, atol=1e-4
            )


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("flips", list(itertools.product([False, True], repeat=2)))
def test_the_last_rows_hold_nothing_of_the_opposite_edge(
    tmp_path: Path, models: dict[int, Path], scale: int, flips: tuple[bool, bool]
) -> None:
    """Degraded along the file's own axes: the spare rows lie behind the last sample, in the dark."""
    torch.manual_seed(0)
    model = build_model(SMALL.model_dump(), scale=scale)
    torch.nn.init.zeros_(model.target_reconstruction.weight)
    torch.nn.init.zeros_(model.target_reconstruction.bias)
    weights = learnable(model)
    manifest = describe(weights, model=SMALL, scale=scale, round_number=0, provenance={})
    save_checkpoint(tmp_path / "bicubic.safetensors", weights, manifest)
    truth = tissue((16 * scale, 18 * scale, 4))
    low = np.moveaxis(low_resolution(torch.from_numpy(np.moveaxis(truth, 2, 0).copy()), scale).numpy(), 0, 2)
    directions = [-1.0 if flip else 1.0 for flip in flips]
    forms = [affine(*(step * way for way in directions), 5.0) for step in (2.0, 2.0 / scale)]
    target, reference = save(tmp_path / "low.nii", low, forms[0]), save(tmp_path / "t1.nii", truth, forms[1])
    super_resolve_file(
        tmp_path / "bicubic.safetensors",
        target,
        reference,
        tmp_path / "out.nii",
        options=PictureOptions(register=False),
    )
    out = np.asarray(nibabel.load(tmp_path / "out.nii").dataobj)
    for axis in (0, 1):
        last = np.take(out, range(1 - scale, 0), axis)
        # The low resolution itself rings by the step between the edges; the opposite edge has some 60 in the mean.
        assert last.mean() < 25
        assert np.take(out, 0, axis).mean() > np.take(out, -1, axis).mean()


def test_a_low_resolution_voxel_keeps_its_place_under_every_form(
    tmp_path: Path, models: dict[int, Path]
) -> None:
    for codes in CODES:
        target = save(tmp_path / "low.nii", tissue((17, 18, 4)), affine(-2.0, 2.0, 5.0), codes)
        reference = save(tmp_path / "t1.nii", tissue((34, 36, 4)), affine(-1.0, 1.0, 5.0), codes)
        super_resolve_file(
            models[2], target, reference, tmp_path / "out.nii", options=PictureOptions(register=False)
        )
        low, out = nibabel.load(target).header, nibabel.load(tmp_path / "out.nii").header
        assert (int(out["sform_code"]), int(out["qform_code"])) == codes
        coarse = np.diag([2, 2, 1, 1])
        for name, code in zip(("get_sform", "get_qform"), codes, strict=True):
            if code:
                np.testing.assert_allclose(getattr(out, name)() @ coarse, getattr(low, name)(), atol=1e-4)


@pytest.mark.parametrize("codes", [*CODES, (0, 0)])
@pytest.mark.parametrize("shear", [0.02, 0.12])
def test_a_sheared_sform_never_stands_beside_another_place_of_the_same_name(
    tmp_path: Path, models: dict[int, Path], codes: tuple[int, int], shear: float
) -> None:
    sheared, finer = affine(-2.0, 2.0, 5.0), affine(-1.0, 1.0, 5.0)
    sheared[0, 1], finer[0, 1] = 2 * shear, shear
    target = save(tmp_path / "low.nii", tissue((65, 66, 4)), sheared, codes)
    reference = save(tmp_path / "t1.nii", tissue((130, 132, 4)), finer, codes)
    super_resolve_file(
        models[2], target, reference, tmp_path / "out.nii", options=PictureOptions(register=False)
    )
    low, out = nibabel.load(target), nibabel.load(tmp_path / "out.nii")
    found = (int(out.header["sform_code"]), int(out.header["qform_code"]))
    assert found == ((1, 0) if codes == (1, 1) else codes)
    corners = np.array([*np.meshgrid([0, 64], [0, 65], [0, 3])]).reshape(3, -1)
    corners = np.vstack([corners, np.ones(8)])
    for name, code in zip(("get_sform", "get_qform"), found, strict=True):
        if code:  # each of its own space, where the input says it is
            promised = getattr(low.header, name)() @ corners
            moved = getattr(out.header, name)() @ np.diag([2, 2, 1, 1]) @ corners
            assert np.abs(moved - promised).max() < 0.01


def sagittal(
    tmp_path: Path, spacing: tuple[float, float, float], *, slice_in_header: int | None = None
) -> Path:
    image = nibabel.Nifti1Image(tissue((20, 24, 28)), affine(*spacing))
    if slice_in_header is not None:
        image.header.set_dim_info(slice=slice_in_header)
    nibabel.save(image, tmp_path / "low.nii")
    return tmp_path / "low.nii"


def refined(
    model: Path, target: Path, spacing: tuple[float, float, float], shape: tuple[int, int, int]
) -> SuperResolved:
    folder = target.parent
    reference = save(folder / "t1.nii", tissue(shape, seed=1), affine(*spacing))
    return super_resolve_file(
        model, target, reference, folder / "out.nii", options=PictureOptions(register=False)
    )


def test_the_plane_is_where_the_reference_is_finer(tmp_path: Path, models: dict[int, Path]) -> None:
    """Sagittal, 0.5 x 0.5 x 1 mm: its low resolution is isotropic."""
    found = refined(models[2], sagittal(tmp_path, (1.0, 1.0, 1.0)), (1.0, 0.5, 0.5), (20, 48, 56))
    assert (found.plane.slice_axis, found.plane.name, found.plane.source) == (0, "sagittal", "reference")
    assert found.shape == (20, 48, 56)
    header = nibabel.load(found.path).header
    assert header.get_dim_info()[2] == 0
    assert header["descrip"].item().decode().endswith("; sagittal")
    assert '"name": "sagittal"' in found.sidecar.read_text()
    assert "sagittal" in found.as_text()


def test_the_plane_is_that_of_the_header(tmp_path: Path, models: dict[int, Path]) -> None:
    target = sagittal(tmp_path, (1.0, 1.0, 1.0), slice_in_header=1)
    found = refined(models[2], target, (0.5, 0.5, 0.5), (40, 48, 56))
    assert (found.plane.name, found.plane.source, found.shape) == ("coronal", "dim_info", (40, 24, 56))


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [((3.0, 0.9, 0.9), 0), ((0.9, 1.1, 4.0), 2), ((1.0, 2.0, 2.05), 0), ((1.0, 1.02, 1.2), 2)],
)
def test_the_plane_is_that_of_the_spacing(
    tmp_path: Path, models: dict[int, Path], spacing: tuple[float, float, float], axis: int
) -> None:
    found = refined(models[2], sagittal(tmp_path, spacing), spacing, (20, 24, 28))
    assert (found.plane.slice_axis, found.plane.source) == (axis, "spacing")


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.02, 0.99), (1.0, 1.2, 1.44), (1.0, 1.04, 1.08)])
def test_a_plane_that_nothing_tells_is_asked_for(
    tmp_path: Path, models: dict[int, Path], spacing: tuple[float, float, float]
) -> None:
    with pytest.raises(InvalidSetting, match="--slice-axis") as refusal:
        refined(models[2], sagittal(tmp_path, spacing), (0.5, 0.5, 0.5), (40, 48, 56))
    assert refusal.value.code == "FM-C102"
    assert not (tmp_path / "out.nii").exists()


def test_witnesses_that_disagree_are_not_believed(tmp_path: Path, models: dict[int, Path]) -> None:
    target = sagittal(tmp_path, (1.0, 1.0, 1.0), slice_in_header=2)
    with pytest.raises(InvalidSetting, match=r"dim_info says axis 2.*reference says axis 0"):
        refined(models[2], target, (1.0, 0.5, 0.5), (20, 48, 56))
    target = sagittal(tmp_path, (5.0, 1.0, 1.0), slice_in_header=2)
    with pytest.raises(InvalidSetting, match="contradicted"):
        refined(models[2], target, (5.0, 1.0, 1.0), (20, 24, 28))
