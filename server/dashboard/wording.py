"""How the screen says what it knows, and what it does not know."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minet_core.report.wording import STATUS_WORDS, code_meaning, count_text
from server.dashboard.node_presence import Sighting
from server.dashboard.run_view import Quarantine, RunView, SiteView
from server.runs.records import instant

Tone = str
"""`good`, `calm`, `warn` or `bad`: a colour beside words that say the same."""

STATUS_TONES: dict[str, Tone] = {
    "created": "calm",
    "running": "calm",
    "interrupted": "warn",
    "completed": "good",
    "partial": "warn",
    "failed": "bad",
    "unreadable": "bad",
}

NOW_WORDS: dict[str, tuple[str, Tone]] = {
    "waiting": ("reply awaited", "calm"),
    "accepted": ("reply received", "good"),
    "refused": ("reply refused", "bad"),
    "missing": ("no reply", "warn"),
    "idle": ("not asked now", "calm"),
}


@dataclass(frozen=True)
class Seen:
    """When a site was last seen: words, the moment where there is one, and who says so."""

    words: str
    moment: datetime.datetime | None
    source: str


def status_sentence(view: RunView) -> str:
    """What the run's status means now, in a sentence that claims no more than the records do."""
    state = view.state
    match state.status:
        case "created":
            return "The run was made and has not begun: no server application has taken it up yet."
        case "interrupted":
            return (
                "The run waits to be continued. What it has completed is kept; a started server continues it by "
                "itself."
            )
        case "running" if not view.worked_on:
            return (
                "The run is marked as running, but no server application works on it at this moment. A started server "
                "takes it up again by itself."
            )
        case "running":
            return _work_sentence(view)
        case "completed" | "partial" | "failed":
            return STATUS_WORDS[state.status]
    return "This version does not know this status."


def seen(site: SiteView, sighting: Sighting | None) -> Seen:
    """When a site was last seen: as the SuperLink says where it answers, else as the run's own records do."""
    recorded = max((moment for moment in (site.last_reply, site.seen_online) if moment), default=None)
    replied_last = recorded is not None and recorded == site.last_reply
    by_record = "its last reply" if replied_last else "the run's record of who was online"
    if sighting is None or sighting.nodes is None:
        if recorded is None:
            return Seen("never in this run", None, "the SuperLink does not answer")
        return Seen("", recorded, f"by {by_record}; the SuperLink does not answer")
    node = sighting.nodes.get(site.name)
    if node is None:
        if recorded is None:
            return Seen("never", None, "the SuperLink knows no such site")
        return Seen("", recorded, f"by {by_record}; the SuperLink knows no such site")
    if node.status == "online":
        return Seen("online", sighting.asked, "by the SuperLink")
    if node.online_until:
        until = datetime.datetime.fromtimestamp(node.online_until, datetime.UTC)
        return Seen("offline, last online", until, "by the SuperLink")
    return Seen("never: registered, has not connected", None, "by the SuperLink")


def quarantine_words(entry: Quarantine) -> str:
    """What became of the reply, and what its code stands for."""
    what = {
        "reply-refused": "Reply refused",
        "reply-missing": "No reply",
        "update-suspect": "Reply suspect",
        "test-refused": "Test reply refused",
        "round-rolled-back": "Round taken back without this update",
        "validation-fell": "The global model became worse, and the round stands",
    }[entry.event]
    return f"{what}. {code_meaning(entry.code)}"


def event_words(event: Mapping[str, Any]) -> str:
    """One line of events.jsonl as a sentence; an event that this version does not know by its name."""
    get = event.get
    match event["event"]:
        case "run-submitted":
            return "The run was given to Flower again." if get("again") else "The run was given to Flower."
        case "run-started":
            return f"The run began: {count_text(int(get('rounds', 0)), 'round')} with {_names(get('sites'))}."
        case "run-continued":
            return f"The run was continued in round {get('round')}."
        case "sites-online":
            return f"Online: {_names(get('sites'))}."
        case "round-started":
            again = " again" if get("attempt") else ""
            return f"Round {get('round')} was asked for{again}."
        case "reply-accepted":
            return f"Round {get('round')}: the reply of {get('site')} was accepted."
        case "reply-refused":
            return f"Round {get('round')}: the reply of {get('site')} was refused ({get('code')})."
        case "reply-missing":
            return f"Round {get('round')}: no reply of {get('site')} came."
        case "round-rolled-back":
            return (
                f"Round {get('round')} was taken back: it is made again without the update of {get('site')}."
            )
        case "share-bounded":
            return f"Round {get('round')}: {get('site')} counted for {get('share'):.0%}, not {get('claimed'):.0%}."
        case "validation-fell":
            return f"Round {get('round')} made the global model worse at {_names(get('fell'))}; it stands."
        case "update-suspect" if get("kind") == "direction":
            return f"Round {get('round')}: the update of {get('site')} points away from the others."
        case "update-suspect" if get("kind") == "tensors":
            return f"Round {get('round')}: a part of the update of {get('site')} goes against the others."
        case "update-suspect":
            return f"Round {get('round')}: the update of {get('site')} is far larger than the others."
        case "cohort-declared":
            slices = count_text(int(get("n_training_slices", 0)), "training slice")
            return f"{get('site')} is held to {slices} from now on."
        case "round-abandoned":
            return f"Round {get('round')} fell below the participation contract: {get('breach')}."
        case "round-completed":
            return f"Round {get('round')} was completed with {_names(get('sites'))}."
        case "model-published":
            return f"The model of round {get('round')} was published."
        case "test-started":
            return f"Test on the sites' own patients: {_names(get('sites'))} asked."
        case "test-received":
            return f"The test of {get('site')} came in."
        case "test-refused":
            return f"The test of {get('site')} was refused ({get('code')})."
        case "run-interrupted":
            return f"The run was interrupted: {get('reason')}."
        case "run-ended":
            reason = f": {get('reason')}" if get("reason") else ""
            return f"The run ended as {get('status')}{reason}."
    return str(event["event"])


def at(event: Mapping[str, Any]) -> datetime.datetime:
    """When an event happened."""
    return instant(event["time"])


def participation_words(site: SiteView) -> str:
    """In how many of the completed rounds a site counted, and what became of the others."""
    done = len(site.rounds)
    if not done:
        return "no round completed"
    refused = sum(entry.outcome == "refused" for entry in site.rounds)
    missing = sum(entry.outcome == "missing" for entry in site.rounds)
    others = [f"refused in {refused}"] * bool(refused) + [f"missing in {missing}"] * bool(missing)
    return f"{site.n_counted} of {count_text(done, 'round')}" + (f"; {', '.join(others)}" if others else "")


def left_words(seconds: float) -> str:
    """An estimated duration, no finer than an estimate is."""
    if seconds < 60:
        return f"about {max(round(seconds / 5) * 5, 5)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {minutes} min"
    if minutes < 48 * 60:
        return f"about {minutes // 60} h {minutes % 60:02d} min"
    return f"about {count_text(round(minutes / 1440), 'day')}"


def _work_sentence(view: RunView) -> str:
    state = view.state
    number = state.round + 1
    heard = sum(site.now in ("accepted", "refused", "missing") for site in view.sites)
    match state.phase:
        case "asked":
            again = f" (attempt {state.attempt + 1})" if state.attempt else ""
            return f"Round {number}{again} is in work: {heard} of {len(view.sites)} sites heard."
        case "closed":
            return f"Round {number} has its replies; their mean is being taken."
        case "testing":
            tested = sum(site.test is not None for site in view.sites)
            return f"Every round is completed; the sites test the model: {tested} of {len(view.sites)} done."
    if state.round == 0:
        return "The run waits for its sites to be online."
    return f"Round {state.round} is completed; the next one is about to begin."


def _names(sites: Any) -> str:
    return ", ".join(map(str, sites or ())) or "no site"
