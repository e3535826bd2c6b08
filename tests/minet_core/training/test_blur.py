"""Blurred targets among the samples: what a draw does to a slice, and that it is drawn by number alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage

from minet_core.imaging.degradation import low_resolution
from minet_core.seeds import torch_generator
from minet_core.settings.federation import BlurSettings, TroubleSettings
from minet_core.settings.presets import federation_of
from minet_core.training.batches import BatchRecipe, PlannedSamples, drawn_batches, plan_batches
from minet_core.training.blur import N_VARIANTS, BlurDraw, BlurredSlices, blur_slice, draw_blur
from minet_core.training.samples import PreparedSlices, make_sample

BLUR = BlurSettings(share=0.5, max_px=1.5)


class Slices:
    """Smooth structure with fine detail, of one size."""

    shapes = ((48, 40),) * 5

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int, /) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(index)
        coarse = ndimage.gaussian_filter(rng.random((48, 40)), 4) * 8
        target = (coarse + 0.2 * rng.random((48, 40))).astype(np.float32)
        return target, rng.random((48, 40), dtype=np.float32)


SLICES = Slices()


def drawing(label: str = "draws") -> torch.Generator:
    return torch_generator(1, label)


def test_a_blur_is_a_gaussian_along_a_direction_and_across_it() -> None:
    point = np.zeros((64, 64), dtype=np.float32)
    point[32, 32] = 1.0
    spread = blur_slice(point, BlurDraw(2.0, 1.0, 0.0))
    rows, columns = np.mgrid[-32:32, -32:32]
    gaussian = np.exp(-(rows**2) / 8 - columns**2 / 2) / (4 * np.pi)
    assert np.allclose(spread, gaussian, atol=1e-3)
    turned = blur_slice(point, BlurDraw(2.0, 1.0, 90.0))
    assert np.allclose(turned, spread.T, atol=1e-6)
    slanted = blur_slice(point, BlurDraw(2.0, 1.0, 30.0))
    assert float((slanted * rows * columns).sum()) > 0.5  # the long axis leans from the rows to the columns
    picture = np.random.default_rng(1).random((48, 48), dtype=np.float32)
    by_scipy = ndimage.gaussian_filter(picture, 1.2, mode="wrap", truncate=8)
    assert np.allclose(blur_slice(picture, BlurDraw(1.2, 1.2, 12.0)), by_scipy, atol=2e-3)


@pytest.mark.parametrize("kind", [np.float32, np.complex64])
def test_no_blur_is_the_slice_and_a_phase_stays(kind: type) -> None:
    rng = np.random.default_rng(2)
    picture = rng.random((32, 48)).astype(kind)
    if kind is np.complex64:
        picture = picture * np.exp(1j).astype(kind)
    assert np.allclose(blur_slice(picture, BlurDraw(0.0, 0.0, 0.0)), picture, atol=1e-6)
    blurred = blur_slice(picture, BlurDraw(1.0, 0.5, 20.0))
    assert blurred.dtype == kind
    assert np.allclose(blurred.mean(), picture.mean(), atol=1e-6)
    assert np.abs(blurred).std() < np.abs(picture).std()


def test_a_draw_stays_within_its_most() -> None:
    draws = [draw_blur(drawing(str(number)), BLUR) for number in range(300)]
    assert max(one.along_px for one in draws) == pytest.approx(BLUR.max_px, rel=0.02)
    assert all(0 <= one.across_px <= one.along_px <= BLUR.max_px for one in draws)
    assert {int(one.degrees // 60) for one in draws} == {0, 1, 2}


def test_the_blurred_target_is_what_is_degraded_and_the_reference_stays() -> None:
    prepared = PreparedSlices(SLICES, scale=2, cache_bytes=2**30)
    slices = BlurredSlices(prepared, BlurSettings(share=1.0), seed=3, label="sms", generator=drawing())
    sample = slices[1]
    target, reference = SLICES[1]
    plain = make_sample(target, reference, 2)
    assert torch.equal(sample.reference, plain.reference)
    truth = sample.restore(sample.target)
    assert truth.std() < plain.restore(plain.target).std()
    again = low_resolution(truth, 2)
    assert torch.allclose(again, sample.restore(sample.low_res), atol=0.02 * float(again.max()))


def test_a_share_of_the_samples_is_blurred_by_a_few_draws_of_each_slice() -> None:
    prepared = PreparedSlices(SLICES, scale=2, cache_bytes=2**30)
    slices = BlurredSlices(prepared, BLUR, seed=3, label="sms", generator=drawing())
    drawn = [slices[0] for _ in range(400)]
    assert sum(sample is prepared[0] for sample in drawn) == pytest.approx(200, abs=35)
    assert len({id(sample) for sample in drawn}) == 1 + N_VARIANTS
    other_process = PreparedSlices(SLICES, scale=2, cache_bytes=2**30)
    same = BlurredSlices(other_process, BLUR, seed=3, label="sms", generator=drawing())
    assert all(torch.equal(same[0].target, sample.target) for sample in drawn[:20])


@pytest.mark.parametrize(
    "other",
    [{"seed": 4}, {"label": "sms alone"}, {"blur": BlurSettings(share=1.0, max_px=0.5)}],
    ids=["seed", "label", "max_px"],
)
def test_trainings_that_share_their_slices_in_memory_draw_what_each_would_by_itself(other: dict) -> None:
    """One process trains the rounds, the model alone and the adapted one of a site, and in `simulate` several files."""
    options = {"blur": BlurSettings(share=1.0), "seed": 3, "label": "sms"}

    def targets(prepared: PreparedSlices, **changed: object) -> list[torch.Tensor]:
        slices = BlurredSlices(prepared, **{**options, **changed, "generator": drawing()})
        return [slices[1].target for _ in range(20)]

    shared = PreparedSlices(SLICES, scale=2, cache_bytes=2**30)
    targets(shared)
    by_itself = targets(PreparedSlices(SLICES, scale=2, cache_bytes=2**30), **other)
    assert all(torch.equal(one, own) for one, own in zip(targets(shared, **other), by_itself, strict=True))


def batches(first: int, *, trouble: TroubleSettings | None) -> list[torch.Tensor]:
    recipe = BatchRecipe(
        scale=2, batch_size=2, patch_px=16, seed=5, label="sms", blur=BLUR, flips=True, trouble=trouble
    )
    prepared = PreparedSlices(SLICES, scale=2, cache_bytes=2**30)
    plan = itertools.islice(plan_batches(SLICES.shapes, recipe, first=first), 8 - first)
    return [batch.target for batch in drawn_batches(PlannedSamples(prepared, recipe), plan)]


@pytest.mark.parametrize("trouble", [None, TroubleSettings(moved=0.5, foreign=0.5)])
def test_a_batch_is_its_number_s_from_wherever_the_run_goes_on(trouble: TroubleSettings | None) -> None:
    whole = batches(0, trouble=trouble)
    assert all(
        torch.equal(one, other) for one, other in zip(whole[5:], batches(5, trouble=trouble), strict=True)
    )


def test_without_the_key_a_file_has_its_former_digest_and_batches() -> None:
    plain = federation_of(name="pilot", sites=("north",), preset="quick", scale=2, rounds=3)
    assert "blur" not in plain.model_dump(mode="json")["training"]
    blurred = plain.model_copy(update={"training": plain.training.model_copy(update={"blur": BLUR})})
    assert blurred.model_dump(mode="json")["training"]["blur"] == {"share": 0.5, "max_px": 1.5}
    assert blurred.digest() != plain.digest()
