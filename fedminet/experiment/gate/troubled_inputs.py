"""The ways in which the scan that is super-resolved departs from training, as `experiment gate` tries them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from minet_core.imaging.degradation import DegradationDraw, apply_degradation

Volume = NDArray[np.float32]
Complex = NDArray[np.complex64]


@dataclass(frozen=True)
class InputWay:
    """make: from a target, complex64 (S, H, W), and the scale the low resolution, (S, H / scale, W / scale)."""

    name: str
    make: Callable[[Complex, int], Volume]


def _drawn(draw: DegradationDraw) -> Callable[[Complex, int], Volume]:
    def make(target: Complex, scale: int) -> Volume:
        return apply_degradation(torch.from_numpy(target), draw, scale).numpy()

    return make


def _noisy(share: float) -> Callable[[Complex, int], Volume]:
    """Noise of `share` of bright tissue's signal, the 99th percentile, in real and imaginary part."""

    def make(target: Complex, scale: int) -> Volume:
        image = torch.from_numpy(target)
        clean = apply_degradation(image, DegradationDraw(), scale).numpy()
        over_rms = float(np.percentile(clean, 99) / np.sqrt(np.mean(clean.astype(np.float64) ** 2)))
        draw = DegradationDraw(noise_fraction=share * over_rms, noise_seed=7)
        return apply_degradation(image, draw, scale).numpy()

    return make


INPUT_WAYS: tuple[InputWay, ...] = (
    InputWay("as in training", _drawn(DegradationDraw())),
    InputWay("noise of 2%", _noisy(0.02)),
    InputWay("noise of 5%", _noisy(0.05)),
    InputWay("a Hann window", _drawn(DegradationDraw(window=1.0))),
    InputWay("zero-filled from 70%", _drawn(DegradationDraw(measured=0.7))),
    InputWay("blurred and decimated", _drawn(DegradationDraw(blur_px=0.8))),
)
