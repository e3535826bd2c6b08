"""A rehearsal small enough for a test: three patients a site, two rounds of a few steps."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from fedminet.rehearsal import Rehearsal, Schedule
from minet_core.federation import FederationSettings
from minet_core.runtime.yaml_file import parse_settings

SITES = ("sms", "umr", "fastmri")
SMALL = Schedule(2, 4)


def small_rehearsal(
    out: Path, *, made: Path | None = None, schedule: Schedule = SMALL, **changes: object
) -> Rehearsal:
    """With `made`, of its scans and stores. changes: sections of the federation file."""
    rehearsal = Rehearsal.declared(out, [], schedule=schedule, scale=2, n_patients=3, seed=1)
    if changes:
        content = {**rehearsal.federation.model_dump(), **changes}
        federation = parse_settings(content, FederationSettings, source="the test")
        rehearsal = replace(rehearsal, federation=federation)
    if made is not None:
        shutil.copytree(made / "sites", out / "sites")
        (out / "scans").symlink_to(made / "scans")
    return rehearsal
