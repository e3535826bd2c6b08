"""What training draws of trouble, and that without it nothing changes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from minet_core.imaging.reference_trouble import RIGHT, ReferenceDraw
from minet_core.settings.federation import TroubleSettings
from minet_core.settings.presets import federation_of
from minet_core.training.batches import Batch, BatchRecipe, PlannedSamples, drawn_batches, plan_batches
from minet_core.training.samples import PreparedSlices, make_sample
from minet_core.training.trouble import TroubledSlices, draw_trouble, fitted

NONE = dict.fromkeys(
    (
        *("moved", "toned", "noisy", "partly", "absent", "foreign", "neighbour"),
        *("input_noisy", "input_windowed", "input_zero_filled", "input_other_kernel"),
    ),
    0.0,
)
EVERY_TROUBLE = TroubleSettings(**dict.fromkeys(NONE, 0.3))
CHANCES = {
    "moved": lambda draw: draw.reference.moves,
    "toned": lambda draw: draw.reference.gamma != 1.0,
    "noisy": lambda draw: draw.reference.noise_fraction > 0,
    "partly": lambda draw: draw.reference.missing_share > 0,
    "absent": lambda draw: draw.reference.absent,
    "foreign": lambda draw: draw.steps != 0,
    "neighbour": lambda draw: 1 <= abs(draw.steps) <= 3,
    "input_noisy": lambda draw: draw.input.noise_fraction > 0,
    "input_windowed": lambda draw: draw.input.window > 0,
    "input_zero_filled": lambda draw: draw.input.measured < 1,
    "input_other_kernel": lambda draw: draw.input.blur_px > 0,
}


class Slices:
    """Eight pairs of 32 x 32; a slice's reference has its number in its corner."""

    def __init__(self) -> None:
        generator = np.random.default_rng(5)
        self.targets = generator.random((8, 32, 32)).astype(np.float32) + 0.5
        self.references = generator.random((8, 32, 32)).astype(np.float32) + 0.5
        self.shapes = [(32, 32)] * 8

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self.targets[index], self.references[index]


def _batches(trouble: TroubleSettings | None, n: int = 3) -> list[Batch]:
    recipe = BatchRecipe(scale=2, batch_size=4, patch_px=16, seed=1, label="test", trouble=trouble)
    source = Slices()
    samples = PlannedSamples(PreparedSlices(source, scale=2, cache_bytes=2**20), recipe)
    return list(itertools.islice(drawn_batches(samples, plan_batches(source.shapes, recipe)), n))


def _same(one: Batch, other: Batch) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("low_res", "upsampled", "reference", "target")
    )


def test_trouble_of_no_chance_leaves_every_byte_of_every_batch() -> None:
    plain, without = _batches(None), _batches(TroubleSettings(**NONE))
    assert all(_same(one, other) for one, other in zip(plain, without, strict=True))
    troubled = _batches(EVERY_TROUBLE)
    assert not any(_same(one, other) for one, other in zip(plain, troubled, strict=True))


def test_a_batch_with_trouble_depends_on_its_number_alone() -> None:
    first, again = _batches(EVERY_TROUBLE), _batches(EVERY_TROUBLE, n=2)
    assert all(_same(one, other) for one, other in zip(first, again, strict=False))


@pytest.mark.parametrize("name", CHANCES)
def test_each_trouble_comes_as_often_as_its_setting_says(name: str) -> None:
    generator, n, chance = torch.Generator().manual_seed(3), 2000, 0.3
    trouble = TroubleSettings(**{**NONE, name: chance})
    draws = [draw_trouble(generator, trouble, n_slices=8) for _ in range(n)]
    drawn = [draw for draw in draws if not draw.is_none]
    assert all(CHANCES[name](draw) for draw in drawn)
    assert len(drawn) / n == pytest.approx(chance, abs=5 * (0.3 * 0.7 / n) ** 0.5)


def test_what_is_drawn_stays_in_its_bounds_and_reaches_them() -> None:
    generator, trouble = (
        torch.Generator().manual_seed(4),
        TroubleSettings(**{**NONE, "moved": 1.0, "toned": 1.0}),
    )
    draws = [draw_trouble(generator, trouble, n_slices=8).reference for _ in range(1000)]
    for most, values in (
        (3.0, [shift for draw in draws for shift in draw.shift_px]),
        (2.0, [draw.rotation_degrees for draw in draws]),
    ):
        assert -most <= min(values) < -0.98 * most
        assert 0.98 * most < max(values) < most
    gammas = [draw.gamma for draw in draws]
    assert 1 / 1.5 <= min(gammas) < 0.68
    assert 1.47 < max(gammas) < 1.5


def test_a_foreign_reference_is_never_the_slices_own() -> None:
    generator, trouble = torch.Generator().manual_seed(6), TroubleSettings(**{**NONE, "foreign": 1.0})
    steps = {draw_trouble(generator, trouble, n_slices=8).steps for _ in range(500)}
    assert steps == set(range(1, 8))
    near = TroubleSettings(**{**NONE, "neighbour": 1.0, "max_slices": 2})
    assert {draw_trouble(generator, near, n_slices=8).steps for _ in range(200)} == {-2, -1, 1, 2}


def test_a_foreign_sample_has_the_target_of_its_own_slice_and_another_reference() -> None:
    source, trouble = Slices(), TroubleSettings(**{**NONE, "foreign": 1.0})
    prepared = PreparedSlices(source, scale=2, cache_bytes=2**20)
    sample = TroubledSlices(prepared, trouble, torch.Generator().manual_seed(1))[3]
    own = make_sample(*source[3], 2)
    assert torch.equal(sample.target, own.target)
    assert torch.equal(sample.low_res, own.low_res)
    others = [make_sample(source.targets[3], source.references[k], 2).reference for k in range(8) if k != 3]
    assert sum(torch.equal(sample.reference, other) for other in others) == 1


def test_noise_of_the_input_changes_no_reference() -> None:
    source = Slices()
    trouble = TroubleSettings(**{**NONE, "input_noisy": 1.0})
    prepared = PreparedSlices(source, scale=2, cache_bytes=2**20)
    sample, own = TroubledSlices(prepared, trouble, torch.Generator().manual_seed(1))[2], prepared[2]
    assert torch.equal(sample.reference, own.reference)
    assert not torch.equal(sample.low_res, own.low_res)


def test_the_default_draw_is_right() -> None:
    assert ReferenceDraw() == RIGHT
    assert not RIGHT.moves


def test_another_frame_keeps_the_origin() -> None:
    image = np.zeros((6, 9))
    image[3, 4] = 1
    for shape in ((4, 12), (7, 5), (6, 9)):
        assert fitted(image, shape)[shape[0] // 2, shape[1] // 2] == 1


def test_a_federation_without_trouble_has_the_digest_that_it_had_before_the_key() -> None:
    federation = federation_of(name="pilot", sites=("north",), preset="quick", scale=2, rounds=2)
    assert "trouble" not in federation.model_dump()["training"]
    training = federation.training.model_copy(update={"trouble": TroubleSettings()})
    troubled = federation.model_copy(update={"training": training})
    assert troubled.digest() != federation.digest()
    assert type(federation).model_validate(troubled.model_dump()) == troubled


def test_by_default_references_are_absent_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(5)
    draws = [draw_trouble(generator, TroubleSettings(), n_slices=8) for _ in range(400)]
    drawn = [draw for draw in draws if not draw.is_none]
    assert 0.08 < len(drawn) / len(draws) < 0.22
    assert all(draw.reference.absent for draw in drawn)
