"""Training on targets that are less sharp than they were: as of a patient who moved, or of a softer protocol.

Few patients are few degrees of sharpness, and a network learns theirs: of a scan that is less sharp it makes detail
that was never there. So the target of a sample is blurred before it is degraded, by a Gaussian that differs along two
directions; the reference stays as it is. What was drawn for a slice is kept with the slices and drawn on again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray

from minet_core.imaging.fourier import fft2c, ifft2c
from minet_core.seeds import torch_generator
from minet_core.settings.federation import BlurSettings
from minet_core.training.samples import PreparedSlices, Sample, as_tensor, make_sample

N_VARIANTS = 6
"""Blurred versions of a slice, kept with the slices while there is room: a new one for each sample would add half of a
small model's step to it (docs/training.md)."""


@dataclass(frozen=True)
class BlurDraw:
    """Standard deviations of the Gaussian along a direction and across it, px; direction from the rows, degrees."""

    along_px: float
    across_px: float
    degrees: float


def draw_blur(generator: torch.Generator, blur: BlurSettings) -> BlurDraw:
    """Draw how much a target is blurred.

    Parameters
    ----------
    generator
        On the CPU; three numbers are taken from it.
    blur
        How much at most.

    Returns
    -------
    BlurDraw
        Evenly from nothing to the most along a direction, and from nothing to that across it.
    """
    along, across, turned = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    return BlurDraw(along * blur.max_px, along * across * blur.max_px, 180 * turned)


def blur_slice(image: NDArray[Any], draw: BlurDraw) -> NDArray[Any]:
    """A slice blurred by a Gaussian, through k-space: the frame is taken for periodic.

    Parameters
    ----------
    image : array (H, W)
        Magnitude or complex.
    draw
        How much, and in which direction.

    Returns
    -------
    array (H, W)
        float32, not below zero, or complex64. The mean over the frame is kept but for the clamp.
    """
    tensor = as_tensor(image)
    rows, columns = (
        torch.arange(n, dtype=torch.float64) / n - (n // 2) / n for n in tensor.shape
    )  # cycles a pixel, as the centred transform has them
    angle = math.radians(draw.degrees)
    along = math.cos(angle) * rows[:, None] + math.sin(angle) * columns[None]
    across = -math.sin(angle) * rows[:, None] + math.cos(angle) * columns[None]
    spread = (draw.along_px * along) ** 2 + (draw.across_px * across) ** 2
    blurred = ifft2c(fft2c(tensor) * torch.exp(-2 * math.pi**2 * spread).float())
    return (blurred if tensor.is_complex() else blurred.real.clamp(min=0)).numpy()


class BlurredSlices:
    """Samples of other samples' slices, a share of them blurred, each time by one of the slice's own draws.

    Parameters
    ----------
    prepared
        The samples as they are; the blurred ones are kept with them.
    blur
        How often, and how much.
    seed, label
        What the draws of a slice are derived from: the same in every round and in every process.
    generator
        Says which samples are blurred, and by which draw, in the order in which they are asked for.
    """

    def __init__(
        self,
        prepared: PreparedSlices,
        blur: BlurSettings,
        *,
        seed: int,
        label: str,
        generator: torch.Generator,
    ) -> None:
        self._prepared, self._blur, self._generator = prepared, blur, generator
        self._seed, self._label = seed, label
        self.source = _BlurredPairs(self)

    @property
    def scale(self) -> int:
        """Of the degradation."""
        return self._prepared.scale

    def __len__(self) -> int:
        return len(self._prepared)

    def __getitem__(self, index: int) -> Sample:
        draw = self._draw_of(index)
        if draw is None:
            return self._prepared[index]
        # By the draw itself: trainings with other seeds, labels or limits take their slices from the same memory.
        return self._prepared.kept(
            (index, draw), lambda: make_sample(*self._pair(index, draw), self._prepared.scale)
        )

    def drawn_pair(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """A pair of which the target may be blurred, for who makes another sample of it.

        Parameters
        ----------
        index
            Of the slice.

        Returns
        -------
        tuple of two arrays (H, W)
            Target and reference.
        """
        draw = self._draw_of(index)
        return self._prepared.source[index] if draw is None else self._pair(index, draw)

    def _pair(self, index: int, draw: BlurDraw) -> tuple[NDArray[Any], NDArray[Any]]:
        """A slice's target, blurred, and its reference as it is."""
        target, reference = self._prepared.source[index]
        return blur_slice(target, draw), reference

    def _draw_of(self, index: int) -> BlurDraw | None:
        """Which of the slice's draws the next sample is blurred by; None where it is not."""
        chance, place = torch.rand(2, generator=self._generator, dtype=torch.float64).tolist()
        if chance >= self._blur.share:
            return None
        variant = int(place * N_VARIANTS)
        return draw_blur(torch_generator(self._seed, self._label, "blurred", index, variant), self._blur)


@dataclass(frozen=True)
class _BlurredPairs:
    slices: BlurredSlices

    def __getitem__(self, index: int, /) -> tuple[NDArray[Any], NDArray[Any]]:
        return self.slices.drawn_pair(index)
