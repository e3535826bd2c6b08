"""What the way to the server shows: that it is open, that both clocks agree, and how long certificates are valid."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509

from client.finding import Finding
from client.kit import Kit
from client.reach import ServerAnswer, TlsPair, require_server
from client.site_home import SiteHome
from client.site_keys import SiteKeys
from minet_core.runtime.errors import AdmissionRefused, ClockWrong, FedminetError

MOST_AHEAD_S = 5.0
MOST_BEHIND_S = 305.0
"""Flower's server accepts what a node signed from 5 s in its future to 305 s in its past (flwr.common.constant)."""

WARN_AHEAD_S = 2.5
WARN_BEHIND_S = 30.0

WARN_DAYS = 30.0


def check_server(home: SiteHome, kit: Kit | None, *, deadline_s: float) -> list[Finding]:
    """The way to the server, the clock, and the certificates."""
    if kit is None:
        return [Finding(check, "unknown", "the address is in the kit") for check in ("server", "clock")]
    own = TlsPair(kit.certificate, SiteKeys.of(home.keys).tls_key)
    files = {"authority": kit.ca, "site": kit.certificate}
    try:
        answer = require_server(kit.settings.address, ca=kit.ca, own=own, deadline_s=deadline_s)
    except FedminetError as failure:
        return [
            Finding.refused("server", failure),
            Finding("clock", "unknown", "the server told no time"),
            *certificate_findings(files),
        ]
    through = "" if answer.proxy is None else f" through the proxy {answer.proxy}"
    return [
        Finding("server", "ok", f"{answer.address} answers{through} and proves to be the federation's"),
        clock_finding(answer),
        validity_finding("server", answer.certificate_ends),
        *certificate_findings(files),
    ]


def clock_finding(answer: ServerAnswer) -> Finding:
    """This machine's clock against the server's. Refused where it is surely outside of what the server accepts."""
    ahead, error = answer.clock_ahead_s, answer.clock_error_s
    action = "Let the machine set its clock by the hospital's time server (NTP)"
    if ahead is None:
        return Finding(
            "clock",
            "unknown",
            "the server told no time",
            f"{MOST_BEHIND_S:g} s behind the server to {MOST_AHEAD_S:g} s ahead of it",
            "Compare this machine's clock with a clock that is right",
        )
    got = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server, to {error:.1f} s"
    expected = f"at most {MOST_AHEAD_S:g} s ahead or {MOST_BEHIND_S:g} s behind"
    if ahead - error > MOST_AHEAD_S or ahead + error < -MOST_BEHIND_S:
        failure = ClockWrong(
            "this machine's clock is wrong, and the server would refuse the node",
            got=got,
            expected=expected,
            action=action,
        )
        return Finding.refused("clock", failure)
    if ahead > WARN_AHEAD_S or ahead < -WARN_BEHIND_S:
        return Finding("clock", "warning", got, expected, action)
    return Finding("clock", "ok", got)


def certificate_findings(files: dict[str, Path]) -> list[Finding]:
    """How long each certificate is valid, by what it is for."""
    return [
        validity_finding(name, x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc)
        for name, path in files.items()
    ]


def validity_finding(name: str, ends: datetime.datetime) -> Finding:
    """Refused once the certificate has ended to be valid, a warning from 30 days before."""
    left = (ends - datetime.datetime.now(datetime.UTC)).total_seconds() / 86400
    check, until = f"{name} cert", f"valid until {ends:%Y-%m-%d %H:%M} UTC"
    if left <= 0:
        failure = AdmissionRefused(
            f"the certificate of the {name} is no longer valid",
            got=until,
            action="Ask the coordinator for a new kit",
        )
        return Finding.refused(check, failure)
    if left < WARN_DAYS:
        return Finding(
            check,
            "warning",
            f"{until}, {left:.0f} days",
            f"more than {WARN_DAYS:g} days",
            "Tell the coordinator",
        )
    return Finding(check, "ok", until)
