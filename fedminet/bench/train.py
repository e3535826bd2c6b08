"""`fedminet bench train`: the training step against the equations written out, interleaved.

The literal model is the tests' oracle in float32, with plain NCHW convolutions and Adam. It is no part of an
installation, so the comparison runs from a checkout.
"""

from __future__ import annotations

import importlib.util
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from minet_core.errors import FileMissing
from minet_core.models.loss import reconstruction_loss
from minet_core.models.minet.model import MINet
from minet_core.models.registry import build_model
from minet_core.settings.federation import ModelSettings, TrainingSettings
from minet_core.training.batches import Batch, random_batch
from minet_core.training.device import autocast_dtype_for
from minet_core.training.loop import StepPlan, train_steps

ORACLE = Path(__file__).resolve().parents[2] / "tests" / "oracles" / "minet_literal.py"

ALPHA, BETA, LEARNING_RATE = 0.9, 0.1, 1e-4


@dataclass(frozen=True)
class BenchResult:
    """Median wall seconds of a training step of each model, and literal / fast."""

    fast_s: float
    literal_s: float
    n_threads: int
    dtype: str

    @property
    def ratio(self) -> float:
        return self.literal_s / self.fast_s


def bench_train(
    *,
    model: ModelSettings,
    scale: int = 2,
    patch_px: int = 48,
    batch_size: int = 8,
    n_rounds: int = 20,
    autocast: bool = True,
    write: Callable[[str], None] = print,
) -> BenchResult:
    """Time a training step of `MINet` and of the literal model in turn, and print both with their ratio.

    One step of each a round, after one unmeasured round: what else the machine does meets both alike. The
    weights and the batch are the same at the start. Raises FileMissing (FM-C103) where there is no checkout.
    """
    device = torch.device("cpu")
    dtype = autocast_dtype_for(device) if autocast else None
    fast = _model(model, scale)
    batch = random_batch(patch_px, scale=scale, batch_size=batch_size)
    run_literal = _literal_step(_model(model, scale), batch, scale=scale)
    optimizer = torch.optim.Adam(fast.parameters(), lr=0.0, fused=True)
    settings = TrainingSettings(
        learning_rate=LEARNING_RATE, warmup_steps=0, decay_fraction=0.0, clip_norm=1.0, alpha=ALPHA, beta=BETA
    )

    def run_fast() -> None:
        train_steps(
            fast,
            itertools.repeat(batch),
            StepPlan(settings=settings, n_steps=1, total_steps=1, autocast_dtype=dtype),
            optimizer=optimizer,
        )

    fast_s, literal_s = _interleaved(run_fast, run_literal, n_rounds=n_rounds)
    result = BenchResult(fast_s, literal_s, torch.get_num_threads(), str(dtype or torch.float32)[6:])
    write(
        f"{model.n_groups} groups, {model.n_blocks} blocks, {model.n_features} features, "
        f"{batch_size} x {patch_px} px, {scale}x, {n_rounds} interleaved rounds, {result.n_threads} threads"
    )
    write(f"literal  float32 NCHW              {1e3 * literal_s:9.1f} ms a step")
    write(f"fedminet {result.dtype + ' channels_last':<25} {1e3 * fast_s:9.1f} ms a step")
    write(f"ratio    {result.ratio:.2f}")
    return result


def _interleaved(
    first: Callable[[], None], second: Callable[[], None], *, n_rounds: int
) -> tuple[float, float]:
    """Median seconds of each, run in turn; the first round is not counted."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(n_rounds + 1):
        for run, taken in zip((first, second), seconds, strict=True):
            started = time.perf_counter()
            run()
            taken.append(time.perf_counter() - started)
    return statistics.median(seconds[0][1:]), statistics.median(seconds[1][1:])


def _literal_step(model: MINet, batch: Batch, *, scale: int) -> Callable[[], None]:
    literal = _load_oracle()
    weights = dict(model.named_parameters())
    optimizer = torch.optim.Adam(weights.values(), lr=LEARNING_RATE)
    skip = batch.upsampled if model.bicubic_skip else None

    def run() -> None:
        images = literal.minet(weights, batch.low_res, batch.reference, skip, scale=scale)
        loss = reconstruction_loss(images, batch.target, batch.reference, alpha=ALPHA, beta=BETA)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()

    return run


def _load_oracle() -> ModuleType:
    if not ORACLE.is_file():
        raise FileMissing(
            "the literal model is missing", got=ORACLE, action="Run the benchmark from a checkout of fedminet"
        )
    specification = importlib.util.spec_from_file_location("minet_literal", ORACLE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def _model(settings: ModelSettings, scale: int) -> MINet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(settings.model_dump(), scale=scale)
    assert isinstance(model, MINet)
    return model
