"""Brains of the fastMRI set, from their files to the store: AXT2 as the target, AXT1 as its reference."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from minet_core.settings.yaml_file import parse_settings
from sites.ingest import ingest
from sites.settings.definitions import definition
from sites.settings.site_settings import SiteSettings
from sites.store.store import Store
from tests.support.small_scans import SHAPE, write_fastmri

PATIENTS = (1, 2, 3)


def settings() -> SiteSettings:
    content = definition("fastmri").model_dump(mode="json")
    content["fastmri"] |= {"target_acquisition": "AXT2", "reference_acquisition": "AXT1"}
    content |= {
        "data_kind": "phantom",
        "allow_few_patients": True,
        "roles": {"target": "T2", "reference": "T1"},
    }
    return parse_settings(content, SiteSettings, source="test")


@pytest.mark.parametrize("n_coils", [None, 4])
def test_brains_are_ingested_by_their_own_contrasts(tmp_path: Path, n_coils: int | None) -> None:
    images = {}
    for number in PATIENTS:
        for acquisition, like in (("AXT1", "CORPD_FBK"), ("AXT2", "CORPDFS_FBK"), ("AXFLAIR", "CORPD_FBK")):
            path = tmp_path / "scans" / f"file_brain_{acquisition}_200_{number}.h5"
            image = write_fastmri(path, number, like, patient_id=f"b{number}", n_coils=n_coils)
            images[number, acquisition] = np.abs(image)
            with h5py.File(path, "a") as file:
                file.attrs["acquisition"] = acquisition
    report = ingest(tmp_path / "scans", tmp_path / "store", settings())
    assert not report.refused
    assert len(report.ignored) == len(PATIENTS)  # FLAIR, which the definition does not speak of
    store = Store(tmp_path / "store")
    labels = {one.file: one.label for one in report.accepted}
    assert len(store.cohort.patients) == len(PATIENTS)
    for record in store.cohort.pairs:
        pair = store.read_pair(record)
        number = int(labels[record.file].removesuffix(".h5")[-1])
        assert "AXT2" in labels[record.file]
        assert pair.target.array.shape == SHAPE
        np.testing.assert_allclose(pair.target.magnitude(), images[number, "AXT2"], rtol=1e-3, atol=1e-9)
        off = np.abs(pair.reference.magnitude() - images[number, "AXT1"]).mean()
        assert off < 0.1 * images[number, "AXT1"].mean()
