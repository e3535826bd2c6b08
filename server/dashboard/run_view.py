"""What the screen says of one run: worked out from the records in its folder, and from nothing else.

No weights, no reply's content and no image is read: the figures are those that `metrics.jsonl` and `tests.json` hold.
"""

from __future__ import annotations

import datetime
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from minet_core.errors import ReplyMissing
from minet_core.settings.adaptation import CANDIDATES
from minet_core.settings.federation import FederationSettings
from server.runs.records import instant
from server.runs.state_machine import TERMINAL, RunState

MEDIAN_OF = 5
"""Rounds whose median the estimate of the time left rests on: a late site or a pause moves it little."""

Records = Sequence[Mapping[str, Any]]
Outcome = Literal["counted", "refused", "missing"]
Now = Literal["waiting", "accepted", "refused", "missing", "idle"]

REFUSED_EVENTS = ("reply-refused", "test-refused")
CAME_EVENTS = ("reply-accepted", "reply-refused", "test-received", "test-refused")
QUARANTINE_EVENTS = (
    "reply-refused",
    "reply-missing",
    "update-suspect",
    "test-refused",
    "round-rolled-back",
    "validation-fell",
)

TEST_SHOWN = ("global_psnr_db", "global_ssim", "sinc_psnr_db", "sinc_ssim", "n_test_volumes", "few_patients")


@dataclass(frozen=True)
class Figures:
    """One site in one completed round; None for what its reply did not tell, as a refused one."""

    round: int
    outcome: Outcome
    psnr_db: float | None
    ssim: float | None
    train_loss: float | None


@dataclass(frozen=True)
class SiteView:
    """One site over the run.

    now: of the round in work. last_reply: when a reply of it came, counted or refused. seen_online: when the run last
    recorded it as online. refusals: how often each code was given, over every attempt. bytes: of completed rounds.
    share: of the last mean it was in.
    """

    name: str
    now: Now
    rounds: tuple[Figures, ...] = ()
    refusals: Mapping[str, int] = field(default_factory=dict)
    n_suspect: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    n_training_slices: int | None = None
    share: float | None = None
    last_reply: datetime.datetime | None = None
    seen_online: datetime.datetime | None = None
    test: Mapping[str, float] | None = None

    @property
    def n_counted(self) -> int:
        return sum(entry.outcome == "counted" for entry in self.rounds)

    @property
    def last_counted(self) -> Figures | None:
        """The last round whose mean it was in."""
        return next((entry for entry in reversed(self.rounds) if entry.outcome == "counted"), None)

    @property
    def last_scored(self) -> Figures | None:
        """The last of these that scored the model on its validation patients."""
        return next((entry for entry in reversed(self.rounds) if entry.psnr_db is not None), None)


@dataclass(frozen=True)
class TimeLeft:
    """An estimate: the median of the last rounds times those that are left."""

    seconds: float
    ends: datetime.datetime
    median_s: float
    n_rounds: int


@dataclass(frozen=True)
class Quarantine:
    """A reply that was refused, did not come, or was suspect: `code` says which, `reason` is the server's own word."""

    time: datetime.datetime
    event: str
    round: int | None
    site: str
    code: str
    reason: str | None


@dataclass(frozen=True)
class RunView:
    """One run as it stands. worked_on: whether a server application holds the run's lock."""

    name: str
    federation: str
    scale: int
    algorithm: str
    state: RunState
    worked_on: bool
    started: datetime.datetime
    updated: datetime.datetime
    round_asked: datetime.datetime | None
    deadline_s: float
    quorum: int
    sites: tuple[SiteView, ...]
    round_seconds: tuple[tuple[int, float], ...]
    time_left: TimeLeft | None
    quarantines: tuple[Quarantine, ...]
    events: tuple[Mapping[str, Any], ...]
    rounds: tuple[Mapping[str, Any], ...]

    @property
    def ended(self) -> bool:
        return self.state.status in TERMINAL


@dataclass(frozen=True)
class RunRecords:
    """What a run's folder holds at one moment. declared: by site, the training slices that it declared. tests: by site,
    the scores on its test split.
    """

    state: RunState
    worked_on: bool
    rounds: Records
    events: Records
    declared: Mapping[str, int]
    tests: Mapping[str, Mapping[str, float]]


def view_of(
    name: str, federation: FederationSettings, records: RunRecords, *, now: datetime.datetime
) -> RunView:
    """The run as its records say."""
    state, events = records.state, records.events
    completed = [record for record in records.rounds if record["round"] <= state.round]
    asked = instant(state.asked_at) if state.phase in ("asked", "closed") and state.asked_at else None
    current = _events_of_round_in_work(events, state)
    named = [site for record in completed for site in record["sites"]]
    return RunView(
        name=name,
        federation=federation.name,
        scale=federation.scale,
        algorithm=federation.algorithm.name,
        state=state,
        worked_on=records.worked_on,
        started=instant(state.started),
        updated=instant(state.updated or state.started),
        round_asked=asked,
        deadline_s=federation.participation.deadline_s,
        quorum=federation.participation.quorum,
        sites=tuple(
            _site(
                site,
                state,
                completed,
                events,
                current,
                declared=records.declared.get(site),
                test=_whole_test(records.tests.get(site)),
            )
            for site in dict.fromkeys([*federation.sites, *named])
        ),
        round_seconds=tuple((record["round"], record["seconds"]) for record in completed),
        time_left=time_left(state, [record["seconds"] for record in completed], asked=asked, now=now),
        quarantines=tuple(_quarantine(event) for event in events if event["event"] in QUARANTINE_EVENTS),
        events=tuple(events),
        rounds=tuple(completed),
    )


def time_left(
    state: RunState, seconds: Sequence[float], *, asked: datetime.datetime | None, now: datetime.datetime
) -> TimeLeft | None:
    """How long the rounds that are left will take; None where nothing can be said: no round yet, or none in work.

    seconds: of each completed round. asked: when the round in work began; the part of it that has passed counts,
    up to the median.
    """
    left = state.rounds - state.round
    if state.status != "running" or not seconds or left < 1:
        return None
    recent = seconds[-MEDIAN_OF:]
    median = statistics.median(recent)
    passed = 0.0 if asked is None else (now - asked).total_seconds()
    remaining = left * median - min(max(passed, 0.0), median)
    return TimeLeft(remaining, now + datetime.timedelta(seconds=remaining), median, len(recent))


def _events_of_round_in_work(events: Records, state: RunState) -> Records:
    """What has happened since the round in work was first asked for."""
    number = state.round + 1
    first = next(
        (
            index
            for index, event in enumerate(events)
            if event["event"] == "round-started" and event.get("round") == number
        ),
        None,
    )
    return () if first is None or state.phase not in ("asked", "closed") else events[first:]


def _site(
    name: str,
    state: RunState,
    rounds: Records,
    events: Records,
    current: Records,
    *,
    declared: int | None,
    test: Mapping[str, float] | None,
) -> SiteView:
    entries = [(record["round"], record["sites"].get(name)) for record in rounds]
    counted = [entry for _, entry in entries if entry is not None and entry["refused"] is None]
    own = [event for event in events if event.get("site") == name]
    refusals = Counter(event["code"] for event in own if event["event"] in REFUSED_EVENTS)
    missing = sum(event["event"] == "reply-missing" for event in own)
    if missing:
        refusals[ReplyMissing.code] += missing
    return SiteView(
        name=name,
        now=_now(name, state, current),
        rounds=tuple(_figures(number, entry) for number, entry in entries),
        refusals=dict(sorted(refusals.items())),
        n_suspect=sum(event["event"] == "update-suspect" for event in own),
        bytes_up=sum(entry["bytes_up"] for _, entry in entries if entry is not None),
        bytes_down=sum(entry["bytes_down"] for _, entry in entries if entry is not None),
        n_training_slices=declared if not counted else counted[-1]["n_training_slices"],
        share=counted[-1].get("share") if counted else None,
        last_reply=_latest(event for event in own if event["event"] in CAME_EVENTS),
        seen_online=_latest(
            event for event in events if event["event"] == "sites-online" and name in event["sites"]
        ),
        test=test,
    )


def _whole_test(test: Mapping[str, float] | None) -> Mapping[str, float] | None:
    """The same; raises LookupError where it lacks what every test tells, or chose no model there is."""
    if test is not None:
        for figure in TEST_SHOWN:
            test[figure]
        CANDIDATES[int(test.get("chosen", 0))]
    return test


def _figures(number: int, entry: Mapping[str, Any] | None) -> Figures:
    if entry is None or entry["refused"] == ReplyMissing.code:
        return Figures(number, "missing", None, None, None)
    if entry["refused"] is not None:
        return Figures(number, "refused", None, None, None)
    validation = entry.get("validation", {})
    return Figures(
        number, "counted", validation.get("psnr_db"), validation.get("ssim"), entry.get("train_loss")
    )


def _now(name: str, state: RunState, current: Records) -> Now:
    """Where the site stands in the round in work: the last that was heard of it."""
    if state.phase not in ("asked", "closed"):
        return "idle"
    said: dict[str, Now] = {
        "reply-accepted": "accepted",
        "reply-refused": "refused",
        "reply-missing": "missing",
    }
    heard: Now = "waiting"
    for event in current:
        if event["event"] == "round-started" and heard != "accepted":
            heard = "waiting"  # asked again
        elif event.get("site") == name and event["event"] in said:
            heard = said[event["event"]]
    return heard


def _quarantine(event: Mapping[str, Any]) -> Quarantine:
    code, reason = event.get("code"), event.get("reason")
    if event["event"] == "reply-missing":
        code = ReplyMissing.code
    if event["event"] == "update-suspect":
        code = event.get("code", "FM-F410")
        reason = f"{event['kind'].replace('_', ' ')} {event['norm']:.3g}, bound {event['bound']:.3g}"
    if event["event"] in ("round-rolled-back", "validation-fell"):
        reason = f"the validation fell by more than {event['fall_db']:g} dB at {', '.join(event['fell'])}"
    return Quarantine(
        time=instant(event["time"]),
        event=event["event"],
        round=event.get("round"),
        site=event["site"],
        code=str(code),
        reason=reason,
    )


def _latest(events: Any) -> datetime.datetime | None:
    moments = [instant(event["time"]) for event in events]
    return max(moments) if moments else None
