"""What is said beside a super-resolved scan, and what it is where its reference shows nothing."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from fedminet.main import command_line
from minet_core.checkpoint import save_checkpoint
from minet_core.checkpoint_manifest import ABSENCE, REFERENCE_NOISE, describe
from minet_core.errors import InvalidSetting
from minet_core.imaging.degradation import low_resolution
from minet_core.imaging.mirrored_sinc import mirrored_sinc
from minet_core.imaging.scan_figures import scan_figures
from minet_core.models.registry import build_model
from minet_core.settings.federation import ModelSettings
from minet_core.training.blur import BlurDraw, blur_slice
from minet_core.training_domain import Span, TrainingDomain
from minet_core.weights.manifest import learnable
from sites.super_resolution.believed_reference import PictureOptions
from sites.super_resolution.cautions import cautions_of_spacing
from sites.super_resolution.super_resolve import SuperResolved, super_resolve_file
from tests.support.small_scans import affine_of, make_volume

SMALL = ModelSettings(n_groups=1, n_blocks=1, n_features=4, reduction=2)
SHAPE, SPACING = (8, 96, 88), (5.0, 1.5, 1.5)
Array = NDArray[np.float32]
DOMAIN = TrainingDomain(
    target=("T2",),
    reference=("T1",),
    data_kind=("phantom",),
    pixel_mm=Span(low=1.4, high=1.6),
    slice_mm=Span(low=5.0, high=5.0),
    band=Span(low=1.0, high=1.0),
    target_middle=Span(low=0.0, high=1.0),
    target_rim=Span(low=0.5, high=2.0),
    target_noise=Span(low=0.0, high=0.1),
    reference_middle=Span(low=0.3, high=0.8),
    reference_rim=Span(low=0.5, high=2.0),
    reference_noise=Span(low=0.0, high=0.02),
)


def checkpoint(
    path: Path, domain: TrainingDomain | None, *, knows_absence: bool = False, knows_noise: bool = False
) -> Path:
    """Random weights, so that the picture is none of an interpolation's."""
    provenance = {ABSENCE: "0.15"} if knows_absence else {}
    provenance |= {REFERENCE_NOISE: "0.15"} if knows_noise else {}
    torch.manual_seed(0)
    weights = learnable(build_model(SMALL.model_dump(), scale=2))
    manifest = describe(weights, model=SMALL, scale=2, round_number=1, provenance=provenance, domain=domain)
    save_checkpoint(path, weights, manifest)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A patient's low resolution, and models that know, or do not, what they were trained on."""
    folder = tmp_path_factory.mktemp("cautions")
    checkpoint(folder / "model.safetensors", DOMAIN)
    checkpoint(folder / "old.safetensors", None)
    checkpoint(folder / "alone.safetensors", DOMAIN, knows_absence=True)
    high = scan(1, "T2")
    low = low_resolution(torch.from_numpy(high), 2).numpy()
    save(folder / "low.nii", low, (5.0, 3.0, 3.0))
    return folder


def scan(seed: int, contrast: str) -> Array:
    return np.asarray(make_volume(seed, contrast, shape=SHAPE, spacing_mm=SPACING).array)


def save(path: Path, array: Array, spacing: tuple[float, float, float] = SPACING) -> Path:
    affine = affine_of(spacing)[:, [2, 1, 0, 3]]
    nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), affine), path)
    return path


TRUSTING = PictureOptions(register=False)


def made(
    folder: Path,
    reference: Array,
    *,
    model: str = "model",
    low: str = "low",
    options: PictureOptions = TRUSTING,
) -> SuperResolved:
    save(folder / "t1.nii", reference)
    return super_resolve_file(
        folder / f"{model}.safetensors",
        folder / f"{low}.nii",
        folder / "t1.nii",
        folder / "out.nii.gz",
        options=options,
    )


def codes(found: SuperResolved) -> set[str]:
    return {caution.code for caution in found.cautions}


def picture(found: SuperResolved) -> Array:
    return np.asarray(nibabel.load(found.path).dataobj).transpose(2, 1, 0)


def test_of_the_patients_own_clean_reference_nothing_is_said(folder: Path) -> None:
    found = made(folder, scan(1, "T1"))
    # The weights are random, so what the image says of the data is not looked at here.
    assert codes(found) <= {"data-inconsistent", "interpolation-may-be-better"}
    assert found.gate is not None
    assert not found.gate.wrong
    assert (found.covered, found.extrapolated) == (1.0, 1)


def test_another_patients_reference_is_told_without_registration(folder: Path) -> None:
    found = made(folder, scan(2, "T1"))
    assert "reference-disagrees" in codes(found)
    mirrored = made(folder, scan(1, "T1")[:, :, ::-1])
    assert "reference-disagrees" in codes(mirrored)


def test_a_noisy_reference_is_told(folder: Path) -> None:
    clean = scan(1, "T1")
    noise = np.random.default_rng(0).normal(0, 0.1 * clean.max(), clean.shape)
    found = made(folder, np.abs(clean + noise).astype(np.float32))
    caution = next(one for one in found.cautions if one.code == "reference-noisy")
    assert caution.figure is not None
    assert caution.figure > 0.05


def test_a_model_of_another_kind_of_scan_is_told(folder: Path) -> None:
    other = DOMAIN.model_copy(
        update={
            "pixel_mm": Span(low=0.5, high=0.6),
            "slice_mm": Span(low=1.0, high=1.0),
            "reference_middle": Span(low=0.9, high=0.95),
            "reference_rim": Span(low=3.0, high=4.0),
        }
    )
    checkpoint(folder / "other.safetensors", other)
    found = made(folder, scan(1, "T1"), model="other")
    assert codes(found) >= {
        "training-pixel",
        "training-slices",
        "training-reference-contrast",
        "training-reference-outline",
    }


def test_a_model_that_does_not_say_what_it_was_trained_on_is_told(folder: Path) -> None:
    assert "training-unknown" in codes(made(folder, scan(1, "T1"), model="old"))


def test_a_target_that_was_interpolated_before_is_told(folder: Path) -> None:
    truth = scan(1, "T2")
    lower = low_resolution(torch.from_numpy(truth), 4)
    zero_filled = np.stack([mirrored_sinc(one, 2).numpy()[1:, 1:] for one in lower])
    save(folder / "zero-filled.nii", zero_filled, (5.0, 3.0, 3.0))
    found = made(folder, scan(1, "T1"), low="zero-filled")
    caution = next(one for one in found.cautions if one.code == "target-interpolated")
    assert caution.figure == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_where_the_reference_shows_nothing_the_picture_is_sinc_without_a_seam(
    folder: Path, axis: int
) -> None:
    """The far half of the reference is cut off along one axis."""
    whole = made(folder, scan(1, "T1"))
    with_all = picture(whole)
    half = SHAPE[axis] // 2
    kept = tuple(slice(0, half) if one == axis else slice(None) for one in range(3))
    found = made(folder, scan(1, "T1")[kept])
    drawn = picture(found)
    low = np.asarray(nibabel.load(folder / "low.nii").dataobj).transpose(2, 1, 0)
    sinc = np.stack([mirrored_sinc(torch.from_numpy(one.copy()), 2).numpy()[1:, 1:] for one in low])
    far = tuple(slice(half, None) if one == axis else slice(None) for one in range(3))
    np.testing.assert_allclose(drawn[far], sinc[far], atol=0.05)
    # Beside the border it is nearly sinc, and deep within the cover the model's.
    border = np.take(np.abs(drawn - sinc), half - 1, axis).mean()
    between = np.abs(with_all - sinc)[kept].mean()
    assert border < (0.6 if axis == 0 else 0.4) * between
    deep = np.take(np.abs(drawn - sinc), 0, axis).mean()
    assert deep > 0.5 * np.take(np.abs(with_all - sinc), 0, axis).mean()
    caution = next(one for one in found.cautions if one.code == "reference-partial")
    assert caution.figure == pytest.approx(found.covered, abs=1e-3)
    assert 0.3 < found.covered < 0.7
    assert f"{found.covered:.0%}" in found.as_text()


@pytest.mark.parametrize(
    ("target_mm", "reference_mm", "codes"),
    [
        ((4.0, 1.2, 1.2), (3.0, 0.6, 0.6), []),
        ((4.0, 1.2, 1.2), (1.0, 1.2, 1.2), []),
        ((3.0, 0.9, 0.9), (4.0, 1.2, 1.2), ["reference-coarse"]),
    ],
)
def test_a_reference_in_the_place_of_the_target_is_told(
    target_mm: tuple[float, ...], reference_mm: tuple[float, ...], codes: list[str]
) -> None:
    assert [caution.code for caution in cautions_of_spacing(target_mm, reference_mm)] == codes


def test_the_sidecar_says_the_same_and_names_nobody(folder: Path) -> None:
    found = made(folder, scan(2, "T1"))
    assert found.sidecar == folder / "out.json"
    text = found.sidecar.read_text(encoding="utf-8")
    assert json.loads(text) == json.loads(json.dumps(found.as_json()))
    assert "reference-disagrees" in text
    for name in (str(folder), "low.nii", "t1.nii", "out.nii"):
        assert name not in text


def test_another_programs_json_file_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text('{"EchoTime": 0.09}')
    save(folder / "t1.nii", scan(1, "T1"))
    with pytest.raises(InvalidSetting, match="JSON file"):
        super_resolve_file(
            folder / "model.safetensors", folder / "low.nii", folder / "t1.nii", tmp_path / "out.nii.gz"
        )
    assert not (tmp_path / "out.nii.gz").exists()


def test_the_command_says_the_plane_the_cover_and_every_caution(folder: Path) -> None:
    save(folder / "t1.nii", scan(2, "T1")[:, :60])
    names = {"model": "model.safetensors", "target": "low.nii", "reference": "t1.nii", "out": "out.nii"}
    arguments = [part for option, name in names.items() for part in (f"--{option}", str(folder / name))]
    spoken = CliRunner().invoke(command_line(), ["infer", *arguments, "--no-register"])
    assert spoken.exit_code == 0, spoken.output
    assert "Refined: the axial plane" in spoken.stdout
    assert "Reference covers" in spoken.stdout
    assert "CAUTION reference-partial" in spoken.stdout
    assert "CAUTION reference-disagrees" in spoken.stdout
    assert "Extrapolated" in spoken.stdout
    content = json.loads(
        CliRunner().invoke(command_line(), ["infer", *arguments, "--no-register", "--json"]).stdout
    )
    assert content["plane"] == {"slice_axis": 2, "name": "axial", "source": "reference"}
    assert {one["code"] for one in content["cautions"]} >= {"reference-partial", "reference-disagrees"}
    assert set(content["cautions"][0]) == {"code", "figure", "limit", "sentence"}


def _ungated() -> PictureOptions:
    return PictureOptions(register=False, gate=False)


def test_with_a_wrong_reference_a_model_that_can_works_on_the_target_alone(folder: Path) -> None:
    mirrored = scan(1, "T1")[:, :, ::-1]
    gated = made(folder, mirrored, model="alone")
    drawn = picture(gated)
    # Of two wrong references nothing is left: the pictures are one.
    with_it = picture(made(folder, mirrored, model="alone", options=_ungated()))
    with_other = picture(made(folder, scan(2, "T1"), model="alone", options=_ungated()))
    drawn_by_other = picture(made(folder, scan(2, "T1"), model="alone"))
    assert np.abs(drawn - drawn_by_other).mean() < 0.1 * np.abs(with_it - with_other).mean()
    assert gated.gate is not None
    assert gated.gate.wrong
    assert gated.gate.without_reference > 0.9
    caution = next(one for one in gated.cautions if one.code == "reference-wrong")
    assert caution.figure == gated.gate.trusted
    assert "made without it, by the model on the scan alone" in caution.sentence
    assert json.loads(json.dumps(gated.as_json()))["gate"]["wrong"] is True
    assert f"{gated.gate.without_reference:.0%} made without it" in gated.as_text()


def test_a_right_reference_is_used_whole(folder: Path) -> None:
    gated = picture(made(folder, scan(1, "T1"), model="alone"))
    as_it_is = picture(made(folder, scan(1, "T1"), model="alone", options=_ungated()))
    assert np.abs(gated - as_it_is).mean() < 1e-3 * as_it_is.mean()


def test_with_a_wrong_reference_a_model_that_cannot_work_alone_gives_way_to_sinc(folder: Path) -> None:
    mirrored = scan(1, "T1")[:, :, ::-1]
    found = made(folder, mirrored)
    assert found.gate is not None
    assert (found.gate.wrong, found.gate.without_reference, found.gate.stand_in) == (True, 1.0, "sinc")
    low = np.asarray(nibabel.load(folder / "low.nii").dataobj).transpose(2, 1, 0)
    interpolated = np.stack([mirrored_sinc(torch.from_numpy(one), 2).numpy() for one in low])[:, 1:, 1:]
    # Its last row and column lie behind the outermost samples.
    np.testing.assert_allclose(picture(found)[:, :-1, :-1], interpolated[:, :-1, :-1], rtol=1e-4, atol=0.05)
    said = {one.code: one.sentence for one in found.cautions}
    assert "by zero-filled sinc" in said["reference-wrong"]
    assert "reference-wrong" not in said.get("interpolation-may-be-better", "")


def test_without_the_gate_interpolation_is_pointed_at(folder: Path) -> None:
    found = made(folder, scan(1, "T1")[:, :, ::-1], options=_ungated())
    assert found.gate is not None
    assert (found.gate.wrong, found.gate.without_reference, found.gate.stand_in) == (True, 0.0, None)
    said = {one.code: one.sentence for one in found.cautions}
    assert "made with it all the same" in said["reference-wrong"]
    assert "reference-wrong" in said["interpolation-may-be-better"]


def test_a_reference_noisier_than_any_of_the_training_is_left_out(folder: Path) -> None:
    checkpoint(folder / "noise.safetensors", DOMAIN, knows_noise=True)
    own = scan(1, "T1")
    real, imaginary = np.random.default_rng(3).normal(0, 0.1 * np.percentile(own, 99), (2, *own.shape))
    noisy = np.hypot(own + real, imaginary).astype(np.float32)
    left_out, used = made(folder, noisy), made(folder, noisy, model="noise")
    assert left_out.gate is not None
    assert used.gate is not None
    assert (left_out.gate.without_reference, left_out.gate.stand_in) == (1.0, "sinc")
    assert used.gate.without_reference < 0.5
    said = {one.code: one.sentence for one in left_out.cautions}
    assert "The picture is made without it and without a model" in said["reference-noisy"]
    assert "reference-noisy" not in codes(used)


def test_what_was_measured_is_put_back_on_request(folder: Path) -> None:
    own = made(folder, scan(1, "T1"))
    put_back = made(folder, scan(1, "T1"), options=PictureOptions(register=False, data_consistent=True))
    assert (own.data_consistent, put_back.data_consistent) == (False, True)
    assert put_back.data_inconsistency < 0.25 * own.data_inconsistency
    assert 0 < put_back.detail < 1


def test_a_target_noisier_than_the_training_is_told(folder: Path) -> None:
    clean = DOMAIN.model_copy(update={"target_noise": Span(low=0.0, high=0.0)})
    checkpoint(folder / "clean.safetensors", clean)
    low = np.asarray(nibabel.load(folder / "low.nii").dataobj).transpose(2, 1, 0)
    noise = np.random.default_rng(1).normal(0, 0.1 * low.max(), low.shape)
    save(folder / "noisy-low.nii", np.abs(low + noise).astype(np.float32), (5.0, 3.0, 3.0))
    found = made(folder, scan(1, "T1"), model="clean", low="noisy-low")
    said = {one.code: one.sentence for one in found.cautions}
    assert "noisier than those of the training" in said["target-noisy"]
    assert "target-noisy" in said["interpolation-may-be-better"]


def test_a_target_less_sharp_than_the_training_is_told(folder: Path) -> None:
    low = np.asarray(nibabel.load(folder / "low.nii").dataobj).transpose(2, 1, 0).astype(np.float32)
    found = scan_figures(low, pixel_mm=3.0)
    assert found is not None
    assert found.slope is not None
    of_training = Span(low=round(found.slope, 1), high=round(found.slope, 1))
    checkpoint(folder / "sharp.safetensors", DOMAIN.model_copy(update={"target_slope": of_training}))
    assert "target-less-sharp" not in codes(made(folder, scan(1, "T1"), model="sharp"))
    soft = np.stack([blur_slice(one, BlurDraw(1.0, 0.5, 20.0)) for one in low])
    save(folder / "soft-low.nii", soft, (5.0, 3.0, 3.0))
    told = made(folder, scan(1, "T1"), model="sharp", low="soft-low")
    said = {one.code: one.sentence for one in told.cautions}
    assert "less sharp than those of the training" in said["target-less-sharp"]
    assert "target-less-sharp" in said["interpolation-may-be-better"]
    assert "target-less-sharp" not in codes(made(folder, scan(1, "T1"), low="soft-low"))  # a file of before


def test_the_command_has_the_gate_and_data_consistency(folder: Path) -> None:
    save(folder / "t1.nii", scan(1, "T1")[:, :, ::-1])
    names = {"model": "alone.safetensors", "target": "low.nii", "reference": "t1.nii", "out": "out.nii"}
    arguments = [part for option, name in names.items() for part in (f"--{option}", str(folder / name))]
    for more, falls_back, put_back in (([], True, False), (["--no-gate", "--data-consistent"], False, True)):
        spoken = CliRunner().invoke(command_line(), ["infer", *arguments, "--no-register", "--json", *more])
        content = json.loads(spoken.stdout)
        assert (content["gate"]["without_reference"] > 0.9, content["data_consistent"]) == (
            falls_back,
            put_back,
        )
        assert content["gate"]["wrong"]
        assert "reference-wrong" in {one["code"] for one in content["cautions"]}
