from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from minet_core.errors import MetricInvalid, NoScansFound, ScanInvalid
from minet_core.evaluation.metrics import volume_metrics
from minet_core.evaluation.volume_scores import VolumeScores, evaluate_volume, score_slices
from minet_core.imaging.degradation import crop_to_multiple, low_resolution
from minet_core.imaging.interpolation import bicubic, sinc
from minet_core.protocol import messages

both_scales = pytest.mark.parametrize("scale", [2, 4])


class Upsampled(nn.Module):
    """Gives the upsampled target as it is."""

    def forward(
        self, low_res: Tensor, reference: Tensor, upsampled: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        assert upsampled is not None
        return upsampled, reference


class ReferenceIsTruth(nn.Module):
    """For a reference that is the target: undoes the reference's normalisation, and so restores the truth."""

    def __init__(self, target: NDArray[np.float32], scale: int) -> None:
        super().__init__()
        low_res = low_resolution(torch.tensor(target), scale)
        self.gain = float(target.std()) / float(low_res.std(correction=0))
        self.offset = (float(target.mean()) - float(low_res.mean())) / float(low_res.std(correction=0))

    def forward(
        self, low_res: Tensor, reference: Tensor, upsampled: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.gain * reference + self.offset, reference


def _volumes(
    size: tuple[int, int, int] = (3, 43, 50),
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Soft discs with texture, so that no method is perfect and none is hopeless."""
    rng = np.random.default_rng(6)
    row, column = np.mgrid[: size[1], : size[2]]
    radius = np.hypot(row - size[1] / 2, column - size[2] / 2)
    disc = 400 / (1 + np.exp(radius - 0.35 * size[2]))
    target = disc * (1 + 0.1 * rng.standard_normal(size))
    return np.abs(target).astype(np.float32), disc[None].repeat(size[0], 0).astype(np.float32)


@both_scales
@pytest.mark.parametrize("is_complex", [False, True])
def test_every_method_is_scored_against_the_cropped_magnitude(scale: int, is_complex: bool) -> None:
    target, reference = _volumes()
    phase = np.exp(1j * np.linspace(0, 3, 50)).astype(np.complex64)
    stored = target * phase if is_complex else target
    scores = evaluate_volume(Upsampled(), stored, reference, scale=scale)

    truth = crop_to_multiple(torch.tensor(stored), scale)
    low_res = low_resolution(truth, scale)
    expected = {
        name: volume_metrics(truth.abs().numpy(), interpolate(low_res, scale, non_negative=True).numpy())
        for name, interpolate in (("sinc", sinc), ("bicubic", bicubic))
    }
    assert scores.images is None
    assert tuple(scores.metrics) == messages.METHODS == ("global", "sinc", "bicubic")
    # The model's bicubic image went through the normalisation: some float32 roundings more.
    for name, reached in scores.metrics.items():
        assert reached == pytest.approx(expected["bicubic" if name == "global" else name], rel=1e-4)


def test_a_model_that_restores_the_truth_wins() -> None:
    target = _volumes((1, 40, 48))[0]
    scores = evaluate_volume(ReferenceIsTruth(target, 2), target, target, scale=2)
    assert scores.metrics["global"]["psnr_db"] > 100
    assert scores.metrics["global"]["ssim"] == pytest.approx(1.0, abs=1e-6)
    assert scores.metrics["sinc"]["psnr_db"] < 40


def test_what_exceeds_six_standard_deviations_is_scored_as_it_is() -> None:
    target, reference = _volumes((1, 40, 48))
    target[0, 20:24, 24:28] = 20_000.0
    scores = evaluate_volume(Upsampled(), target, reference, scale=2, keep_images=True)
    assert scores.images is not None
    assert float(scores.images["target"].max()) == 20_000.0
    assert float(scores.images["global"].max()) > 15_000.0


def test_images_are_kept_on_request_on_one_grid() -> None:
    target, reference = _volumes()
    scores = evaluate_volume(Upsampled(), target, reference, scale=4, keep_images=True)
    assert scores.images is not None
    shapes = {name: image.shape for name, image in scores.images.items()}
    grid = (3, 40, 48)
    assert shapes == {
        "target": grid,
        "reference": grid,
        "low_res": (3, 10, 12),
        "global": grid,
        "sinc": grid,
        "bicubic": grid,
    }
    assert all(image.dtype == np.float32 and image.min() >= 0 for image in scores.images.values())
    np.testing.assert_array_equal(scores.images["target"], target[:, 1:41, 1:49])


def test_the_unit_of_the_target_does_not_change_its_scores() -> None:
    target, reference = _volumes()
    first = evaluate_volume(Upsampled(), target, reference, scale=2).metrics
    again = evaluate_volume(Upsampled(), 1e-6 * target, reference, scale=2).metrics
    for name in messages.METHODS:
        assert again[name] == pytest.approx(first[name], rel=1e-4)


def test_progress_is_told_after_every_slice() -> None:
    told: list[tuple[int, int]] = []
    evaluate_volume(
        Upsampled(), *_volumes(), scale=2, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_volumes_that_cannot_be_evaluated_are_refused() -> None:
    target, reference = _volumes()
    attacks: list[tuple[NDArray[Any], NDArray[Any], type[Exception], str]] = [
        (target, reference[:, 1:], ScanInvalid, "cannot be evaluated"),
        (target[0], reference[0], ScanInvalid, "cannot be evaluated"),
        (target[:0], reference[:0], ScanInvalid, "cannot be evaluated"),
        (np.zeros_like(target), reference, MetricInvalid, "empty"),
        (np.full_like(target, np.nan), reference, ScanInvalid, "not finite"),
    ]
    for attacked_target, attacked_reference, failure, message in attacks:
        with pytest.raises(failure, match=message):
            evaluate_volume(Upsampled(), attacked_target, attacked_reference, scale=2)


def _slices(target: NDArray[Any], reference: NDArray[Any]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    return list(zip(target, reference, strict=True))


@both_scales
def test_all_slices_of_a_volume_score_as_the_volume(scale: int) -> None:
    target, reference = _volumes()
    target[1] *= 3
    scores = score_slices(Upsampled(), _slices(target, reference), [0, 1, 2], scale=scale)
    expected: VolumeScores = evaluate_volume(Upsampled(), target, reference, scale=scale)
    assert scores == pytest.approx(expected.metrics["global"], rel=1e-9)


def test_only_the_chosen_slices_are_scored() -> None:
    target, reference = _volumes()
    chosen = evaluate_volume(Upsampled(), target[[2, 0]], reference[[2, 0]], scale=2).metrics["global"]
    assert score_slices(Upsampled(), _slices(target, reference), [2, 0], scale=2) == pytest.approx(chosen)


def test_slices_of_several_sizes_and_an_empty_one_are_scored_together() -> None:
    target, reference = _volumes()
    empty = np.zeros((32, 40), dtype=np.float32)
    source = [*_slices(target[:1], reference[:1]), (empty, reference[0, :32, :40])]
    scores = score_slices(Upsampled(), source, [0, 1], scale=2)
    alone = evaluate_volume(Upsampled(), target[:1], reference[:1], scale=2).metrics["global"]
    # The empty slice is restored exactly: it adds samples without error, and an SSIM of 1.
    n_samples = 40 * 48
    gain_db = 10 * np.log10((n_samples + 32 * 40) / n_samples)
    assert scores["nmse"] == pytest.approx(alone["nmse"])
    assert scores["psnr_db"] == pytest.approx(alone["psnr_db"] + gain_db)
    assert scores["ssim"] == pytest.approx((alone["ssim"] + 1) / 2)


def test_nothing_to_score_is_refused() -> None:
    target, reference = _volumes()
    with pytest.raises(NoScansFound, match="nothing to score"):
        score_slices(Upsampled(), _slices(target, reference), [], scale=2)
    with pytest.raises(MetricInvalid, match="empty"):
        score_slices(Upsampled(), _slices(np.zeros_like(target), reference), [0, 1], scale=2)


def test_a_truth_whose_maximum_is_an_outlier_gets_a_robust_figure_beside_the_definition() -> None:
    target = np.random.default_rng(0).uniform(200, 1000, (2, 64, 64)).astype(np.float32)
    assert evaluate_volume(Upsampled(), target, target, scale=2).robust_psnr_db is None
    target[1, 32, 32] = 32000
    scores = evaluate_volume(Upsampled(), target, target, scale=2)
    assert scores.peak_ratio > 30
    assert scores.robust_psnr_db is not None
    for name in messages.METHODS:
        assert scores.metrics[name]["psnr_db"] - scores.robust_psnr_db[name] == pytest.approx(
            20 * np.log10(scores.peak_ratio), abs=1e-6
        )
