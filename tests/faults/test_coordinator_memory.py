"""The coordinator needs room for less than three models, whatever the number of sites: a part of the trial."""

from __future__ import annotations

import pytest

from minet_core.settings.federation import ModelSettings
from tests.faults.coordinator import LIMIT_MODELS, coordinator, coordinator_as_text
from tests.faults.simulated_sites import Clock

MODEL = ModelSettings(n_groups=2, n_blocks=6, n_features=64)
"""2,285,563 parameters, 9.1 MB."""


@pytest.mark.long
def test_a_round_takes_less_than_three_models_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE", str(2**18)
    )  # a 35th of this model; 5 MB as shipped
    result = coordinator(5, model=MODEL, rounds=1)
    print(coordinator_as_text(result))
    assert 2_000_000 < result.n_parameters < 2_500_000
    assert result.flower.most > 5  # the positive control: it holds every reply, and that is seen
    assert result.ours.most < LIMIT_MODELS, result.ours
    assert result.held
    assert set(result.ours.peak_models) == {"begin", "requests", "replies", "mean", "checkpoint", "end"}


def test_time_that_the_sites_took_is_taken_off() -> None:
    assert Clock(5.0, 3.0) - Clock(1.0, 0.5) + Clock(1.0, 1.0) == Clock(5.0, 3.5)
