"""The checks before a site's client is started, in the order in which a person would look at them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from client.admission.kit import Kit
from client.preflight.check_admission import Admitted, check_admission
from client.preflight.check_machine import check_disk, check_disk_and_device, check_port
from client.preflight.check_server import certificate_findings, check_server
from client.preflight.server_reachability import REACH_DEADLINE_S
from client.site_home import SiteHome
from client.status.finding import Finding, Part, refusals
from minet_core import errors
from minet_core.errors import FedminetError

LOOPBACK = "127.0.0.1"

_STYLES = {"ok": "green", "note": "cyan", "warning": "yellow", "unknown": "yellow", "refusal": "bold red"}
_LEVELS = {"ok": logging.INFO, "note": logging.INFO, "refusal": logging.ERROR}

_LOG = logging.getLogger(__name__)


def preflight(
    home: SiteHome,
    *,
    port: int = 0,
    thorough: bool = False,
    reach_deadline_s: float = REACH_DEADLINE_S,
    part: Part = "all",
) -> list[Finding]:
    """Every check that this part of the site can make, whatever the others found; nothing is started or changed."""
    admitted = check_admission(home, thorough=thorough, part=part)
    found = list(admitted.findings)
    if part != "node":
        found += check_disk_and_device(home, _kit_within_policy(admitted))
    if part != "trainer":
        found += [
            check_port(LOOPBACK, port),
            *check_server(home, admitted.kit, deadline_s=reach_deadline_s),
        ]
    return found


def checked_again(home: SiteHome, former: Sequence[Finding], *, part: Part = "all") -> list[Finding]:
    """`former` with those anew that can change under a running client: all but device, port, server and clock."""
    admitted = check_admission(home, part=part)
    anew = list(admitted.findings)
    if (allowed := _kit_within_policy(admitted)) is not None and part != "node":
        anew.append(check_disk(home, allowed.federation))
    if admitted.kit is not None and part != "trainer":
        anew.extend(certificate_findings(admitted.kit))  # another kit may have been taken
    named = {finding.check for finding in anew}
    return [*anew, *(finding for finding in former if finding.check not in named)]


def _kit_within_policy(admitted: Admitted) -> Kit | None:
    """The kit, if its federation file lies inside the policy: else its model is not built to see how large it is."""
    refused = any(found.check == "policy" and found.level == "refusal" for found in admitted.findings)
    return None if refused else admitted.kit


def require_ready(findings: Sequence[Finding]) -> None:
    """Raise the first refusal with its own code; the others are counted in its message."""
    refused = refusals(findings)
    if not refused:
        return
    first = refused[0]
    others = ", ".join(f"{finding.check} ({finding.code})" for finding in refused[1:])
    raise _class_of(first.code)(
        f"the client is not started: {first.check}",
        got=first.got + (f"; and {others}" if others else ""),
        expected=first.expected,
        action=first.action,
    )


def print_findings(findings: Sequence[Finding], *, console: Console | None = None) -> None:
    """The table, on standard error; plain lines where that is no terminal."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        for finding in findings:
            sys.stderr.write(f"{finding.as_text()}\n")
        sys.stderr.flush()
        return
    table = Table(box=None, pad_edge=False)
    for column in ("check", "result", "found", "expected", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        style = _STYLES[finding.level]
        table.add_row(
            finding.check,
            f"[{style}]{finding.level}[/]",
            escape(finding.got),
            escape(finding.expected or ""),
            escape(finding.action or ""),
        )
    console.print(table)


def log_findings(findings: Sequence[Finding]) -> None:
    """A record for each finding, where the log is a machine's: a refusal as an error, a doubt as a warning."""
    for finding in findings:
        _LOG.log(_LEVELS.get(finding.level, logging.WARNING), "%s", finding.as_text())


def _class_of(code: str | None) -> type[FedminetError]:
    """The class of a stable code."""
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, FedminetError) and kind.code == code:
            return kind
    return FedminetError
