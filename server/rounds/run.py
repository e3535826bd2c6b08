"""One run of a federation: rounds over the sites, then the global model on every site's test split.

Whatever follows from a step is on the disk before the step is taken, so a run that was ended anywhere is continued
by calling `run_federation` again, and comes to the same bytes. The states are those of `server.runs.state_machine`.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from functools import partial

from flwr.app import MessageType

from minet_core.errors import FedminetError, FileNotWritten, HostError, QuorumNotMet, RunDamaged, RunFailed
from minet_core.protocol import messages
from minet_core.protocol.exchange_plan import exchange_plan_of, initial_weights
from minet_core.runtime.files.atomic_write import replacing
from minet_core.runtime.observer import Observer, observe_nothing
from minet_core.runtime.said_elsewhere import said_elsewhere, without_folders
from minet_core.weights.payload import MAX_OVERHEAD_BYTES
from server.flower.nonblocking_grid import MessageGrid, as_nonblocking
from server.rounds.context import RoundContext, build_request, digests_of_round, save_state, verify_run
from server.rounds.exchange import Patience, opened_figures, request_replies, wait_for_members
from server.rounds.ledger_records import note_test
from server.rounds.replies import check_binding, refusal_code
from server.rounds.round import run_round
from server.runs import state_machine
from server.runs.participation import in_short, require_declarations
from server.runs.run_directory import RunDirectory
from server.runs.state_machine import Status
from server.runs.summary import summarise_run

JOIN_DEADLINE_S = 120.0
"""How long a run waits for its declared sites before the first round."""

TEST_ABSENCE_S = 60.0
"""How long the test waits for a site that is offline: there is only one test."""


def run_federation(
    grid: MessageGrid,
    run: RunDirectory,
    *,
    flower_run: int = 0,
    join_deadline_s: float = JOIN_DEADLINE_S,
    observer: Observer = observe_nothing,
) -> Status:
    """Conduct `run` from where it stands to its end, and return its final status.

    flower_run: Flower's number of the run. observer: told of each round's moments. A breach of the contract ends the
    run as `failed`; a failure of this machine (a full disk, a SuperLink that went away) or of this program leaves it
    `interrupted`, to be continued. Either is raised again. Raises RunBusy (FM-S507) where another process works on it.
    """
    with run.locked(holder=flower_run):
        if run.ended:
            return run.state.status
        try:
            run.repair_after_crash()
            verify_run(run)
            federation = run.federation()
            agreement = exchange_plan_of(federation)
            prompt = as_nonblocking(grid, max_bytes=agreement.reply_manifest.n_bytes + MAX_OVERHEAD_BYTES)
            conduct = RoundContext(prompt, run, federation, agreement, observer)
            reason = _to_the_end(conduct, join_deadline_s=join_deadline_s)
        except HostError as failure:
            _interrupt(run, said_elsewhere(failure))
            raise
        except FedminetError as failure:
            if not run.ended:  # as one that the coordinator stopped meanwhile
                _end(run, status="failed", reason=said_elsewhere(failure))
            raise
        except BaseException:
            _interrupt(run, "FM-S900: the server application ended unexpectedly")
            raise
        status: Status = "partial" if reason else "completed"
        _end(run, status=status, reason=reason)
        return status


def _to_the_end(conduct: RoundContext, *, join_deadline_s: float) -> str | None:
    """Every step that is left; returns what the run fell short of, if anything."""
    run, federation = conduct.run, conduct.federation
    _begin(conduct)
    if run.state.round == 0 and run.state.phase == "idle":
        _join(conduct, deadline_s=join_deadline_s)
    while run.state.round < federation.rounds:
        run_round(conduct)
    if run.state.phase == "idle":
        run.transition(state_machine.testing)
    _publish(conduct)
    untested = _test(conduct)
    shortfalls = [
        *in_short(run.state.shortfalls),
        *([f"test without {', '.join(untested)}"] if untested else []),
    ]
    return "; ".join(shortfalls) or None


def _begin(conduct: RoundContext) -> None:
    run, federation = conduct.run, conduct.federation
    require_declarations(federation, run.declared())
    first = run.state.status == "created"
    run.transition(state_machine.begun)
    if not run.state.digests:  # else they are there, and were verified
        weights = initial_weights(federation)[1]
        save_state(conduct, conduct.agreement.algorithm.init(weights), round_number=0)
        del weights
        run.transition(state_machine.saved, digests_of_round(run, 0))
    if first:
        run.event(
            "run-started", sites=list(federation.sites), rounds=federation.rounds, federation=conduct.digest
        )
    else:
        state = run.state
        run.event("run-continued", round=state.round + 1, phase=state.phase, attempt=state.attempt)


def _join(conduct: RoundContext, *, deadline_s: float) -> None:
    run, federation = conduct.run, conduct.federation
    nodes = wait_for_members(
        conduct.grid,
        declared=federation.sites,
        deadline_s=deadline_s,
        on_change=lambda present: run.event("sites-online", sites=sorted(present)),
    )
    if len(nodes) < federation.participation.quorum:
        raise QuorumNotMet(
            "too few sites are online", got=len(nodes), expected=f"at least {federation.participation.quorum}"
        )


def _publish(conduct: RoundContext) -> None:
    run = conduct.run
    with replacing(run.global_model) as temporary:
        shutil.copyfile(run.checkpoint(run.state.round), temporary)
    run.event("model-published", round=run.state.round)


def _test(conduct: RoundContext) -> list[str]:
    """Ask every site for the scores of the final model on its test split; keep them per site. The untested ones."""
    run, federation = conduct.run, conduct.federation
    tested, adaptation = run.tests_recorded(), federation.adaptation
    deadline_s = max(
        federation.participation.deadline_s, 0.0 if adaptation is None else adaptation.deadline_s
    )
    agreed = messages.test_figures(adapted=adaptation is not None)
    run.event("test-started", sites=[site for site in federation.sites if site not in tested])
    for received in request_replies(
        conduct.grid,
        partial(build_request, conduct),
        message_type=MessageType.EVALUATE,
        sites=[site for site in federation.sites if site not in tested],
        round_number=federation.rounds + 1,
        patience=Patience(deadline_s, TEST_ABSENCE_S, lambda: bool(tested)),
        observer=observe_nothing,
        sent=Counter(),
    ):
        if received.again:
            continue
        try:
            figures = opened_figures(received.message, agreed=agreed, records={messages.METRICS})
            check_binding(figures, received.site, conduct.expected(round_number=federation.rounds))
        except FedminetError as failure:
            code = refusal_code(failure)
            run.event("test-refused", site=received.site, code=code, reason=without_folders(failure.what))
            note_test(run, received.site, round_number=federation.rounds, figures={}, code=code)
            continue
        tested[received.site] = messages.without_head(figures)
        note_test(run, received.site, round_number=federation.rounds, figures=figures)
        run.record_tests(tested)
        run.event("test-received", site=received.site)
    if not tested:
        raise RunFailed("no site tested the global model", expected="at least one test reply")
    return [site for site in federation.sites if site not in tested]


def _interrupt(run: RunDirectory, reason: str) -> None:
    """Say that the run waits to be continued; where not even that can be written, the next one finds out."""
    with contextlib.suppress(RunDamaged):
        if run.ended:  # as one that the coordinator stopped meanwhile
            return
    with contextlib.suppress(FileNotWritten, RunDamaged):
        run.transition(state_machine.interrupted, reason)
        run.event("run-interrupted", reason=reason)


def _end(run: RunDirectory, *, status: Status, reason: str | None) -> None:
    run.transition(state_machine.ended, status, reason)
    run.event("run-ended", status=status, reason=reason)
    summarise_run(run)
