"""Batches of patches or of whole slices, drawn from a site's pairs."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from minet_core.errors import InvalidSetting, NothingFound, ScanInvalid
from minet_core.seeds import torch_generator
from minet_core.training.samples import Sample, make_sample

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


@dataclass(frozen=True)
class Batch:
    """One step's tensors: low_res (B, 1, h, w); upsampled, reference and target (B, 1, H, W); float32."""

    low_res: Tensor
    upsampled: Tensor
    reference: Tensor
    target: Tensor


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


def _n_bytes(sample: Sample) -> int:
    return sum(t.nbytes for t in (sample.low_res, sample.upsampled, sample.reference, sample.target))


def random_batch(patch_px: int, *, scale: int, batch_size: int) -> Batch:
    """A batch of noise: what a step takes does not depend on the values."""
    generator = torch_generator(0, "bench", "train")
    edge = patch_px // scale
    low_res = torch.randn(batch_size, 1, edge, edge, generator=generator)
    upsampled, reference, target = (
        torch.randn(batch_size, 1, edge * scale, edge * scale, generator=generator) for _ in range(3)
    )
    return Batch(low_res=low_res, upsampled=upsampled, reference=reference, target=target)
