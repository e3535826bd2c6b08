"""A reference that shows a part of its target's anatomy alone is said with the figure; a whole one is not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from minet_core.imaging.volume import Volume
from minet_core.phantom.acquisition import FASTMRI, SMS, UMR, Acquisition
from minet_core.phantom.patient import make_patient, with_slices
from minet_core.settings.yaml_file import parse_settings, parse_yaml
from sites.ingest import ingest
from sites.phantom_files import write_nifti
from sites.quality.reference_shown import MAX_UNSHOWN, unshown_remark, unshown_share
from sites.settings.definitions import definition_text
from sites.settings.site_settings import SiteSettings

N_SLICES = 6
DISC = 60


def disc(value: float, *, columns: slice = slice(None)) -> Volume:
    """A disc of 120 mm in a frame of 160, its signal in some columns alone."""
    down, across = np.mgrid[-80:80, -80:80]
    image = np.where(np.hypot(down, across) <= DISC, np.float32(value), 0)
    shown = np.zeros_like(image)
    shown[:, columns] = image[:, columns]
    array = np.repeat(shown[None], 4, axis=0).astype(np.float32)
    return Volume(
        array=array, spacing_mm=(5.0, 1.0, 1.0), affine=np.diag([5.0, 1.0, 1.0, 1.0]), contrast="T1"
    )


def test_the_share_is_the_part_of_the_disc_beyond_the_next_block() -> None:
    whole = disc(100.0)
    assert unshown_share(whole, disc(50.0)) == 0
    # Signal ends at column 80, a border of blocks of 10: the next block counts as shown.
    columns = np.arange(90, 160) - 80
    chords = 2 * np.sqrt(np.clip(DISC**2 - columns.astype(float) ** 2, 0, None)) + 1
    beyond = chords[columns <= DISC].sum() / (np.pi * DISC**2)
    assert unshown_share(whole, disc(50.0, columns=slice(0, 80))) == pytest.approx(beyond, abs=0.01)


@pytest.mark.parametrize("acquisition", [SMS, UMR, FASTMRI], ids=["sms", "umr", "fastmri"])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_half_a_phantoms_reference_is_said_and_a_whole_one_is_not(
    acquisition: Acquisition, noise: float
) -> None:
    scan = make_patient(with_slices(acquisition, N_SLICES), seed=71)
    assert unshown_remark(scan.target, scan.reference) is None
    whole = scan.reference.magnitude()
    half = whole.copy()
    blank = half[:, :, half.shape[2] // 2 :]
    blank[...] = np.random.default_rng(1).rayleigh(noise * whole.max(), blank.shape) if noise else 0
    found = unshown_share(scan.target, dataclasses.replace(scan.reference, array=half))
    assert found > 4 * MAX_UNSHOWN
    said = unshown_remark(scan.target, dataclasses.replace(scan.reference, array=half))
    assert said == f"reference: shows nothing in {found:.0%} of the target's anatomy"


def test_ingest_says_it_of_the_pair_and_in_its_report(tmp_path: Path) -> None:
    export = tmp_path / "export"
    for seed in (71, 72):
        scan = make_patient(with_slices(SMS, 8), seed=seed)
        reference = scan.reference.magnitude()
        if seed == 71:
            down, across = np.mgrid[: reference.shape[1], : reference.shape[2]]
            noise = np.random.default_rng(2).rayleigh(0.005 * reference.max(), reference.shape)
            beyond = (
                down + 0.5 * across > 0.75 * reference.shape[1]
            )  # a line across the frame, through its middle
            reference = np.where(beyond, noise, reference).astype(np.float32)
        place = export / f"patient{seed}"
        place.mkdir(parents=True)
        for name, volume, array in (
            ("T2", scan.target, scan.target.magnitude()),
            ("T1", scan.reference, reference),
        ):
            write_nifti(place / f"{name}.nii.gz", dataclasses.replace(volume, array=array))
    content = {**parse_yaml(definition_text("sms")), "data_kind": "phantom", "allow_few_patients": True}
    report = ingest(export, tmp_path / "store", parse_settings(content, SiteSettings, source="the test"))
    said = [remark for pair in report.cohort.pairs for remark in pair.quality.remarks]
    assert len(report.cohort.pairs) == 2
    assert len([one for one in said if "shows nothing in" in one]) == 1
    assert any("1 of 2 pairs: reference: shows nothing in" in line for line in report.cohort.remarks())
