"""The gate on made anatomy: right references pass whatever their contrast, wrong ones are named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from minet_core.errors import ScanInvalid
from minet_core.evaluation.reference_gate import judge_reference
from minet_core.imaging.degradation import low_resolution
from minet_core.imaging.interpolation import sinc
from minet_core.imaging.reference_trouble import ReferenceDraw, apply_reference_trouble
from tests.support.small_scans import make_volume

Volume = NDArray[np.float32]
SHAPE, SPACING = (6, 128, 128), (5.0, 1.5, 1.5)
both_scales = pytest.mark.parametrize("scale", [2, 4])


def _scan(seed: int, contrast: str) -> Volume:
    return np.abs(np.asarray(make_volume(seed, contrast, shape=SHAPE, spacing_mm=SPACING).array)).astype(
        np.float32
    )


def _interpolated(scale: int) -> Volume:
    low_res = low_resolution(torch.from_numpy(_scan(1, "T2")), scale)
    return np.asarray(sinc(low_res, scale, non_negative=True).numpy())


def _troubled(volume: Volume, draw: ReferenceDraw) -> Volume:
    return np.stack([apply_reference_trouble(one, draw) for one in volume])


@both_scales
def test_the_patients_own_reference_passes_in_any_tone(scale: int) -> None:
    own = _scan(1, "T1")
    for reference in (own, 7 * own, own.max() - own, _troubled(own, ReferenceDraw(gamma=1.4))):
        gate = judge_reference(_interpolated(scale), reference, scale=scale)
        assert not gate.wrong
        assert gate.trusted > 0.85


@both_scales
@pytest.mark.parametrize(
    "draw",
    [
        ReferenceDraw(shift_px=(0.0, 2.0)),
        ReferenceDraw(shift_px=(-3.0, 0.0)),
        ReferenceDraw(missing_share=0.5),
        ReferenceDraw(absent=True),
    ],
)
def test_a_reference_that_lies_elsewhere_or_shows_nothing_is_named(scale: int, draw: ReferenceDraw) -> None:
    gate = judge_reference(_interpolated(scale), _troubled(_scan(1, "T1"), draw), scale=scale)
    assert gate.wrong


def test_a_turned_reference_is_named() -> None:
    """At 2x: at 4x these 32 samples a side are two windows, in which the turn's two directions are mixed."""
    turned = _troubled(_scan(1, "T1"), ReferenceDraw(rotation_degrees=4.0))
    assert judge_reference(_interpolated(2), turned, scale=2).wrong


@both_scales
def test_another_patients_and_the_mirrored_one_are_named(scale: int) -> None:
    for reference in (_scan(2, "T1"), _scan(1, "T1")[:, :, ::-1].copy()):
        assert judge_reference(_interpolated(scale), reference, scale=scale).wrong


def test_misplacement_grows_with_the_shift_while_the_agreement_falls() -> None:
    gates = [
        judge_reference(
            _interpolated(2), _troubled(_scan(1, "T1"), ReferenceDraw(shift_px=(0.0, px))), scale=2
        )
        for px in (0.0, 1.0, 2.0)
    ]
    assert gates[0].misplacement < gates[1].misplacement < gates[2].misplacement
    assert gates[0].agreement > gates[1].agreement > gates[2].agreement


@both_scales
@pytest.mark.parametrize("shift", [(0.0, 1.0), (1.0, 0.0), (-0.8, 0.8)])
def test_a_displacement_is_found_to_a_fraction_of_a_pixel_and_named(
    scale: int, shift: tuple[float, float]
) -> None:
    """At 4x a quarter of a pixel of what was measured."""
    off = judge_reference(
        _interpolated(scale), _troubled(_scan(1, "T1"), ReferenceDraw(shift_px=shift)), scale=scale
    )
    right = judge_reference(_interpolated(scale), _scan(1, "T1"), scale=scale)
    assert right.displacement_px < 0.3
    assert off.displacement_px == pytest.approx(np.hypot(*shift), abs=0.3)
    assert off.wrong


def test_trust_is_lost_in_the_missing_half_alone_and_smoothly() -> None:
    half = _troubled(_scan(1, "T1"), ReferenceDraw(missing_share=0.5))
    gate = judge_reference(_interpolated(2), half, scale=2)
    middle = gate.trust[2:4, :, 48:80]
    assert middle[:, 24:40].mean() > 0.9  # well within what is there
    assert middle[:, 88:104].mean() < 0.1
    assert np.abs(np.diff(gate.trust, axis=1)).max() <= 1 / 16 + 1e-6  # a whole tile from trust to none
    assert gate.trust.shape == half.shape


def test_beyond_the_cover_nothing_is_judged() -> None:
    own, covered = _scan(1, "T1"), np.ones(SHAPE, dtype=bool)
    own[:, 64:], covered[:, 64:] = 0, False
    assert judge_reference(_interpolated(2), own, scale=2).wrong
    assert not judge_reference(_interpolated(2), own, scale=2, covered=covered).wrong


def test_air_of_the_smallest_numbers_overflows_nothing() -> None:
    """A spline leaves numbers in air whose gradients have no reciprocal in float32."""
    target, own = _interpolated(2), _scan(1, "T1")
    for volume in (target, own):
        volume[:, :, :40] = 0
    own[:, 40:60, 10:20] = 1e-42
    gate = judge_reference(target, own, scale=2)
    assert np.isfinite([gate.agreement, gate.misplacement, gate.trusted]).all()
    assert np.isfinite(gate.trust).all()


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(ScanInvalid, match="cannot be judged"):
        judge_reference(np.ones((2, 64, 64), np.float32), np.ones((2, 64, 66), np.float32), scale=2)
    with pytest.raises(ScanInvalid, match="cannot be judged"):
        judge_reference(np.ones((2, 31, 64), np.float32), np.ones((2, 31, 64), np.float32), scale=2)


def _texture(seed: int) -> Volume:
    """Of a quarter of the frequencies, so that a low resolution at 2x and at 4x has all of it."""
    noise = np.random.default_rng(seed).random((2, 128, 128))
    kept = np.abs(np.fft.fftfreq(128)) < 0.125
    return np.fft.ifft2(np.fft.fft2(noise) * kept[:, None] * kept).real.astype(np.float32)


@both_scales
def test_faint_structure_that_runs_as_the_targets_is_shown_and_faint_other_is_not(scale: int) -> None:
    """As of a brain of little contrast beside a bright scalp."""
    target, other = _texture(1), _texture(2)
    bright = 1 / (1 + np.exp(-(np.arange(128) - 80) / 4)).astype(np.float32)  # the right third
    shown, not_shown = target - target.mean(), other - other.mean()
    gate = judge_reference(target, 2 - shown * (bright + 0.1 * (1 - bright)), scale=scale)
    assert not gate.wrong
    assert gate.trusted > 0.9
    for faintness in (0.0, 0.1):
        empty = 2 - shown * bright - faintness * not_shown * (1 - bright)
        left = judge_reference(target, empty, scale=scale)
        assert left.wrong or left.trusted < 0.7


def _two_rims(inner: float, outer: float) -> Volume:
    """A head's two borders 4 px apart, of these heights, about tissue that both contrasts show alike."""
    row, column = np.mgrid[:192, :192] - 95.5
    radius = np.hypot(row, column)
    inside, outside = (1 / (1 + np.exp((radius - edge) / 0.7)) for edge in (66.0, 72.0))
    tissue = np.pad(_texture(3), ((0, 0), (32, 32), (32, 32)), mode="wrap")
    volume = inner * inside + outer * outside + (0.3 + 0.5 * tissue / tissue.std()) * inside * 0.15
    return np.abs(volume).astype(np.float32)


def test_at_4x_contrasts_that_favour_one_of_two_borders_each_are_not_named_and_a_pixel_off_is() -> None:
    """By their weight alone the outer border of the reference would rather lie on the inner one of the target."""
    low_res = low_resolution(torch.from_numpy(_two_rims(1.0, 0.05)), 4)
    target = np.asarray(sinc(low_res, 4, non_negative=True).numpy())
    own = _two_rims(0.05, 1.0)
    right = judge_reference(target, own, scale=4)
    off = judge_reference(target, np.roll(own, 1, axis=2), scale=4)
    assert not right.wrong
    assert off.wrong
