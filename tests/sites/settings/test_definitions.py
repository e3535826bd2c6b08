from __future__ import annotations

import re

import pytest

from minet_core.errors import InvalidSetting, UnknownKey
from minet_core.settings.yaml_file import parse_settings, parse_yaml, read_settings, settings_text
from sites.settings.definitions import definition, definition_names, definition_text
from sites.settings.scan_files import PATIENT_FOLDER
from sites.settings.site_settings import PolicySettings, SiteSettings


def test_the_papers_three_sites_are_defined() -> None:
    assert definition_names() == ("fastmri", "sms", "umr")
    for name in definition_names():
        assert definition(name).name == name
        assert definition(name).data_kind == "real"
        assert not definition(name).allow_few_patients


def test_a_copied_definition_is_a_site_file(tmp_path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(definition_text("sms").replace("name: sms", "name: fourth"))
    assert read_settings(path, SiteSettings).name == "fourth"


def test_settings_written_and_read_again_are_the_same(tmp_path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(settings_text(definition("fastmri")))
    assert read_settings(path, SiteSettings) == definition("fastmri")


def test_an_unknown_definition_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="fastmri, sms, umr"):
        definition("../secret")


def test_a_misspelt_key_is_refused() -> None:
    content = definition("sms").model_dump(mode="json") | {"allow_few_patient": True}
    with pytest.raises(UnknownKey, match="allow_few_patients"):
        parse_settings(content, SiteSettings, source="site.yaml")


@pytest.mark.parametrize("expression", ["(unclosed", "no group", "(?P<subject>x)"])
def test_an_expression_that_names_no_patient_is_refused(expression: str) -> None:
    content = definition("sms").model_dump(mode="json") | {"nifti": {"patient_id": expression}}
    with pytest.raises(InvalidSetting, match="patient"):
        parse_settings(content, SiteSettings, source="site.yaml")


def test_a_pair_list_without_its_path_is_refused() -> None:
    content = definition("fastmri").model_dump(mode="json") | {"fastmri": {"pairing": "pair_list"}}
    with pytest.raises(InvalidSetting, match="belong together"):
        parse_settings(content, SiteSettings, source="site.yaml")


@pytest.mark.parametrize(
    ("path", "patient"),
    [
        ("scans/patient07/T1.nii.gz", "patient07"),
        ("scans/patient12_study1/T1W.nii.gz", "patient12"),
        ("scans/patient12_study2/T1W.nii.gz", "patient12"),
        ("scans/patient12/study2/T1W.nii.gz", "patient12"),
        ("scans/sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz", "sub-01"),
        ("scans/sub-01/anat/sub-01_T1w.nii.gz", "sub-01"),
    ],
)
def test_examinations_of_one_patient_are_one_patient(path: str, patient: str) -> None:
    found = re.search(PATIENT_FOLDER, path)
    assert found is not None
    assert found["patient"] == patient


def test_the_shipped_definitions_have_the_tight_policy_and_name_every_key_of_it() -> None:
    for name in definition_names():
        assert definition(name).policy == PolicySettings()
        written = parse_yaml(definition_text(name))["policy"]
        assert list(written) == list(PolicySettings.model_fields)
