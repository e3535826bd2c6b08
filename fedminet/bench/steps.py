"""`fedminet bench steps`: what a training step of each method takes on this machine, in time and in GPU memory.

The batch is noise and is there before the step: what it takes to read and to cut scans is not in the figures. One call
measures several batch sizes and ways of making a step (`step_times.py`), another commit's code beside, the losses of
a short training in each, and what the machine reaches in bare convolutions of the preset's width, frame and number
type: forward and backward, which is the roof that a step's counted FLOPs are held against.
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fedminet.bench.step_times import RECOMPUTED, STORED, LossCurve, StepTimes, measure
from fedminet.experiment.methods import METHODS
from minet_core.errors import FileMissing, ProcessDied
from minet_core.runtime.files.atomic_write import write_json, write_text
from minet_core.settings.federation import PRESETS
from minet_core.training.device import autocast_dtype_for, preferred_device

ROOF_RUNS, CONVOLUTIONS_A_RUN = 5, 10
"""The first run loads the kernels; the best counts. On a busy CPU it says little: other processes take part in it."""

THIS, BASELINE = "this code", "baseline"

SIDE = Path(__file__).with_name("step_times.py")

SEEDS = (0, 1, 2)
"""Of the weights that a curve begins with: how far their ends lie apart is the noise that ways are held against."""

PHANTOM_SEED = 71
"""The patient whose slices the curves are trained on: one of those that choices are made by."""

CURVE_SLICES = 4

COLUMNS = (
    *("method", "parameters", "code", "way", "batch", "ms a step", "of each"),
    *("first step, s", "of the roof", "GPU memory's most"),
)


@dataclass(frozen=True, kw_only=True)
class StepsAsked:
    """What is measured. edge_px: of the high-resolution patch or slice, a multiple of `scale`.

    methods: learned ones. batch_sizes: patches or slices of a step, each measured by itself. baseline: a checkout of
    another commit, which is measured in the ways that it knows. curve_steps: of each short training; 0 makes none.
    """

    methods: Sequence[str]
    preset: str
    scale: int
    edge_px: int
    batch_sizes: Sequence[int]
    n_steps: int
    ways: Sequence[str] = (STORED, RECOMPUTED)
    baseline: Path | None = None
    curve_steps: int = 0


@dataclass(frozen=True)
class StepsFound:
    """roofs: by batch size, FLOPs a second of bare convolutions."""

    times: list[StepTimes]
    curves: list[LossCurve]
    roofs: dict[int, float]


def bench_steps(asked: StepsAsked, *, seen: Callable[[StepsFound], None] | None = None) -> StepsFound:
    """Measure on the preferred device.

    seen: called with what there is after each result, so that a call that is ended leaves what it found. Raises
    FileMissing (FM-C103) where the baseline is not there, ProcessDied (FM-S503) where its process ended.
    """
    if asked.baseline is not None and not (asked.baseline / "minet_core").is_dir():
        raise FileMissing("the baseline is no checkout of fedminet", got=asked.baseline)
    width = PRESETS[asked.preset][0].n_features
    roofs = {size: roof_flops_per_s(width, asked.edge_px, size) for size in asked.batch_sizes}
    found = StepsFound([], [], roofs)
    with tempfile.TemporaryDirectory(prefix="bench-steps-") as folder:
        batches = _written_batches(Path(folder, "batches.pt"), asked) if asked.curve_steps else None
        for _, one in _results(asked, batches):
            if isinstance(one, StepTimes):
                found.times.append(one)
            else:
                found.curves.append(one)
            if seen is not None:
                seen(found)
    return found


def _results(asked: StepsAsked, batches: Path | None) -> Iterator[tuple[str, StepTimes | LossCurve]]:
    yield from measure(_options(asked, THIS, batches))
    if asked.baseline is not None:
        ways = [way for way in asked.ways if way in (STORED, RECOMPUTED)]
        yield from _measured_of(asked.baseline, _options(asked, BASELINE, batches) | {"ways": ways})


@dataclass(frozen=True)
class _PhantomSlices:
    """Pairs that are in memory, as a source of slices."""

    pairs: list[tuple[NDArray[Any], NDArray[Any]]]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        return [(len(target), len(target[0])) for target, _ in self.pairs]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        return self.pairs[index]


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
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    flops = 3 * 2 * 9 * width**2 * edge_px**2 * batch_size * CONVOLUTIONS_A_RUN
    return flops / min(seconds)


def steps_table(found: StepsFound) -> str:
    """The times as Markdown: of each step the median, with the least and the most; of the roof by the median."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for one in found.times:
        peak = "-" if one.peak_bytes is None else f"{one.peak_bytes / 1e9:.1f} GB"
        each, share, first = "-", "-", "-"
        if one.seconds is not None and one.flops is not None and one.first_s is not None:
            median = statistics.median(one.seconds)
            share = f"{one.flops / median / found.roofs[one.batch_size]:.0%}"
            each, first = f"{1e3 * median / one.batch_size:,.1f}", f"{one.first_s:,.1f}"
        figures = (
            one.code,
            one.way,
            str(one.batch_size),
            one.failure or _milliseconds(one.seconds),
            each,
            first,
            share,
            peak,
        )
        lines.append(f"| {' | '.join((METHODS[one.method].label, f'{one.n_parameters:,}', *figures))} |")
    return "\n".join(lines) + _curves_table(found.curves)


def _curves_table(curves: Sequence[LossCurve]) -> str:
    """The curves' ends, and whether each way's mean lies within the spread of this code with all stored."""
    if not curves:
        return ""
    lines = [
        "",
        "",
        f"Losses of {len(curves[0].losses)} steps on phantoms: mean of the last quarter, {len(SEEDS)} seeds.",
        "",
        "| method | code | way | mean | least | most | off the first row, in its spread |",
        "|---|---|---|---|---|---|---|",
    ]
    ends: dict[tuple[str, str, str], list[float]] = {}
    for one in curves:
        ends.setdefault((one.method, one.code, one.way), []).append(one.end)
    first_of: dict[str, list[float]] = {}
    for (method, code, way), own in ends.items():
        first = first_of.setdefault(method, own)
        spread, off = max(first) - min(first), abs(statistics.fmean(own) - statistics.fmean(first))
        figures = [f"{value:.4f}" for value in (statistics.fmean(own), min(own), max(own))]
        figures.append(f"{off / spread:.2f}" if spread > 0 else "-")
        lines.append(f"| {' | '.join((METHODS[method].label, code, way, *figures))} |")
    return "\n".join(lines)


def write_steps(out: Path, found: StepsFound) -> None:
    """OUT.md and OUT.json."""
    write_text(out.with_suffix(".md"), steps_table(found) + "\n")
    rows = {
        name: [asdict(one) for one in of] for name, of in (("times", found.times), ("curves", found.curves))
    }
    write_json(out.with_suffix(".json"), rows | {"roofs": found.roofs})


def _options(asked: StepsAsked, code: str, batches: Path | None) -> dict[str, Any]:
    return {
        "code": code,
        "methods": list(asked.methods),
        "preset": asked.preset,
        "scale": asked.scale,
        "edge_px": asked.edge_px,
        "batch_sizes": list(asked.batch_sizes),
        "n_steps": asked.n_steps,
        "ways": list(asked.ways),
        "batches": None if batches is None else str(batches),
        "seeds": SEEDS,
    }


def _written_batches(path: Path, asked: StepsAsked) -> Path:
    """The curves' batches, the same for every side: patches of a phantom, of the first batch size."""
    from minet_core.phantom.acquisition import SITES
    from minet_core.phantom.patient import make_patient, with_slices
    from minet_core.training.batches import BatchRecipe, PlannedSamples, plan_batches
    from minet_core.training.samples import PreparedSlices

    scan = make_patient(with_slices(SITES["sms"], CURVE_SLICES), seed=PHANTOM_SEED)
    slices = _PhantomSlices(
        [(np.abs(one), np.abs(two)) for one, two in zip(scan.target.array, scan.reference.array, strict=True)]
    )
    recipe = BatchRecipe(
        scale=asked.scale, batch_size=asked.batch_sizes[0], patch_px=asked.edge_px, seed=1, label="bench"
    )
    samples = PlannedSamples(PreparedSlices(slices, scale=asked.scale, cache_bytes=2**30), recipe)
    planned = itertools.islice(plan_batches(slices.shapes, recipe), asked.curve_steps)
    torch.save([samples[one] for one in planned], path)
    return path


def _measured_of(checkout: Path, options: Mapping[str, Any]) -> Iterator[tuple[str, StepTimes | LossCurve]]:
    """The same in a process of its own, whose code is the checkout's."""
    command = [sys.executable, str(SIDE), str(checkout.resolve()), json.dumps(options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=checkout) as side:
        assert side.stdout is not None
        for line in side.stdout:
            for name, fields in json.loads(line).items():
                yield name, (StepTimes if name == "times" else LossCurve)(**fields)
    if side.returncode:
        raise ProcessDied(
            "the baseline's process ended", got=f"exit code {side.returncode}", action="See its output above"
        )


def _milliseconds(seconds: Sequence[float] | None) -> str:
    if seconds is None:
        return "does not fit"
    middle, least, most = (1e3 * of(seconds) for of in (statistics.median, min, max))
    return f"{middle:,.1f} ({least:,.1f} to {most:,.1f})"
