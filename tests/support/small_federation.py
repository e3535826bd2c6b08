"""A rehearsal small enough for a test: three patients a site, two rounds of a few steps, a model of 3 k weights.

Two sites have tiny NIfTI scans in folders that are named, as a hospital's would be; the third one has phantoms, in the
format and of the size that fastMRI has.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedminet.single_machine.federation import Rehearsal, Schedule
from minet_core.settings.federation import FederationSettings
from minet_core.settings.yaml_file import parse_settings
from tests.faults.tiny_sites import N_PATIENTS, write_nifti_patient

NAMED, PHANTOM = ("sms", "umr"), "fastmri"
SITES = (*NAMED, PHANTOM)
SMALL = Schedule(2, 4)
SHAPE = (8, 56, 48)
"""The least that the quick preset's patches fit into."""

MODEL = {"n_groups": 1, "n_blocks": 1, "n_features": 8, "reduction": 2}


def write_scans(folder: Path) -> None:
    """The scans of the named sites, a folder each."""
    for index, site in enumerate(NAMED):
        for patient in range(N_PATIENTS):
            write_nifti_patient(folder / site / f"patient{patient}", 100 * index + patient, shape=SHAPE)


def site_options(scans: Path) -> list[str]:
    """What the command line says of them."""
    return [f"{site}={scans / site}" for site in NAMED]


def small_rehearsal(
    out: Path, scans: Path, *, made: Path | None = None, sites: Sequence[str] = SITES
) -> Rehearsal:
    """A rehearsal in the new folder `out`. With `made`, the folder of another one, of its phantoms and stores."""
    rehearsal = Rehearsal.declared(
        out, site_options(scans), schedule=SMALL, scale=2, n_patients=N_PATIENTS, seed=1
    )
    content = {**rehearsal.federation.model_dump(), "model": MODEL, "sites": sites}
    content["participation"]["quorum"] = min(content["participation"]["quorum"], len(sites))
    federation = parse_settings(content, FederationSettings, source="the test")
    if made is not None:
        shutil.copytree(made / "sites", out / "sites")
        (out / "scans").symlink_to(made / "scans")
    return replace(rehearsal, federation=federation)
