"""A ClientApp whose training can be held half way through a round's steps. For the fault trials alone.

How it is held: tests.faults.holding. By the clock a site of a second's training may be done before the fault comes. To
be imported by a task alone: it takes the place of what gives `client.rounds.round` its batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import client.rounds.round as rounds
from client.app import app as app
from client.rounds.round_request import RoundRequest
from minet_core.training.batches import Batch
from minet_core.training.loop import StepPlan
from tests.faults.holding import hold_at, training_at

_batches = rounds._batches


def _held_batches(incoming: RoundRequest, prepared: Any, plan: StepPlan, *, site: str) -> Iterator[Batch]:
    for number, batch in enumerate(_batches(incoming, prepared, plan, site=site)):
        if number == plan.n_steps // 2:
            hold_at(incoming.round_number, training_at(site))
        yield batch


rounds._batches = _held_batches
