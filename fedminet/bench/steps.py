"""`fedminet bench steps`: what a training step of each method takes on this machine, in time and in GPU memory.

The batch is noise and is there before the step: what it takes to read and to cut scans is not in the figures.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fedminet.experiment.methods import METHODS, model_of
from minet_core.models.activation_checkpointing import recompute
from minet_core.models.registry import build_model
from minet_core.settings.federation import PRESETS
from minet_core.training.batches import random_batch
from minet_core.training.device import autocast_dtype_for, preferred_device
from minet_core.training.loop import StepPlan, adam, train_steps

LEARNING_RATE = 1e-6
"""Noise teaches nothing: at a preset's own rate a large model could lose the image, and training would stop."""

UNTIMED_STEPS = 3
"""In them CUDA loads its kernels and Adam makes its moments."""


@dataclass(frozen=True)
class StepTimes:
    """A method's steps in one way. seconds: wall time of each, None where the GPU's memory does not hold one.

    peak_bytes: most of the GPU's memory that torch had given out; None on the CPU.
    """

    method: str
    n_parameters: int
    recomputed: bool
    seconds: tuple[float, ...] | None
    peak_bytes: int | None


def bench_steps(
    methods: Sequence[str],
    *,
    preset: str,
    scale: int,
    edge_px: int,
    batch_size: int,
    n_steps: int,
    recomputed: Sequence[bool] = (False, True),
) -> list[StepTimes]:
    """Time `n_steps` steps of each method, in the preset's size and on the preferred device.

    methods: learned ones. edge_px: of the high-resolution patch or slice, a multiple of `scale`.
    """
    return [
        _timed(
            method,
            preset=preset,
            scale=scale,
            edge_px=edge_px,
            batch_size=batch_size,
            n_steps=n_steps,
            recomputed=one,
        )
        for method in methods
        for one in recomputed
    ]


def _timed(
    method: str, *, preset: str, scale: int, edge_px: int, batch_size: int, n_steps: int, recomputed: bool
) -> StepTimes:
    device = preferred_device()
    settings = PRESETS[preset][1].model_copy(update={"learning_rate": LEARNING_RATE})
    model = build_model(model_of(method, preset=preset, scale=scale).model_dump(), scale=scale).to(device)
    recompute(model, recomputed)
    optimizer = adam(model)
    batches = itertools.repeat(random_batch(edge_px, scale=scale, batch_size=batch_size))
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
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    try:
        seconds = tuple(step(number) for number in range(UNTIMED_STEPS + n_steps))[UNTIMED_STEPS:]
    except torch.cuda.OutOfMemoryError:
        seconds = None
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
    return StepTimes(method, sum(p.numel() for p in model.parameters()), recomputed, seconds, peak)


def steps_table(times: Sequence[StepTimes]) -> str:
    """The times as Markdown: of each step the median, with the least and the most."""
    lines = [
        "| method | parameters | in the backward pass | ms a step | GPU memory at its peak |",
        "|---|---|---|---|---|",
    ]
    for one in times:
        way = "recomputed" if one.recomputed else "all stored"
        peak = "-" if one.peak_bytes is None else f"{one.peak_bytes / 1e9:.1f} GB"
        row = (METHODS[one.method].label, f"{one.n_parameters:,}", way, _milliseconds(one.seconds), peak)
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def _milliseconds(seconds: Sequence[float] | None) -> str:
    if seconds is None:
        return "does not fit"
    middle, least, most = (1e3 * of(seconds) for of in (statistics.median, min, max))
    return f"{middle:,.1f} ({least:,.1f} to {most:,.1f})"
