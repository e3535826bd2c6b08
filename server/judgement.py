"""Which replies of a round count: their norms and directions held against the round's and the run's.

A judgement is made from the replies alone and can be made twice: what was found before is found again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from minet_core.aggregation.influence import agreements, update_products
from minet_core.quarantine import HISTORY_ROUNDS, LEAST_REPLIES, norm_bound, opposed, work_ratio
from minet_core.runtime.errors import FedminetError, UpdateOpposed, UpdateSuspect
from server.conduct import Conduct
from server.participation import breach
from server.replies import KeptReply, as_reply, keep, read_replies
from server.roll_back import left_out_for_good

NORMS = ("update_norm", "memory_norm")
"""What of a reply is held against the round and the run: see `server.replies.KeptReply`."""

JUDGED = (None, UpdateSuspect.code, UpdateOpposed.code)
"""Codes of replies that a judgement is made of: accepted, or refused by an earlier one."""


def judged(conduct: Conduct) -> dict[str, KeptReply]:
    """The round's replies with the verdict on each; what is new of it is kept, and told in the events."""
    before = read_replies(conduct.folder)
    held = {
        site: replace(kept, refused=None, why=None, shortened={}, agreement=None, noted=())
        for site, kept in before.items()
        if kept.update_norm is not None and kept.refused in JUDGED
    }
    found = _by_record(conduct, _by_direction(conduct, _by_norm(conduct, held, before), before))
    for site, kept in found.items():
        others = tuple(code for code in before[site].noted if code not in JUDGED)
        verdict = replace(kept, noted=tuple(sorted({*kept.noted, *others})))
        if verdict == before[site]:
            continue
        keep(conduct.folder, verdict)
        if verdict.refused is not None and verdict.refused != before[site].refused:
            conduct.run.event(
                "reply-refused", round=conduct.number, site=site, code=verdict.refused, reason=verdict.why
            )
    return {**before, **read_replies(conduct.folder)}


def accepted(kept: Mapping[str, KeptReply]) -> dict[str, int]:
    """By site, the training slices of the replies that were not refused."""
    return {site: reply.n_training_slices for site, reply in kept.items() if reply.refused is None}


def _by_norm(
    conduct: Conduct, held: Mapping[str, KeptReply], before: Mapping[str, KeptReply]
) -> dict[str, KeptReply]:
    settings, found = conduct.federation.quarantine, dict(held)
    failure = UpdateSuspect("an update is far larger than those of the round and of the run")
    ratio = _work_ratios(conduct)
    for kind in NORMS:
        norms = {site: value for site, kept in held.items() if (value := getattr(kept, kind)) is not None}
        usual = norm_bound(list(norms.values()), _norms_of_run(conduct, kind), factor=1.0)
        if usual is None:
            continue
        for site, length in norms.items():
            bound = settings.norm_factor * usual * ratio[site]
            suspect_from = min(settings.suspect_factor * usual * ratio[site], bound)
            if length <= suspect_from or found[site].refused is not None:
                continue
            passed = bound if length > bound else suspect_from
            _tell(conduct, before[site], failure, kind=kind, norm=length, bound=passed)
            if length > bound and settings.shorten:
                shortened = {**found[site].shortened, kind: bound / length}
                found[site] = replace(found[site], shortened=shortened)
            if length > bound and settings.refuse_norm and not settings.shorten:
                found[site] = _refused(found[site], failure)
            else:
                found[site] = _noted(found[site], failure)
    return found


def _by_direction(
    conduct: Conduct, held: Mapping[str, KeptReply], before: Mapping[str, KeptReply]
) -> dict[str, KeptReply]:
    """One site after the other, the one that agrees least first: fewer than half of the sites are ever refused."""
    settings, found = conduct.federation.quarantine, dict(held)
    sites = sorted(site for site, kept in held.items() if kept.refused is None)
    if len(sites) < LEAST_REPLIES:
        return found
    expected = conduct.expected(round_number=conduct.number)
    weights = {site: as_reply(conduct.folder, held[site], expected).weights for site in sites}
    products = update_products(weights, expected.global_weights)
    failure = UpdateOpposed("an update points away from those of the other sites")
    left = list(range(len(sites)))
    while len(left) >= LEAST_REPLIES and len(sites) - len(left) <= (len(sites) - 1) // 2:
        of = agreements(products[left][:, left])
        for row, agreement in zip(left, of, strict=True):
            found[sites[row]] = replace(found[sites[row]], agreement=float(agreement))
        lowest = min(zip(of, left, strict=True))[1]
        site, agreement = sites[lowest], float(min(of))
        past = _agreements_of_run(conduct, site)
        against = opposed([*past, agreement], below=settings.opposed_agreement)
        if agreement >= settings.suspect_agreement and not against:
            break
        _tell(
            conduct, before[site], failure, kind="direction", norm=agreement, bound=settings.suspect_agreement
        )
        found[site] = _noted(found[site], failure)
        if not (against and settings.refuse_opposed) or len(sites) - len(left) >= (len(sites) - 1) // 2:
            break
        found[site] = _refused(found[site], failure)
        left.remove(lowest)
    return found


def _by_record(conduct: Conduct, held: Mapping[str, KeptReply]) -> dict[str, KeptReply]:
    """Without the sites that had a round taken back twice, where the contract can be met without them."""
    found = dict(held)
    failure = UpdateOpposed("two rounds were taken back for the updates of this site")
    for site in left_out_for_good(conduct.run.state):
        if site not in found or found[site].refused is not None:
            continue
        without = {**found, site: _refused(found[site], failure)}
        if (
            breach(conduct.federation.participation, accepted(without), declared=conduct.run.declared())
            is None
        ):
            found = without
    return found


def _tell(conduct: Conduct, before: KeptReply, failure: FedminetError, **figures: object) -> None:
    """Say once that an update is suspect."""
    if failure.code not in (*before.noted, before.refused):
        conduct.run.event(
            "update-suspect", round=conduct.number, site=before.site, code=failure.code, **figures
        )


def _refused(kept: KeptReply, failure: FedminetError) -> KeptReply:
    return replace(kept, refused=failure.code, why=failure.what)


def _noted(kept: KeptReply, failure: FedminetError) -> KeptReply:
    return replace(kept, noted=tuple(sorted({*kept.noted, failure.code})))


def _work_ratios(conduct: Conduct) -> dict[str, float]:
    federation, declared = conduct.federation, conduct.run.declared()
    steps = {
        site: float(
            federation.work_of(site).most_steps(
                n_slices=declared[site].n_training_slices, batch_size=federation.training.batch_size
            )
        )
        for site in federation.sites
        if site in declared
    }
    return {site: work_ratio(of_site, list(steps.values())) for site, of_site in steps.items()}


def _norms_of_run(conduct: Conduct, kind: str) -> list[float]:
    entries = [
        entry
        for record in conduct.run.rounds_recorded(last=HISTORY_ROUNDS)
        for entry in record["sites"].values()
    ]
    return [
        entry[kind] * entry.get("shortened", {}).get(kind, 1.0)
        for entry in entries
        if entry["refused"] is None and kind in entry
    ]


def _agreements_of_run(conduct: Conduct, site: str) -> list[float]:
    records = conduct.run.rounds_recorded(last=HISTORY_ROUNDS)
    return [
        record["sites"][site]["agreement"]
        for record in records
        if "agreement" in record["sites"].get(site, {})
    ]
