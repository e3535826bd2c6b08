"""Training on references and inputs with trouble: drawn anew each time a slice is taken.

A model that only ever saw right references believes every reference. One that also saw moved, noisy, partly missing,
absent and foreign ones learns how far a reference is to be believed, and what it can do on the target alone.

`draw_trouble` draws, `TroubledSlices` applies. The reference's loss is that of the reference that the model was given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from minet_core.imaging.degradation import DegradationBounds, DegradationDraw, draw_degradation
from minet_core.imaging.reference_trouble import RIGHT, ReferenceDraw, apply_reference_trouble
from minet_core.settings.federation import TroubleSettings
from minet_core.training.samples import Sample, make_sample

MAX_BEND_CYCLES = 3.0
"""Cycles of a bending over the frame: a third of the frame is the shortest wave."""

N_REFERENCE_NUMBERS = 26


class SourcedSamples(Protocol):
    """Samples by number, made of pairs of slices by the same number: target and reference (H, W)."""

    @property
    def scale(self) -> int: ...

    @property
    def source(self) -> Pairs: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


class Pairs(Protocol):
    """Pairs of slices by number."""

    def __getitem__(self, index: int, /) -> tuple[NDArray[Any], NDArray[Any]]: ...


@dataclass(frozen=True)
class TroubleDraw:
    """The trouble of one sample. steps: how many slices away the reference is taken from; 0: it is the slice's own."""

    reference: ReferenceDraw
    input: DegradationDraw
    steps: int = 0

    @property
    def is_none(self) -> bool:
        """Whether the sample is as it was."""
        plain = DegradationDraw(noise_seed=self.input.noise_seed)
        return self.reference == RIGHT and self.input == plain and self.steps == 0


def draw_trouble(generator: torch.Generator, trouble: TroubleSettings, *, n_slices: int) -> TroubleDraw:
    """Draw the trouble of one sample.

    Parameters
    ----------
    generator
        On the CPU; as many numbers are taken from it whatever the settings.
    trouble
        How often each is drawn, and how much of it.
    n_slices
        Of the source: a foreign reference is any of them but the sample's own.

    Returns
    -------
    TroubleDraw
        To be applied as often as is wanted.
    """
    drawn: list[float] = torch.rand(N_REFERENCE_NUMBERS, generator=generator, dtype=torch.float64).tolist()
    numbers = iter(drawn)
    noise_seed = int(torch.randint(2**62, (), generator=generator))
    inputs = draw_degradation(generator, input_bounds(trouble))

    def happens(chance: float) -> bool:
        return next(numbers) < chance

    def signed(most: float) -> float:
        return (2 * next(numbers) - 1) * most

    moved, toned, noisy, partly, absent, foreign, neighbour = (
        happens(chance)
        for chance in (
            *(trouble.moved, trouble.toned, trouble.noisy, trouble.partly),
            *(trouble.absent, trouble.foreign, trouble.neighbour),
        )
    )
    shift = (signed(trouble.max_shift_px), signed(trouble.max_shift_px))
    rotation, bend = signed(trouble.max_rotation_degrees), next(numbers) * trouble.max_bend_px
    waves = tuple((signed(MAX_BEND_CYCLES), signed(MAX_BEND_CYCLES), next(numbers)) for _ in range(2))
    gain, gain_wave = next(numbers) * trouble.max_gain, (signed(0.5), signed(0.5), next(numbers))
    gamma = math.exp(signed(math.log(trouble.max_gamma)))
    share, degrees, amount = next(numbers), 360 * next(numbers), next(numbers)
    place = next(numbers)
    steps = 1 + int(place * (n_slices - 1)) if foreign and n_slices > 1 else 0
    if neighbour and not foreign and n_slices > 1:
        steps = _neighbouring(place, trouble.max_slices)
    if absent:
        return TroubleDraw(ReferenceDraw(absent=True), inputs)
    reference = ReferenceDraw(
        shift_px=shift if moved else (0.0, 0.0),
        rotation_degrees=rotation if moved else 0.0,
        bend_px=bend if moved else 0.0,
        bend_waves=(waves[0], waves[1]) if moved else RIGHT.bend_waves,
        gain=gain if toned else 0.0,
        gain_wave=gain_wave if toned else RIGHT.gain_wave,
        gamma=gamma if toned else 1.0,
        noise_fraction=amount * trouble.max_noise_fraction if noisy else 0.0,
        noise_seed=noise_seed if noisy else 0,
        missing_share=share * trouble.max_missing_share if partly else 0.0,
        missing_degrees=degrees if partly else 0.0,
    )
    return TroubleDraw(reference, inputs, steps)


def input_bounds(trouble: TroubleSettings) -> DegradationBounds:
    """What `minet_core.imaging.degradation` draws of the input's trouble.

    Parameters
    ----------
    trouble
        The federation's.

    Returns
    -------
    DegradationBounds
        Without a shift: the input is where the target is.
    """
    return DegradationBounds(
        noisy=trouble.input_noisy,
        max_noise_fraction=trouble.max_input_noise_fraction,
        windowed=trouble.input_windowed,
        zero_filled=trouble.input_zero_filled,
        min_measured=trouble.min_input_measured,
        other_kernel=trouble.input_other_kernel,
    )


class TroubledSlices:
    """Samples of other samples' pairs, each time with another trouble; without any the kept sample itself.

    Parameters
    ----------
    prepared
        The samples without trouble.
    trouble
        How often each trouble is drawn, and how much of it.
    generator
        Draws them, in the order in which samples are asked for.
    """

    def __init__(
        self, prepared: SourcedSamples, trouble: TroubleSettings, generator: torch.Generator
    ) -> None:
        self._prepared, self._trouble, self._generator = prepared, trouble, generator

    @property
    def scale(self) -> int:
        """Of the degradation."""
        return self._prepared.scale

    def __len__(self) -> int:
        return len(self._prepared)

    def __getitem__(self, index: int) -> Sample:
        n_slices = len(self._prepared)
        draw = draw_trouble(self._generator, self._trouble, n_slices=n_slices)
        if draw.is_none:
            return self._prepared[index]
        target, reference = self._prepared.source[index]
        if draw.steps:
            foreign = self._prepared.source[(index + draw.steps) % n_slices][1]
            reference = fitted(np.abs(foreign), reference.shape)
        magnitude = np.abs(reference).astype(np.float32)
        troubled = apply_reference_trouble(magnitude, draw.reference)
        return make_sample(target, troubled, self._prepared.scale, draw=draw.input)


def fitted(image: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """An image on another frame about the same centre, cropped or with zeros around it: index N // 2 stays the origin.

    Parameters
    ----------
    image : array (H, W)
        Of any size.
    shape
        (rows, columns) that are wanted.

    Returns
    -------
    array of `shape`
        Of the dtype of `image`.
    """
    for axis, (has, wanted) in enumerate(zip(image.shape, shape, strict=True)):
        first = has // 2 - wanted // 2
        if first >= 0 and has >= first + wanted:
            image = image.take(range(first, first + wanted), axis=axis)
        else:
            around = [(0, 0)] * image.ndim
            around[axis] = (-first, wanted - has + first)
            image = np.pad(image, around)
    return image


def _neighbouring(place: float, max_slices: int) -> int:
    """One of -max_slices to max_slices without 0, by a number of [0, 1)."""
    nth = int(place * 2 * max_slices)
    return nth - max_slices if nth < max_slices else nth - max_slices + 1
