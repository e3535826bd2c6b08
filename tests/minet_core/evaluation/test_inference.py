from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from minet_core.errors import ModelError, ScanInvalid
from minet_core.evaluation.inference import super_resolve
from minet_core.imaging.interpolation import bicubic, sinc
from minet_core.imaging.kspace_band import data_inconsistency
from minet_core.imaging.mirrored_sinc import mirror

both_scales = pytest.mark.parametrize("scale", [2, 4])


class UpsampledPlusReference(nn.Module):
    """Gives the upsampled target plus `weight` times the reference, and keeps what it was called with."""

    def __init__(self, weight: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.seen: list[dict[str, Any]] = []

    def forward(
        self, low_res: Tensor, reference: Tensor, upsampled: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        assert upsampled is not None
        self.seen.append(
            {
                "low_res": low_res,
                "reference": reference,
                "training": self.training,
                "inference": torch.is_inference_mode_enabled(),
                "autocast": torch.is_autocast_enabled("cpu"),
            }
        )
        return upsampled + self.weight * reference, reference


def _volumes(
    size: tuple[int, int, int] = (3, 9, 14), scale: int = 2
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    low_res = 50 + 100 * rng.random(size, dtype=np.float32)
    reference = rng.random((size[0], scale * size[1], scale * size[2]), dtype=np.float32)
    return low_res, reference


@both_scales
@pytest.mark.parametrize("size", [(3, 8, 14), (2, 9, 14), (2, 8, 13), (1, 7, 5)])
def test_a_model_that_adds_nothing_gives_the_bicubic_volume(scale: int, size: tuple[int, int, int]) -> None:
    low_res, reference = _volumes(size, scale)
    high_res = super_resolve(UpsampledPlusReference(), low_res, reference, scale=scale, data_consistent=False)
    expected = bicubic(torch.tensor(low_res), scale, non_negative=True).numpy()
    assert high_res.dtype == np.float32
    # Normalised and restored in float32: some roundings of values near 150.
    np.testing.assert_allclose(high_res, expected, atol=2e-4)
    np.testing.assert_allclose(high_res[:, ::scale, ::scale], low_res, atol=2e-4)


@pytest.mark.parametrize("size", [(2, 8, 14), (2, 9, 13)])
def test_each_slice_is_normalised_by_its_own_input(size: tuple[int, int, int]) -> None:
    low_res, reference = _volumes(size)
    low_res[1] *= 7
    high_res = super_resolve(UpsampledPlusReference(weight=0.1), low_res, reference, scale=2)
    for index in range(2):
        guide = (reference[index] - reference[index].mean()) / reference[index].std()
        added = low_res[index].std() * 0.1 * guide
        expected = bicubic(torch.tensor(low_res[index]), 2).numpy() + added
        np.testing.assert_allclose(high_res[index], np.maximum(expected, 0), rtol=1e-5, atol=2e-3)


def test_the_model_sees_even_frames_of_one_slice_clamped() -> None:
    low_res, reference = _volumes((2, 9, 13))
    low_res[:, 3, 3] = 1e5
    model = UpsampledPlusReference()
    high_res = super_resolve(model, low_res, reference, scale=2)
    assert len(model.seen) == 2
    for seen in model.seen:
        assert seen["low_res"].shape == (1, 1, 10, 14)
        assert seen["reference"].shape == (1, 1, 20, 28)
        assert float(seen["low_res"].max()) == 6.0
    # The clamp binds the input and not the image.
    assert float(high_res[0, 6, 6]) == pytest.approx(1e5, rel=1e-5)


def test_no_value_is_negative() -> None:
    low_res = np.zeros((1, 8, 8), dtype=np.float32)
    low_res[0, 4, 4] = 100.0
    reference = np.random.default_rng(0).random((1, 16, 16), dtype=np.float32)
    assert float(super_resolve(UpsampledPlusReference(), low_res, reference, scale=2).min()) == 0.0


@both_scales
def test_what_was_measured_is_put_back_where_that_is_asked_for(scale: int) -> None:
    low_res, reference = _volumes((2, 8, 14), scale)
    model = UpsampledPlusReference(weight=0.3)
    own = super_resolve(model, low_res, reference, scale=scale)
    high_res = super_resolve(model, low_res, reference, scale=scale, data_consistent=True)
    assert data_inconsistency(own, low_res, scale) > 0.03
    assert data_inconsistency(high_res, low_res, scale) < 1e-4


@both_scales
@pytest.mark.parametrize("size", [(9, 14), (7, 5)])
def test_a_slice_with_an_odd_side_is_continued_by_its_mirror_image(scale: int, size: tuple[int, int]) -> None:
    low_res, reference = _volumes((1, *size), scale)
    model = UpsampledPlusReference(weight=0.3)
    own = super_resolve(model, low_res, reference, scale=scale)
    high_res = super_resolve(model, low_res, reference, scale=scale, data_consistent=True)
    within = (slice(None, scale * (n - 1) + 1) for n in size)
    rows, columns = within
    of = mirror(torch.tensor(low_res[0]))[None]
    before, after = (
        data_inconsistency(mirror(torch.tensor(image[0, rows, columns]))[None], of, scale)
        for image in (own, high_res)
    )
    assert before > 0.03
    assert after < 1e-4


@pytest.mark.parametrize("training", [True, False])
def test_the_model_runs_in_evaluation_mode_and_gets_its_mode_back(training: bool) -> None:
    model = UpsampledPlusReference().train(training)
    super_resolve(model, *_volumes(), scale=2)
    assert all(seen["inference"] and not seen["training"] for seen in model.seen)
    assert model.training is training


def test_a_refused_volume_leaves_the_mode_of_the_model() -> None:
    model = UpsampledPlusReference(math.nan).train()
    with pytest.raises(ModelError, match="not finite"):
        super_resolve(model, *_volumes(), scale=2)
    assert model.training


def test_progress_is_told_after_every_slice() -> None:
    told: list[tuple[int, int]] = []
    super_resolve(
        UpsampledPlusReference(),
        *_volumes(),
        scale=2,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_autocast_is_on_request() -> None:
    model = UpsampledPlusReference()
    low_res, reference = _volumes()
    exact = super_resolve(model, low_res, reference, scale=2)
    assert not any(seen["autocast"] for seen in model.seen)
    model.seen.clear()
    fast = super_resolve(model, low_res, reference, scale=2, autocast_dtype=torch.bfloat16)
    assert all(seen["autocast"] for seen in model.seen)
    assert fast.dtype == np.float32
    np.testing.assert_array_equal(fast, exact)  # a sum is computed in float32 under autocast, too


def test_volumes_that_do_not_fit_are_refused() -> None:
    low_res, reference = _volumes()
    with_nan = low_res.copy()
    with_nan[1, 0, 0] = np.nan
    attacks = [
        (low_res, reference[:, :, :-1], "not on the 2x grid"),
        (low_res, reference[:-1], "not on the 2x grid"),
        (low_res, low_res, "not on the 2x grid"),
        (low_res[0], reference[0], "slice, row, column"),
        (low_res.astype(np.complex64), reference, "magnitudes"),
        (with_nan, reference, "not finite"),
    ]
    for attacked_low_res, attacked_reference, message in attacks:
        with pytest.raises(ScanInvalid, match=message):
            super_resolve(UpsampledPlusReference(), attacked_low_res, attacked_reference, scale=2)


def test_a_model_of_another_scale_is_refused() -> None:
    class FourTimes(UpsampledPlusReference):
        def forward(
            self, low_res: Tensor, reference: Tensor, upsampled: Tensor | None = None
        ) -> tuple[Tensor, Tensor]:
            return sinc(low_res, 4), reference

    with pytest.raises(ModelError, match="Use a model of this scale"):
        super_resolve(FourTimes(), *_volumes(), scale=2)
