"""The processes that keep a site, as their pages tell: one client, or node and trainer in a container each.

Imports neither torch nor Flower.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from client.status.finding import CHECKS_OF_PART, Finding, Part
from client.status.status_file import StatusPage, client_runs, last_start_id, read_page
from client.status_folders import NODE_NOTES, TRAINER_NOTES

LOOKS_AFTER_ITSELF_S = 60.0
"""A client that has not looked after its processes for so long hangs."""

_NAMES: dict[Part, str] = {"all": "client", "node": "node", "trainer": "trainer"}


@dataclass(frozen=True)
class PartStatus:
    """One of the processes that keep the site. page: None before its first start wrote one.

    Nor has a client one that has taken the lock and not written yet: what is there then is of the one before.
    """

    part: Part
    runs: bool
    looked: float | None
    page: StatusPage | None

    @classmethod
    def read(cls, part: Part, folder: Path) -> PartStatus:
        """What its folder says."""
        runs, found = client_runs(folder), read_page(folder)
        page, looked = (None, None) if found is None else found
        if runs and page is not None and page.start_id != last_start_id(folder):
            page, looked = None, None
        return cls(part, runs, looked, page)

    @property
    def name(self) -> str:
        return _NAMES[self.part]

    @property
    def started(self) -> float:
        """When it was last started; 0 where it never was."""
        return 0.0 if self.page is None else self.page.started

    @property
    def gone_since(self) -> float | None:
        return None if self.page is None else self.page.ended or self.looked

    def looks_after_itself(self, now: float) -> bool:
        return self.looked is not None and now - self.looked < LOOKS_AFTER_ITSELF_S

    def findings(self) -> tuple[Finding, ...]:
        """Of its last checks; unknown, whatever it has not made."""
        made = () if self.page is None else self.page.findings
        named = {finding.check for finding in made}
        missing = f"the {self.name} has not looked at it yet"
        return (
            *made,
            *(
                Finding(check, "unknown", missing)
                for check in CHECKS_OF_PART[self.part]
                if check not in named
            ),
        )


def parts_of(home: Path) -> tuple[PartStatus, ...]:
    """The one client, or node and trainer: those that run, else those that ran last."""
    one = PartStatus.read("all", home)
    two = (PartStatus.read("node", home / NODE_NOTES), PartStatus.read("trainer", home / TRAINER_NOTES))
    if one.runs:
        return (one,)
    if any(part.runs for part in two) or max(part.started for part in two) > one.started:
        return two
    return (one,)
