"""The federation without containers: a coordinator and three sites, each its own process, over loopback."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fedminet.single_machine.demo import run_demo
from fedminet.single_machine.federation import Rehearsal, Schedule
from minet_core.settings.federation import FederationSettings
from minet_core.settings.yaml_file import parse_settings
from server.runs.run_directory import RunDirectory

SITES = ("sms", "umr", "fastmri")
SCHEDULE = Schedule(rounds=5, local_steps=6)
MODEL = {"n_groups": 1, "n_blocks": 1, "n_features": 8}
TRAINING = {"patch_px": 24, "batch_size": 2, "validation_slices": 1}
"""A small model: what is asked is whether runs agree, not how well they learn, and each is run five times."""

DEADLINE_S = 90.0
"""Longer than a container takes to come back, shorter than a partition lasts."""

PARTICIPATION = {"quorum": 2, "deadline_s": DEADLINE_S, "retries": 3}


@dataclass(frozen=True)
class ReferenceRun:
    """A rehearsal that has been run, and its run's folder."""

    rehearsal: Rehearsal
    run: RunDirectory


def rehearsal_in(out: Path) -> Rehearsal:
    """Phantoms of three patients a site, a few short rounds of a small model; two sites suffice for a round."""
    rehearsal = Rehearsal.declared(out, [], schedule=SCHEDULE, scale=2, n_patients=3, seed=1)
    content = rehearsal.federation.model_dump()
    content |= {
        "participation": PARTICIPATION,
        "model": {**content["model"], **MODEL},
        "training": {**content["training"], **TRAINING},
    }
    return replace(rehearsal, federation=parse_settings(content, FederationSettings, source="the test"))


def run_without_containers(folder: Path) -> ReferenceRun:
    """Make the sites and run the federation to its end."""
    rehearsal = rehearsal_in(folder / "out")
    run_demo(rehearsal, quiet=True)
    return ReferenceRun(rehearsal, RunDirectory(folder / "out" / "coordinator" / "runs" / "demo"))
