"""A site that goes against the others is believed to harm nobody only where the scores of every round say so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from server.rounds.context import RoundContext
from server.rounds.figures_of_run import SiteFigures
from server.rounds.replies import KeptReply
from server.rounds.unlike_sites import is_unlike
from tests.faults.tiny_sites import tiny_federation

N_ROUNDS = 12
SCORES = [30.0] * N_ROUNDS
APART = [0.5 - 0.1 * number for number in range(N_ROUNDS)]
"""Cosines of a site that comes to go against the others by little and little."""


def _is_unlike(scores: list[float], *, every: int = 1) -> bool:
    figures = {site: SiteFigures([0.5] * N_ROUNDS, scores) for site in ("two", "three")}
    figures["one"] = SiteFigures(APART, scores)
    training = {"validation_every": every, "local_steps": 1}
    conduct = SimpleNamespace(
        run=None,
        figures=SimpleNamespace(of=lambda _run: figures),
        federation=tiny_federation(rounds=60, training=training, quarantine={"roll_back": every == 1}),
    )
    found: dict[str, Any] = {
        site: SimpleNamespace(noted=(), agreement=figures[site].agreements[-1], figures={})
        for site in figures
    }
    return is_unlike(cast(RoundContext, conduct), cast(dict[str, KeptReply], found), "one")


def test_scores_that_stay_as_they_were_say_that_it_harms_nobody() -> None:
    assert _is_unlike(SCORES)


@pytest.mark.parametrize("n_scores", [0, 2])
def test_too_few_scores_say_nothing(n_scores: int) -> None:
    assert not _is_unlike(SCORES[:n_scores])


def test_scores_of_some_rounds_say_it_too_late() -> None:
    assert not _is_unlike(SCORES, every=2)
