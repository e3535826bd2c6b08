"""Admitting a site, from both ends: the key is recorded, the kit is held to its digests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.kit import read_kit
from client.site_keys import SiteKeys, make_site_keys
from minet_core.federation import FederationSettings
from minet_core.runtime.errors import (
    AdmissionRefused,
    ConfigurationError,
    FedminetError,
    FileMissing,
    InvalidSetting,
    UnknownKey,
)
from server.bundle import read_bundle
from server.enrolment import admit, admitted_sites
from server.pki import make_ca
from server.server_home import ServerHome, ServerSettings, init_server


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    federation = FederationSettings(name="trial", sites=("sms", "umr"), participation={"quorum": 2})
    return init_server(tmp_path / "server", federation, ServerSettings(port=9443))


@pytest.fixture
def keys(tmp_path: Path) -> SiteKeys:
    return make_site_keys(tmp_path / "sms-keys", name="sms")


def test_an_admitted_site_reads_its_kit(home: ServerHome, keys: SiteKeys, tmp_path: Path) -> None:
    admission = admit(home, "sms", keys.public_key, kit=tmp_path / "kit")
    kit = read_kit(tmp_path / "kit")
    assert admission.fingerprint == keys.fingerprint == kit.settings.key_fingerprint
    assert admission.kit_fingerprint == kit.fingerprint
    assert kit.federation == home.federation()
    assert kit.settings.address == "127.0.0.1:9443"
    assert kit.settings.bundle_digest == read_bundle(home.superlink).digest
    assert admitted_sites(home) == {"sms": home.sites / "sms.pub"}


def test_the_kit_holds_no_private_key(home: ServerHome, keys: SiteKeys, tmp_path: Path) -> None:
    admit(home, "sms", keys.public_key, kit=tmp_path / "kit")
    assert sorted(path.name for path in (tmp_path / "kit").iterdir()) == [
        "ca.pem",
        "federation.yaml",
        "kit.json",
    ]
    assert all(b"PRIVATE" not in path.read_bytes() for path in (tmp_path / "kit").iterdir())


def test_the_same_site_with_the_same_key_gets_its_kit_again(
    home: ServerHome, keys: SiteKeys, tmp_path: Path
) -> None:
    first = admit(home, "sms", keys.public_key, kit=tmp_path / "kit")
    second = admit(home, "sms", keys.public_key, kit=tmp_path / "again")
    assert first.kit_fingerprint == second.kit_fingerprint


def test_a_name_that_is_admitted_with_another_key_is_refused(
    home: ServerHome, keys: SiteKeys, tmp_path: Path
) -> None:
    admit(home, "sms", keys.public_key, kit=tmp_path / "kit")
    impostor = make_site_keys(tmp_path / "impostor", name="sms")
    with pytest.raises(AdmissionRefused, match="sms is admitted with another key"):
        admit(home, "sms", impostor.public_key, kit=tmp_path / "impostor-kit")
    assert not (tmp_path / "impostor-kit").exists()
    assert (home.sites / "sms.pub").read_text() == keys.public_key.read_text()


def test_a_key_that_another_site_has_is_refused(home: ServerHome, keys: SiteKeys, tmp_path: Path) -> None:
    admit(home, "sms", keys.public_key, kit=tmp_path / "kit")
    with pytest.raises(AdmissionRefused, match="the key is that of sms"):
        admit(home, "umr", keys.public_key, kit=tmp_path / "umr-kit")


def test_a_site_that_is_no_member_is_refused(home: ServerHome, keys: SiteKeys, tmp_path: Path) -> None:
    with pytest.raises(AdmissionRefused, match="no member"):
        admit(home, "../../etc", keys.public_key, kit=tmp_path / "kit")


def test_a_missing_key_file_is_named(home: ServerHome, tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        admit(home, "sms", tmp_path / "nowhere.pub", kit=tmp_path / "kit")


def test_a_kit_folder_in_use_is_refused(home: ServerHome, keys: SiteKeys, tmp_path: Path) -> None:
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "other").write_text("")
    with pytest.raises(ConfigurationError, match="not empty"):
        admit(home, "sms", keys.public_key, kit=tmp_path / "kit")


def _altered(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_an_altered_federation_file_is_refused_by_its_digest(
    home: ServerHome, keys: SiteKeys, tmp_path: Path
) -> None:
    kit = admit(home, "sms", keys.public_key, kit=tmp_path / "kit").kit
    path = kit / "federation.yaml"
    text = path.read_text()
    altered = text.replace("\nseed: 1 ", "\nseed: 7 ")
    assert altered != text
    path.write_text(altered)
    with pytest.raises(AdmissionRefused, match=r"federation\.yaml of the kit"):
        read_kit(kit)


def test_a_comment_in_the_federation_file_changes_nothing(
    home: ServerHome, keys: SiteKeys, tmp_path: Path
) -> None:
    kit = admit(home, "sms", keys.public_key, kit=tmp_path / "kit").kit
    path = kit / "federation.yaml"
    path.write_text("# read on Monday\n" + path.read_text())
    read_kit(kit)


def test_another_authority_is_refused_by_its_digest(home: ServerHome, keys: SiteKeys, tmp_path: Path) -> None:
    kit = admit(home, "sms", keys.public_key, kit=tmp_path / "kit").kit
    foreign = make_ca(tmp_path / "foreign", name="trial")
    (kit / "ca.pem").write_bytes(foreign.certificate.read_bytes())
    with pytest.raises(AdmissionRefused, match=r"ca\.pem of the kit"):
        read_kit(kit)


@pytest.mark.parametrize(
    ("values", "refusal"),
    [
        ({"unknown": 1}, UnknownKey),
        ({"bundle_digest": "any"}, InvalidSetting),
        ({"address": "https://elsewhere"}, InvalidSetting),
        ({"site": "umr-2"}, AdmissionRefused),
        ({"federation": "other"}, AdmissionRefused),
    ],
)
def test_an_altered_description_is_refused(
    home: ServerHome, keys: SiteKeys, tmp_path: Path, values: dict[str, object], refusal: type[FedminetError]
) -> None:
    kit = admit(home, "sms", keys.public_key, kit=tmp_path / "kit").kit
    _altered(kit / "kit.json", **values)
    with pytest.raises(refusal):
        read_kit(kit)


@pytest.mark.parametrize("name", ["ca.pem", "federation.yaml", "kit.json"])
def test_an_incomplete_kit_names_the_missing_file(
    home: ServerHome, keys: SiteKeys, tmp_path: Path, name: str
) -> None:
    kit = admit(home, "sms", keys.public_key, kit=tmp_path / "kit").kit
    (kit / name).unlink()
    with pytest.raises(FileMissing, match=name.replace(".", r"\.")):
        read_kit(kit)
