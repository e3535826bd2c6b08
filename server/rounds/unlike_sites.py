"""A site that goes against the others and is merely unlike them: it is named, and its update is used.

Near what all can agree on nothing is left of the updates but what the sites disagree in, and a site whose patients are
unlike the others' comes to be opposed to them (docs/results/robustness.md).

That it harms nobody is what the validation scores of every round say. Where `training.validation_every` leaves rounds
without, nobody says so before many rounds are spoilt, and what goes against the others is refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from minet_core.errors import UpdateSuspect
from minet_core.weights.update_norm import HARM_DB, MIN_AGREEMENTS, drifted_apart, lasting_fall
from server.rounds.context import RoundContext
from server.rounds.figures_of_run import SCORE, SiteFigures
from server.rounds.replies import KeptReply


def is_unlike(conduct: RoundContext, found: Mapping[str, KeptReply], site: str) -> bool:
    """Whether a site that goes against the others is merely unlike them, near what all can agree on.

    Such a site drifted apart from them, its norm is usual, and their scores did not fall for it. A site of too few
    scores for that is counted with those whose scores fell.
    """
    if UpdateSuspect.code in found[site].noted or conduct.federation.training.validation_every > 1:
        return False
    figures = defaultdict(SiteFigures, conduct.figures.of(conduct.run))
    cosines = [*figures[site].agreements, found[site].agreement or 0.0]
    if not drifted_apart(cosines, above=conduct.federation.quarantine.suspect_agreement):
        return False
    others = {
        other: [*figures[other].scores, *_score_now(kept)] for other, kept in found.items() if other != site
    }
    harmed = [
        other
        for other, scores in others.items()
        if len(scores) < MIN_AGREEMENTS or lasting_fall(scores) > HARM_DB
    ]
    return len(harmed) <= max(len(others) / 2, 1)


def _score_now(kept: KeptReply) -> list[float]:
    score = (kept.figures or {}).get(f"validation_{SCORE}")
    return [] if score is None else [score]


def entries_of(records: Iterable[Mapping[str, Any]], site: str) -> list[Mapping[str, Any]]:
    """What the records of rounds say of a site, of those that it was in."""
    return [record["sites"][site] for record in records if site in record["sites"]]
