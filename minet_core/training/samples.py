"""From pairs of slices to the normalised tensors a model sees, and to batches of patches of them.

Normalisation. Each contrast by its own input's slice mean and standard deviation: the reference by its own,
the target by those of its low-resolution image, for that is all there is at inference. The network's inputs
are clamped to +-6. Two images are not: the target, since a clamped one would teach the model to cut off the
brightest tissue and every metric is taken without the clamp; and the interpolated image, which is added to
the output and must be able to reach that target.

B batch, H, W high-resolution row and column, h = H / scale, w = W / scale.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minet_core.errors import InvalidSetting, NothingFound, ScanInvalid
from minet_core.imaging.degradation import IDENTITY, DegradationDraw, apply_degradation, crop_to_multiple
from minet_core.imaging.interpolation import bicubic

CLAMP = 6.0
"""Bound on the network's normalised inputs, in standard deviations."""

MIN_STD_TO_MEAN = 1e-6
"""Floor of a slice's standard deviation as a fraction of its mean: ten float32 roundings. A slice below it is
constant, and its normalised image is rounding error."""

AIR_LEVEL = 0.5
"""A sample is foreground above this fraction of its slice's mean (air included): well below dark tissue's
intensity, well above the noise floor."""

MIN_FOREGROUND = 0.1
"""A patch with a smaller fraction of foreground samples is air."""

MAX_DRAWS = 8
"""Draws for one place in a batch; the last is taken even if it is air, so a source of air cannot hang."""

DEFAULT_CACHE_BYTES = 2**30


class SliceSource(Protocol):
    """Pairs of slices by number: target (H, W), magnitude or complex, and reference (H, W) on its grid."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[NDArray[Any], NDArray[Any]]: ...


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
        """A normalised target image in the units of the low-resolution image."""
        return image * self.std + self.mean


@dataclass(frozen=True, kw_only=True)
class Sample(Inputs):
    """The inputs and the truth. target: (H, W), magnitude normalised by `mean` and `std`, not clamped."""

    target: Tensor


@dataclass(frozen=True)
class Batch:
    """One step's tensors: low_res (B, 1, h, w); upsampled, reference and target (B, 1, H, W); float32."""

    low_res: Tensor
    upsampled: Tensor
    reference: Tensor
    target: Tensor


def make_inputs(low_res: Tensor, reference: Tensor, scale: int) -> Inputs:
    """Normalised inputs of one slice, for training and inference alike.

    low_res: (h, w) magnitude of any size. reference: (scale * h, scale * w) magnitude or complex.
    Raises ScanInvalid where the shapes do not fit or a value is not finite.
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

    target: (H, W) magnitude or complex. reference: (H, W) on the same grid. draw: the degradation's random
    part. Raises ScanInvalid where the slices differ in shape, are too small, or hold a value not finite.
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
    """A copy as float32, or complex64 where the array is complex, whatever its byte order."""
    dtype = np.complex64 if np.iscomplexobj(image) else np.float32
    return torch.tensor(np.ascontiguousarray(image, dtype=dtype))


def draw_batches(
    prepared: PreparedSlices, *, batch_size: int, patch_px: int | None, generator: torch.Generator
) -> Iterator[Batch]:
    """An endless stream of batches, the same for the same generator whatever is already prepared.

    Slices come in a new random order each pass. With `patch_px`, one high-resolution patch of that edge is
    cut from each, at a multiple of the scale; a patch that is air (`MIN_FOREGROUND`, `AIR_LEVEL`) is passed
    over for the next slice's.
    The upsampled patch is cut from the whole frame's, which knows what lies beyond the patch's edge.
    With None whole slices are given; slices of several sizes are gathered into batches of one size each.

    Raises NothingFound for an empty source, InvalidSetting for a patch edge that is no multiple of the scale;
    while drawing, ScanInvalid for a slice smaller than the patch.
    """
    require_drawable(len(prepared), scale=prepared.scale, patch_px=patch_px)
    if patch_px is None:
        return _whole_slices(prepared, batch_size=batch_size, generator=generator)
    return _patches(prepared, batch_size=batch_size, patch_px=patch_px, generator=generator)


def require_drawable(n_slices: int, *, scale: int, patch_px: int | None) -> None:
    """Raises NothingFound for no slice, InvalidSetting for a patch edge that is no multiple of `scale`."""
    if n_slices == 0:
        raise NothingFound("there is nothing to train on", got="0 slices", expected="at least one")
    if patch_px is not None and (patch_px <= 0 or patch_px % scale):
        raise InvalidSetting(
            "patch_px does not fit the scale", got=patch_px, expected=f"a multiple of {scale}, or null"
        )


class PreparedSlices:
    """Samples of a source by number, kept in memory up to `cache_bytes`; the least recently used leaves."""

    def __init__(self, source: SliceSource, *, scale: int, cache_bytes: int) -> None:
        self.source = source
        self.scale = scale
        self.cache_bytes = cache_bytes
        self.bytes_held = 0
        self._samples: OrderedDict[int, Sample] = OrderedDict()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        if index in self._samples:
            self._samples.move_to_end(index)
            return self._samples[index]
        target, reference = self.source[index]
        sample = make_sample(target, reference, self.scale)
        self._samples[index] = sample
        self.bytes_held += _n_bytes(sample)
        while self.bytes_held > self.cache_bytes:
            _, leaving = self._samples.popitem(last=False)
            self.bytes_held -= _n_bytes(leaving)
        return sample


def draw_patch(
    prepared: PreparedSlices, order: Iterator[int], *, patch_px: int, generator: torch.Generator
) -> Sample:
    """A patch with foreground, of the next slice of `order` that gives one, within `MAX_DRAWS`."""
    for _ in range(MAX_DRAWS):
        sample = prepared[next(order)]
        patch = _cut(sample, patch_px=patch_px, scale=prepared.scale, generator=generator)
        foreground = patch.restore(patch.target) > AIR_LEVEL * patch.mean
        if foreground.float().mean() >= MIN_FOREGROUND:
            break
    return patch


def stack_samples(samples: list[Sample]) -> Batch:
    """A batch of samples of one size."""
    return Batch(
        low_res=torch.stack([sample.low_res for sample in samples])[:, None],
        upsampled=torch.stack([sample.upsampled for sample in samples])[:, None],
        reference=torch.stack([sample.reference for sample in samples])[:, None],
        target=torch.stack([sample.target for sample in samples])[:, None],
    )


def _patches(
    prepared: PreparedSlices, *, batch_size: int, patch_px: int, generator: torch.Generator
) -> Iterator[Batch]:
    order = _random_order(len(prepared), generator)
    while True:
        yield stack_samples(
            [draw_patch(prepared, order, patch_px=patch_px, generator=generator) for _ in range(batch_size)]
        )


def _cut(sample: Sample, *, patch_px: int, scale: int, generator: torch.Generator) -> Sample:
    """One patch at a random multiple of `scale`, (patch_px, patch_px) at high resolution."""
    edge = patch_px // scale
    h, w = sample.low_res.shape
    if edge > min(h, w):
        raise ScanInvalid(
            "a slice is smaller than the patch",
            got=tuple(sample.target.shape),
            expected=f"at least {patch_px} px an axis",
            action="Set a smaller patch_px, or null for whole slices",
        )
    top = int(torch.randint(h - edge + 1, (), generator=generator))
    left = int(torch.randint(w - edge + 1, (), generator=generator))
    rows = slice(top * scale, top * scale + patch_px)
    columns = slice(left * scale, left * scale + patch_px)
    return Sample(
        low_res=sample.low_res[top : top + edge, left : left + edge],
        upsampled=sample.upsampled[rows, columns],
        reference=sample.reference[rows, columns],
        target=sample.target[rows, columns],
        mean=sample.mean,
        std=sample.std,
    )


def _whole_slices(
    prepared: PreparedSlices, *, batch_size: int, generator: torch.Generator
) -> Iterator[Batch]:
    waiting: defaultdict[tuple[int, ...], list[Sample]] = defaultdict(list)
    for index in _random_order(len(prepared), generator):
        sample = prepared[index]
        gathered = waiting[tuple(sample.target.shape)]
        gathered.append(sample)
        if len(gathered) == batch_size:
            yield stack_samples(gathered)
            gathered.clear()


def _random_order(n_slices: int, generator: torch.Generator) -> Iterator[int]:
    """Every slice once in a random order, then again in another, without end."""
    while True:
        yield from torch.randperm(n_slices, generator=generator).tolist()


def mean_and_std(image: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of a slice, the latter never zero; 1 for an image of zeros."""
    mean, std = float(image.mean()), float(image.std(correction=0))
    return mean, max(std, MIN_STD_TO_MEAN * abs(mean)) or 1.0


def _n_bytes(sample: Sample) -> int:
    return sum(t.nbytes for t in (sample.low_res, sample.upsampled, sample.reference, sample.target))
