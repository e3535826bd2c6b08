"""`onboarding.html`: what it shows, and that it shows neither a name nor the outside of a head."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sites.ingest import ingest
from sites.onboarding.drawn import is_drawn
from sites.onboarding.page import write_page
from sites.onboarding.thumbnail import RIM_MM, inside_of
from sites.pairing.protocol_drift import Drift
from sites.settings.definitions import definition
from tests.support.small_scans import make_volume, write_nifti, write_nifti_patient

SMS = definition("sms").model_copy(update={"data_kind": "phantom"})


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("onboarding")
    for number in range(1, 4):
        write_nifti_patient(folder / "scans" / f"Xqzname{number}", number)
    write_nifti(folder / "scans" / "Xqzother" / "T1.nii.gz", make_volume(90, "T1"))
    report = ingest(folder / "scans", folder / "store", SMS)
    assert len(report.refused) == 1
    write_page(report, folder / "store", SMS, folder / "onboarding.html")
    assert (folder / "onboarding.html").stat().st_mode & 0o777 == 0o600
    return (folder / "onboarding.html").read_text(encoding="utf-8")


def test_a_page_is_drawn_anew_where_the_protocol_drifted_since(tmp_path: Path) -> None:
    for number in range(1, 4):
        write_nifti_patient(tmp_path / "scans" / str(number), number)
    report = ingest(tmp_path / "scans", tmp_path / "store", SMS)
    write_page(report, tmp_path / "store", SMS, tmp_path / "onboarding.html")
    drift = Drift("target", "echo_time_ms", "ms", 90.0, 100.0, "site.yaml", 0.05, ("1",), 3)
    assert is_drawn(report, SMS, tmp_path / "onboarding.html")
    assert not is_drawn(dataclasses.replace(report, drifts=(drift,)), SMS, tmp_path / "onboarding.html")


def test_no_name_no_link_and_no_script_is_in_the_page(page: str) -> None:
    text = re.sub(r'base64,[A-Za-z0-9+/=]+"', "", page)
    assert "Xqz" not in text
    assert not re.search(r"<script|https?://|href=|url\(", text)


def test_pairs_refusals_figures_and_the_split_are_there(page: str) -> None:
    assert page.count('alt="target of') == page.count('alt="overlap of') == 3
    assert "<code>FM-D203</code>" in page
    assert "Motion between slices, target" in page
    assert "limit 0.6" in page
    assert re.search(r"<td>training</td>", page)


def test_pictures_are_pictures_with_something_in_them(page: str) -> None:
    for text in re.findall(r'base64,([A-Za-z0-9+/=]+)"', page):
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
        assert max(image.shape[:2]) == 176
        assert image.max() > 100


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0), (0.5, 2.0)])
def test_the_outside_of_the_anatomy_is_never_shown(spacing_mm: tuple[float, float]) -> None:
    """A disc of 80 mm with a thin nose: the nose is gone, and the rim."""
    rows, columns = np.meshgrid(*(np.arange(-100, 100, step) for step in spacing_mm), indexing="ij")
    radius = np.hypot(rows, columns)
    nose = (np.abs(rows) < 8) & (columns > 0) & (columns < 98)
    shown = inside_of(((radius < 80) | nose).astype(np.float32), spacing_mm)
    assert not shown[radius > 80 - RIM_MM + 6].any()  # under the nose the rim is thinner
    assert shown[radius < 80 - RIM_MM - 3].all()
