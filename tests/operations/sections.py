"""Which sections of the operations guide are followed, in which order, and what is printed there and not run."""

from __future__ import annotations

from tests.operations.pages import blocks

FIRST = "first-training.md"

NOT_RUN = {
    ("first-training.md", "Both, the coordinator first: install", "fetches packages from the network"),
    ("coordinator.md", "As a service of the coordinator's machine", "needs systemd and root"),
    ("coordinator.md", "Upgrade", "fetches packages from the network"),
    ("hospital.md", "As a service of the hospital's machine", "needs systemd and root"),
    ("hospital.md", "Upgrade at the hospital", "fetches packages from the network"),
}
"""All that is printed and not run."""


def _section(page: str, *titles: str) -> tuple[tuple[str, str], ...]:
    return tuple((page, title) for title in titles)


FIRST_TRAINING = _section(
    FIRST,
    "Both, the coordinator first: install",
    "1. Coordinator: make the federation",
    "2. Coordinator: start the server",
    "3. Hospital: make the site and ingest the scans",
    "4. Hospital: read out your digits",
    "5. Coordinator: compare, and admit",
    "6. Hospital: compare, and accept",
    "7. Hospital: check, and start",
    "8. Coordinator: run",
    "9. Hospital: it trains",
)
WHILE_IT_RUNS = (
    *_section("hospital.md", "Ports", "Volumes and rights", "What leaves", "How the hospital verifies it"),
    *_section("hospital.md", "The hospital's policy", "The hospital's own model", "Is it working?"),
    *_section("coordinator.md", "Watching", "The coordinator's screen", "Stopping a run"),
)
LATER = (
    *_section("coordinator.md", "Trying a back-up of the coordinator", "Renewing"),
    *_section("hospital.md", "Renewing the certificate"),
    *_section(
        "incidents.md", "A site drops out: the coordinator looks", "A site drops out: the hospital looks"
    ),
    *_section("incidents.md", "Disk full at the coordinator", "Disk full at the hospital"),
    *_section("incidents.md", "A certificate has expired: the coordinator renews"),
    *_section("incidents.md", "A suspicious update: the coordinator looks"),
    *_section("incidents.md", "A run is partial or failed: the coordinator looks"),
)
BACK_UP = _section("coordinator.md", "Back-up")
RESTORE = _section("coordinator.md", "Restore")
FURTHER = _section("coordinator.md", "A further hospital joins the coordinator's federation")
SITE_BACK_UP = _section("hospital.md", "Back-up at the hospital")
SITE_RESTORE = _section("hospital.md", "Restore at the hospital")
UPGRADE = (*_section("coordinator.md", "Upgrade"), *_section("hospital.md", "Upgrade at the hospital"))
BUNDLE = _section("incidents.md", "FM-F420: a bundle that is not on the hospital's list")
REVOKED = _section(
    "incidents.md",
    "Lost or stolen: the coordinator revokes",
    "Lost or stolen: the hospital begins anew",
)
DELETED = _section("hospital.md", "Deleting everything at the hospital")

STORY = (
    *(*FIRST_TRAINING, *BACK_UP, *RESTORE, *WHILE_IT_RUNS, *LATER, *FURTHER),
    *(*SITE_BACK_UP, *SITE_RESTORE, *UPGRADE, *BUNDLE, *REVOKED, *DELETED),
)


def commands_to_the_first_training() -> int:
    """All that is printed, and those for installation a second time: each end installs."""
    found = blocks(FIRST)
    both = [block for block in found if block.section.startswith("Both")]
    return sum(len(block.commands) for block in (*found, *both))
