"""The ways in which a reference goes wrong, and the right ones beside them, as `experiment gate` tries them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minet_core.imaging.reference_trouble import ReferenceDraw, apply_reference_trouble

Volume = NDArray[np.float32]


@dataclass(frozen=True)
class Way:
    """One way. wrong: whether the gate should name it; None: neither, the model has to bear it by itself.

    make: from the right reference and another patient's, both (S, H, W) magnitude on the target's grid.
    """

    name: str
    wrong: bool | None
    make: Callable[[Volume, Volume], Volume]


def _drawn(draw: ReferenceDraw) -> Callable[[Volume, Volume], Volume]:
    def make(own: Volume, _: Volume) -> Volume:
        return np.stack([apply_reference_trouble(one, draw) for one in own])

    return make


def _noisy(own: Volume, _: Volume) -> Volume:
    return np.stack(
        [
            apply_reference_trouble(one, ReferenceDraw(noise_fraction=0.1, noise_seed=number))
            for number, one in enumerate(own)
        ]
    )


def _toned(own: Volume, _: Volume) -> Volume:
    draw = ReferenceDraw(gain=0.3, gain_wave=(0.5, 0.3, 0.1), gamma=1.4)
    return np.stack([apply_reference_trouble(one, draw) for one in own])


def _bent(own: Volume, _: Volume) -> Volume:
    return _drawn(ReferenceDraw(bend_px=2.0, bend_waves=((1.0, 1.0, 0.1), (1.0, -1.5, 0.4))))(own, own)


WAYS: tuple[Way, ...] = (
    Way("right", False, lambda own, _: own),
    Way("another tone", False, _toned),
    Way("0.5 px off", None, _drawn(ReferenceDraw(shift_px=(0.35, -0.35)))),
    Way("1 px off", True, _drawn(ReferenceDraw(shift_px=(0.0, 1.0)))),
    Way("2 px off", True, _drawn(ReferenceDraw(shift_px=(2.0, 0.0)))),
    Way("3 px off", True, _drawn(ReferenceDraw(shift_px=(2.1, -2.1)))),
    Way("2 degrees", True, _drawn(ReferenceDraw(rotation_degrees=2.0))),
    Way("bent by 2 px", True, _bent),
    Way("one slice off", True, lambda own, _: np.roll(own, 1, axis=0)),
    Way("three slices off", True, lambda own, _: np.roll(own, 3, axis=0)),
    Way("mirrored", True, lambda own, _: own[:, :, ::-1].copy()),
    Way("noise of 10%", None, _noisy),
    Way("half missing", True, _drawn(ReferenceDraw(missing_share=0.5))),
    Way("zeros", True, lambda own, _: np.zeros_like(own)),
    Way("another patient's", True, lambda _, other: other),
)
