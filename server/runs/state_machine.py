"""The states of a run and of its rounds, and every legal transition between them, in one table.

    run      created ──► running ◄──► interrupted        a round     idle ──► asked ──► closed ──► idle
                            │              │             of it         ▲        │
                            ▼              ▼                           └────────┘ repeated
             completed, partial, failed    failed                    idle ──► testing, after the last

`interrupted` is what a run is in between two server applications where the first had time to say so: no room on the
disk, a SuperLink that went away. One that was killed leaves `running`; both are continued alike. The terminal states
absorb: nothing leads out of them.

A round is `asked` before the first request leaves, and `closed` once it is settled, on disk, whose replies count. So
whatever is killed, and whenever, a continued run takes the same replies into the same mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from minet_core.errors import IllegalTransition

Status = Literal["created", "running", "interrupted", "completed", "partial", "failed"]
Phase = Literal["idle", "asked", "closed", "testing"]

TERMINAL: frozenset[Status] = frozenset({"completed", "partial", "failed"})

RUN_TRANSITIONS: dict[Status, frozenset[Status]] = {
    "created": frozenset({"running", "failed"}),
    "running": frozenset({"running", "interrupted", "completed", "partial", "failed"}),
    "interrupted": frozenset({"running", "interrupted", "failed"}),
    "completed": frozenset(),
    "partial": frozenset(),
    "failed": frozenset(),
}
"""`running` to itself: a server application that was killed left it so, and the next one begins."""

ROUND_TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    "idle": frozenset({"asked", "testing"}),
    "asked": frozenset({"idle", "closed"}),
    "closed": frozenset({"idle"}),
    # A round that is rolled back is `closed` again with fewer replies: see `rolled_back`.
    "testing": frozenset(),
}


@dataclass(frozen=True)
class RunState:
    """Where a run is.

    round: completed rounds; the one in work is `round + 1`. attempt: how often that one was repeated. asked_at: when it
    was first asked for. accepted: the sites whose replies count, from `closed` on. shortfalls: rounds that were
    completed without a member, and which. reason: codes, rounds and site names only, never a site's text.
    keep_checkpoints: how many of the last rounds' checkpoints stay on the disk; None for all. federation: the digest
    of the federation file. digests: SHA-256 of every file that the run goes on from, by its path in the run's folder.
    figures: the chained digest of metrics.jsonl after the last completed round, and after the one before it.
    rolled_back: round and site of each update that was left out of a round that had been completed with it.
    """

    status: Status
    round: int
    rounds: int
    engine: str
    started: str
    phase: Phase = "idle"
    attempt: int = 0
    asked_at: str = ""
    accepted: tuple[str, ...] = ()
    shortfalls: tuple[str, ...] = ()
    reason: str | None = None
    keep_checkpoints: int | None = None
    updated: str = ""
    federation: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    figures: tuple[str, ...] = ()
    rolled_back: tuple[tuple[int, str], ...] = ()


def begun(state: RunState) -> RunState:
    """A server application takes the run up, for the first time or again."""
    return replace(_to(state, "running"), reason=None)


def asked(state: RunState, now: str) -> RunState:
    """The requests of the next round are about to leave."""
    _require_running(state)
    if state.round >= state.rounds:
        raise _illegal(state, f"round {state.round + 1} of {state.rounds}")
    first = now if state.attempt == 0 else state.asked_at
    return replace(_in_phase(state, "asked"), accepted=(), asked_at=first)


def repeated(state: RunState) -> RunState:
    """The round is below its contract and is asked for again."""
    _require_running(state)
    return replace(_in_phase(state, "idle", only_from="asked"), attempt=state.attempt + 1)


def saved(state: RunState, digests: Mapping[str, str]) -> RunState:
    """What round 1 begins with is on the disk."""
    _require_running(state)
    if state.round != 0 or state.phase != "idle":
        raise _illegal(state, "the beginning")
    return replace(state, digests=dict(digests))


def closed(
    state: RunState, accepted: tuple[str, ...], *, digests: Mapping[str, str] | None = None
) -> RunState:
    """It is settled whose replies count. digests: of the pages of these replies."""
    _require_running(state)
    if not accepted:
        raise _illegal(state, "closed without a reply")
    settled = _in_phase(state, "closed")
    return replace(settled, accepted=tuple(sorted(accepted)), digests={**state.digests, **(digests or {})})


def aggregated(
    state: RunState,
    *,
    shortfall: str | None = None,
    digests: Mapping[str, str] | None = None,
    figures: str | None = None,
) -> RunState:
    """The round's checkpoint is on the disk. shortfall: which members the round was completed without.

    digests: of all that the run goes on from now. figures: the chained digest of metrics.jsonl.
    """
    _require_running(state)
    shortfalls = state.shortfalls if shortfall is None else (*state.shortfalls, shortfall)
    settled = _in_phase(state, "idle", only_from="closed")
    return replace(
        settled,
        round=state.round + 1,
        attempt=0,
        accepted=(),
        shortfalls=shortfalls,
        digests=dict(digests or {}),
        figures=state.figures if figures is None else (figures, *state.figures[:1]),
    )


def rolled_back(state: RunState, site: str, *, left: tuple[str, ...], digests: Mapping[str, str]) -> RunState:
    """The last completed round is taken again without the update of `site`, from the replies of the others.

    left: whose replies count now. digests: of the state before that round, and of these replies' pages.
    """
    _require_running(state)
    if state.phase != "asked" or state.round < 1 or not left or site in left:
        raise _illegal(state, f"a roll back without {site}")
    return replace(
        state,
        round=state.round - 1,
        phase="closed",
        attempt=0,
        accepted=tuple(sorted(left)),
        shortfalls=tuple(text for text in state.shortfalls if not text.startswith(f"round {state.round} ")),
        digests=dict(digests),
        figures=state.figures[1:],
        rolled_back=(*state.rolled_back, (state.round, site)),
    )


def testing(state: RunState) -> RunState:
    """Every round is completed; the sites are asked for their tests."""
    _require_running(state)
    if state.round != state.rounds:
        raise _illegal(state, "testing before the last round")
    return _in_phase(state, "testing")


def interrupted(state: RunState, reason: str) -> RunState:
    """The server application stops for a reason that is not the federation's."""
    return replace(_to(state, "interrupted"), reason=reason)


def ended(state: RunState, status: Status, reason: str | None) -> RunState:
    """The run has ended, once and for all."""
    if status not in TERMINAL:
        raise _illegal(state, status)
    if status != "failed" and state.phase != "testing":
        raise _illegal(state, f"{status} in phase {state.phase}")
    if status == "completed" and state.shortfalls:
        raise _illegal(state, "completed with a shortfall")
    return replace(_to(state, status), reason=reason)


def _to(state: RunState, status: Status) -> RunState:
    if status not in RUN_TRANSITIONS[state.status]:
        raise _illegal(state, status)
    return replace(state, status=status)


def _in_phase(state: RunState, phase: Phase, *, only_from: Phase | None = None) -> RunState:
    if phase not in ROUND_TRANSITIONS[state.phase] or only_from not in (None, state.phase):
        raise _illegal(state, phase)
    return replace(state, phase=phase)


def _require_running(state: RunState) -> None:
    if state.status != "running":
        raise _illegal(state, "a round")


def _illegal(state: RunState, to: str) -> IllegalTransition:
    return IllegalTransition(
        "a run cannot go from one state to the other",
        got=f"{state.status}, {state.phase} in round {state.round + 1}, to {to}",
        expected=f"one of: {', '.join(sorted(RUN_TRANSITIONS[state.status])) or 'nothing, the run has ended'}",
    )
