"""Which replies of a round count: their norms and directions held against the round's and the run's.

A judgement is made from the replies alone and can be made twice: what was found before is found again.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import replace

from minet_core.algorithms.influence import agreements, products_and_tensors, turned_shares
from minet_core.errors import FedminetError, UpdateOpposed, UpdateSuspect
from minet_core.runtime.said_elsewhere import without_folders
from minet_core.training.loop import learning_rate_at
from minet_core.weights.update_norm import (
    HISTORY_ROUNDS,
    MIN_REPLIES,
    OPPOSED_AT_ONCE,
    TURNED_TOLD,
    lasting,
    low_median,
    norm_bound,
    opposed,
)
from server.rounds.context import RoundContext
from server.rounds.replies import KeptReply, as_reply, keep, read_replies
from server.rounds.roll_back import left_out_for_good
from server.rounds.unlike_sites import entries_of, is_unlike
from server.runs.participation import participation_violation

NORMS = ("update_norm", "memory_norm")
"""What of a reply is held against the round and the run: see `server.rounds.replies.KeptReply`."""

MEMORY_FACTOR = 10.0
"""Least multiple of the median for an algorithm's own tensors: a site that takes part for the first time sends a whole
control, and the others the change of theirs."""

MIN_NORMS = 9
"""Norms of former rounds from which the run's median alone may refuse: as many rounds as judge a direction."""

JUDGED = (None, UpdateSuspect.code, UpdateOpposed.code)
"""Codes of replies that a judgement is made of: accepted, or refused by an earlier one."""


def screen_update_norms(conduct: RoundContext) -> dict[str, KeptReply]:
    """The round's replies with the verdict on each; what is new of it is kept, and told in the events."""
    before = read_replies(conduct.folder)
    held = {
        site: replace(kept, refused=None, why=None, shortened={}, agreement=None, turned=None, noted=())
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
    conduct: RoundContext, held: Mapping[str, KeptReply], before: Mapping[str, KeptReply]
) -> dict[str, KeptReply]:
    settings, found = conduct.federation.quarantine, dict(held)
    failure = UpdateSuspect("an update is far larger than those of the round and of the run")
    for kind in NORMS:
        norms = {site: value for site, kept in held.items() if (value := getattr(kept, kind)) is not None}
        usual = _usual(conduct, kind, norms)
        # One or two replies and a few rounds are no measure to refuse a site by: it is told of, and counts.
        sure = len(norms) >= MIN_REPLIES or len(_norms_of_run(conduct, kind)) >= MIN_NORMS
        factor = settings.norm_factor if kind == "update_norm" else max(settings.norm_factor, MEMORY_FACTOR)
        for site, length in norms.items() if usual else ():
            bound = factor * usual[site]
            suspect_from = (
                min(settings.suspect_factor * usual[site], bound) if kind == "update_norm" else bound
            )
            if length <= suspect_from or found[site].refused is not None:
                continue
            passed = bound if length > bound else suspect_from
            _tell(conduct, before[site], failure, kind=kind, norm=length, bound=passed)
            if length > bound and settings.shorten:
                shortened = {**found[site].shortened, kind: bound / length}
                found[site] = replace(found[site], shortened=shortened)
            if length > bound and settings.refuse_norm and sure and not settings.shorten:
                found[site] = _refused(found[site], failure)
            else:
                found[site] = _noted(found[site], failure)
    return found


def _by_direction(
    conduct: RoundContext, held: Mapping[str, KeptReply], before: Mapping[str, KeptReply]
) -> dict[str, KeptReply]:
    """One site after the other, the one that agrees least first: fewer than half of the sites are ever refused.

    An update that was refused for its norm has a direction too, which counts when its site sends a smaller one.
    """
    found = dict(held)
    sites = sorted(held, key=lambda site: (held[site].refused is not None, site))
    n_sites = sum(kept.refused is None for kept in held.values())
    if len(sites) < MIN_REPLIES:
        return found
    expected = conduct.expected(round_number=conduct.number)
    weights = {site: as_reply(conduct.folder, held[site], expected).weights for site in sites}
    products, of_tensors = products_and_tensors(weights, expected.global_weights)
    failure = UpdateOpposed("an update points away from those of the other sites")
    left, may_refuse = list(range(n_sites)), (n_sites - 1) // 2
    told: dict[tuple[str, str], tuple[float, float]] = {}
    while len(left) >= MIN_REPLIES:
        of = agreements(products[left][:, left])
        shares = turned_shares(of_tensors, left)
        for row, agreement, share in zip(left, of, shares, strict=True):
            turned = None if math.isnan(share) else float(share)
            found[sites[row]] = replace(found[sites[row]], agreement=float(agreement), turned=turned)
        by_agreement = [sites[row] for _, row in sorted(zip(of, left, strict=True))]
        against = []
        for site in by_agreement:
            seen, opposes = _looked_at(conduct, found[site], is_lowest=site == by_agreement[0])
            against += [site] if opposes and not is_unlike(conduct, found, site) else []
            told = {**{(site, kind): figures for kind, figures in seen.items()}, **told}
        if not against or not conduct.federation.quarantine.refuse_opposed or not may_refuse:
            break
        found[against[0]] = _refused(found[against[0]], failure)
        left.remove(sites.index(against[0]))
        may_refuse -= 1
    for row in range(n_sites, len(sites)):
        beside = [*left, row]
        if len(beside) < MIN_REPLIES:  # the others have no direction of their own
            break
        agreement = float(agreements(products[beside][:, beside])[-1])
        share = float(turned_shares(of_tensors, beside)[-1])
        found[sites[row]] = replace(
            found[sites[row]], agreement=agreement, turned=None if math.isnan(share) else share
        )
    for (site, kind), (figure, bound) in told.items():
        _tell(conduct, before[site], failure, kind=kind, norm=figure, bound=bound)
        found[site] = _noted(found[site], failure)
    return found


def _looked_at(
    conduct: RoundContext, kept: KeptReply, *, is_lowest: bool
) -> tuple[dict[str, tuple[float, float]], bool]:
    """By kind, the figure and the bound that the direction of an update is told for; and whether it is to be refused.

    is_lowest: it agrees least of its round. Of the others a low cosine says little: the odd one lowers it.
    """
    settings, told = conduct.federation.quarantine, dict[str, tuple[float, float]]()
    cosines = [*_figures_of_run(conduct, kept.site, "agreement"), kept.agreement or 0.0]
    shares = _figures_of_run(conduct, kept.site, "turned")
    shares += [] if kept.turned is None else [kept.turned]
    share, cosine = lasting(shares), lasting(cosines)
    unlike = cosine is not None and cosine < settings.suspect_agreement
    if is_lowest and (cosines[-1] < OPPOSED_AT_ONCE or unlike):
        told["direction"] = (cosines[-1], settings.suspect_agreement)
    if share is not None and share > TURNED_TOLD:
        told["tensors"] = (share, TURNED_TOLD)
    return told, opposed(cosines if is_lowest else [], shares, below=settings.opposed_agreement)


def _by_record(conduct: RoundContext, held: Mapping[str, KeptReply]) -> dict[str, KeptReply]:
    """Without the sites that had a round taken back twice, where the contract can be met without them."""
    found = dict(held)
    failure = UpdateOpposed("two rounds were taken back for the updates of this site")
    for site in left_out_for_good(conduct.run.state):
        if site not in found or found[site].refused is not None:
            continue
        without = {**found, site: _refused(found[site], failure)}
        if (
            participation_violation(
                conduct.federation.participation, accepted(without), declared=conduct.run.declared()
            )
            is None
        ):
            found = without
    return found


def _tell(conduct: RoundContext, before: KeptReply, failure: FedminetError, **figures: object) -> None:
    """Say once that an update is suspect."""
    if failure.code not in (*before.noted, before.refused):
        conduct.run.event(
            "update-suspect", round=conduct.number, site=before.site, code=failure.code, **figures
        )


def _refused(kept: KeptReply, failure: FedminetError) -> KeptReply:
    return replace(kept, refused=failure.code, why=without_folders(failure.what))


def _noted(kept: KeptReply, failure: FedminetError) -> KeptReply:
    return replace(kept, noted=tuple(sorted({*kept.noted, failure.code})))


def _usual(conduct: RoundContext, kind: str, norms: Mapping[str, float]) -> dict[str, float]:
    """By site, the norm that its update is held against; empty where nothing can be said.

    The larger of the medians of the round and of the run; for a site that trains more than the median site, as much
    larger as the sum of its steps' learning rates is.
    """
    past = _norms_of_run(conduct, kind)
    if not norms or (len(norms) < MIN_REPLIES and not past):
        return {}
    of_round = [(norms[site], _work(conduct, site, conduct.number)) for site in norms]
    lengths = [entries for entries in (of_round if len(norms) > 1 else [], past) if entries]
    medians = [
        (
            norm_bound([], [length for length, _ in entries], factor=1.0),
            low_median([work for _, work in entries]),
        )
        for entries in lengths
    ]
    return {
        site: max(
            (length or 0.0)
            * (max(1.0, _work(conduct, site, conduct.number) / work) if kind == "update_norm" else 1.0)
            for length, work in medians
        )
        for site in norms
    }


def _work(conduct: RoundContext, site: str, round_number: int) -> float:
    """The sum of the learning rates of a site's steps in a round, which bounds how far Adam moves a weight in it."""
    federation = conduct.federation
    declared = conduct.run.declared().get(site)
    training = federation.training
    n_steps = federation.work_of(site).max_steps(
        n_slices=1 if declared is None else declared.n_training_slices, batch_size=training.batch_size
    )
    return _summed_rates(
        round_number, federation.rounds, n_steps, training.warmup_steps, training.decay_fraction
    )


@functools.lru_cache(maxsize=4096)
def _summed_rates(
    round_number: int, n_rounds: int, n_steps: int, warmup_steps: int, decay_fraction: float
) -> float:
    first = (round_number - 1) * n_steps
    return sum(
        learning_rate_at(
            step,
            total_steps=n_rounds * n_steps,
            learning_rate=1.0,
            warmup_steps=warmup_steps,
            decay_fraction=decay_fraction,
        )
        for step in range(first, first + n_steps)
    )


def _norms_of_run(conduct: RoundContext, kind: str) -> list[tuple[float, float]]:
    """The norms of the replies that counted in the last rounds, each with the work behind it."""
    return [
        (
            entry[kind] * entry.get("shortened", {}).get(kind, 1.0),
            _work(conduct, site, record["round"]),
        )
        for record in conduct.run.rounds_recorded(last=HISTORY_ROUNDS)
        for site, entry in record["sites"].items()
        if entry["refused"] is None and kind in entry
    ]


def _figures_of_run(conduct: RoundContext, site: str, key: str) -> list[float]:
    entries = entries_of(conduct.run.rounds_recorded(last=HISTORY_ROUNDS), site)
    return [entry[key] for entry in entries if key in entry]
