"""A round after which the global model is worse at most sites is taken back, and taken again without one update.

Every training reply scores the model that came in, unless `training.validation_every` spares it that: then no round is
taken back. So the replies of a round judge the round before: where the validation score fell by more than
`quarantine.fall_db` at most sites, the site whose update moved the model most on its own account is named, the mean of
that round is taken again from the same replies without it, and the round in work is asked anew. No site sees a round's
number again that it has left behind.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from typing import Any

from minet_core.errors import UpdateOpposed
from minet_core.weights.update_norm import fallen_sites
from server.rounds.context import RoundContext, digests_of_pages, digests_of_round
from server.rounds.figures_of_run import SCORE
from server.rounds.replies import KeptReply
from server.runs import state_machine
from server.runs.participation import participation_violation
from server.runs.state_machine import RunState

MAX_NAMED = 2
"""Rounds taken back for one site's updates, after which none of them counts."""


def left_out_for_good(state: RunState) -> list[str]:
    """The sites for whose updates rounds were taken back `MAX_NAMED` times."""
    named = Counter(site for _, site in state.rolled_back)
    return sorted(site for site, times in named.items() if times >= MAX_NAMED)


def roll_back(conduct: RoundContext, kept: Mapping[str, KeptReply]) -> bool:
    """Take the last completed round back where the replies of the round in work say so; whether it was.

    kept: the judged replies of the round in work. Where the score fell and the round stands, an event says so.
    """
    run, state, settings = conduct.run, conduct.run.state, conduct.federation.quarantine
    if state.round < 1:
        return False
    record = run.rounds_recorded(last=1)[0]
    fell, most = fallen_sites(_scores_then(record), _scores_now(kept), fall_db=settings.fall_db)
    if not most:
        return False
    counted = {site: entry for site, entry in record["sites"].items() if "share" in entry}
    named = max(sorted(counted), key=lambda site: _own_movement(counted[site]))
    left = {site: int(entry["n_training_slices"]) for site, entry in counted.items() if site != named}
    can = (
        settings.roll_back
        and len(state.rolled_back) < settings.max_roll_backs
        and participation_violation(conduct.federation.participation, left, declared=run.declared()) is None
    )
    event = "round-rolled-back" if can else "validation-fell"
    run.event(
        event, round=state.round, site=named, code=UpdateOpposed.code, fell=fell, fall_db=settings.fall_db
    )
    if not can:
        return False
    digests = {
        **digests_of_round(run, state.round - 1),
        **digests_of_pages(run, state.round, left),
    }
    run.transition(state_machine.rolled_back, named, left=tuple(left), digests=digests)
    conduct.observer("rolled back")
    shutil.rmtree(run.replies(state.round + 1))
    run.forget_beyond()
    return True


def _own_movement(entry: Mapping[str, Any]) -> float:
    """How far a site's update moved the mean where the others' did not go: share, length, and lack of agreement."""
    return float(entry["share"] * entry["update_norm"] * (1.0 - entry.get("agreement", 0.0)))


def _scores_then(record: Mapping[str, Any]) -> dict[str, float]:
    return {
        site: entry["validation"][SCORE] for site, entry in record["sites"].items() if "validation" in entry
    }


def _scores_now(kept: Mapping[str, KeptReply]) -> dict[str, float]:
    return {
        site: reply.figures[f"validation_{SCORE}"]
        for site, reply in kept.items()
        if reply.figures is not None and reply.refused is None and f"validation_{SCORE}" in reply.figures
    }
