"""Training in phases: what stays as it was, and that it goes on from anywhere to the same bytes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from minet_core.errors import InvalidSetting
from minet_core.models.base import SuperResolver
from minet_core.models.registry import build_model
from minet_core.settings.adaptation import AdaptationSettings
from minet_core.settings.federation import TrainingSettings
from minet_core.training.batches import Batch
from minet_core.training.phases import Phase, Stand, adaptation_phases, train_phases
from minet_core.weights.manifest import learnable

HEADS = ("target_reconstruction.", "reference_reconstruction.")
PHASES = adaptation_phases(AdaptationSettings(head_steps=3, steps=5), TrainingSettings())


def small_model() -> SuperResolver:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build_model(
            {"architecture": "minet", "n_groups": 1, "n_blocks": 1, "n_features": 8, "reduction": 2}, scale=2
        )


def batches_from(first: int) -> Iterator[Batch]:
    """A batch for each step, the same one for a number whenever it is asked for."""
    for step in range(first, 1000):
        generator = torch.Generator().manual_seed(step)

        def image(edge: int, generator: torch.Generator = generator) -> torch.Tensor:
            return torch.rand(2, 1, edge, edge, generator=generator)

        yield Batch(image(8), image(16), image(16), image(16))


def trained(*, keep_every: int = 2, stop_after: int = 10**6) -> list[Stand]:
    """Every stand of a training from the beginning, or until as many batches were drawn."""

    def broken(first: int) -> Iterator[Batch]:
        for drawn, batch in enumerate(batches_from(first)):
            if drawn == stop_after:
                raise KeyboardInterrupt
            yield batch

    model, stands = small_model(), []
    try:
        for stand in train_phases(model, broken, PHASES, Stand(0, learnable(model)), keep_every=keep_every):
            stands.append(stand)
    except KeyboardInterrupt:
        pass
    return stands


def test_the_head_trains_first_and_everything_else_stays_bit_for_bit() -> None:
    before = learnable(small_model())
    stands = trained()
    assert [stand.n_steps for stand in stands] == [2, 3, 5, 7, 8]
    after_head, end = stands[1].weights, stands[-1].weights
    for name, array in before.items():
        if name.startswith(HEADS):
            assert not np.array_equal(after_head[name], array), name
        else:
            assert np.array_equal(after_head[name], array), name
    assert all(not np.array_equal(end[name], after_head[name]) for name in before)


def test_ended_at_any_step_it_goes_on_to_the_same_bytes() -> None:
    whole = trained()[-1].weights
    for stop_after in range(8):
        left = trained(stop_after=stop_after)
        model = small_model()
        stand = left[-1] if left else Stand(0, learnable(model))
        for reached in train_phases(model, batches_from, PHASES, stand, keep_every=2):
            stand = reached
        assert stand.n_steps == 8
        assert all(np.array_equal(stand.weights[name], whole[name]) for name in whole), stop_after


def test_training_that_has_ended_takes_no_step() -> None:
    end = trained()[-1]
    assert not list(train_phases(small_model(), batches_from, PHASES, end))


def test_a_part_that_no_tensor_belongs_to_is_refused() -> None:
    phase = Phase(settings=TrainingSettings(), n_steps=1, part=("no_such.",))
    model = small_model()
    with pytest.raises(InvalidSetting, match="has no tensor"):
        list(train_phases(model, batches_from, [phase], Stand(0, learnable(model))))


def test_without_steps_of_the_head_there_is_one_phase() -> None:
    phases = adaptation_phases(AdaptationSettings(head_steps=0, steps=4), TrainingSettings())
    assert [(phase.n_steps, phase.part) for phase in phases] == [(4, ())]


def test_the_rate_falls_over_the_part_that_the_adaptation_says_else_over_that_of_training() -> None:
    training = TrainingSettings(decay_fraction=0.5)
    usual, long = AdaptationSettings(), AdaptationSettings(decay_fraction=1.0)
    assert [phase.settings.decay_fraction for phase in adaptation_phases(usual, training)] == [0.5]
    assert [phase.settings.decay_fraction for phase in adaptation_phases(long, training)] == [1.0]
