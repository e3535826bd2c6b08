"""What `fedminet site status` says: registered, configured and training, none of which follows from another.

Each is told by whoever knows it. *Registered*: the node noted that the server let it in, and its supervisor sees that
very process alive. *Configured*: the checks of kit, keys, policy and store. *Training*: a task holds the lock on its
page of work. A process that was killed holds no lock, so nothing of it reads as running.

Where node and trainer are two containers, each keeps a page of its own and the answer is the same in either: what the
one cannot see, the other has written down. Process numbers, which mean nothing beside their container, decide nothing.
Imports neither torch nor Flower unless nothing runs and the checks have to be made here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from client.status.current_task import Answered, LastRound, Request, in_work, last_round
from client.status.finding import Finding, configuration, is_configured
from client.status.node_activity import last_answer, read_replies
from client.status.part_status import PartStatus, parts_of
from client.status.status_file import FormerRegistration, Registration, last_registration
from client.status_folders import NODE_NOTES
from minet_core.errors import FedminetError

HEALTHY, UNHEALTHY = 0, 1
"""Exit statuses, as a container's health check wants them."""

SILENT_AFTER_S = 60.0
"""A node asks its server several times a second; no answer for so long is worth a word."""

AHEAD_S = 60.0
"""What was written so much later than now was written by another clock: this one was set back, or is wrong."""

_SEVERITY = ("ok", "note", "warning", "unknown", "refusal")


@dataclass(frozen=True)
class SiteStatus:
    """All that is known of the site at `now`, seconds since 1970. parts: the one client; or node and trainer.

    site: its name, as the client has it, and before the first start site.yaml; None where neither can be read.
    """

    now: float
    site: str | None
    parts: tuple[PartStatus, ...]
    registration: Registration
    former: FormerRegistration | None
    findings: tuple[Finding, ...]
    checked: float
    work: tuple[Request, float] | None
    last: LastRound
    sent: float | None
    answered: float | None

    @property
    def configured(self) -> bool:
        return is_configured(self.findings)

    @property
    def training(self) -> bool:
        return self.work is not None and self.work[0].work == "train"

    @property
    def runs(self) -> bool:
        return all(part.runs for part in self.parts)

    @property
    def healthy(self) -> bool:
        """Whether the client runs and looks after its processes; a node that waits to be let in is looked after."""
        return self.runs and all(part.looks_after_itself(self.now) for part in self.parts)

    @property
    def exit_status(self) -> int:
        return HEALTHY if self.healthy else UNHEALTHY


def read_status(
    home: Path, *, check: Callable[[], Sequence[Finding]], now: float | None = None
) -> SiteStatus:
    """The status of the site at `home`. check: makes the checks of the configuration, where no client runs."""
    moment = time.time() if now is None else now
    parts = parts_of(home)
    registration, former = _registration(parts[0], moment)  # the one client, or the node
    if any(part.runs and part.page is not None for part in parts):
        findings = _worst(finding for part in parts for finding in part.findings())
        checked = min(_checked(part) or moment for part in parts)
    else:
        findings, checked = tuple(check()), moment
    last = last_round(home)
    message = "" if last.answered is None else last.answered.request.message
    return SiteStatus(
        now=moment,
        site=next((part.page.site for part in parts if part.page is not None), None) or _named(home),
        parts=parts,
        registration=registration,
        former=former,
        findings=findings,
        checked=checked,
        work=in_work(home),
        last=last,
        sent=read_replies(home / NODE_NOTES).get(message),
        answered=last_answer(home / NODE_NOTES),
    )


def _named(home: Path) -> str | None:
    from client.site_home import SiteHome  # a health check of a client that runs reads no settings

    try:
        return SiteHome(home).settings().name
    except FedminetError:  # the checks of the configuration say what is wrong with site.yaml
        return None


def _registration(node: PartStatus, now: float) -> tuple[Registration, FormerRegistration | None]:
    """How the node stands with the server, told by whoever keeps it; and the registration before."""
    page = node.page
    if node.runs:
        checking = f"the {node.name} is making its checks before it starts the node"
        if node.part == "node":
            checking = "the node is making its checks"
        if page is None:  # it has the lock, and no page yet
            return Registration(False, now, reason=checking), None
        return page.registration or Registration(False, page.started, reason=checking), page.former
    reason = "no client runs" if node.part == "all" else "the node does not run"
    former = None if page is None or node.looked is None else last_registration(page, node.looked)
    return Registration(False, node.gone_since or now, reason=reason), former


def _checked(part: PartStatus) -> float | None:
    return None if part.page is None else part.page.checked or part.page.started


def _worst(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """One finding a check: where two parts have made it, the one that says more against it."""
    worst: dict[str, Finding] = {}
    for finding in findings:
        known = worst.get(finding.check)
        if known is None or _SEVERITY.index(finding.level) > _SEVERITY.index(known.level):
            worst[finding.check] = finding
    return tuple(worst.values())


def as_json(status: SiteStatus) -> dict[str, Any]:
    """The status as plain values; times as seconds since 1970."""
    page, registration, last = status.parts[0].page, status.registration, status.last
    refused = [finding.as_json() for finding in configuration(status.findings) if finding.level != "ok"]
    return {
        "schema": 1,
        "time": status.now,
        "healthy": status.healthy,
        "site": status.site,
        "federation": None if page is None else page.federation,
        "server": {"address": None if page is None else page.address, "last_answer": status.answered},
        "client": _client_json(min(status.parts, key=lambda part: (part.runs, part.looked or 0.0))),
        "parts": {part.name: _client_json(part) for part in status.parts if len(status.parts) > 1},
        "registered": {
            "is": registration.registered,
            "since": registration.since,
            "node": None if registration.node_id is None else str(registration.node_id),
            "reason": registration.reason,
            "next_try": registration.next_try,
            "last": None
            if status.former is None
            else {
                "node": str(status.former.node_id),
                "since": status.former.since,
                "until": status.former.until,
            },
        },
        "configured": {"is": status.configured, "checked": status.checked, "remarks": refused},
        "training": {"is": status.training, "work": _work_json(status.work)},
        "last_round": None
        if last.answered is None
        else {**_answered_json(last.answered), "reply_sent": status.sent is not None, "sent": status.sent},
        "last_failure": None if last.failed is None else _answered_json(last.failed),
    }


def as_text(status: SiteStatus) -> str:
    """The status for a person."""
    lines = [
        f"The site{'' if status.site is None else f' {status.site}'}, {_time(status.now)}",
        *(f"{part.name:<11} {_client_text(part, status.now)}" for part in status.parts),
        f"registered  {_registered_text(status)}",
        f"configured  {_configured_text(status)}",
        f"training    {_training_text(status)}",
        f"last round  {_last_text(status)}",
    ]
    if status.last.failed is not None:
        failed = status.last.failed
        lines.append(
            f"last error  {failed.code} in round {failed.request.round_number} of {failed.request.run}, "
            f"{_when(failed.ended, status.now)}; the site's log has the whole message"
        )
    return "\n".join(lines)


def _client_text(part: PartStatus, now: float) -> str:
    page = part.page
    if page is None:
        return "runs, and has written nothing yet" if part.runs else "does not run, and never has"
    if part.runs:
        text = f"runs since {_when(page.started, now)}"
        if not part.looks_after_itself(now) and part.looked is not None:
            text += f", but has not looked after its processes since {_when(part.looked, now)}"
        return text
    if page.ended is None:
        seen = "" if part.looked is None else f"; last seen {_when(part.looked, now)}"
        return f"does not run: it was killed{seen}"
    why = f": {page.why_ended}" if page.why_ended else ""
    return f"does not run since {_when(page.ended, now)}{why}"


def _registered_text(status: SiteStatus) -> str:
    registration, former = status.registration, status.former
    if registration.registered:
        text = f"yes, since {_when(registration.since, status.now)}: the server let node {registration.node_id} in"
        if status.answered is None or status.now - status.answered > SILENT_AFTER_S:
            since = "" if status.answered is None else f" since {_when(status.answered, status.now)}"
            return f"{text}; the server has not answered{since}"
        return f"{text} and answered {_age(status.now - status.answered)} ago"
    text = f"no, since {_when(registration.since, status.now)}: {registration.reason}"
    if registration.next_try is not None:
        text += f"; next try in {max(0.0, registration.next_try - status.now):.0f} s"
    if former is not None:
        text += f"; last registered until {_when(former.until, status.now)}"
    return text


def _configured_text(status: SiteStatus) -> str:
    found = configuration(status.findings)
    told = [f"{finding.check}: {finding.got}" for finding in found if finding.level != "ok"]
    text = "yes" if status.configured else "no"
    checked = f"checked {_when(status.checked, status.now)}"
    return f"{text}, {checked}" + (f"; {'; '.join(told)}" if told else "")


def _training_text(status: SiteStatus) -> str:
    if status.work is None:
        return "no, nothing is in work"
    request, since = status.work
    what = f"round {request.round_number} of {request.run}, since {_when(since, status.now)}"
    return f"yes, {what}" if request.work == "train" else f"no, but testing: {what}"


def _last_text(status: SiteStatus) -> str:
    answered = status.last.answered
    if answered is None:
        return "none yet"
    if status.sent is not None:
        sent = f"reply sent {_when(status.sent, status.now)}"
    elif answered.request.message:
        sent = "reply not sent"
    else:
        sent = "whether the reply was sent is not known"
    request = answered.request
    return f"{request.round_number} of {request.run}, trained {_when(answered.ended, status.now)}; {sent}"


def _client_json(part: PartStatus) -> dict[str, Any]:
    page = part.page
    return {
        "runs": part.runs,
        "since": page.started if part.runs and page is not None else None,
        "looked": part.looked,
        "ended": None if page is None or part.runs else page.ended,
        "why_ended": None if page is None or part.runs else page.why_ended,
    }


def _work_json(work: tuple[Request, float] | None) -> dict[str, Any] | None:
    if work is None:
        return None
    request, since = work
    return {"task": request.work, "run": request.run, "round": request.round_number, "since": since}


def _answered_json(answered: Answered) -> dict[str, Any]:
    request = answered.request
    return {
        "task": request.work,
        "run": request.run,
        "round": request.round_number,
        "began": answered.began,
        "ended": answered.ended,
        "code": answered.code,
        "parts": {
            part: {"elapsed": elapsed, "processor": processor}
            for part, (elapsed, processor) in answered.parts.items()
        },
    }


def _when(moment: float, now: float) -> str:
    if moment - now > AHEAD_S:
        return f"{_time(moment)} ({_age(moment - now)} ahead of this machine's clock)"
    return f"{_time(moment)} ({_age(now - moment)} ago)"


def _time(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
