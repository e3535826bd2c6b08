"""Batches of patches or of whole slices by their number: the one road from a site's pairs to a training step.

Batch k depends on the seed and on k alone. So a run goes on at any step as if it had never stopped, a round that is
trained again is the same round; worker processes may read ahead as far as they like; and of several processes that
train together, each draws its places of every batch.

    plan_batches    which slices make which batch
    PlannedSamples  a planned batch's tensors
    drawn_batches   the batches of a plan, here or by worker processes

With `patch_px`, one high-resolution patch of that edge is cut from each slice, at a multiple of the scale; a patch that
is air (`MIN_FOREGROUND`, `AIR_LEVEL`) is passed over for another slice's. The upsampled patch is cut from the whole
frame's, which knows what lies beyond the patch's edge.

B batch, H, W high-resolution row and column, h = H / scale, w = W / scale.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from minet_core.errors import FedminetError, ProcessDied, ScanInvalid
from minet_core.seeds import torch_generator
from minet_core.settings.drawable import require_drawable
from minet_core.settings.federation import BlurSettings, TroubleSettings
from minet_core.training.blur import BlurredSlices
from minet_core.training.flips import NO_FLIPS, Flips, cut, draw_flips
from minet_core.training.samples import PreparedSlices, Sample, SampleSlices
from minet_core.training.trouble import SourcedSamples, TroubledSlices

AIR_LEVEL = 0.5
"""A sample is foreground above this fraction of its slice's mean (air included): well below dark tissue's
intensity, well above the noise floor."""
MIN_FOREGROUND = 0.1
"""A patch with a smaller fraction of foreground samples is air."""
MAX_DRAWS = 8
"""Draws for one place in a batch; the last is taken even if it is air, so a source of air cannot hang."""


@dataclass(frozen=True)
class Batch:
    """One step's tensors: low_res (B, 1, h, w); upsampled, reference and target (B, 1, H, W); float32."""

    low_res: Tensor
    upsampled: Tensor
    reference: Tensor
    target: Tensor


Drawn = tuple[Tensor, ...] | FedminetError
"""A batch's tensors in the order of `Batch`, or what kept a worker from drawing it."""


SIGNAL_S = 0.2
"""Time for the signal of a process that ended to arrive."""


@dataclass(frozen=True)
class PlannedBatch:
    """number: k, counted from 0 over the whole run. slices: of the source, one for each place in the batch."""

    number: int
    slices: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class BatchRecipe:
    """What batches are made of. patch_px: edge of a high-resolution patch, or None for whole slices.

    seed, label: every random number is derived from them, the number of the batch and the place in it. trouble: of the
    references and inputs among the samples; None: none, and the samples are as they were before there was any. flips:
    flip and transpose samples at random (`minet_core.training.flips`). blur: of targets (`minet_core.training.blur`).
    """

    scale: int
    batch_size: int
    patch_px: int | None
    seed: int
    label: str
    trouble: TroubleSettings | None = None
    flips: bool = False
    blur: BlurSettings | None = None


def plan_batches(
    shapes: Sequence[tuple[int, int]], recipe: BatchRecipe, *, first: int = 0
) -> Iterator[PlannedBatch]:
    """Which slices make which batch, without end and without reading one.

    Slices come in a new random order each pass. Whole slices of several sizes are gathered into batches of one size
    each; what is left of a size waits for the next pass.

    Parameters
    ----------
    shapes
        (H, W) of every slice of the source.
    recipe
        What the batches are made of.
    first
        Number of the first batch that is given: the same one as if all before it had been.

    Returns
    -------
    Iterator of PlannedBatch
        In order of their numbers, from `first` on, without end.

    Raises
    ------
    NoScansFound, InvalidSetting
        For no slice, and for a patch edge that is no multiple of the scale.
    """
    require_drawable(len(shapes), scale=recipe.scale, patch_px=recipe.patch_px)
    multiple = 2 * recipe.scale
    sizes = [
        None if recipe.patch_px is not None else tuple(edge - edge % multiple for edge in shape)
        for shape in shapes
    ]  # of the prepared slices; None: all patches have one size
    if len(set(sizes)) == 1:
        return _planned(sizes, recipe, first=first)
    return itertools.islice(_planned(sizes, recipe), first, None)


def _planned(
    sizes: Sequence[tuple[int, ...] | None], recipe: BatchRecipe, *, first: int = 0
) -> Iterator[PlannedBatch]:
    """first: of slices of one size alone, whose batches follow each other through the passes."""
    waiting: defaultdict[tuple[int, ...] | None, list[int]] = defaultdict(list)
    first_pass, passed_over = divmod(first * recipe.batch_size, len(sizes))
    number = itertools.count(first)
    for pass_number in itertools.count(first_pass):
        generator = torch_generator(recipe.seed, recipe.label, "order", pass_number)
        order = torch.randperm(len(sizes), generator=generator).tolist()
        for index in order[passed_over if pass_number == first_pass else 0 :]:
            gathered = waiting[sizes[index]]
            gathered.append(index)
            if len(gathered) == recipe.batch_size:
                yield PlannedBatch(next(number), tuple(gathered))
                gathered.clear()


class PlannedSamples(Dataset[Drawn]):
    """The batches of a plan, drawn on request and in any order; may be pickled or forked.

    A failure that has a code is given as a value: a worker process would otherwise bury it in a traceback.

    Parameters
    ----------
    prepared
        Slices of the source.
    recipe
        What the batches are made of.
    places
        Of every batch, those that are drawn here; None for all.
    """

    def __init__(
        self, prepared: PreparedSlices, recipe: BatchRecipe, *, places: Sequence[int] | None = None
    ) -> None:
        self._prepared = prepared
        self._recipe = recipe
        self._places = range(recipe.batch_size) if places is None else places

    def __getitem__(self, planned: PlannedBatch) -> Drawn:
        try:
            with one_thread():
                batch = stack_samples([self._draw(planned, place) for place in self._places])
        except FedminetError as failure:
            return failure
        return batch.low_res, batch.upsampled, batch.reference, batch.target

    def _draw(self, planned: PlannedBatch, place: int) -> Sample:
        recipe, index = self._recipe, planned.slices[place]
        sourced: SourcedSamples = self._prepared
        if recipe.blur is not None:
            of_blur = torch_generator(recipe.seed, recipe.label, "blur", planned.number, place)
            sourced = BlurredSlices(
                self._prepared, recipe.blur, seed=recipe.seed, label=recipe.label, generator=of_blur
            )
        prepared: SampleSlices = sourced
        if recipe.trouble is not None:
            of_trouble = torch_generator(recipe.seed, recipe.label, "trouble", planned.number, place)
            prepared = TroubledSlices(sourced, recipe.trouble, of_trouble)
        flips = NO_FLIPS
        if recipe.flips:
            flips = draw_flips(torch_generator(recipe.seed, recipe.label, "flips", planned.number, place))
        if recipe.patch_px is None:
            return flip_slice(prepared[index], flips, scale=recipe.scale)
        generator = torch_generator(recipe.seed, recipe.label, "patch", planned.number, place)
        others = (int(torch.randint(len(self._prepared), (), generator=generator)) for _ in itertools.count())
        return draw_patch(
            prepared,
            itertools.chain([index], others),
            patch_px=recipe.patch_px,
            generator=generator,
            flips=flips,
        )


def drawn_batches(
    samples: PlannedSamples, plan: Iterable[PlannedBatch], *, n_workers: int = 0, pin_memory: bool = False
) -> Iterator[Batch]:
    """The batches of a plan in its order, the same for any number of worker processes.

    Parameters
    ----------
    samples
        What draws a planned batch.
    plan
        Which batches; of an endless plan as many as are asked for.
    n_workers
        Worker processes; 0 draws here.
    pin_memory
        Give them in memory from which CUDA copies while the processor goes on.

    Yields
    ------
    Batch
        On the CPU.

    Raises
    ------
    FedminetError
        What drawing raised, in a worker too. A worker's death shows as `named_worker_deaths` says.
    """
    loader = DataLoader(
        samples,
        batch_size=None,
        sampler=plan,
        num_workers=n_workers,
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # of the workers' own seeds, which nothing here uses
    )
    for drawn in loader:
        if isinstance(drawn, FedminetError):
            raise drawn
        yield Batch(*drawn)


@contextlib.contextmanager
def named_worker_deaths() -> Iterator[None]:
    """Name the death of a worker of `drawn_batches`.

    It shows as a broken connection to the worker, as an error that torch's signal handler raises in whatever runs
    just then, or as one after the other.

    Raises
    ------
    ProcessDied
        FM-S503, where one was killed.
    """
    try:
        yield
    except (RuntimeError, EOFError, ConnectionError) as failure:
        if isinstance(failure, RuntimeError) and "DataLoader worker" not in str(failure):
            raise
        with contextlib.suppress(RuntimeError):
            time.sleep(SIGNAL_S)
        raise ProcessDied(
            "a process that draws batches was ended",
            got=" ".join(str(failure).split()) or type(failure).__name__,
            action="Run the command again, with fewer --workers or with more memory and /dev/shm",
        ) from failure


def _as_it_is(drawn: Any) -> Any:
    return drawn


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread, as in a worker process: several round the sum over a large slice differently."""
    n_threads = torch.get_num_threads()
    if n_threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def draw_patch(
    prepared: SampleSlices,
    order: Iterator[int],
    *,
    patch_px: int,
    generator: torch.Generator,
    flips: Flips = NO_FLIPS,
) -> Sample:
    """A patch with foreground, of the next slice of `order` that gives one, within `MAX_DRAWS`.

    Parameters
    ----------
    prepared
        Whole slices by number.
    order
        Numbers of slices to try, `MAX_DRAWS` or more.
    patch_px : int, high-resolution pixels
        Edge of the patch, a multiple of the scale.
    generator
        Draws the place in each slice.
    flips
        Of whichever patch it is.

    Returns
    -------
    Sample
        (patch_px, patch_px) at high resolution; `mean` and `std` are those of the whole slice. The last draw is taken
        even if it is air.

    Raises
    ------
    ScanInvalid
        Where a slice is smaller than the patch.
    """
    for _ in range(MAX_DRAWS):
        sample = prepared[next(order)]
        patch = _cut(sample, patch_px=patch_px, scale=prepared.scale, generator=generator, flips=flips)
        foreground = patch.restore(patch.target) > AIR_LEVEL * patch.mean
        if foreground.float().mean() >= MIN_FOREGROUND:
            break
    return patch


def _cut(sample: Sample, *, patch_px: int, scale: int, generator: torch.Generator, flips: Flips) -> Sample:
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
    if flips != NO_FLIPS:
        return cut(sample, (top, left), (edge, edge), scale=scale, flips=flips)

    def part(image: Tensor, step: int) -> Tensor:
        return image[top * step : (top + edge) * step, left * step : (left + edge) * step]

    return sample.mapped(part, scale=scale)


def flip_slice(sample: Sample, flips: Flips, *, scale: int) -> Sample:
    """A whole slice, flipped. One that is no square is not transposed: slices of a batch have one size.

    Parameters
    ----------
    sample
        The slice.
    flips
        Which.
    scale
        Of the degradation.

    Returns
    -------
    Sample
        The same one for no flips.
    """
    if flips == NO_FLIPS:
        return sample
    h, w = sample.low_res.shape
    return cut(
        sample, (0, 0), (h, w), scale=scale, flips=flips if h == w else replace(flips, transposed=False)
    )


def stack_samples(samples: list[Sample]) -> Batch:
    """A batch of samples of one size.

    Parameters
    ----------
    samples
        At least one; h, w and H, W are those of all.

    Returns
    -------
    Batch
        B is their number.
    """
    return Batch(
        low_res=torch.stack([sample.low_res for sample in samples])[:, None],
        upsampled=torch.stack([sample.upsampled for sample in samples])[:, None],
        reference=torch.stack([sample.reference for sample in samples])[:, None],
        target=torch.stack([sample.target for sample in samples])[:, None],
    )


def random_batch(patch_px: int, *, scale: int, batch_size: int) -> Batch:
    """A batch of noise, to measure a step with: what a step takes does not depend on the values.

    Parameters
    ----------
    patch_px : int, high-resolution pixels
        Edge of the patches.
    scale
        Factor between the resolutions; divides `patch_px`.
    batch_size
        B.

    Returns
    -------
    Batch
        Standard normal, the same at every call.
    """
    generator = torch_generator(0, "bench", "train")
    edge = patch_px // scale
    low_res = torch.randn(batch_size, 1, edge, edge, generator=generator)
    upsampled, reference, target = (
        torch.randn(batch_size, 1, edge * scale, edge * scale, generator=generator) for _ in range(3)
    )
    return Batch(low_res=low_res, upsampled=upsampled, reference=reference, target=target)
