"""One of several processes under torch's launcher, for a test: plain gradient descent on shared batches.

    torchrun --nproc-per-node N -m tests.support.gradient_descent FOLDER BATCH_SIZE

Without a launcher it is one process with the whole batch. FOLDER has the weights of a descent that keeps its groups'
features, and of one that computes them again.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from fedminet.centralised.ranks import Ranks, exit_worker, ranks_of_launcher
from minet_core.models.activation_checkpointing import recompute
from minet_core.protocol.exchange_plan import initial_weights
from minet_core.settings.federation import TrainingSettings
from minet_core.training.batches import BatchRecipe, PlannedSamples, drawn_batches, plan_batches
from minet_core.training.device import to_channels_last
from minet_core.training.loop import StepPlan, train_steps
from minet_core.training.samples import PreparedSlices
from minet_core.weights.manifest import learnable
from tests.faults.tiny_sites import tiny_federation

N_STEPS, LEARNING_RATE = 4, 0.1


class MadeSlices:
    """Twelve slices made from their numbers."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        target, reference = np.random.default_rng(index).random((2, 24, 24), dtype=np.float32)
        return target, reference


def descend(ranks: Ranks, *, batch_size: int, recomputed: bool) -> dict[str, NDArray[Any]]:
    """The weights after the steps."""
    recipe = BatchRecipe(scale=2, batch_size=batch_size, patch_px=None, seed=1, label="descent")
    model, _ = initial_weights(tiny_federation())
    recompute(model, recomputed)
    to_channels_last(model)
    settings = TrainingSettings(
        learning_rate=LEARNING_RATE, warmup_steps=0, decay_fraction=0.0, clip_norm=None, alpha=0.3, beta=0.7
    )
    prepared = PreparedSlices(MadeSlices(), scale=2, cache_bytes=2**20)
    samples = PlannedSamples(prepared, recipe, places=ranks.places(batch_size))
    plan = itertools.islice(plan_batches([(24, 24)] * 12, recipe), N_STEPS)
    train_steps(
        ranks.wrap_ddp(model),
        drawn_batches(samples, plan, n_workers=0, pin_memory=False),
        StepPlan(settings=settings, n_steps=N_STEPS, total_steps=N_STEPS),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
    )
    return learnable(model)


def weights_file(folder: Path, *, recomputed: bool) -> Path:
    """Where the weights of a descent of the launched processes lie."""
    return folder / f"{'recomputed' if recomputed else 'stored'}.safetensors"


if __name__ == "__main__":
    with ranks_of_launcher() as own:
        for recomputed in (False, True):
            weights = descend(own, batch_size=int(sys.argv[2]), recomputed=recomputed)
            if own.is_main:
                save_file(weights, weights_file(Path(sys.argv[1]), recomputed=recomputed))
        print("mean of the ranks' numbers", own.mean(own.rank))
    exit_worker()
