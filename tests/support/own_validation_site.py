"""A site with validation patients of its own: eight for training, one for validation, two for the test."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from client.site_home import SiteHome
from minet_core.runtime.files.atomic_write import write_text
from minet_core.settings.yaml_file import parse_settings, parse_yaml, read_settings, settings_text
from sites.ingest import ingest
from sites.settings.definitions import definition_text
from sites.settings.site_policy import open_policy
from sites.settings.site_settings import SiteSettings
from tests.faults.tiny_sites import SHAPE, write_nifti_patient
from tests.support.made_once import made_once

N_PATIENTS = 10


def own_validation_site(folder: Path, *, shape: tuple[int, int, int] = SHAPE) -> SiteHome:
    """A copy of the site, whose scans of this shape are ingested once a run of tests."""
    name = "-".join(map(str, ("own-validation-site", *shape)))
    shutil.copytree(made_once(name, partial(_make, shape=shape)) / "site", folder)
    return SiteHome(folder)


def _make(folder: Path, *, shape: tuple[int, int, int]) -> None:
    home = SiteHome(folder / "site")
    for patient in range(N_PATIENTS):
        write_nifti_patient(folder / "scans" / f"patient{patient}", 300 + patient, shape=shape)
    content = {
        **parse_yaml(definition_text("sms")),
        "name": "sms",
        "split": {"draw": "quota"},
        "policy": open_policy().model_dump(mode="json"),
    }
    settings = parse_settings(content, SiteSettings, source="the trial")
    write_text(home.path / "site.yaml", settings_text(settings))
    ingest(folder / "scans", home.store, read_settings(home.path / "site.yaml", SiteSettings))
