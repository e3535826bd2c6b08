"""Three sites of tiny scans, ingested by the real road: for tests that train for real and need no image quality."""

from __future__ import annotations

from pathlib import Path

import yaml

from client.site_home import SiteHome
from minet_core.federation import FederationSettings
from minet_core.runtime.durable import write_text
from minet_core.runtime.yaml_file import parse_settings, read_settings, settings_text
from sites.definitions import definition_text
from sites.ingest import ingest
from sites.site_settings import SiteSettings
from tests.small_scans import write_nifti_patient

SITES = ("fastmri", "sms", "umr")
N_PATIENTS = 3


def make_tiny_sites(folder: Path) -> dict[str, SiteHome]:
    """By name, three NIfTI sites of three patients each, 8 slices of 40 x 36."""
    homes = {}
    for index, name in enumerate(SITES):
        scans, home = folder / "scans" / name, SiteHome(folder / "sites" / name)
        for patient in range(N_PATIENTS):
            write_nifti_patient(scans / f"patient{patient}", 100 * index + patient)
        content = {**yaml.safe_load(definition_text("sms")), "name": name, "allow_few_patients": True}
        settings = parse_settings(content, SiteSettings, source="the test")
        write_text(home.path / "site.yaml", settings_text(settings))
        ingest(scans, home.store, read_settings(home.path / "site.yaml", SiteSettings))
        homes[name] = home
    return homes


def tiny_federation(**changes: object) -> FederationSettings:
    """Three rounds of two steps on 16 px patches, a model of a few thousand weights."""
    content: dict[str, object] = {
        "name": "tiny",
        "sites": SITES,
        "rounds": 3,
        "participation": {"quorum": 3, "deadline_s": 60.0, "retries": 0},
        "model": {"n_groups": 1, "n_blocks": 1, "n_features": 8, "reduction": 2},
        "training": {"local_steps": 2, "patch_px": 16, "batch_size": 2, "validation_slices": 1},
    }
    return parse_settings({**content, **changes}, FederationSettings, source="the test")
