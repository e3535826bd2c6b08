"""One finding of many."""

from __future__ import annotations

from client.status.finding import Finding


def found(findings: list[Finding], check: str) -> Finding:
    """The one of this check."""
    (finding,) = [finding for finding in findings if finding.check == check]
    return finding
