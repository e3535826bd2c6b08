"""`fedminet bench steps`: what a training step of each method takes on this machine, in time and in GPU memory.

The batch is noise and is there before the step: what it takes to read and to cut scans is not in the figures. One call
measures several batch sizes, and beside each what the machine reaches in bare convolutions of the preset's width, frame
and number type: forward and backward, which is the roof that a step's counted FLOPs are held against.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from fedminet.experiment.methods import METHODS, model_of
from minet_core.models.activation_checkpointing import recompute
from minet_core.models.registry import build_model
from minet_core.settings.federation import PRESETS
from minet_core.training.batches import random_batch
from minet_core.training.device import autocast_dtype_for, preferred_device
from minet_core.training.loop import StepPlan, adam, train_steps

LEARNING_RATE = 1e-6
"""Noise teaches nothing: at a preset's own rate a large model could lose the image, and training would stop."""

ROOF_RUNS, CONVOLUTIONS_A_RUN = 5, 10
"""The first run loads the kernels; the best counts. On a busy CPU it says little: other processes take part in it."""

UNTIMED_STEPS = 3
"""In them CUDA loads its kernels and Adam makes its moments."""


@dataclass(frozen=True)
class StepTimes:
    """A method's steps in one way. seconds: wall time of each, None where the GPU's memory does not hold one.

    peak_bytes: most of the GPU's memory that torch had given out; None on the CPU. flops: of a step, those that are
    made again in the backward pass included; None where no step fits. roof: FLOPs a second of bare convolutions.
    """

    method: str
    n_parameters: int
    batch_size: int
    recomputed: bool
    seconds: tuple[float, ...] | None
    peak_bytes: int | None
    flops: int | None
    roof: float


def bench_steps(
    methods: Sequence[str],
    *,
    preset: str,
    scale: int,
    edge_px: int,
    batch_sizes: Sequence[int],
    n_steps: int,
    recomputed: Sequence[bool] = (False, True),
) -> list[StepTimes]:
    """Time `n_steps` steps of each method, in the preset's size and on the preferred device.

    methods: learned ones. edge_px: of the high-resolution patch or slice, a multiple of `scale`. batch_sizes: patches
    or slices of a step, each measured by itself.
    """
    width = PRESETS[preset][0].n_features
    roofs = {size: roof_flops_per_s(width, edge_px, size) for size in batch_sizes}
    return [
        _timed(
            method,
            preset=preset,
            scale=scale,
            edge_px=edge_px,
            batch=(size, roofs[size]),
            n_steps=n_steps,
            recomputed=one,
        )
        for method in methods
        for size in batch_sizes
        for one in recomputed
    ]


def roof_flops_per_s(width: int, edge_px: int, batch_size: int) -> float:
    """FLOPs a second of bare 3 x 3 convolutions on the preferred device, forward and backward, in its number type.

    width: channels in and out. The best of `ROOF_RUNS`: what the machine can do.
    """
    device = preferred_device()
    dtype = autocast_dtype_for(device) or torch.float32
    image, gradient = (
        torch.randn(batch_size, width, edge_px, edge_px, device=device, dtype=dtype).to(
            memory_format=torch.channels_last
        )
        for _ in range(2)
    )
    weight = torch.randn(width, width, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    sides = ([width], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, True, False])
    seconds = []
    for _ in range(ROOF_RUNS):
        began = time.perf_counter()
        for _ in range(CONVOLUTIONS_A_RUN):
            functional.conv2d(image, weight, padding=1)
            torch.ops.aten.convolution_backward(gradient, image, weight, *sides)
        _wait_for(device)
        seconds.append(time.perf_counter() - began)
    flops = 3 * 2 * 9 * width**2 * edge_px**2 * batch_size * CONVOLUTIONS_A_RUN
    return flops / min(seconds)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _timed(
    method: str,
    *,
    preset: str,
    scale: int,
    edge_px: int,
    batch: tuple[int, float],
    n_steps: int,
    recomputed: bool,
) -> StepTimes:
    """batch: its size, and the roof of that size."""
    device = preferred_device()
    settings = PRESETS[preset][1].model_copy(update={"learning_rate": LEARNING_RATE})
    model = build_model(model_of(method, preset=preset, scale=scale).model_dump(), scale=scale).to(device)
    recompute(model, recomputed)
    optimizer = adam(model)
    batches = itertools.repeat(random_batch(edge_px, scale=scale, batch_size=batch[0]))
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def step(number: int) -> float:
        began = time.perf_counter()
        train_steps(
            model,
            batches,
            StepPlan(
                settings=settings,
                first_step=number,
                n_steps=1,
                total_steps=UNTIMED_STEPS + n_steps,
                autocast_dtype=autocast_dtype_for(device),
            ),
            optimizer=optimizer,
        )
        _wait_for(device)
        return time.perf_counter() - began

    counter = FlopCounterMode(display=False)
    try:
        with counter:
            step(0)
        seconds = tuple(step(number) for number in range(1, UNTIMED_STEPS + n_steps))[UNTIMED_STEPS - 1 :]
    except torch.cuda.OutOfMemoryError:
        seconds = None
    return StepTimes(
        method=method,
        n_parameters=sum(p.numel() for p in model.parameters()),
        batch_size=batch[0],
        recomputed=recomputed,
        seconds=seconds,
        peak_bytes=torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
        flops=None if seconds is None else counter.get_total_flops(),
        roof=batch[1],
    )


def steps_table(times: Sequence[StepTimes]) -> str:
    """The times as Markdown: of each step the median, with the least and the most; of the roof by the median."""
    lines = [
        "| method | parameters | backward pass | batch | ms a step | of each | of the roof | GPU memory's most |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in times:
        way = "recomputed" if one.recomputed else "all stored"
        peak = "-" if one.peak_bytes is None else f"{one.peak_bytes / 1e9:.1f} GB"
        each, share = "-", "-"
        if one.seconds is not None and one.flops is not None:
            median = statistics.median(one.seconds)
            each, share = f"{1e3 * median / one.batch_size:,.1f}", f"{one.flops / median / one.roof:.0%}"
        figures = (way, str(one.batch_size), _milliseconds(one.seconds), each, share, peak)
        lines.append(f"| {' | '.join((METHODS[one.method].label, f'{one.n_parameters:,}', *figures))} |")
    return "\n".join(lines)


def _milliseconds(seconds: Sequence[float] | None) -> str:
    if seconds is None:
        return "does not fit"
    middle, least, most = (1e3 * of(seconds) for of in (statistics.median, min, max))
    return f"{middle:,.1f} ({least:,.1f} to {most:,.1f})"
