"""How many steps a method makes in the processor time of one of MINet's, timed once in a folder and kept there."""

from __future__ import annotations

import itertools
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minet_core.models.registry import build_model
from minet_core.runtime.files.atomic_write import append_line, mend_lines
from minet_core.runtime.files.file_lock import held
from minet_core.settings.federation import ModelSettings, TrainingSettings
from minet_core.training.batches import random_batch
from minet_core.training.device import autocast_dtype_for, preferred_device
from minet_core.training.loop import StepPlan, adam, train_steps

LEARNING_RATE = 1e-6
"""Noise teaches nothing: see `fedminet.bench.steps`."""

UNTIMED_STEPS, TIMED_STEPS = 2, 9

WHOLE_SLICE_PX = 192
"""Edge of a sample where training takes whole slices."""


@dataclass(frozen=True)
class Pace:
    """The times that `path` keeps, a line for each pair of models. training: what a step is made of.

    A step is timed on noise that is there: what it takes to cut a batch is in no figure, and is the same for every
    method.
    """

    path: Path
    training: TrainingSettings

    def steps_in_one(self, model: ModelSettings, other: ModelSettings, *, scale: int) -> float:
        """Steps of `other` in the time of one of `model`: as it was timed before, or as it is timed now."""
        asked = {
            "scale": scale,
            "patch_px": self.training.patch_px,
            "batch_size": self.training.batch_size,
            "model": model.model_dump(mode="json"),
            "other": other.model_dump(mode="json"),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with held(self.path.with_suffix(".lock"), patience_s=None):
            mend_lines(self.path)
            for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else ():
                kept = json.loads(line)
                if all(kept[name] == value for name, value in asked.items()):
                    return float(kept["steps"])
            ratio = _timed(model, other, self.training, scale=scale)
            append_line(self.path, {**asked, "steps": ratio})
            return ratio


def _timed(model: ModelSettings, other: ModelSettings, training: TrainingSettings, *, scale: int) -> float:
    """The two in turn, step by step: the median of the ratios, to three figures."""
    edge = training.patch_px or WHOLE_SLICE_PX
    batches: Any = itertools.repeat(random_batch(edge, scale=scale, batch_size=training.batch_size))
    device = preferred_device()
    networks = [
        build_model(settings.model_dump(), scale=scale).to(device).train() for settings in (model, other)
    ]
    optimizers = [adam(network) for network in networks]
    timed = training.model_copy(update={"learning_rate": LEARNING_RATE})
    ratios = []
    for number in range(UNTIMED_STEPS + TIMED_STEPS):
        plan = StepPlan(
            settings=timed,
            first_step=number,
            n_steps=1,
            total_steps=UNTIMED_STEPS + TIMED_STEPS,
            autocast_dtype=autocast_dtype_for(device),
        )
        seconds = []
        for network, optimizer in zip(networks, optimizers, strict=True):
            began = time.process_time()
            train_steps(network, batches, plan, optimizer=optimizer)
            seconds.append(time.process_time() - began)
        ratios.append(seconds[0] / seconds[1])
    return float(f"{statistics.median(ratios[UNTIMED_STEPS:]):.3g}")
