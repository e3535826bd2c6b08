"""One round of a run: asked for, collected, settled, aggregated, each step from wherever a former application left it.

Nothing is acted on before it is on the disk: a round is `asked` before a request leaves, and `closed`, with the names
of the sites that count, before the mean is taken. The states are those of `server.runs.state_machine`.
"""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial

from flwr.app import MessageType

from minet_core.algorithms.interface import Diagnostics
from minet_core.errors import QuorumNotMet, UpdateOpposed
from minet_core.protocol import messages
from minet_core.protocol.cohort_declaration import declared_by_reply
from server.rounds.context import (
    RoundContext,
    build_request,
    digests_of_pages,
    digests_of_round,
    domain_after_round,
    save_state,
)
from server.rounds.exchange import Patience, request_replies
from server.rounds.ledger_records import note_reply
from server.rounds.replies import (
    KeptReply,
    as_reply,
    forget_refused,
    note_missing,
    read_replies,
    read_reply,
    refuse,
    take_reply,
)
from server.rounds.roll_back import roll_back
from server.rounds.update_screening import NORMS, accepted, screen_update_norms
from server.runs import state_machine
from server.runs.participation import participation_violation
from server.runs.run_directory import RunDirectory

ABSENCE_S = 10.0
"""How long a site that is offline is waited for where the round can do without it: a killed node is back in 5 s."""


def run_round(conduct: RoundContext) -> None:
    """One round, from wherever it stands: asked for, settled, aggregated. A round below the contract is repeated."""
    run, number = conduct.run, conduct.number
    if run.state.phase == "idle":
        run.event("round-started", round=number, attempt=run.state.attempt)
        run.transition(state_machine.asked, datetime.datetime.now(datetime.UTC).isoformat())
        conduct.observer("asked")
    if run.state.phase == "asked":
        _collect(conduct)
        kept = screen_update_norms(conduct)
        if not roll_back(conduct, kept):
            counted = accepted(kept)
            breached = participation_violation(
                conduct.federation.participation, counted, declared=run.declared()
            )
            if breached is not None:
                _retry_round(conduct, kept, breached=breached)
                return
            run.transition(
                state_machine.closed, tuple(counted), digests=digests_of_pages(run, number, counted)
            )
    _aggregate(conduct)


def _collect(conduct: RoundContext) -> None:
    """Ask every site whose reply is not on the disk yet, and keep what comes in before the deadline."""
    run, number, folder = conduct.run, conduct.number, conduct.folder
    contract = conduct.federation.participation

    def enough() -> bool:
        return participation_violation(contract, accepted(heard), declared=run.declared()) is None

    began, sent = time.monotonic(), Counter[str]()
    heard = read_replies(folder)
    for kept in heard.values():  # a kill may have come between a reply and what it declares
        note_reply(run, kept, round_number=number, found=True)
        if kept.refused is None:
            _declare_if_first(run, kept)
    unheard = [site for site in conduct.federation.sites if site not in heard]
    for received in request_replies(
        conduct.grid,
        partial(build_request, conduct),
        message_type=MessageType.TRAIN,
        sites=unheard,
        round_number=number,
        patience=Patience(contract.deadline_s, ABSENCE_S, enough),
        observer=conduct.observer,
        sent=sent,
    ):
        kept = take_reply(folder, received, conduct.expected(round_number=number))
        heard[kept.site] = read_reply(folder, kept.site)
        note_reply(run, kept, round_number=number)
        if kept.refused is not None:
            run.event("reply-refused", round=number, site=kept.site, code=kept.refused, reason=kept.why)
        else:
            _declare_if_first(run, kept)
            run.event("reply-accepted", round=number, site=kept.site)
        del received  # before the next one comes in
        conduct.observer("received")
    for site in (site for site in unheard if site not in heard):
        missing = note_missing(folder, site, seconds=time.monotonic() - began, bytes_down=sent[site])
        note_reply(run, missing, round_number=number)
        run.event("reply-missing", round=number, site=site)


def _declare_if_first(run: RunDirectory, kept: KeptReply) -> None:
    """A site that declared nothing before is held to its first valid reply from then on."""
    declared = run.declared()
    if kept.site not in declared and kept.figures is not None:
        cohort = declared_by_reply(
            kept.site, number=int(kept.figures["cohort"]), n_training_slices=kept.n_training_slices
        )
        run.declare({**declared, kept.site: cohort})
        run.event("cohort-declared", site=kept.site, n_training_slices=cohort.n_training_slices)


def _retry_round(conduct: RoundContext, kept: Mapping[str, KeptReply], *, breached: str) -> None:
    """Ask again the sites whose reply is wanting; raise QuorumNotMet (FM-F402) where that was done often enough."""
    run, number, attempt = conduct.run, conduct.number, conduct.run.state.attempt
    run.event("round-abandoned", round=number, attempt=attempt, breach=breached)
    if attempt >= conduct.federation.participation.retries:
        raise QuorumNotMet(
            f"round {number} was not completed: too few valid replies (missing: {', '.join(_missing(kept))})",
            got=breached,
        )
    forget_refused(conduct.folder)
    run.transition(state_machine.repeated)


def _aggregate(conduct: RoundContext) -> None:
    """The mean over the replies that count, its checkpoint, and the round's figures; all of it can be done twice."""
    run, number, folder = conduct.run, conduct.number, conduct.folder
    kept = _without_those_left_out(conduct, read_replies(folder))
    expected = conduct.expected(round_number=number)
    replies = [as_reply(folder, kept[site], expected) for site in run.state.accepted]
    state, diagnostics = conduct.agreement.algorithm.apply(conduct.global_state(), replies)
    del replies
    conduct.observer("aggregated")
    save_state(conduct, state, round_number=number, domain=domain_after_round(conduct, kept))
    del state
    conduct.observer("saved")
    _tell_bounded(conduct, kept, diagnostics)
    figures = _record(conduct, kept, diagnostics)
    missing = _missing(kept)
    run.event("round-completed", round=number, sites=list(run.state.accepted))
    shortfall = f"round {number} without {', '.join(missing)}" if missing else None
    former = {} if number == run.state.rounds else digests_of_round(run, number - 1)
    pages = {} if number == run.state.rounds else digests_of_pages(run, number, run.state.accepted)
    run.transition(
        state_machine.aggregated,
        shortfall=shortfall,
        digests={**former, **pages, **digests_of_round(run, number)},
        figures=figures,
    )
    run.prune()


def _tell_bounded(conduct: RoundContext, kept: Mapping[str, KeptReply], diagnostics: Diagnostics) -> None:
    """Say of which site the share in the mean was bounded (`algorithm.max_share`)."""
    settings, slices = conduct.federation.algorithm, accepted(kept)
    total = sum(slices.values())
    for site, share in diagnostics.site_shares.items():
        claimed = slices[site] / total
        if settings.rule == "mean" and claimed > settings.max_share and share < claimed:
            conduct.run.event("share-bounded", round=conduct.number, site=site, claimed=claimed, share=share)


def _without_those_left_out(conduct: RoundContext, kept: Mapping[str, KeptReply]) -> dict[str, KeptReply]:
    """The replies, those refused whose sites the round was taken back for."""
    failure = UpdateOpposed("the round was taken back for the update of this site")
    left_out = {site for number, site in conduct.run.state.rolled_back if number == conduct.number}
    return {
        site: refuse(conduct.folder, reply, failure) if site in left_out and reply.refused is None else reply
        for site, reply in kept.items()
    }


def _missing(kept: Mapping[str, KeptReply]) -> list[str]:
    return [site for site, reply in sorted(kept.items()) if reply.refused is not None]


def _record(conduct: RoundContext, kept: Mapping[str, KeptReply], diagnostics: Diagnostics) -> str:
    """Append the round's figures; the chained digest with them."""
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
        known = (*NORMS, "agreement", "turned")
        sites[site] |= {kind: value for kind in known if (value := getattr(reply, kind)) is not None}
        if reply.shortened:
            sites[site]["shortened"] = dict(reply.shortened)
        if reply.figures is not None and reply.refused is None:
            sites[site] |= {
                "train_loss": reply.figures["train_loss"],
                "train_seconds": reply.figures["seconds"],
                "n_training_slices": reply.n_training_slices,
                "share": diagnostics.site_shares[site],
            }
            scores = {score: reply.figures.get(f"validation_{score}") for score in messages.SCORES}
            if None not in scores.values():
                sites[site]["validation"] = scores
    return run.metrics(
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
