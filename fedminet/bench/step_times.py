"""What a training step takes in one way of making it, and the losses of a short training in that way.

    python step_times.py CHECKOUT OPTIONS

As a program it measures another checkout's minet_core, the folder CHECKOUT, and writes a line of JSON for each result:
{"times"} or {"losses"}, with the fields of `StepTimes` or of `LossCurve`. It asks of that code nothing that the
first commit which it is held against, c98a30d, does not have.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

STORED, RECOMPUTED, COMPILED, GRAPHS = "all stored", "recomputed", "compiled", "CUDA graphs"
WAYS = (STORED, RECOMPUTED, COMPILED, GRAPHS)
"""What the forward pass keeps for the backward pass: all, or each group's input. By torch.compile: all that its own
partition keeps, with each step's kernels sent one by one, or by CUDA graphs, which on a CPU are none."""

COMPILERS: dict[str, dict[str, Any]] = {
    COMPILED: {"mode": "default", "dynamic": False},
    GRAPHS: {"mode": "reduce-overhead", "dynamic": False},
}

LEARNING_RATE = 1e-6
"""Noise teaches nothing: at a preset's own rate a large model could lose the image, and training would stop."""

UNTIMED_STEPS = 3
"""In them CUDA loads its kernels, Adam makes its moments, and a compiler compiles and records its graphs."""


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """A method's steps in one way. code: whose. seconds: wall time of each, None where the memory does not hold one.

    first_s: of the first step, in which a compiler compiles. peak_bytes: most of the GPU's memory that torch had given
    out; None on the CPU. flops: of a step, those that are made again in the backward pass included; None where no step
    fits. failure: what a compiler ended with, which ends no comparison.
    """

    code: str
    method: str
    n_parameters: int
    batch_size: int
    way: str
    seconds: Sequence[float] | None
    first_s: float | None
    peak_bytes: int | None
    flops: int | None
    failure: str | None = None


@dataclass(frozen=True, kw_only=True)
class LossCurve:
    """A short training of `steps` in one way, from the weights of a seed. losses: of each step."""

    code: str
    method: str
    way: str
    seed: int
    losses: Sequence[float]

    @property
    def end(self) -> float:
        """The mean of the last quarter."""
        return statistics.fmean(self.losses[-max(1, len(self.losses) // 4) :])


def time_steps(method: str, way: str, batch_size: int, options: Mapping[str, Any]) -> StepTimes:
    """Time steps on noise, on the preferred device.

    options: code, preset, scale, edge_px, n_steps.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from minet_core.training.batches import random_batch
    from minet_core.training.device import preferred_device

    device = preferred_device()
    on_gpu = device.type == "cuda"
    model = _model(method, way, options).to(device)
    noise = random_batch(options["edge_px"], scale=options["scale"], batch_size=batch_size)
    take_steps = _step_taker(model, itertools.repeat(noise), options, learning_rate=LEARNING_RATE)
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def step() -> float:
        began = time.perf_counter()
        take_steps(1)
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - began

    counter = FlopCounterMode(display=False)
    first_s, seconds, failure = None, None, None
    try:
        with counter:  # of the code as it is written: what is compiled cannot be counted
            step()
        if way in COMPILERS:
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            torch.compiler.reset()  # else another batch would be compiled once more, for any size
            model.compile(**COMPILERS[way])
        first_s, *others = [step() for _ in range(UNTIMED_STEPS + options["n_steps"])]
        seconds = others[UNTIMED_STEPS - 1 :]
    except torch.cuda.OutOfMemoryError:
        first_s = None
    except RuntimeError as ended:
        if way not in COMPILERS:
            raise
        first_s, failure = None, type(ended).__name__
    return StepTimes(
        code=options["code"],
        method=method,
        n_parameters=sum(p.numel() for p in model.parameters()),
        batch_size=batch_size,
        way=way,
        seconds=seconds,
        first_s=first_s,
        peak_bytes=torch.cuda.max_memory_allocated() if on_gpu else None,
        flops=None if seconds is None else counter.get_total_flops(),
        failure=failure,
    )


def train_on(method: str, way: str, batches: Path, seed: int, options: Mapping[str, Any]) -> LossCurve:
    """Train at the preset's own rate on what a file holds, a step a batch, from the weights of `seed`.

    batches: as `torch.save` wrote them, a list of the four tensors of a `Batch`. options: as in `time_steps`.
    """
    import torch

    from minet_core.settings.federation import PRESETS
    from minet_core.training.batches import Batch
    from minet_core.training.device import preferred_device

    held = torch.load(batches, weights_only=True)  # tensors alone, of a file that the bench wrote itself
    torch.manual_seed(seed)
    model = _model(method, way, options).to(preferred_device())
    if way in COMPILERS:
        model.compile(**COMPILERS[way])
    rate = PRESETS[options["preset"]][1].learning_rate
    take_steps = _step_taker(model, (Batch(*one) for one in held), options, learning_rate=rate)
    losses = [take_steps(1) for _ in held]
    return LossCurve(code=options["code"], method=method, way=way, seed=seed, losses=losses)


def _model(method: str, way: str, options: Mapping[str, Any]) -> Any:
    from fedminet.experiment.methods import model_of
    from minet_core.models.activation_checkpointing import recompute
    from minet_core.models.registry import build_model

    settings = model_of(method, preset=options["preset"], scale=options["scale"])
    model = build_model(settings.model_dump(), scale=options["scale"])
    recompute(model, way == RECOMPUTED)
    return model


def _step_taker(
    model: Any, batches: Iterator[Any], options: Mapping[str, Any], *, learning_rate: float
) -> Any:
    """Steps of the checkout's own training loop, by one Adam: (n) -> the last one's loss."""
    from minet_core.settings.federation import PRESETS
    from minet_core.training.device import autocast_dtype_for, device_of
    from minet_core.training.loop import StepPlan, adam, train_steps

    optimizer = adam(model)
    settings = PRESETS[options["preset"]][1].model_copy(
        update={"learning_rate": learning_rate, "warmup_steps": 0, "decay_fraction": 0.0}
    )

    def take_steps(n_steps: int) -> float:
        plan = StepPlan(
            settings=settings,
            n_steps=n_steps,
            total_steps=n_steps,
            autocast_dtype=autocast_dtype_for(device_of(model)),
        )
        return float(train_steps(model, batches, plan, optimizer=optimizer).loss_last)

    return take_steps


def measure(options: Mapping[str, Any]) -> Iterator[tuple[str, StepTimes | LossCurve]]:
    """All that is asked for, by the names under which a line gives it.

    options: those of `time_steps`, methods, batch_sizes, ways, and for losses batches (a path or None) and seeds.
    """
    for method in options["methods"]:
        ways = dict.fromkeys(options["ways"], True)
        for batch_size in options["batch_sizes"]:
            for way in ways:
                times = time_steps(method, way, batch_size, options)
                ways[way] = times.failure is None
                yield "times", times
        for way in (way for way, works in ways.items() if works and options["batches"]):
            for seed in options["seeds"]:
                yield "losses", train_on(method, way, Path(options["batches"]), seed, options)


if __name__ == "__main__":
    sys.path[0] = sys.argv[1]
    for name, result in measure(json.loads(sys.argv[2])):
        print(json.dumps({name: asdict(result)}), flush=True)
