"""Batches by their number, for training that is interrupted, read ahead for, and shared between processes.

Batch k depends on the seed and on k alone. So a run goes on at any step as if it had never stopped; worker processes
may read ahead as far as they like; and of several processes that train together, each draws its places of every batch.
`minet_core.training.batches.draw_batches` draws from one generator instead, each batch after the one before.

H, W high-resolution row and column.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from minet_core.errors import FedminetError, ProcessDied
from minet_core.seeds import torch_generator
from minet_core.training.batches import (
    Batch,
    PreparedSlices,
    SliceSource,
    draw_patch,
    require_drawable,
    stack_samples,
)
from minet_core.training.samples import Sample

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

    seed, label: every random number is derived from them, the number of the batch and the place in it.
    """

    scale: int
    batch_size: int
    patch_px: int | None
    seed: int
    label: str


def plan_batches(shapes: Sequence[tuple[int, int]], recipe: BatchRecipe) -> Iterator[PlannedBatch]:
    """Which slices make which batch, without end and without reading one.

    shapes: (H, W) of every slice of the source. Slices come in a new random order each pass. Whole slices of several
    sizes are gathered into batches of one size each; what is left of a size waits for the next pass.
    Raises NothingFound for no slice, InvalidSetting for a patch edge that is no multiple of the scale.
    """
    require_drawable(len(shapes), scale=recipe.scale, patch_px=recipe.patch_px)
    multiple = 2 * recipe.scale
    sizes = [
        None if recipe.patch_px is not None else tuple(edge - edge % multiple for edge in shape)
        for shape in shapes
    ]  # of the prepared slices; None: all patches have one size
    return _planned(sizes, recipe)


def _planned(sizes: Sequence[tuple[int, ...] | None], recipe: BatchRecipe) -> Iterator[PlannedBatch]:
    waiting: defaultdict[tuple[int, ...] | None, list[int]] = defaultdict(list)
    number = itertools.count()
    for pass_number in itertools.count():
        generator = torch_generator(recipe.seed, recipe.label, "order", pass_number)
        for index in torch.randperm(len(sizes), generator=generator).tolist():
            gathered = waiting[sizes[index]]
            gathered.append(index)
            if len(gathered) == recipe.batch_size:
                yield PlannedBatch(next(number), tuple(gathered))
                gathered.clear()


class PlannedSamples(Dataset[Drawn]):
    """The batches of a plan, drawn on request and in any order; may be pickled or forked.

    places: of every batch, those that are drawn here. cache_bytes: memory for prepared slices.
    A failure that has a code is given as a value: a worker process would otherwise bury it in a traceback.
    """

    def __init__(
        self, source: SliceSource, recipe: BatchRecipe, *, places: Sequence[int], cache_bytes: int
    ) -> None:
        self._prepared = PreparedSlices(source, scale=recipe.scale, cache_bytes=cache_bytes)
        self._recipe = recipe
        self._places = places

    def __getitem__(self, planned: PlannedBatch) -> Drawn:
        try:
            with one_thread():
                batch = stack_samples([self._draw(planned, place) for place in self._places])
        except FedminetError as failure:
            return failure
        return batch.low_res, batch.upsampled, batch.reference, batch.target

    def _draw(self, planned: PlannedBatch, place: int) -> Sample:
        recipe, index = self._recipe, planned.slices[place]
        if recipe.patch_px is None:
            return self._prepared[index]
        generator = torch_generator(recipe.seed, recipe.label, "patch", planned.number, place)
        others = (int(torch.randint(len(self._prepared), (), generator=generator)) for _ in itertools.count())
        return draw_patch(
            self._prepared, itertools.chain([index], others), patch_px=recipe.patch_px, generator=generator
        )


def drawn_batches(
    samples: PlannedSamples, plan: Iterable[PlannedBatch], *, n_workers: int, pin_memory: bool
) -> Iterator[Batch]:
    """The batches of `plan` in its order, the same for any number of worker processes; 0 draws them here.

    pin_memory: give them in memory from which CUDA copies while the processor goes on.
    Raises what drawing raises; see also `named_worker_deaths`.
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
    """Raise ProcessDied (FM-S503) where a worker of `drawn_batches` was killed.

    It shows as a broken connection to the worker, as an error that torch's signal handler raises in whatever runs
    just then, or as one after the other.
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
