"""From pairs of slices to the normalised tensors a model sees, kept in memory.

Normalisation. Each contrast by its own input's slice mean and standard deviation: the reference by its own,
the target by those of its low-resolution image, for that is all there is at inference. The network's inputs
are clamped to +-6. Two images are not: the target, since a clamped one would teach the model to cut off the
brightest tissue and every metric is taken without the clamp; and the interpolated image, which is added to
the output and must be able to reach that target.

B batch, H, W high-resolution row and column, h = H / scale, w = W / scale.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minet_core.errors import ScanInvalid
from minet_core.imaging.degradation import IDENTITY, DegradationDraw, apply_degradation, crop_to_multiple
from minet_core.imaging.interpolation import bicubic

CLAMP = 6.0
"""Bound on the network's normalised inputs, in standard deviations."""

DEFAULT_CACHE_BYTES = 2**30

MIN_STD_TO_MEAN = 1e-6
"""Floor of a slice's standard deviation as a fraction of its mean: ten float32 roundings. A slice below it is
constant, and its normalised image is rounding error."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the model is given for one slice, normalised, float32.

    low_res: (h, w), clamped. upsampled: (H, W), aligned bicubic of the whole frame, not clamped. reference: (H, W),
    clamped. mean, std: of the low-resolution image, in its units.
    """

    low_res: Tensor
    upsampled: Tensor
    reference: Tensor
    mean: float
    std: float

    def restore(self, image: Tensor) -> Tensor:
        """A normalised target image in the units of the low-resolution image.

        Parameters
        ----------
        image : Tensor of any shape
            Normalised by `mean` and `std`.

        Returns
        -------
        Tensor of the same shape
            image * std + mean.
        """
        return image * self.std + self.mean


@dataclass(frozen=True, kw_only=True)
class Sample(Inputs):
    """The inputs and the truth. target: (H, W), magnitude normalised by `mean` and `std`, not clamped."""

    target: Tensor

    def mapped(self, read: Callable[[Tensor, int], Tensor], *, scale: int) -> Sample:
        """The sample of what is read of each image.

        Parameters
        ----------
        read
            Called with an image and how many of its samples, 1 or `scale`, make one of the low resolution.
        scale
            Of the degradation.

        Returns
        -------
        Sample
            With the same `mean` and `std`.
        """
        return Sample(
            low_res=read(self.low_res, 1),
            upsampled=read(self.upsampled, scale),
            reference=read(self.reference, scale),
            target=read(self.target, scale),
            mean=self.mean,
            std=self.std,
        )


def make_inputs(low_res: Tensor, reference: Tensor, scale: int) -> Inputs:
    """Normalised inputs of one slice, for training and inference alike.

    Parameters
    ----------
    low_res : Tensor (h, w)
        Magnitude of any size.
    reference : Tensor (scale * h, scale * w)
        Magnitude or complex.
    scale
        Factor along both axes.

    Returns
    -------
    Inputs
        float32.

    Raises
    ------
    ScanInvalid
        Where the shapes do not fit or a value is not finite.
    """
    expected = (scale * low_res.shape[0], scale * low_res.shape[1])
    if tuple(reference.shape) != expected:
        raise ScanInvalid(
            f"a reference slice does not fit its low-resolution slice at {scale}x",
            got=tuple(reference.shape),
            expected=expected,
        )
    guide = reference.abs().float()
    low_res = low_res.float()
    if not (torch.isfinite(low_res).all() and torch.isfinite(guide).all()):
        raise ScanInvalid("a slice cannot be normalised", got="a value that is not finite")
    mean, std = mean_and_std(low_res)
    guide_mean, guide_std = mean_and_std(guide)
    normalised = (low_res - mean) / std
    return Inputs(
        low_res=normalised.clamp(-CLAMP, CLAMP),
        upsampled=bicubic(normalised, scale),  # it keeps a constant, so it commutes with the normalisation
        reference=((guide - guide_mean) / guide_std).clamp(-CLAMP, CLAMP),
        mean=mean,
        std=std,
    )


def make_sample(
    target: NDArray[Any], reference: NDArray[Any], scale: int, *, draw: DegradationDraw = IDENTITY
) -> Sample:
    """One training sample: both slices cropped to multiples of 2 * scale, the target degraded.

    Parameters
    ----------
    target : array (H, W)
        Magnitude or complex.
    reference : array (H, W)
        Magnitude or complex, on the same grid.
    scale
        Factor along both axes.
    draw
        The degradation's random part.

    Returns
    -------
    Sample
        float32, of the cropped slices.

    Raises
    ------
    ScanInvalid
        Where the slices differ in shape, are too small, or hold a value not finite.
    """
    if target.ndim != 2 or target.shape != reference.shape:
        raise ScanInvalid(
            "a target and its reference are on different grids",
            got=f"{target.shape} and {reference.shape}",
            expected="one shape (row, column)",
        )
    high_res = crop_to_multiple(as_tensor(target), scale)
    guide = crop_to_multiple(as_tensor(reference), scale)
    inputs = make_inputs(apply_degradation(high_res, draw, scale), guide, scale)
    return Sample(
        low_res=inputs.low_res,
        upsampled=inputs.upsampled,
        reference=inputs.reference,
        mean=inputs.mean,
        std=inputs.std,
        target=(high_res.abs() - inputs.mean) / inputs.std,
    )


def as_tensor(image: NDArray[Any]) -> Tensor:
    """A copy as float32, or complex64 where the array is complex, whatever its byte order.

    Parameters
    ----------
    image : array of any shape
        Numbers.

    Returns
    -------
    Tensor of the same shape
        float32 or complex64, on the CPU.
    """
    dtype = np.complex64 if np.iscomplexobj(image) else np.float32
    return torch.tensor(np.ascontiguousarray(image, dtype=dtype))


def mean_and_std(image: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of a slice, for its normalisation.

    Parameters
    ----------
    image : Tensor of any shape
        Real.

    Returns
    -------
    tuple of float
        Mean, and the population's standard deviation, never zero (`MIN_STD_TO_MEAN`); 1 for an image of zeros.
    """
    mean, std = float(image.mean()), float(image.std(correction=0))
    return mean, max(std, MIN_STD_TO_MEAN * abs(mean)) or 1.0


class SliceSource(Protocol):
    """Pairs of slices by number: target (H, W), magnitude or complex, and reference (H, W) on its grid.

    shapes: (H, W) of every pair, known without reading one.
    """

    @property
    def shapes(self) -> Sequence[tuple[int, int]]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[NDArray[Any], NDArray[Any]]: ...


class SampleSlices(Protocol):
    """Whole slices as samples, by number. scale: of their degradation."""

    @property
    def scale(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


class PreparedSlices:
    """Samples of a source by number, kept in memory; the least recently used leaves.

    Parameters
    ----------
    source
        Pairs of slices.
    scale
        Of the degradation.
    cache_bytes
        Bytes of samples that are kept at most.
    """

    def __init__(self, source: SliceSource, *, scale: int, cache_bytes: int) -> None:
        self.source = source
        self.scale = scale
        self.cache_bytes = cache_bytes
        self.bytes_held = 0
        self._samples: OrderedDict[Hashable, Sample] = OrderedDict()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        return self.kept(index, lambda: make_sample(*self.source[index], self.scale))

    def kept(self, key: Hashable, make: Callable[[], Sample]) -> Sample:
        """A sample that is kept under a key, made where there is none.

        Parameters
        ----------
        key
            A slice's number for the slice as it is, else of another kind.
        make
            Gives the sample; the same for the same key.

        Returns
        -------
        Sample
            Not to be changed.
        """
        if key in self._samples:
            self._samples.move_to_end(key)
            return self._samples[key]
        sample = make()
        self._samples[key] = sample
        self.bytes_held += _n_bytes(sample)
        while self.bytes_held > self.cache_bytes:
            _, leaving = self._samples.popitem(last=False)
            self.bytes_held -= _n_bytes(leaving)
        return sample


def _n_bytes(sample: Sample) -> int:
    return sum(t.nbytes for t in (sample.low_res, sample.upsampled, sample.reference, sample.target))
