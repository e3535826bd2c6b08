"""Flipped samples: the grids stay in step, all eight ways are drawn, and without the setting nothing changes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from minet_core.settings.presets import federation_of
from minet_core.training.batches import Batch, BatchRecipe, PlannedSamples, drawn_batches, plan_batches
from minet_core.training.flips import NO_FLIPS, Flips, cut, draw_flips
from minet_core.training.samples import PreparedSlices, make_sample

EVERY_WAY = [Flips(*bits) for bits in itertools.product((False, True), repeat=3)]


class OneShape:
    """Four smooth slices in the middle of air, so that what lies beyond an edge is alike."""

    shapes = ((48, 48),) * 4

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rows, columns = np.mgrid[:48, :48].astype(np.float64)
        image = np.exp(-(((rows - 20 - index) / 6) ** 2) - ((columns - 27) / 4) ** 2)
        return (image + 0.01).astype(np.float32), (np.sqrt(image) + 0.01).astype(np.float32)


def _turned(image: NDArray[np.float32], flips: Flips) -> NDArray[np.float32]:
    """The slice on its own frame, about sample 0: sample i is where -i was, around the frame."""
    if flips.rows:
        image = np.roll(image[::-1], 1, axis=0)
    if flips.columns:
        image = np.roll(image[:, ::-1], 1, axis=1)
    return np.ascontiguousarray(image.T if flips.transposed else image)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("flips", EVERY_WAY)
def test_a_flipped_sample_is_the_sample_of_the_flipped_slice(flips: Flips, scale: int) -> None:
    """Degradation and all: read backwards without the shift it would lie scale - 1 pixels beside its low resolution."""
    pair = OneShape()[1]
    n = 48 // scale
    of_sample = cut(make_sample(*pair, scale), (0, 0), (n, n), scale=scale, flips=flips)
    of_slice = make_sample(*(_turned(one, flips) for one in pair), scale)
    for name in ("low_res", "reference", "target", "upsampled"):
        # A frame cut from its end begins one low-resolution sample further on.
        expected = getattr(of_slice, name)
        step = 1 if name == "low_res" else scale
        for flipped, axis in ((flips.rows, 0), (flips.columns, 1)):
            if flipped:
                expected = torch.roll(expected, -step, dims=1 - axis if flips.transposed else axis)
        inner = slice(3 * step, -3 * step)
        if name == "upsampled":  # bicubic repeats a frame's edge, the flip goes around it
            torch.testing.assert_close(
                of_sample.upsampled[inner, inner], expected[inner, inner], atol=1e-3, rtol=0
            )
        else:
            torch.testing.assert_close(getattr(of_sample, name), expected, atol=1e-3, rtol=0)


def test_all_eight_ways_are_drawn_about_as_often() -> None:
    generator = torch.Generator().manual_seed(1)
    drawn = [draw_flips(generator) for _ in range(800)]
    counts = [drawn.count(way) for way in EVERY_WAY]
    assert min(counts) > 60
    assert max(counts) < 140


def _batches(patch_px: int | None, *, flips: bool) -> list[Batch]:
    source = OneShape()
    recipe = BatchRecipe(scale=2, batch_size=4, patch_px=patch_px, seed=1, label="test", flips=flips)
    samples = PlannedSamples(PreparedSlices(source, scale=2, cache_bytes=2**20), recipe)
    return list(itertools.islice(drawn_batches(samples, plan_batches(source.shapes, recipe)), 3))


@pytest.mark.parametrize("patch_px", [16, None])
def test_batches_show_the_same_patches_in_other_ways_and_depend_on_their_number_alone(
    patch_px: int | None,
) -> None:
    plain, flipped, again = (_batches(patch_px, flips=on) for on in (False, True, True))
    differ = 0
    for one, other, same in zip(plain, flipped, again, strict=True):
        assert torch.equal(other.target, same.target)
        assert torch.equal(other.low_res, same.low_res)
        # The same values at other places: low resolutions are cut at the same samples.
        torch.testing.assert_close(
            one.low_res.flatten(1).sort().values, other.low_res.flatten(1).sort().values
        )
        differ += int(sum(not torch.equal(a, b) for a, b in zip(one.target, other.target, strict=True)))
    assert differ >= 6


def test_without_flips_a_federation_has_the_digest_that_it_had_before_the_key() -> None:
    federation = federation_of(name="pilot", sites=("north",), preset="quick", scale=2, rounds=2)
    assert "flips" not in federation.model_dump()["training"]
    flipping = federation.model_copy(
        update={"training": federation.training.model_copy(update={"flips": True})}
    )
    assert flipping.digest() != federation.digest()
    assert type(federation).model_validate(flipping.model_dump()) == flipping
    assert Flips() == NO_FLIPS
