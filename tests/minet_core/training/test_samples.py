from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from minet_core.errors import InvalidSetting, NoScansFound, ScanInvalid
from minet_core.imaging.degradation import DegradationDraw, crop_to_multiple, low_resolution
from minet_core.imaging.interpolation import bicubic
from minet_core.training.batches import (
    AIR_LEVEL,
    MIN_FOREGROUND,
    Batch,
    BatchRecipe,
    PlannedSamples,
    drawn_batches,
    plan_batches,
)
from minet_core.training.samples import CLAMP, PreparedSlices, make_inputs, make_sample

both_scales = pytest.mark.parametrize("scale", [2, 4])


class Slices:
    """Pairs of slices in memory that counts how often each is read."""

    def __init__(self, *pairs: tuple[NDArray[Any], NDArray[Any]]) -> None:
        self.pairs = pairs
        self.n_reads = 0

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [target.shape for target, _ in self.pairs]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        self.n_reads += 1
        return self.pairs[index]


def _pair(seed: int = 0, size: tuple[int, int] = (40, 48)) -> tuple[NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(seed)
    target, reference = 100 * (seed + 1) * rng.random((2, *size)).astype(np.float32)
    return target, reference


def _slices(n_slices: int = 5) -> Slices:
    return Slices(*(_pair(seed) for seed in range(n_slices)))


def _first(n_batches: int, source: Slices, **changes: Any) -> list[Batch]:
    settings: dict[str, Any] = {"batch_size": 3, "patch_px": 16} | changes
    prepared = _prepared(
        source, scale=settings.pop("scale", 2), cache_bytes=settings.pop("cache_bytes", 2**30)
    )
    recipe = BatchRecipe(scale=prepared.scale, seed=7, label="test", **settings)
    planned = plan_batches(source.shapes, recipe)
    return list(islice(drawn_batches(PlannedSamples(prepared, recipe), planned), n_batches))


def _prepared(source: Slices, *, scale: int = 2, cache_bytes: int = 2**30) -> PreparedSlices:
    return PreparedSlices(source, scale=scale, cache_bytes=cache_bytes)


@both_scales
def test_a_sample_is_the_definition(scale: int) -> None:
    target, reference = _pair(size=(43, 50))
    sample = make_sample(target, reference, scale)
    high_res = crop_to_multiple(torch.tensor(target), scale)
    low_res = low_resolution(high_res, scale)
    mean, std = float(low_res.mean()), float(low_res.std(correction=0))
    guide = crop_to_multiple(torch.tensor(reference), scale)

    assert (sample.mean, sample.std) == (mean, std)
    assert torch.equal(sample.low_res, ((low_res - mean) / std).clamp(-CLAMP, CLAMP))
    torch.testing.assert_close(sample.reference, (guide - guide.mean()) / guide.std(correction=0))
    # Float32 images of about 100, restored: a few roundings.
    torch.testing.assert_close(sample.restore(sample.target), high_res, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(
        sample.restore(sample.upsampled), bicubic(low_res, scale), rtol=1e-5, atol=1e-3
    )
    for tensor in (sample.low_res, sample.upsampled, sample.reference, sample.target):
        assert tensor.dtype == torch.float32


def test_inputs_are_clamped_and_the_target_and_its_upsampling_are_not() -> None:
    target, reference = np.ones((2, 32, 32), dtype=np.float32)
    target[12:16, 12:16] = 1000.0
    reference[12:14, 12:14] = 1000.0
    sample = make_sample(target, reference, 2)
    assert float(sample.low_res.max()) == CLAMP
    assert float(sample.reference.max()) == CLAMP
    assert float(sample.upsampled.max()) > CLAMP + 1
    assert float(sample.restore(sample.target).max()) == pytest.approx(1000.0, rel=1e-5)


def test_a_complex_target_is_degraded_as_complex_and_learned_as_magnitude() -> None:
    target, reference = _pair()
    phase = np.exp(1j * np.linspace(0, 9, target.shape[1]))[None, :]
    complex_target = (target * phase).astype(np.complex64)
    sample = make_sample(complex_target, reference, 2)
    torch.testing.assert_close(sample.restore(sample.target), torch.tensor(target), rtol=1e-5, atol=1e-4)
    expected = low_resolution(torch.tensor(complex_target), 2)
    torch.testing.assert_close(sample.restore(sample.low_res), expected, rtol=1e-5, atol=1e-4)


def test_a_draw_reaches_the_low_resolution_image_alone() -> None:
    target, reference = _pair()
    draw = DegradationDraw(noise_fraction=0.1, noise_seed=1)
    clean, noisy = make_sample(target, reference, 2), make_sample(target, reference, 2, draw=draw)
    assert not torch.allclose(clean.low_res, noisy.low_res, atol=1e-2)
    torch.testing.assert_close(noisy.restore(noisy.target), clean.restore(clean.target), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("level", [0.0, 5.0, 1e-12, 1e12])
def test_a_slice_without_contrast_gives_finite_tensors(level: float) -> None:
    image = np.full((16, 16), level, dtype=np.float32)
    sample = make_sample(image, image, 2)
    assert sample.std > 0
    for tensor in (sample.low_res, sample.upsampled, sample.reference, sample.target):
        assert torch.isfinite(tensor).all()
        assert float(tensor.abs().max()) < 1.0


def test_the_unit_of_a_contrast_does_not_reach_the_model() -> None:
    target, reference = _pair()
    sample, scaled = make_sample(target, reference, 2), make_sample(1e-6 * target, 1e5 * reference, 2)
    torch.testing.assert_close(scaled.low_res, sample.low_res, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scaled.reference, sample.reference, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scaled.target, sample.target, rtol=1e-4, atol=1e-5)


def test_arrays_of_another_byte_order_or_read_only_are_taken() -> None:
    target, reference = _pair()
    foreign = target.astype(">f4")
    foreign.setflags(write=False)
    assert torch.equal(make_sample(foreign, reference, 2).target, make_sample(target, reference, 2).target)


def test_slices_that_cannot_be_paired_are_refused() -> None:
    target, reference = _pair()
    with pytest.raises(ScanInvalid, match="different grids"):
        make_sample(target, reference[:-2], 2)
    with pytest.raises(ScanInvalid, match="does not fit"):
        make_inputs(torch.ones(8, 8), torch.ones(16, 18), 2)


@pytest.mark.parametrize("attacked", ["target", "reference"])
def test_a_value_that_is_not_finite_is_refused(attacked: str) -> None:
    images = dict(zip(("target", "reference"), _pair(), strict=True))
    images[attacked][3, 4] = np.nan
    with pytest.raises(ScanInvalid, match="not finite"):
        make_sample(images["target"], images["reference"], 2)


@both_scales
def test_patches_are_cut_from_the_prepared_frame_on_the_low_resolution_grid(scale: int) -> None:
    source = Slices(_pair())
    whole = make_sample(*source[0], scale)
    for batch in _first(4, source, scale=scale):
        assert batch.low_res.shape == (3, 1, 16 // scale, 16 // scale)
        for index in range(3):
            patch = batch.target[index, 0]
            rows, columns = torch.nonzero(
                whole.target.unfold(0, 16, 1).unfold(1, 16, 1)[..., 0, 0] == patch[0, 0]
            ).T
            assert len(rows) == 1
            top, left = int(rows[0]), int(columns[0])
            assert top % scale == 0
            assert left % scale == 0
            area = (slice(top, top + 16), slice(left, left + 16))
            assert torch.equal(patch, whole.target[area])
            assert torch.equal(batch.reference[index, 0], whole.reference[area])
            assert torch.equal(batch.upsampled[index, 0], whole.upsampled[area])
            low_area = (slice(top // scale, (top + 16) // scale), slice(left // scale, (left + 16) // scale))
            assert torch.equal(batch.low_res[index, 0], whole.low_res[low_area])


def test_every_slice_is_drawn_once_in_a_pass() -> None:
    source = Slices(*(_pair(seed, size=(16, 16)) for seed in range(6)))
    reads = [make_sample(*source[index], 2).target for index in range(6)]
    # Patches as large as the slices: each place in the two batches names its slice.
    drawn = torch.cat([batch.target[:, 0] for batch in _first(2, source)])
    found = [index for patch in drawn for index, target in enumerate(reads) if torch.equal(patch, target)]
    assert sorted(found) == list(range(6))


def _equal(first: list[Batch], second: list[Batch]) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(two, name))
        for one, two in zip(first, second, strict=True)
        for name in ("low_res", "upsampled", "reference", "target")
    )


@pytest.mark.parametrize("patch_px", [16, None])
def test_batches_do_not_depend_on_the_cache(patch_px: int | None) -> None:
    cached = _first(8, _slices(), patch_px=patch_px)
    assert _equal(cached, _first(8, _slices(), patch_px=patch_px, cache_bytes=0))
    assert _equal(cached, _first(8, _slices(), patch_px=patch_px, cache_bytes=60_000))


def test_a_slice_is_prepared_once_while_the_cache_holds_it() -> None:
    source = _slices(5)
    _first(20, source)
    assert source.n_reads == 5


def test_the_cache_keeps_to_its_limit_and_drops_the_least_recently_used() -> None:
    source = _slices(3)
    # 40 x 48 float32: three frames of 7680 bytes and one of a quarter.
    n_bytes = 3 * 7680 + 1920
    prepared = PreparedSlices(source, scale=2, cache_bytes=2 * n_bytes)
    for index in (0, 1, 0, 2):  # 2 pushes 1 out, for 0 was used after it
        prepared[index]
        assert prepared.bytes_held <= 2 * n_bytes
    assert source.n_reads == 3
    prepared[0]
    assert source.n_reads == 3
    prepared[1]
    assert source.n_reads == 4
    assert prepared.bytes_held == 2 * n_bytes


def test_patches_of_air_are_passed_over() -> None:
    target, reference = _pair(size=(96, 96))
    target[:, 48:] *= 0.001
    empty = np.zeros((96, 96), dtype=np.float32)
    source = Slices((target, reference), (empty, reference))
    n_air = 0
    for batch in _first(40, source):
        whole = make_sample(target, reference, 2)
        magnitude = whole.restore(batch.target)
        foreground = (magnitude > AIR_LEVEL * whole.mean).flatten(1).float().mean(dim=1)
        n_air += int((foreground < MIN_FOREGROUND).sum())
    # A draw meets foreground with a probability of about 0.3, so 8 in a row miss it with 0.7^8 = 6%;
    # without the rule 70% of the 120 patches would be air.
    assert n_air < 0.15 * 120


def test_a_source_of_nothing_but_air_ends_in_air_and_not_in_a_loop() -> None:
    empty = np.zeros((32, 32), dtype=np.float32)
    (batch,) = _first(1, Slices((empty, empty)))
    assert torch.equal(batch.target, torch.zeros(3, 1, 16, 16))


def test_whole_slices_of_several_sizes_come_in_batches_of_one_size() -> None:
    source = Slices(*(_pair(seed, size=(24, 24) if seed % 3 else (20, 32)) for seed in range(7)))
    sizes = [tuple(batch.target.shape) for batch in _first(12, source, patch_px=None)]
    assert set(sizes) == {(3, 1, 24, 24), (3, 1, 20, 32)}
    assert sizes.count((3, 1, 24, 24)) in (6, 7, 8, 9)


def test_settings_that_cannot_work_are_refused_before_the_first_batch() -> None:
    with pytest.raises(NoScansFound, match="nothing to train on"):
        _first(1, Slices())
    for patch_px in (0, -2, 18):
        with pytest.raises(InvalidSetting, match="a multiple of 4"):
            _first(1, _slices(), scale=4, patch_px=patch_px)


def test_a_slice_smaller_than_the_patch_is_refused() -> None:
    with pytest.raises(ScanInvalid, match=r"smaller than the patch.*at least 42 px"):
        _first(1, _slices(), patch_px=42)
