"""How many rounds of a demonstration a machine trains in the time there is, what the sites do after them included: a
processor without bfloat16 needs three times as long for one as its successor has.
"""

from __future__ import annotations

import os
import statistics
from itertools import repeat

import torch

from minet_core.models.registry import build_model
from minet_core.settings.federation import FederationSettings
from minet_core.training.batches import one_thread, random_batch
from minet_core.training.device import autocast_dtype_for, preferred_device
from minet_core.training.loop import StepPlan, train_steps

MIN_ROUNDS = 8
"""With fewer the model is not worth a look."""

_MESSAGES_S = 2.0
"""Of a round on the deployment engine, beside the training."""

_CROWDED = 1.6
"""A step among other sites' on two cores, its samples and the round's validation in it, over a step alone."""

_TIMED_STEPS = 7


def rounds_within(seconds: float, federation: FederationSettings, *, step_s: float, n_cores: int) -> int:
    """The most rounds, up to the federation's own number, that are expected to end in `seconds`; 8 at the least.

    step_s: of one optimizer step of one site, alone. n_cores: which the sites share, one thread each.
    """
    n_sites = len(federation.sites)
    crowded_s = _CROWDED * step_s / min(n_cores, n_sites)
    round_s = _MESSAGES_S + crowded_s * sum(
        federation.work_of(site).local_steps or 0 for site in federation.sites
    )
    if (adaptation := federation.adaptation) is not None:
        seconds -= _MESSAGES_S + crowded_s * n_sites * adaptation.n_steps * len(adaptation.tried_rates)
    return max(min(MIN_ROUNDS, federation.rounds), min(federation.rounds, int(seconds / round_s)))


def rounds_here(seconds: float, federation: FederationSettings) -> int:
    """The same for this machine, timed now."""
    return rounds_within(
        seconds, federation, step_s=seconds_of_a_step(federation), n_cores=os.cpu_count() or 1
    )


def seconds_of_a_step(federation: FederationSettings) -> float:
    """Wall seconds of an optimizer step of the federation's model, on one thread or a GPU: the median of a few."""
    training, device = federation.training, preferred_device()
    with torch.random.fork_rng(devices=[]):
        model = build_model(federation.model.model_dump(), scale=federation.scale).to(device)
    batch = random_batch(training.patch_px or 128, scale=federation.scale, batch_size=training.batch_size)

    def taken() -> float:
        return train_steps(
            model,
            repeat(batch),
            StepPlan(settings=training, n_steps=1, total_steps=1, autocast_dtype=autocast_dtype_for(device)),
        ).seconds

    with one_thread():
        return statistics.median(taken() for _ in range(_TIMED_STEPS))
