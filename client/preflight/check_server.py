"""What the way to the server shows: that it is open, that both clocks agree, and how long certificates are valid."""

from __future__ import annotations

from client.admission.keys import SiteKeys
from client.admission.kit import Kit
from client.admission.tls import TlsFiles
from client.preflight.server_reachability import ServerAnswer, require_server
from client.site_home import SiteHome
from client.status.finding import Finding
from minet_core.admission.expiry import WARNING_DAYS, Expiry
from minet_core.admission.kit import read_authority
from minet_core.errors import AdmissionRefused, ClockWrong, FedminetError

MAX_AHEAD_S = 5.0
MAX_BEHIND_S = 305.0
"""Flower's server accepts what a node signed from 5 s in its future to 305 s in its past (flwr.common.constant)."""

CERTIFICATE_REFUSED = 400
"""What nginx answers to a certificate that has expired, was revoked or is of another authority. Behind a good one this
question, which is no call of a node, gets 403 or 405, and from a server without a proxy 404."""

WARN_AHEAD_S = 2.5
WARN_BEHIND_S = 30.0

_ASK_THE_COORDINATOR = "Tell the coordinator, who renews it"


def check_server(home: SiteHome, kit: Kit | None, *, deadline_s: float) -> list[Finding]:
    """The way to the server, the clock, and the certificates."""
    if kit is None:
        return [Finding(check, "unknown", "the address is in the kit") for check in ("server", "clock")]
    tls = TlsFiles(kit.ca, kit.certificate, SiteKeys.of(home.keys).tls_key)
    try:
        answer = require_server(kit.settings.address, tls=tls, deadline_s=deadline_s)
    except FedminetError as failure:
        return [
            Finding.refused("server", failure),
            Finding("clock", "unknown", "the server told no time"),
            *certificate_findings(kit),
        ]
    through = "" if answer.proxy is None else f" through the proxy {answer.proxy}"
    server = Finding("server", "ok", f"{answer.address} answers{through} and proves to be the federation's")
    if answer.http_status == CERTIFICATE_REFUSED:
        server = Finding.refused(
            "server",
            AdmissionRefused(
                "the coordinator's proxy does not take this site's certificate",
                got=f"HTTP {answer.http_status} of {answer.address}{through}",
                action="Ask the coordinator whether it was revoked; else take his next kit with `fedminet site accept`",
            ),
        )
    return [
        server,
        clock_finding(answer),
        validity_finding(
            "server", Expiry("the server's certificate", answer.certificate_ends, _ASK_THE_COORDINATOR)
        ),
        *certificate_findings(kit),
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
            f"{MAX_BEHIND_S:g} s behind the server to {MAX_AHEAD_S:g} s ahead of it",
            "Compare this machine's clock with a clock that is right",
        )
    got = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server, to {error:.1f} s"
    expected = f"at most {MAX_AHEAD_S:g} s ahead or {MAX_BEHIND_S:g} s behind"
    if ahead - error > MAX_AHEAD_S or ahead + error < -MAX_BEHIND_S:
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


def certificate_findings(kit: Kit) -> list[Finding]:
    """How long the kit's certificates are valid. Raises AdmissionRefused (FM-F404) for an authority that is none."""
    ends = read_authority(kit.ca).not_valid_after_utc
    authority = Expiry("the certificate of the federation's authority", ends, _ASK_THE_COORDINATOR)
    return [validity_finding("authority", authority), validity_finding("site", kit.expiry())]


def validity_finding(name: str, expiry: Expiry) -> Finding:
    """Refused once the certificate has ended to be valid, a warning from 30 days before."""
    check, until = f"{name} cert", f"valid until {expiry.expires_at:%Y-%m-%d %H:%M} UTC"
    state = expiry.state()
    if state == "expired":
        return Finding.refused(
            check, AdmissionRefused(f"{expiry.what} is no longer valid", got=until, action=expiry.action)
        )
    if state == "expires soon":
        got = f"{until}, {expiry.days_left()} days"
        return Finding(check, "warning", got, f"at least {WARNING_DAYS} days", expiry.action)
    return Finding(check, "ok", until)
