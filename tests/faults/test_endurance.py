"""What a run holds does not grow with its rounds: a part of the endurance trial."""

from __future__ import annotations

import re

import pytest

from tests.faults.endurance import (
    KEEP_CHECKPOINTS,
    Endurance,
    Footprint,
    endurance,
    endurance_as_text,
    in_own_process,
)
from tests.faults.resident_memory import grown_bytes


@pytest.mark.long
def test_neither_memory_nor_checkpoints_grow_with_the_rounds() -> None:
    result = endurance(30, early_round=15)
    print(endurance_as_text(result))
    assert result.held, result
    assert (result.early.round_number, result.late.round_number) == (15, 30)
    for footprint in (result.early, result.late):
        assert footprint.n_checkpoints == KEEP_CHECKPOINTS + 1  # the newest is there, the oldest not yet gone
        assert footprint.resident_bytes > 4 * result.n_parameters
    grown = result.late.directory_bytes - result.early.directory_bytes
    assert (
        grown < 1.05 * (result.late.log_bytes - result.early.log_bytes) + 4096
    )  # the logs, and nothing else


def test_a_leak_and_an_unbounded_folder_are_seen() -> None:
    early = Footprint(20, 100_000_000, 1_000_000, 10_000, KEEP_CHECKPOINTS + 1, 0.1, 0.1)
    leaking = Footprint(200, 106_000_000, 1_000_000, 90_000, KEEP_CHECKPOINTS + 1, 0.1, 0.1)
    hoarding = Footprint(200, 100_000_000, 9_000_000, 90_000, 201, 0.1, 0.1)
    assert Endurance(200, 1, early, early).held
    assert not Endurance(200, 1, early, leaking).held
    assert not Endurance(200, 1, early, hoarding).held
    assert re.search(r"grew by \+6\.00%", endurance_as_text(Endurance(200, 1, early, leaking)))


def test_resident_memory_is_that_of_this_process() -> None:
    """In a process of its own: one that ran other tests has free memory to give, and would not grow."""
    grown, most_is_most = in_own_process(grown_bytes)
    assert grown > 0.9 * 50_000_000
    assert most_is_most
