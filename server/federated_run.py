"""One run of a federation: rounds over the sites, then the global model on every site's test split.

Whatever follows from a step is on the disk before the step is taken, so a run that was ended anywhere is continued
by calling `run_federation` again, and comes to the same bytes. The states are those of `server.run_states`.
"""

from __future__ import annotations

import contextlib
import datetime
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flwr.app import MessageType, RecordDict
from flwr.serverapp import Grid

from minet_core import wire
from minet_core.aggregation.values import Diagnostics, ServerState
from minet_core.agreement import Agreement, agreement_of, initial_weights
from minet_core.checkpoint import describe, save_checkpoint
from minet_core.cohort_declaration import declared_by_reply
from minet_core.federation import FederationSettings
from minet_core.parcel import save_parcel
from minet_core.quarantine import HISTORY_ROUNDS, norm_bound
from minet_core.runtime.durable import replacing
from minet_core.runtime.errors import (
    DiskFull,
    FedminetError,
    HostError,
    QuorumNotMet,
    RunFailed,
    UpdateSuspect,
)
from minet_core.runtime.versions import versions
from minet_core.stored_arrays import StoredArrays
from minet_core.weights import Arrays
from server import run_states
from server.exchange import Moment, exchange, opened_figures, request, wait_for_members
from server.participation import breach, require_declarations
from server.replies import (
    Expected,
    KeptReply,
    as_reply,
    check_binding,
    forget_refused,
    note,
    note_missing,
    read_replies,
    read_reply,
    refusal_code,
    refuse,
    take_reply,
)
from server.run_directory import RunDirectory
from server.run_states import Status
from server.summarise import summarise_run

JOIN_DEADLINE_S = 120.0
"""How long a run waits for its declared sites before the first round."""

ABSENCE_S = 10.0
TEST_ABSENCE_S = 60.0
"""How long a site that is offline is waited for where a round, or the test, can do without it: a node that was killed
is back in 5 s, and there is only one test."""


NORMS = ("update_norm", "memory_norm")
"""What of a reply is held against the round and the run: see `server.replies.KeptReply`."""


@dataclass(frozen=True)
class _Conduct:
    """What a server application needs to conduct a run."""

    grid: Grid
    run: RunDirectory
    federation: FederationSettings
    agreement: Agreement
    at: Moment

    @property
    def digest(self) -> str:
        return self.federation.digest()

    @property
    def number(self) -> int:
        """The round in work."""
        return self.run.state.round + 1

    @property
    def folder(self) -> Path:
        return self.run.replies(self.number)

    def global_state(self) -> ServerState:
        """The last completed round's, read from the disk as it is asked for."""
        done = self.run.state.round
        memory = self.run.memory(done)
        return ServerState(
            weights=StoredArrays(self.run.checkpoint(done)),
            memory=StoredArrays(memory) if memory.exists() else {},
        )

    def expected(self, *, round_number: int) -> Expected:
        return Expected(
            agreement=self.agreement,
            round_number=round_number,
            run_number=wire.run_number(self.run.path.name, federation=self.digest),
            declared=self.run.declared(),
            global_weights=self.global_state().weights,
        )


def run_federation(
    grid: Grid,
    run: RunDirectory,
    *,
    flower_run: int = 0,
    join_deadline_s: float = JOIN_DEADLINE_S,
    at: Moment = lambda _: None,
) -> Status:
    """Conduct `run` from where it stands to its end, and return its final status.

    flower_run: Flower's number of the run. A breach of the contract ends the run as `failed`; a failure of this
    machine (a full disk, a SuperLink that went away) or of this program leaves it `interrupted`, to be continued.
    Either is raised again. Raises RunBusy (FM-S507) where another process works on the run.
    """
    with run.locked(holder=flower_run):
        if run.ended:
            return run.state.status
        try:
            run.mend()
            federation = run.federation()
            conduct = _Conduct(grid, run, federation, agreement_of(federation), at)
            reason = _to_the_end(conduct, join_deadline_s=join_deadline_s)
        except HostError as failure:
            _interrupt(run, f"{failure.code}: {failure.what}")
            raise
        except FedminetError as failure:
            if not run.ended:  # as one that the coordinator stopped meanwhile
                _end(run, status="failed", reason=f"{failure.code}: {failure.what}")
            raise
        except BaseException:
            _interrupt(run, "FM-S900: the server application ended unexpectedly")
            raise
        status: Status = "partial" if reason else "completed"
        _end(run, status=status, reason=reason)
        return status


def save_weights(path: Path, federation: FederationSettings, weights: Arrays, *, round_number: int) -> None:
    """Write the global weights as a checkpoint of this federation."""
    manifest = describe(
        weights,
        model=federation.model,
        scale=federation.scale,
        round_number=round_number,
        provenance={
            "algorithm": federation.algorithm.name,
            "federation": federation.name,
            "federation_digest": federation.digest(),
            **versions(),
        },
    )
    save_checkpoint(path, weights, manifest)


def _to_the_end(conduct: _Conduct, *, join_deadline_s: float) -> str | None:
    """Every step that is left; returns what the run fell short of, if anything."""
    run, federation = conduct.run, conduct.federation
    _begin(conduct)
    if run.state.round == 0 and run.state.phase == "idle":
        _join(conduct, deadline_s=join_deadline_s)
    while run.state.round < federation.rounds:
        _round(conduct)
    if run.state.phase == "idle":
        run.move(run_states.testing)
    _publish(conduct)
    untested = _test(conduct)
    shortfalls = [*run.state.shortfalls, *([f"test without {', '.join(untested)}"] if untested else [])]
    return "; ".join(shortfalls) or None


def _begin(conduct: _Conduct) -> None:
    run, federation = conduct.run, conduct.federation
    require_declarations(federation, run.declared())
    first = run.state.status == "created"
    run.move(run_states.begun)
    if not run.checkpoint(run.state.round).exists():
        weights = initial_weights(federation)[1]
        _save(conduct, conduct.agreement.algorithm.init(weights), round_number=0)
        del weights
    if first:
        run.event(
            "run-started", sites=list(federation.sites), rounds=federation.rounds, federation=conduct.digest
        )
    else:
        state = run.state
        run.event("run-continued", round=state.round + 1, phase=state.phase, attempt=state.attempt)


def _join(conduct: _Conduct, *, deadline_s: float) -> None:
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


def _round(conduct: _Conduct) -> None:
    """One round, from wherever it stands: asked for, settled, aggregated. A round below the contract is repeated."""
    run, number = conduct.run, conduct.number
    if run.state.phase == "idle":
        run.event("round-started", round=number, attempt=run.state.attempt)
        run.move(run_states.asked, datetime.datetime.now(datetime.UTC).isoformat())
        conduct.at("asked")
    if run.state.phase == "asked":
        _collect(conduct)
        kept = _judged(conduct)
        accepted = _accepted(kept)
        breached = breach(conduct.federation.participation, accepted, declared=run.declared())
        if breached is not None:
            _repeat(conduct, kept, breached=breached)
            return
        run.move(run_states.closed, tuple(accepted))
    _aggregate(conduct)


def _collect(conduct: _Conduct) -> None:
    """Ask every site whose reply is not on the disk yet, and keep what comes in before the deadline."""
    run, number, folder = conduct.run, conduct.number, conduct.folder
    contract = conduct.federation.participation

    def enough() -> bool:
        return breach(contract, _accepted(heard), declared=run.declared()) is None

    began, sent = time.monotonic(), Counter[str]()
    heard = read_replies(folder)
    for kept in heard.values():  # a kill may have come between a reply and what it declares
        if kept.refused is None:
            _declare_if_first(run, kept)
    unheard = [site for site in conduct.federation.sites if site not in heard]
    for received in exchange(
        conduct.grid,
        partial(_request, conduct),
        message_type=MessageType.TRAIN,
        sites=unheard,
        round_number=number,
        deadline_s=contract.deadline_s,
        absence_s=ABSENCE_S,
        enough=enough,
        at=conduct.at,
        sent=sent,
    ):
        kept = take_reply(folder, received, conduct.expected(round_number=number))
        heard[kept.site] = read_reply(folder, kept.site)
        if kept.refused is not None:
            run.event("reply-refused", round=number, site=kept.site, code=kept.refused, reason=kept.why)
        else:
            _declare_if_first(run, kept)
            run.event("reply-accepted", round=number, site=kept.site)
        del received  # before the next one comes in
        conduct.at("received")
    for site in (site for site in unheard if site not in heard):
        note_missing(folder, site, seconds=time.monotonic() - began, bytes_down=sent[site])
        run.event("reply-missing", round=number, site=site)


def _request(conduct: _Conduct) -> RecordDict:
    run, agreement = conduct.run, conduct.agreement
    arrays = agreement.request_arrays(conduct.global_state())
    number = min(conduct.number, conduct.federation.rounds)
    return request(arrays, round_number=number, run=run.path.name, digest=conduct.digest)


def _declare_if_first(run: RunDirectory, kept: KeptReply) -> None:
    """A site that declared nothing before is held to its first valid reply from then on."""
    declared = run.declared()
    if kept.site not in declared and kept.figures is not None:
        cohort = declared_by_reply(
            kept.site, number=int(kept.figures["cohort"]), n_training_slices=kept.n_training_slices
        )
        run.declare({**declared, kept.site: cohort})
        run.event("cohort-declared", site=kept.site, n_training_slices=cohort.n_training_slices)


def _judged(conduct: _Conduct) -> dict[str, KeptReply]:
    """The round's replies, after their norms were held against the round's and the run's."""
    run, number, settings = conduct.run, conduct.number, conduct.federation.quarantine
    kept = read_replies(conduct.folder)
    failure = UpdateSuspect("an update is far larger than those of the round and of the run")
    for kind in NORMS:
        norms = {site: value for site, reply in kept.items() if (value := getattr(reply, kind)) is not None}
        bound = norm_bound(list(norms.values()), _norms_of_run(run, kind), factor=settings.norm_factor)
        for site, found in norms.items():
            if bound is None or found <= bound or kept[site].refused is not None:
                continue
            run.event("update-suspect", round=number, site=site, kind=kind, norm=found, bound=bound)
            if not settings.refuse_norm:
                kept[site] = note(conduct.folder, kept[site], failure)
            else:
                kept[site] = refuse(conduct.folder, kept[site], failure)
                run.event("reply-refused", round=number, site=site, code=failure.code, reason=failure.what)
    return kept


def _norms_of_run(run: RunDirectory, kind: str) -> list[float]:
    entries = [
        entry for record in run.rounds_recorded(last=HISTORY_ROUNDS) for entry in record["sites"].values()
    ]
    return [entry[kind] for entry in entries if entry["refused"] is None and kind in entry]


def _repeat(conduct: _Conduct, kept: Mapping[str, KeptReply], *, breached: str) -> None:
    """Ask again the sites whose reply is wanting; raise QuorumNotMet (FM-F402) where that was done often enough."""
    run, number, attempt = conduct.run, conduct.number, conduct.run.state.attempt
    run.event("round-abandoned", round=number, attempt=attempt, breach=breached)
    if attempt >= conduct.federation.participation.retries:
        raise QuorumNotMet(
            f"round {number} was not completed: too few valid replies (missing: {', '.join(_missing(kept))})",
            got=breached,
        )
    forget_refused(conduct.folder)
    run.move(run_states.repeated)


def _aggregate(conduct: _Conduct) -> None:
    """The mean over the replies that count, its checkpoint, and the round's figures; all of it can be done twice."""
    run, number, folder = conduct.run, conduct.number, conduct.folder
    kept = read_replies(folder)
    expected = conduct.expected(round_number=number)
    replies = [as_reply(folder, kept[site], expected) for site in run.state.accepted]
    state, diagnostics = conduct.agreement.algorithm.apply(conduct.global_state(), replies)
    del replies
    conduct.at("aggregated")
    _save(conduct, state, round_number=number)
    del state
    conduct.at("saved")
    _record(conduct, kept, diagnostics)
    missing = _missing(kept)
    run.event("round-completed", round=number, sites=list(run.state.accepted))
    shortfall = f"round {number} without {', '.join(missing)}" if missing else None
    run.move(run_states.aggregated, shortfall=shortfall)
    run.forget_old()


def _accepted(kept: Mapping[str, KeptReply]) -> dict[str, int]:
    """By site, the training slices of the replies that were not refused."""
    return {site: reply.n_training_slices for site, reply in kept.items() if reply.refused is None}


def _missing(kept: Mapping[str, KeptReply]) -> list[str]:
    return [site for site, reply in sorted(kept.items()) if reply.refused is not None]


def _save(conduct: _Conduct, state: ServerState, *, round_number: int) -> None:
    """The algorithm's memory first: a round with a checkpoint has all that the next one needs."""
    if state.memory:
        save_parcel(conduct.run.memory(round_number), state.memory)
    save_weights(
        conduct.run.checkpoint(round_number), conduct.federation, state.weights, round_number=round_number
    )


def _record(conduct: _Conduct, kept: Mapping[str, KeptReply], diagnostics: Diagnostics) -> None:
    run, number = conduct.run, conduct.number
    sites: dict[str, dict[str, object]] = {}
    for site, reply in sorted(kept.items()):
        sites[site] = {
            "seconds": reply.seconds,
            "bytes_down": reply.bytes_down,
            "bytes_up": reply.bytes_up,
            "refused": reply.refused,
            "noted": list(reply.noted),
        }
        sites[site] |= {kind: value for kind in NORMS if (value := getattr(reply, kind)) is not None}
        if reply.figures is not None and reply.refused is None:
            sites[site] |= {
                "train_loss": reply.figures["train_loss"],
                "train_seconds": reply.figures["seconds"],
                "n_training_slices": reply.n_training_slices,
                "share": diagnostics.weights_of[site],
                "validation": {score: reply.figures[f"validation_{score}"] for score in wire.SCORES},
            }
    run.metrics(
        {
            "round": number,
            "seconds": _seconds_since(run.state.asked_at),
            "aggregated": True,
            "update_norm": diagnostics.update_norm,
            "sites": sites,
        }
    )


def _seconds_since(moment: str) -> float:
    """Wall time since a moment, interruptions included."""
    passed = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(moment)
    return max(passed.total_seconds(), 0.0)


def _publish(conduct: _Conduct) -> None:
    run = conduct.run
    with replacing(run.global_model) as temporary:
        shutil.copyfile(run.checkpoint(run.state.round), temporary)
    run.event("model-published", round=run.state.round)


def _test(conduct: _Conduct) -> list[str]:
    """Ask every site for the scores of the final model on its test split; keep them per site. The untested ones."""
    run, federation = conduct.run, conduct.federation
    tested = run.tests_recorded()
    run.event("test-started", sites=[site for site in federation.sites if site not in tested])
    for received in exchange(
        conduct.grid,
        partial(_request, conduct),
        message_type=MessageType.EVALUATE,
        sites=[site for site in federation.sites if site not in tested],
        round_number=federation.rounds + 1,
        deadline_s=federation.participation.deadline_s,
        absence_s=TEST_ABSENCE_S,
        enough=lambda: bool(tested),
        at=lambda _: None,
        sent=Counter(),
    ):
        if received.again:
            continue
        try:
            figures = opened_figures(received.message, agreed=wire.TEST_FIGURES, records={wire.METRICS})
            check_binding(figures, received.site, conduct.expected(round_number=federation.rounds))
        except FedminetError as failure:
            run.event("test-refused", site=received.site, code=refusal_code(failure), reason=failure.what)
            continue
        tested[received.site] = figures
        run.record_tests(tested)
        run.event("test-received", site=received.site)
    if not tested:
        raise RunFailed("no site tested the global model", expected="at least one test reply")
    return [site for site in federation.sites if site not in tested]


def _interrupt(run: RunDirectory, reason: str) -> None:
    """Say that the run waits to be continued; where not even that can be written, the next one finds out."""
    if run.ended:  # as one that the coordinator stopped meanwhile
        return
    with contextlib.suppress(DiskFull):
        run.move(run_states.interrupted, reason)
        run.event("run-interrupted", reason=reason)


def _end(run: RunDirectory, *, status: Status, reason: str | None) -> None:
    run.move(run_states.ended, status, reason)
    run.event("run-ended", status=status, reason=reason)
    summarise_run(run)
