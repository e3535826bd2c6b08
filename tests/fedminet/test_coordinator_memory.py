"""The coordinator needs room for less than three models, whatever the number of sites: a part of the trial."""

from __future__ import annotations

from fedminet.faults.coordinator import LIMIT_MODELS, Clock, coordinator, coordinator_as_text
from minet_core.federation import ModelSettings

MODEL = ModelSettings(n_groups=2, n_blocks=2, n_features=64)
"""1,069,819 parameters, 4.3 MB."""


def test_a_round_takes_less_than_three_models_of_memory() -> None:
    result = coordinator(5, model=MODEL, rounds=1)
    print(coordinator_as_text(result))
    assert 1_000_000 < result.n_parameters < 1_500_000
    assert result.flower.most > 5  # the positive control: it holds every reply, and that is seen
    assert result.ours.most < LIMIT_MODELS, result.ours
    assert result.held
    assert set(result.ours.peak_models) == {"begin", "requests", "replies", "mean", "checkpoint", "end"}


def test_time_that_the_sites_took_is_taken_off() -> None:
    assert Clock(5.0, 3.0) - Clock(1.0, 0.5) + Clock(1.0, 1.0) == Clock(5.0, 3.5)
