"""What departs from the site's protocol is said with its figures, of DICOM and of BIDS, and refused where asked."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from minet_core.settings.yaml_file import parse_settings, parse_yaml
from sites.ingest import VERSION, ingest
from sites.ingest_plan import plan_ingest
from sites.last_ingest import recall
from sites.onboarding.page import write_page
from sites.pairing.drifted_studies import UNREADABLE
from sites.pairing.pairing import find_pairs
from sites.pairing.protocol_drift import Drift
from sites.pairing.series_table import series_table, table_text
from sites.settings.definitions import definition_text
from sites.settings.protocol_settings import ProtocolSettings
from sites.settings.scan_files import DicomFiles
from sites.settings.site_settings import SiteSettings
from sites.store.kept_figures import FILE
from sites.withdraw import withdraw
from tests.support.dicom_series import Header, write_classic
from tests.support.small_scans import affine_of, make_volume, write_nifti

N_STUDIES = 6


def settings(*, bids: bool = False, **protocol: object) -> SiteSettings:
    content = {
        **parse_yaml(definition_text("sms")),
        "reader": "nifti" if bids else "dicom",
        "data_kind": "phantom",
        "allow_few_patients": True,
        "protocol": protocol,
    }
    if bids:
        content["nifti"] = {"choose_by": "facts"}
    return parse_settings(content, SiteSettings, source="the test")


def write_study(folder: Path, number: int, *, step_mm: float = 4.0, **target: object) -> None:
    for contrast, figures in (
        ("T1", {"echo_time_ms": 10, "repetition_time_ms": 600}),
        ("T2", {"echo_time_ms": 100, "repetition_time_ms": 4500, **target}),
    ):
        array = np.rint(make_volume(number + 1, contrast).array).astype(np.uint16)
        who = f"P{number}"
        header = Header(patient_id=who, study=who, series=f"{who}{contrast}", **figures)  # type: ignore[arg-type]
        affine = affine_of((step_mm, 3.0, 3.0))
        write_classic(folder / who / contrast, array, affine, header=header)


def write_session(tree: Path, number: int, **target: object) -> None:
    for contrast, car in (
        ("T1", {"EchoTime": 0.01, "RepetitionTime": 0.6, "ScanningSequence": "SE"}),
        ("T2", {"EchoTime": 0.1, "RepetitionTime": 4.5, "ScanningSequence": "SE", **target}),
    ):
        stem = tree / f"sub-{number}" / "anat" / f"sub-{number}_{contrast}w"
        write_nifti(stem.with_suffix(".nii.gz"), make_volume(number + 1, contrast))
        stem.with_suffix(".json").write_text(json.dumps(car))


def said(drifts: list[Drift]) -> list[tuple[object, ...]]:
    return [(one.role, one.fact, one.value, one.expected, one.by, len(one.labels)) for one in drifts]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six studies, of which the last came after an update: TE 100 to 120 ms; TR by 7 %, within the tolerance."""
    folder = tmp_path_factory.mktemp("export")
    for number in range(N_STUDIES - 1):
        write_study(folder, number)
    write_study(folder, N_STUDIES - 1, echo_time_ms=120, repetition_time_ms=4800)
    return folder


def test_what_departs_from_the_median_is_said_with_the_figures(export: Path) -> None:
    found = find_pairs(export, settings())
    assert said(found.drifts) == [("target", "TE", 120, 100, "the median", 1)]
    assert len(found.candidates) == N_STUDIES
    (text,) = [one.as_text() for one in found.drifts]
    expected = "FM-D222: target TE 120 ms in 1 of 6 studies, 100 ms by the median, +20 % (tolerance 10 %): "
    assert text.startswith(expected)
    assert text.removeprefix(expected) in {one.label for one in found.candidates}
    assert text.split(" by ")[0] in plan_ingest(export, settings()).as_text()


def test_the_definition_comes_before_the_median(export: Path) -> None:
    drifts = find_pairs(export, settings(target={"echo_time_s": 0.12, "flip_angle_deg": 150})).drifts
    assert said(drifts) == [
        ("target", "flip angle", None, 150, "site.yaml", N_STUDIES),
        ("target", "TE", 100, 120, "site.yaml", N_STUDIES - 1),
    ]
    few = find_pairs(export, settings(min_series=N_STUDIES + 1, target={"matrix": [40, 20]})).drifts
    assert {(one.fact, one.by) for one in few} == {("matrix, shorter edge", "site.yaml")}


@pytest.mark.parametrize(("tolerance", "facts"), [(0.05, {"TE", "TR"}), (0.3, set()), (None, set())])
def test_the_tolerance_decides(export: Path, tolerance: float | None, facts: set[str]) -> None:
    assert {one.fact for one in find_pairs(export, settings(tolerance=tolerance)).drifts} == facts


def test_a_site_may_refuse_what_departs(export: Path) -> None:
    found = find_pairs(export, settings(on_drift="refuse"))
    (refused,) = found.refused
    assert refused.code == "FM-D222"
    assert "target TE 120 ms, 100 ms by the median" in refused.message
    assert len(found.candidates) == N_STUDIES - 1


def test_grid_and_missing_figures_are_compared_too(tmp_path: Path) -> None:
    for number in range(N_STUDIES - 1):
        write_study(tmp_path, number)
    write_study(tmp_path, N_STUDIES - 1, step_mm=5.0, extra={"FlipAngle": 150})
    facts = {(one.role, one.fact, one.value, one.expected) for one in find_pairs(tmp_path, settings()).drifts}
    assert facts == {
        ("target", "slice spacing", 5, 4),
        ("reference", "slice spacing", 5, 4),
        ("target", "flip angle", 150, None),
    }


def test_it_is_in_the_table_the_report_and_the_page_and_again_without_a_change(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sites.store.read_before.SETTLED_S", 0.0)
    monkeypatch.setattr("sites.last_ingest.SETTLED_S", 0.0)
    text = table_text(series_table(export, DicomFiles(), protocol=ProtocolSettings()))
    assert "median of 6 targets: TE 100 ms, TR 4500 ms" in text
    assert "median of 6 references: TE 10 ms, TR 600 ms" in text
    assert "FM-D222: target TE 120 ms in 1 of 6 studies" in text
    report = ingest(export, tmp_path / "store", settings())
    assert "FM-D222: target TE 120 ms in 1 of 6 studies" in report.as_text()
    assert report.as_json()["drifts"][0]["expected"] == 100
    write_page(report, tmp_path / "store", settings(), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h2>Protocol drift</h2>" in page
    assert report.drifts[0].labels[0] in page
    again = recall(export, tmp_path / "store", settings(), version=VERSION)
    assert again is not None
    assert again.drifts == report.drifts


def test_a_bids_tree_is_compared_by_its_side_cars_and_no_name_is_in_the_page(tmp_path: Path) -> None:
    for number in range(N_STUDIES - 1):
        write_session(tmp_path / "tree", number, MagneticFieldStrength=3)
    write_session(tmp_path / "tree", N_STUDIES - 1, MagneticFieldStrength=1.5)
    chosen = settings(bids=True)
    report = ingest(tmp_path / "tree", tmp_path / "store", chosen)
    assert said(list(report.drifts)) == [("target", "field strength", 1.5, 3, "the median", 1)]
    write_page(report, tmp_path / "store", chosen, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "1.5 T" in page
    assert "sub-" not in re.sub(r'base64,[A-Za-z0-9+/=]+"', "", page)


def test_a_drift_of_others_is_not_kept() -> None:
    from sites.pairing.protocol_drift import only_of

    one = Drift("target", "TE", "ms", 120, 100, "the median", 0.1, ("a", "b"), 6)
    assert only_of([one], ["b"]) == (replace(one, labels=("b",)),)
    assert only_of([one], ["c"]) == ()


@pytest.mark.parametrize(
    "content", [{"tolerance": 0}, {"on_drift": "stop"}, {"target": {"echo_time_ms": 100}}]
)
def test_a_definition_that_is_none_is_refused(content: dict) -> None:
    with pytest.raises(ValidationError):
        ProtocolSettings(**content)


def batches(export: Path, store: Path, *, first: int) -> None:
    """The first studies of the export in one ingest."""
    part = store.parent / f"first{first}"
    for number in range(first):
        shutil.copytree(export / f"P{number}", part / f"P{number}")
    ingest(part, store, settings())


@pytest.fixture(scope="module")
def two_studies(export: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the export's first two; whoever changes it works on a copy."""
    store = tmp_path_factory.mktemp("two") / "store"
    batches(export, store, first=2)
    return store


def test_one_study_is_compared_with_all_that_came_before(export: Path, tmp_path: Path) -> None:
    store, alone = tmp_path / "store", tmp_path / "alone"
    batches(export, store, first=N_STUDIES - 1)
    shutil.copytree(export / "P5", alone / "P5")
    assert find_pairs(alone, settings()).drifts == [], "one series has no median"
    planned = plan_ingest(alone, settings(), skip=store).found.drifts
    report = ingest(alone, store, settings())
    for drifts in (planned, report.drifts):
        assert said(list(drifts)) == [("target", "TE", 120, 100, "the median", 1)]
        assert "in 1 of 1 studies, 100 ms by the median with 5 of the store, +20 %" in drifts[0].as_text()
    again = ingest(export, store, settings(), reread=True)
    assert said(list(again.drifts)) == [("target", "TE", 120, 100, "the median", 1)]
    assert again.drifts[0].n_kept == 0, "no study counts twice"
    write_page(report, store, settings(), tmp_path / "page.html")
    assert "the median with 5 of the store" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_what_is_kept_is_the_figures_alone_and_goes_with_the_patient(export: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    batches(export, store, first=3)
    content = json.loads((store / FILE).read_text())
    assert len(content["studies"]) == 3
    one = next(iter(content["studies"].values()))
    assert set(one) == {"patient", "figures"}
    assert one["figures"]["target"]["TE"] == 100
    assert not re.search(r"P\d|2\.25\.", (store / FILE).read_text())
    withdraw(store, one["patient"])
    left = json.loads((store / FILE).read_text())["studies"].values()
    assert len(left) == 2
    assert one["patient"] not in {study["patient"] for study in left}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b'{"schema_version": 2, "studies": {}}',
        b'{"schema_version": 1, "studies": {"ab": {"patient": "ab", "figures": {"target": {"TE": NaN}}}}}',
        b'{"schema_version": 1, "studies": {"../x": {"patient": "ab", "figures": {}}}}',
    ],
)
def test_a_damaged_note_is_said_costs_the_median_alone_and_is_written_anew(
    export: Path, two_studies: Path, tmp_path: Path, content: bytes
) -> None:
    store, alone = tmp_path / "store", tmp_path / "alone"
    shutil.copytree(two_studies, store)
    (store / FILE).write_bytes(content)
    shutil.copytree(export / "P5", alone / "P5")
    report = ingest(alone, store, settings())
    assert report.drifts == ()
    assert UNREADABLE in report.remarks
    assert len(json.loads((store / FILE).read_text())["studies"]) == 1
    assert UNREADABLE not in ingest(alone, store, settings(), reread=True).remarks
