"""The table of states: only its transitions happen, and nothing leads out of an ending."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minet_core.errors import IllegalTransition
from server.runs import state_machine
from server.runs.state_machine import ROUND_TRANSITIONS, RUN_TRANSITIONS, TERMINAL, RunState

NEW = RunState(status="created", round=0, rounds=3, engine="in-process", started="2026-01-01T00:00:00+00:00")

STEPS = {
    "begun": state_machine.begun,
    "asked": lambda state: state_machine.asked(state, "2026-01-01T00:00:00+00:00"),
    "repeated": state_machine.repeated,
    "closed": lambda state: state_machine.closed(state, ("sms",)),
    "aggregated": state_machine.aggregated,
    "aggregated without umr": lambda state: state_machine.aggregated(state, shortfall="round without umr"),
    "testing": state_machine.testing,
    "interrupted": lambda state: state_machine.interrupted(state, "FM-S504"),
    **{
        f"ended {status}": lambda state, s=status: state_machine.ended(state, s, None)
        for status in sorted(TERMINAL)
    },
}


@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=40))
def test_whatever_is_tried_in_whatever_order_only_the_table_happens(names: list[str]) -> None:
    state = NEW
    for name in names:
        before = state
        try:
            state = STEPS[name](state)
        except IllegalTransition:
            assert state is before
            continue
        assert state.status in RUN_TRANSITIONS[before.status]
        assert state.phase == before.phase or state.phase in ROUND_TRANSITIONS[before.phase]
        assert before.status not in TERMINAL
        assert 0 <= state.round - before.round <= 1
        assert state.round <= state.rounds
        if state.round > before.round:
            assert before.phase == "closed"
            assert before.accepted
        if state.status == "completed":
            assert (state.round, state.shortfalls) == (state.rounds, ())


def test_every_state_is_reached_and_every_nonterminal_one_can_fail() -> None:
    reached = {"created"} | {status for targets in RUN_TRANSITIONS.values() for status in targets}
    assert reached == set(RUN_TRANSITIONS)
    for status, targets in RUN_TRANSITIONS.items():
        assert ("failed" in targets) == (status not in TERMINAL)


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_a_terminal_state_absorbs(status: str) -> None:
    state = replace(NEW, status=status, phase="testing", round=3)
    for step in STEPS.values():
        with pytest.raises(IllegalTransition, match="FM-F406"):
            step(state)


def test_a_round_that_took_no_reply_is_never_closed() -> None:
    asked = state_machine.asked(state_machine.begun(NEW), NEW.started)
    with pytest.raises(IllegalTransition, match="without a reply"):
        state_machine.closed(asked, ())


def test_a_run_with_a_shortfall_does_not_end_completed() -> None:
    state = replace(NEW, status="running", round=3, phase="testing", shortfalls=("round 2 without umr",))
    with pytest.raises(IllegalTransition):
        state_machine.ended(state, "completed", None)
    assert state_machine.ended(state, "partial", "round 2 without umr").status == "partial"
