"""What one check of the site found. Imports nothing heavy: `fedminet site status` reads findings from the disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from minet_core.errors import FedminetError, code_of

Part = Literal["all", "node", "trainer"]
"""Of a site that is two containers (client.processes.node_and_trainer); all: one process that keeps both."""

Level = Literal["ok", "note", "warning", "unknown", "refusal"]
"""note: in order, and worth knowing. unknown: nothing was told, which is not the same as in order.
refusal: the client is not started."""

CONFIGURATION = ("kit", "keys", "policy", "store")
"""The checks that say whether the site is configured; the others are about this machine and the way to the server."""

CHECKS_OF_PART: dict[Part, tuple[str, ...]] = {
    "all": CONFIGURATION,
    "node": ("kit", "keys", "policy"),
    "trainer": ("kit", "policy", "store"),
}
"""Which of them can be made by whom: the node sees no scan, and the trainer no key."""


@dataclass(frozen=True)
class Finding:
    """One line of the table: what was got, what was expected, and what to do. code: of a refusal."""

    check: str
    level: Level
    got: str
    expected: str | None = None
    action: str | None = None
    code: str | None = None

    @classmethod
    def refused(cls, check: str, failure: FedminetError) -> Finding:
        """A check that ended with one of fedminet's own failures."""
        got = failure.what if failure.got is None else f"{failure.what}: {failure.got}"
        expected = None if failure.expected is None else str(failure.expected)
        return cls(check, "refusal", got, expected, failure.action, code_of(failure))

    def as_json(self) -> dict[str, Any]:
        """The finding as plain values."""
        return asdict(self)

    def as_text(self) -> str:
        """The finding on one line."""
        parts = [f"{self.check:<13} {self.level:<8} {self.got}"]
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        text = "; ".join(parts)
        return text if self.action is None else f"{text}. {self.action.rstrip('.')}."


def refusals(findings: Iterable[Finding]) -> list[Finding]:
    """Those for which the client is not started."""
    return [finding for finding in findings if finding.level == "refusal"]


def configuration(findings: Iterable[Finding]) -> list[Finding]:
    """Those that say whether the site is configured."""
    return [finding for finding in findings if finding.check in CONFIGURATION]


def is_configured(findings: Iterable[Finding]) -> bool:
    """Whether kit, keys, policy and store were all looked at and none refuses."""
    found = configuration(findings)
    complete = {finding.check for finding in found} == set(CONFIGURATION)
    return complete and not any(finding.level in ("refusal", "unknown") for finding in found)
